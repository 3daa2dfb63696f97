"""Session affinity: whoever has been somewhere goes there again."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import ClassVar, Literal

import msgspec

from simqueue.checks import at_least
from simqueue.cluster.fleet import Asked, Counts, Least, View, check_age, column_of

_WHERE = "router session-affinity"


class SessionAffinity(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="session-affinity"
):
    """All requests of a session (or client: ``by`` names the workload's column) go to one replica, by hash.

    The replica is the ready one with the highest hash of session and replica, so that the sessions of a replica that
    goes away spread over all others and nobody else moves (highest random weight: Thaler and Ravishankar (1998),
    "Using name-based mappings to increase hit rates", IEEE/ACM Transactions on Networking 6).

    If that one has over ``max_ahead`` outstanding requests more than the replica with the fewest, the request goes to
    the latter; the session stays at home. None: however many. ``signal_age_s``: see `simqueue.cluster.fleet.Router`.
    """

    by: Literal["session", "client"] = "session"
    max_ahead: int | None = None
    signal_age_s: float = 0.0
    counts: ClassVar[Counts] = None

    def __post_init__(self) -> None:
        if self.max_ahead is not None:
            at_least(_WHERE, "max_ahead", self.max_ahead, 0)
        check_age(_WHERE, self)

    @property
    def blind(self) -> bool:
        """Without a threshold the hash decides alone."""
        return self.max_ahead is None

    def chooser(self, asked: Asked) -> SessionChooser:
        """See `Router`."""
        return SessionChooser(column_of(asked, _WHERE, self.by).tolist(), self.max_ahead)


class SessionChooser:
    """Where every session is at home."""

    def __init__(self, sessions: Sequence[object], max_ahead: int | None) -> None:
        self._sessions, self._max_ahead = sessions, max_ahead
        self._least = Least("outstanding")
        self._ready: Sequence[int] = ()
        self._homes: dict[object, int] = {}

    def choose(self, request: int, view: View) -> int:
        """Home, unless it is too far ahead."""
        if view.ready is not self._ready:
            self._ready, self._homes = view.ready, {}
        session = self._sessions[request]
        home = self._homes.get(session)
        if home is None:
            self._homes[session] = home = max(view.ready, key=lambda replica: _weight(session, replica))
        return home if self._max_ahead is None else within_reach(home, self._max_ahead, view, self._least)


def within_reach(favourite: int, max_ahead: int, view: View, least: Least) -> int:
    """The favourite, unless it has over ``max_ahead`` outstanding requests more than the replica with the fewest,
    which then is the answer."""
    outstanding = view.outstanding
    if outstanding[favourite] <= max_ahead:
        return favourite
    if outstanding[favourite] <= max_ahead + min(outstanding[replica] for replica in view.ready):
        return favourite
    return least.among(view.ready, view)


def _weight(session: object, replica: int) -> bytes:
    return blake2b(f"{session}/{replica}".encode(), digest_size=8).digest()
