"""The ``[workload]`` table: what to make, not yet made."""

from __future__ import annotations

from collections import Counter
from typing import Self

import msgspec

from simqueue.errors import WorkloadError
from simqueue.workload.arrivals import Trace
from simqueue.workload.checks import require_whole
from simqueue.workload.clients import ClientClass, Clients, refuse_given
from simqueue.workload.users import Users

_LENGTHS = ("prompt_tokens", "output_tokens", "lengths")
_OF_ALL = ("max_output_tokens", "prediction")


class WorkloadSpec(Clients, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """How many requests, when they come and how long they are.

    A trace brings its own lengths, and ``requests`` then takes its first rows (all of them if left out); every other
    kind of arrivals needs all four, or ``lengths`` in place of the two. What else is known of requests (from
    ``max_output_tokens`` on) may be said beside a trace that has no such column. With ``classes``, these have the
    arrivals and lengths, and everything but ``requests`` is said of each.
    """

    requests: int | None = None
    classes: tuple[ClientClass, ...] = ()

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "classes", tuple(self.classes))
        if self.requests is not None:
            require_whole("workload", "requests", self.requests, "give a count", at_most=2**63 - 1)
        if self.classes:
            refuse_given("workload", self, Clients.__struct_fields__, "classes, of which each has its own")
            _refuse_missing(self, ("requests",))
            _check_classes(self.classes)
        elif isinstance(self.arrivals, Trace):
            refuse_given("workload", self, _LENGTHS, "a trace, which brings its own lengths")
        else:
            _refuse_missing(self, ("requests", "arrivals", *self.needed_lengths))
        self.check("workload")
        if isinstance(self.arrivals, Users):
            assert self.requests is not None
            _refuse_idle(self.arrivals.users, self.requests)

    @property
    def parts(self) -> tuple[Clients, ...]:
        """The classes, or else this itself."""
        return self.classes or (self,)

    @property
    def mean_rate(self) -> float | None:
        """Mean requests per second of all; None where only a file or a system can tell."""
        if self.classes:
            return sum(each.open.mean_rate for each in self.classes)
        return None if self.arrivals is None else self.arrivals.mean_rate

    def scaled(self, factor: float) -> Self:
        """The same at ``factor`` times the rate; of arrivals that have one."""
        classes = tuple(msgspec.structs.replace(each, arrivals=each.open.scaled(factor)) for each in self.classes)
        if self.arrivals is None:
            return msgspec.structs.replace(self, classes=classes)
        assert not isinstance(self.arrivals, Trace | Users)
        return msgspec.structs.replace(self, arrivals=self.arrivals.scaled(factor))


def _refuse_missing(spec: WorkloadSpec, keys: tuple[str, ...]) -> None:
    missing = [key for key in keys if getattr(spec, key) is None]
    if missing:
        raise WorkloadError(f"workload: {' and '.join(missing)} missing; only arrivals of kind 'trace' do without")


def _check_classes(classes: tuple[ClientClass, ...]) -> None:
    name, times = Counter(each.name for each in classes).most_common(1)[0]
    if times > 1:
        raise WorkloadError(f"workload: {times} classes have the name {name!r}; give each one of its own")
    for key in _OF_ALL:
        given = [each.name for each in classes if getattr(each, key) is not None]
        without = [each.name for each in classes if getattr(each, key) is None]
        if given and without:
            raise WorkloadError(
                f"workload: class {given[0]} has {key} and class {without[0]} has not; give it to all or to none"
            )


def _refuse_idle(users: int, requests: int) -> None:
    if users > requests:
        raise WorkloadError(
            f"workload: users = {users} are more than requests = {requests}, so that not all would send one; ask for "
            "at least as many requests"
        )
