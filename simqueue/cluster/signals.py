"""What the replicas of a cluster show to its router."""

from __future__ import annotations

from collections.abc import Sequence


class Signals:
    """Of this instant: see `simqueue.cluster.fleet.View`.

    Attributes:
        closed: whether nobody comes to the router before somebody has been answered.
    """

    def __init__(self, replicas: int) -> None:
        self.ready: Sequence[int] = range(replicas)
        self.outstanding = [0] * replicas
        self.tokens = [0] * replicas
        self.kv_use = [0.0] * replicas
        self.queue = [0] * replicas
        self.closed = False


class Board:
    """The signals of an instant, but for who is ready, which is always up to date."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self.outstanding = signals.outstanding.copy()
        self.tokens = signals.tokens.copy()
        self.kv_use = signals.kv_use.copy()
        self.queue = signals.queue.copy()

    @property
    def ready(self) -> Sequence[int]:
        """The replicas that take requests."""
        return self._signals.ready
