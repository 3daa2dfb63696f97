"""Requests a second of clusters: ``python tests/bench/bench_cluster.py`` prints the table of docs/cluster.md.

Each row alternates the cluster with the event loop of one replica at the same load, and takes the least processor time
of each, since other work on the machine only ever adds to it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from cases import AFFINE, OUTPUT, PROMPT

from simqueue import Continuous, System, Workload, WorkloadSpec, make_workload, saturation_rps, simulate
from simqueue.cluster.choices import PowerOfChoices
from simqueue.cluster.cluster import Cluster
from simqueue.cluster.fleet import Router
from simqueue.cluster.least_tokens import LeastTokens
from simqueue.cluster.round_robin import RoundRobin
from simqueue.cluster.shortest_queue import ShortestQueue
from simqueue.cluster.simulate import simulate_cluster
from simqueue.cost.base import UNLIMITED
from simqueue.workload import Poisson

REQUESTS = 100_000
LOAD = 0.8
TURNS = 3
SYSTEM = System(policy=Continuous(64), cost=AFFINE)
ROUTERS: dict[str, Router] = {
    "round robin": RoundRobin(),
    "join the shortest queue": ShortestQueue(),
    "least tokens": LeastTokens(),
    "power of two choices": PowerOfChoices(),
    "shortest queue, signals 10 ms old": ShortestQueue(signal_age_s=0.01),
}


def workload() -> Workload:
    arrivals = Poisson(rate=100.0)
    spec = WorkloadSpec(requests=REQUESTS, arrivals=arrivals, prompt_tokens=PROMPT, output_tokens=OUTPUT)
    return make_workload(spec, seed=1).fit_context(1024, "clip")


def seconds(run: Callable[[], object]) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin


def main() -> None:
    made = workload()
    capacity = saturation_rps(made, SYSTEM)
    # By the event loop, as those of a cluster.
    alone = partial(simulate, made.at_rate(LOAD * capacity), SYSTEM, longest_leap=UNLIMITED - 1)
    print("| router | replicas | requests/s | of `simulate` on one, with the event loop |")
    print("|---|---|---|---|")
    for name, router in ROUTERS.items():
        for replicas in (1, 4, 16, 64):
            cluster = Cluster.of(replicas, SYSTEM, router)
            run = partial(simulate_cluster, made.at_rate(LOAD * capacity * replicas), cluster)
            timed = [(seconds(run), seconds(alone)) for _ in range(TURNS)]
            mine_s, alone_s = (min(column) for column in zip(*timed, strict=True))
            print(f"| {name} | {replicas} | {REQUESTS / mine_s:,.0f} | {alone_s / mine_s:.2f} |", flush=True)


if __name__ == "__main__":
    main()
