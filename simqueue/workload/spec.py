"""The ``[workload]`` table: what to make, not yet made."""

from __future__ import annotations

import msgspec

from simqueue.errors import WorkloadError
from simqueue.workload.arrivals import Arrivals, Trace
from simqueue.workload.checks import require_whole
from simqueue.workload.lengths import Lengths
from simqueue.workload.users import Users


class WorkloadSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """How many requests, when they come and how long they are.

    A trace brings its own lengths, and ``requests`` then takes its first rows (all of them if left out);
    every other kind of arrivals needs all four.
    """

    requests: int | None = None
    arrivals: Arrivals
    prompt_tokens: Lengths | None = None
    output_tokens: Lengths | None = None

    def __post_init__(self) -> None:
        if self.requests is not None:
            require_whole("workload", "requests", self.requests, "give a count", at_most=2**63 - 1)
        lengths = {"prompt_tokens": self.prompt_tokens, "output_tokens": self.output_tokens}
        if isinstance(self.arrivals, Trace):
            _refuse_given(lengths)
        else:
            _refuse_missing({"requests": self.requests, **lengths})
        if isinstance(self.arrivals, Users):
            assert self.requests is not None
            _refuse_idle(self.arrivals.users, self.requests)


def _refuse_given(lengths: dict[str, Lengths | None]) -> None:
    given = [key for key, value in lengths.items() if value is not None]
    if given:
        raise WorkloadError(
            f"workload: {' and '.join(given)} given beside a trace, which brings its own lengths; "
            "remove one or the other"
        )


def _refuse_missing(keys: dict[str, object]) -> None:
    missing = [key for key, value in keys.items() if value is None]
    if missing:
        raise WorkloadError(f"workload: {' and '.join(missing)} missing; only arrivals of kind 'trace' do without")


def _refuse_idle(users: int, requests: int) -> None:
    if users > requests:
        raise WorkloadError(
            f"workload: users = {users} are more than requests = {requests}, so that not all would send one; ask for "
            "at least as many requests"
        )
