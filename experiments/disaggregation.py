"""Should prefill and decode have GPUs of their own?

    python experiments/disaggregation.py --out docs/policies

Four GPUs serve the same requests: all four do both, or some prefill and the others decode. Where both are done together
a prompt makes everybody's next token late; apart it does not, but caches have to be moved, and neither side can help
the other out. Which of the two counts depends on what a prompt costs: here for GPT-2 on an H200, and for a model of 7
billion parameters whose cost is an estimate: it reads 14 GB of weights a step at 1.75 TB/s, and computes 14 GFLOP a
token at 200 TFLOP/s; a token's keys and values are 512 KiB. Links carry 400 Gbit/s.
"""

from __future__ import annotations

import math
from dataclasses import replace

from matplotlib.figure import Figure

import simqueue as sq
from common import (
    GPT2,
    LARGE,
    SERVER,
    SERVERS,
    Case,
    Experiment,
    Figures,
    Found,
    by_server,
    change,
    long_prompts,
    main,
)
from simqueue.cluster.disaggregated import saturation
from simqueue.cluster.saturation import cluster_saturation_rps
from simqueue.cluster.shortest_queue import ShortestQueue
from simqueue.plot import style
from simqueue.policy import Vllm

GPUS, SEATS = 4, 64
TOGETHER = "all do both"
LAYOUTS = {TOGETHER: 0, "2 prefill, 2 decode": 2, "3 prefill, 1 decodes": 3}
LOADS = (0.2, 0.4, 0.6, 0.8)
# Enough requests to tell a capacity, and how much of it a layout that keeps up has to spare at least.
SAMPLE, KEEPS_UP = 600, 0.95
LINKS = {GPT2: sq.Transfer(gib_per_s=46.5), LARGE: sq.Transfer(gib_per_s=46.5, kv_bytes_per_token=2**19)}


def pools(server: str, prefill: int) -> sq.Cluster | sq.Disaggregation:
    """So many GPUs that only prefill; 0: none does one thing only."""
    system = sq.System(Vllm(max_num_seqs=SEATS), SERVERS[server])
    if not prefill:
        return sq.Cluster.of(GPUS, system, ShortestQueue())
    first, then = (sq.Cluster.of(count, system, ShortestQueue()) for count in (prefill, GPUS - prefill))
    return sq.Disaggregation(first, then, LINKS[server])


def serve(
    workload: sq.Workload, served_by: sq.Cluster | sq.Disaggregation
) -> sq.ClusterResult | sq.DisaggregatedResult:
    """One run without its first tenth."""
    warmup = len(workload) // 10
    if isinstance(served_by, sq.Cluster):
        return sq.simulate_cluster(workload, served_by, warmup=warmup)
    return sq.simulate_disaggregated(workload, served_by, warmup=warmup)


def capacity_rps(sample: sq.Workload, served_by: sq.Cluster | sq.Disaggregation) -> float:
    """The saturation throughput."""
    if isinstance(served_by, sq.Cluster):
        return cluster_saturation_rps(sample, served_by)
    return min(saturation(sample, served_by).values())


def run(workload: sq.Workload, served_by: sq.Cluster | sq.Disaggregation) -> Figures:
    """Figures of one run. Seconds."""
    result = serve(workload, served_by)
    # The summary would look for the saturation throughput, which takes longer than the run.
    if isinstance(result, sq.ClusterResult):
        told = replace(result, saturation_rps=lambda: math.nan).summary()
    else:
        told = replace(result, saturation=lambda: {"": math.nan}).summary()
    return {f"{name}_{which}_s": told[f"{name}_s"][which] for name in ("ttft", "itl") for which in ("mean", "p99")}


def measure(seed: int, requests: int) -> dict[Case, Figures]:
    """Every layout at every load, on both servers, but where it cannot keep up.

    Loads are of the saturation throughput of all GPUs together.
    """
    workload, sample = sq.make_workload(long_prompts(requests), seed), sq.make_workload(long_prompts(SAMPLE), seed=0)
    found: dict[Case, Figures] = {}
    for server in SERVERS:
        layouts = {name: pools(server, prefill) for name, prefill in LAYOUTS.items()}
        capacities_rps = {name: capacity_rps(sample, layout) for name, layout in layouts.items()}
        for load in LOADS:
            arrivals = workload.at_rate(load * capacities_rps[TOGETHER])
            for name, layout in layouts.items():
                if load * capacities_rps[TOGETHER] < KEEPS_UP * capacities_rps[name]:
                    found[server, name, load] = run(arrivals, layout)
    return found


def finding(found: Found) -> str:
    """What the layout apart with the shortest tail between tokens changes at a moderate load."""
    load, told = LOADS[1], []
    for server in SERVERS:
        apart = [(server, name, load) for name in LAYOUTS if name != TOGETHER and (server, name, load) in found]
        best = min(apart, key=lambda case: found[case]["itl_p99_s"].mean())
        itl, _ = change(found, best, (server, TOGETHER, load), "itl_p99_s")
        told.append(f"{round(100 * itl):+d} % for {server}")
    return f"Prefill apart from decode at load {load:g}: p99 ITL {', '.join(told)}"


def draw(found: Found, title: str, note: str) -> Figure:
    """The tails of the time to the first token and between tokens against load; a row of panels for each server."""
    whats = {"ttft_p99_s": "TTFT, p99", "itl_p99_s": "ITL, p99"}
    figure, panels = by_server(title, found, {name: name for name in LAYOUTS}, whats)
    for axes in panels:
        axes.set(xlabel="load")
    about = note.replace(SERVER, f"{SERVER}; 7B is an estimate: 8 ms a step and 0.07 ms a token, 512 KiB of cache each")
    style.caption(
        figure,
        f"{GPUS} GPUs, policy vllm, {SEATS} seats each, join-shortest-queue; links of 400 Gbit/s. Prompts of 400 "
        f"tokens on average (900 at most), answers of 40. Load: of what all {GPUS} get through together; no "
        f"point where a layout cannot keep up. {about}",
    )
    return figure


EXPERIMENT = Experiment("disaggregation", ("server", "layout", "load"), 2_000, 6, measure, finding, draw)

if __name__ == "__main__":
    main(EXPERIMENT)
