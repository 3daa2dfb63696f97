"""How many queues must a router look at?

    python experiments/power_of_two.py --out docs/policies

Each request goes to a replica at random, to the shorter of two queues drawn at random, to the shortest of three, or to
the shortest of all. First with exponential service, where the limit of many replicas is known; then with replicas that
batch, as LLM servers do; then with a router that sees how long queues were some time ago.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

import simqueue as sq
from common import COST, Case, Experiment, Figures, Found, column, explained, line, main, short_requests
from simqueue.cluster.choices import PowerOfChoices
from simqueue.cluster.cluster import Cluster
from simqueue.cluster.random_split import RandomSplit
from simqueue.cluster.shortest_queue import ShortestQueue
from simqueue.cluster.simulate import simulate_cluster
from simqueue.plot import style
from simqueue.policy import Vllm
from simqueue.theory import PowerOfChoices as MeanField
from simqueue.workload import Fixed, Poisson, WorkloadSpec

REPLICAS = 16
SEATS = 32
LOADS = (0.5, 0.7, 0.8, 0.9)
AGES_S = (0.0, 1.0, 2.0, 4.0, 8.0)
STALE_LOAD = 0.8
# Of the requests with exponential service; the others are answered by more than one at a time, and settle sooner.
LLM_SHARE = 0.5
MARKOV, LLM, STALE = "exponential", "GPT-2", "stale"
CHOICES = {"random": 1, "2 choices": 2, "3 choices": 3}
JSQ = "shortest queue"
ROUTERS = (*CHOICES, JSQ)
ONE = Fixed(value=1)
# A service takes a second on average.
EXPONENTIAL = sq.System(policy=sq.NoBatching(), cost=sq.Affine(base_s=1.0), noise=sq.ExponentialNoise())
VLLM = sq.System(Vllm(max_num_seqs=SEATS), COST)
# Enough requests to tell a capacity.
SAMPLE = 2000


def router(name: str, age_s: float = 0.0) -> Any:
    """Who gets the next request."""
    if name == JSQ:
        return ShortestQueue(signal_age_s=age_s)
    return PowerOfChoices(CHOICES[name], signal_age_s=age_s) if CHOICES[name] > 1 else RandomSplit()


def measure(seed: int, requests: int) -> dict[Case, Figures]:
    """Every router at every load, with both kinds of service, and with signals of every age."""
    found: dict[Case, Figures] = {}
    some = max(20, int(LLM_SHARE * requests))
    llm = sq.make_workload(short_requests(some), seed)
    capacity_rps = REPLICAS * sq.saturation_rps(sq.make_workload(short_requests(SAMPLE), seed=0), VLLM)
    for load in LOADS:
        jobs = exponential_jobs(load, requests, seed)
        for name in ROUTERS:
            found[MARKOV, name, load] = run(jobs, EXPONENTIAL, router(name), seed)
            found[LLM, name, load] = run(llm.at_rate(load * capacity_rps), VLLM, router(name), seed)
    jobs = exponential_jobs(STALE_LOAD, requests, seed)
    for name in ROUTERS:
        for age_s in AGES_S:
            fresh = name == "random" or not age_s
            known = found[MARKOV, name, STALE_LOAD]
            found[STALE, name, age_s] = known if fresh else run(jobs, EXPONENTIAL, router(name, age_s), seed)
    return found


def exponential_jobs(load: float, requests: int, seed: int) -> sq.Workload:
    """Of one token each."""
    arrivals = Poisson(rate=load * REPLICAS)
    spec = WorkloadSpec(requests=requests, arrivals=arrivals, prompt_tokens=ONE, output_tokens=ONE)
    return sq.make_workload(spec, seed)


def run(workload: sq.Workload, system: sq.System, chosen: Any, seed: int) -> Figures:
    """One run without its first half, in which the queues grow from nothing."""
    result = simulate_cluster(workload, Cluster.of(REPLICAS, system, chosen), seed=seed)
    half = len(workload) // 2
    response_s, ttft_s = (result.grid.seconds(times)[half:] for times in (result.response, result.ttft))
    return {"response_mean_s": float(np.mean(response_s)), "ttft_p99_s": float(np.quantile(ttft_s, 0.99))}


def finding(found: Found) -> str:
    """What looking at more queues is worth to an LLM service under load."""
    load = LOADS[-1]
    p99_ms = {name: 1e3 * found[LLM, name, load]["ttft_p99_s"].mean() for name in ("random", "2 choices", JSQ)}
    told = ", ".join(f"{name} {value:.1f}" for name, value in p99_ms.items())
    return f"p99 TTFT (ms) at load {load:g}: {told}"


def draw(found: Found, title: str, note: str) -> Figure:
    """Response against load beside its limit, p99 of TTFT against load, and response against the age of signals."""
    figure, panels = style.sheet(title, 1, 3, height_in=3.3)
    for i, name in enumerate(ROUTERS):
        markov, llm, stale = (column(found, kind, name) for kind in (MARKOV, LLM, STALE))
        line(panels[0], i, name, LOADS, [markov[load]["response_mean_s"] for load in LOADS], linestyle="")
        line(panels[1], i, name, LOADS, [1e3 * llm[load]["ttft_p99_s"] for load in LOADS])
        line(panels[2], i, name, AGES_S, [stale[age_s]["response_mean_s"] for age_s in AGES_S])
        limit_s = [
            MeanField(load, 1.0, CHOICES[name]).mean_response_s if name in CHOICES else math.nan for load in LOADS
        ]
        panels[0].plot(LOADS, limit_s, color=style.colour(i), linewidth=1.0)
    for axes in panels:
        style.log_axis(axes.yaxis)
    panels[0].set(title="exponential: response, mean", xlabel="load", ylabel="mean services")
    panels[1].set(title="GPT-2: TTFT, p99", xlabel="load", ylabel="ms")
    panels[2].set(title=f"exponential, load {STALE_LOAD:g}, stale", xlabel="age of signals (services)")
    explained(figure, panels[1])
    about = note.replace("the first tenth left out", "half of them with GPT-2, the first half left out")
    style.caption(
        figure,
        f"{REPLICAS} replicas. Lines on the left: the limit of infinitely many, which the shortest of all queues has "
        f"not. GPT-2: policy vllm with {SEATS} seats; load: of {REPLICAS} times the saturation throughput of one. On "
        f"the right: signals are read anew after so many mean services, all at once. {about}",
    )
    return figure


EXPERIMENT = Experiment("power_of_two", ("service", "router", "x"), 6_000, 5, measure, finding, draw)

if __name__ == "__main__":
    main(EXPERIMENT)
