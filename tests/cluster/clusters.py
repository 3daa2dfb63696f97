"""Random small clusters full of ties, and the slow, obvious cluster that they must equal.

The reference knows nothing of events: for every request it serves all that each replica was sent before, from the very
beginning, with the reference simulator of one server, and counts who is still there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import reference
from hypothesis import strategies as st
from scenarios import POLICIES, PS, Scenario, loads, scenarios

import simqueue
from simqueue import Workload
from simqueue.cluster.cluster import Cluster
from simqueue.cluster.fleet import Router
from simqueue.cluster.least_requests import LeastRequests
from simqueue.cluster.least_tokens import LeastTokens
from simqueue.cluster.result import ClusterResult
from simqueue.cluster.shortest_queue import ShortestQueue
from simqueue.cluster.simulate import simulate_cluster

# Of the noise of each replica, and its number.
NOISE = 1 << 16
# A request that comes long after all others keeps the source open: whoever waits for company goes on waiting.
LAST = 10**17


@dataclass(frozen=True)
class Small:
    """One run, as the package and as the reference understand it, of replicas each with a scenario of its own."""

    arrivals: tuple[int, ...]
    prompts: tuple[int, ...]
    outputs: tuple[int, ...]
    parts: tuple[Scenario, ...]
    router: Router
    seed: int

    @cached_property
    def workload(self) -> Workload:
        columns = [a * PS for a in self.arrivals], self.prompts, self.outputs
        return Workload.from_columns(*columns, predicted_output_tokens=self.predictions)

    @cached_property
    def predictions(self) -> list[int]:
        """Wrong ones."""
        return [1 + 7 * row % 5 for row in range(len(self.arrivals))]

    @property
    def cluster(self) -> Cluster:
        return Cluster(tuple(part.system for part in self.parts), self.router)

    def run(self, **how: Any) -> ClusterResult:
        return simulate_cluster(self.workload, self.cluster, seed=self.seed, **how)

    # By the reference.

    def draws(self, number: int) -> list[float] | None:
        noise = self.parts[number].noise
        if isinstance(noise, simqueue.NoNoise):
            return None
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(NOISE, number)))
        return [float(x) for x in noise.draw(rng, 1 << 14)]

    def serve(self, number: int, rows: list[int], *, last: bool) -> dict[int, reference.Times]:
        """All that a replica is sent, from the beginning; ``last``: nothing will come any more."""
        part = self.parts[number]
        requests = [reference.Request(i, self.arrivals[i], self.prompts[i], self.outputs[i]) for i in rows]
        if not last:
            requests.append(reference.Request(LAST, LAST, 1, 1))
        return reference.simulate(requests, part.slow_policy, part.price, part.overheads, self.draws(number)).requests

    def signal(self, number: int, rows: list[int], at: int) -> int:
        """What the router looks at, of one replica that has been sent these rows, at an instant."""
        # The way of an answer to its client is not the replica's.
        quiet = replace(self.parts[number].overheads, response_path=0, response_per_row=0)
        one = replace(self, parts=tuple(replace(part, overheads=quiet) for part in self.parts))
        times = one.serve(number, rows, last=False)
        if isinstance(self.router, ShortestQueue) and not isinstance(
            self.parts[number].slow_policy, reference.Continuous
        ):
            # Those who started together keep their seats to the end of the batch.
            ends = [max(t.finished for t in times.values() if t.scheduled == times[i].scheduled) for i in rows]
        else:
            ends = [times[i].finished for i in rows]
        here = [i for i, end in zip(rows, ends, strict=True) if end >= at]
        if isinstance(self.router, LeastTokens):
            return sum(self.prompts[i] + self.predictions[i] for i in here)
        return len(here)

    def deal_slowly(self) -> list[list[int]]:
        """The rows of every replica."""
        dealt: list[list[int]] = [[] for _ in self.parts]
        chosen, count = -1, len(self.parts)
        age = round(self.router.signal_age_s / PS)
        for row, at in enumerate(self.arrivals):
            board = at - at % age if age else at
            signals = []
            for number, rows in enumerate(dealt):
                seen = [i for i in rows if not age or self.arrivals[i] < board]
                signals.append(self.signal(number, seen, board))
            turn = [(signal, (number - chosen - 1) % count, number) for number, signal in enumerate(signals)]
            chosen = min(turn)[-1]
            dealt[chosen].append(row)
        return dealt


@st.composite
def clusters(
    draw: st.DrawFn, routers: st.SearchStrategy[Router], *, most: int = 40, kinds: tuple[str, ...] = tuple(POLICIES)
) -> Small:
    """Up to three replicas, each with a policy, a cost, overheads and noise of its own."""
    arrivals, prompts, outputs = (column[:most] for column in draw(loads()))
    parts = draw(st.lists(st.sampled_from(kinds).flatmap(scenarios), min_size=1, max_size=3))
    return Small(arrivals, prompts, outputs, tuple(parts), draw(routers), draw(st.integers(0, 2**32)))


@st.composite
def ties(draw: st.DrawFn, routers: st.SearchStrategy[Router], kinds: tuple[str, ...]) -> Small:
    """Requests that come, often, at the very instant at which a step ends, and in the middle of leaps and batches."""
    row = st.tuples(st.sampled_from([0, 5, 5, 10, 12]), st.integers(1, 3), st.integers(1, 12))
    gaps, prompts, outputs = zip(*draw(st.lists(row, min_size=3, max_size=12)), strict=True)
    arrivals = tuple(np.cumsum(gaps).tolist())
    router, seed = draw(routers), draw(st.integers(0, 2**32))
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        policies, path = draw(POLICIES[draw(st.sampled_from(kinds))]), draw(st.sampled_from([0, 0, 5]))
        cost = simqueue.Affine(5 * PS, draw(st.sampled_from([0.0, 5 * PS])))
        price = reference.Affine(5, round(cost.per_row_s / PS))
        noise = draw(st.sampled_from([simqueue.NoNoise(), simqueue.NoNoise(), simqueue.LognormalNoise(0.5)]))
        over = reference.Overheads(request_path=path)
        parts.append(Scenario(arrivals, prompts, outputs, *policies, cost, price, over, noise, seed))
    return Small(arrivals, prompts, outputs, tuple(parts), router, seed)


_AGES = st.sampled_from([0.0, 0.0, 3 * PS, 10 * PS, 100 * PS])
LOOKING = st.one_of(*(st.builds(router, _AGES) for router in (LeastRequests, LeastTokens, ShortestQueue)))
