"""What a batching policy is to the engine, and what it may see."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

from simqueue.plan import Step, Wait
from simqueue.units import Grid


class View(Protocol):
    """What a policy may read of an engine. Ticks for time; request ids count from 0 in order of arrival."""

    @property
    def now(self) -> int:
        """The instant of the decision."""

    @property
    def waiting(self) -> int:
        """Requests that have arrived and never ran."""

    @property
    def running(self) -> int:
        """Seats taken: sequences that decode or are partly prefilled."""

    @property
    def prefilling(self) -> Mapping[int, int]:
        """Partly prefilled sequences in order of admission: id to prompt tokens still to compute."""

    @property
    def closed(self) -> bool:
        """Whether nobody can come before somebody has been answered: the last request has arrived, or every user of a
        closed loop waits."""

    @property
    def arrived(self) -> int:
        """Requests that have arrived so far: those with ids below, of which some may have gone away since."""

    def arrival(self, request: int) -> int:
        """When a request that has arrived came to the queue."""

    def oldest(self) -> int:
        """Arrival of the request that has waited longest (only while ``waiting`` is not 0)."""

    def queue(self) -> Iterator[int]:
        """Ids of the waiting requests, first come first."""

    def prompt_tokens(self, request: int) -> int:
        """Length of a request's prompt."""

    def max_output_tokens(self, request: int) -> int | None:
        """The most tokens that a request asks for, if it says so."""

    def predicted_output_tokens(self, request: int) -> int | None:
        """A prediction of a request's output length, if the workload has one."""


class Decider(Protocol):
    """A policy at work on one engine; deterministic, and all that the policy remembers."""

    def decide(self, view: View) -> Step | Wait:
        """The next step, or how long to wait. Called once each time the replica is free."""


@runtime_checkable
class BatchingPolicy(Protocol):
    """A frozen dataclass (or ``msgspec.Struct``) of knobs that makes fresh deciders.

    Two optional attributes: ``release`` (``"request"`` unless given) says when the answers of a run-to-completion
    batch leave, ``iteration_level`` (True unless given) says that requests may join and leave between steps.
    """

    def decider(self, grid: Grid) -> Decider:
        """A fresh decider for one engine whose time is counted on ``grid``."""
