"""The earliest deadline first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from simqueue.checks import positive
from simqueue.order.base import require
from simqueue.order.ranked import Ranked
from simqueue.units import INT64_MAX, Grid

if TYPE_CHECKING:
    from simqueue.policy.base import PagedView
    from simqueue.record import Requests


class Edf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="edf"):
    """Earliest deadline first: when the first token is due, ``arrival + ttft_slo_s``; who was promised nothing comes
    last, among equals first come (Liu and Layland, "Scheduling algorithms for multiprogramming in a hard-real-time
    environment", 1973).

    Who was preempted keeps its deadline, though it may have had its first token. O(log n) a request.
    """

    def line(self, view: PagedView, requests: Requests, grid: Grid) -> Ranked:
        """By deadline. Raises ConfigError if the workload has none."""
        return by_deadline("edf", view, requests, 0)


class LeastLaxity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="least-laxity"):
    """Least laxity first: the deadline of `Edf`, less now, less how long the first token takes once the request starts;
    that is estimated as ``prompt_token_s`` for each token to compute, prompts and what a preempted one had emitted.

    Now is the same for all, so that the order does not change while they wait. Who was promised nothing comes last,
    among equals first come. O(log n) a request.
    """

    prompt_token_s: float

    def __post_init__(self) -> None:
        positive("order least-laxity", "prompt_token_s", self.prompt_token_s)

    def line(self, view: PagedView, requests: Requests, grid: Grid) -> Ranked:
        """By deadline less estimate. Raises ConfigError if the workload has no deadlines."""
        return by_deadline("least-laxity", view, requests, grid.ticks(self.prompt_token_s))


def by_deadline(order: str, view: PagedView, requests: Requests, token: int) -> Ranked:
    """By when the first token is due, less ``token`` ticks for each token to compute."""
    require("ttft_slo" in requests.traits, order, "ttft_slo_s", "give workload.ttft_slo_s, or one in workload.classes")

    def key(request: int) -> tuple[int, ...]:
        promised = view.ttft_slo(request)
        if promised == INT64_MAX:
            return (1,)
        known = view.prompt_tokens(request) + view.emitted(request)
        return 0, view.arrival(request) + promised - token * known

    return Ranked(key)
