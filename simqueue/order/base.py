"""What an order of the queue is to the engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from simqueue.errors import ConfigError
from simqueue.units import Grid

if TYPE_CHECKING:
    from simqueue.policy.base import PagedView
    from simqueue.record import Requests


class Line(Protocol):
    """Who waits at one engine, those who were preempted too; deterministic."""

    def __iter__(self) -> Iterator[int]:
        """Ids from head to tail."""

    def join(self, request: int) -> None:
        """It has arrived, or was preempted."""

    def take(self, request: int) -> None:
        """It has a seat."""

    def leave(self, request: int) -> None:
        """Its client has gone away."""

    def stop(self, request: int) -> None:
        """It is about to lose its seat, finished or not."""

    def look(self) -> None:
        """A decision comes, and somebody has come or gone since the last one, or that one held for a step only.

        Between two such decisions the line stands as it is, but for those who are taken: a policy that promised to go
        on would otherwise have to be asked at every step.
        """


@runtime_checkable
class Order(Protocol):
    """Who is next in the queue: a frozen ``msgspec.Struct`` of knobs that makes a fresh line for each engine."""

    def line(self, view: PagedView, requests: Requests, grid: Grid) -> Line | None:
        """An empty line; None: who was preempted last is first, then first come first.

        Raises:
            ConfigError: the workload does not have what the order goes by.
        """


def require(there: bool, order: str, column: str, remedy: str) -> None:
    """Refuse an order by a column that the workload does not have."""
    if not there:
        raise ConfigError(f"order {order}: the workload has no column {column}: {remedy}")
