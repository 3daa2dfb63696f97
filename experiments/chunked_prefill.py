"""How small should the chunks of long prompts be?

    python experiments/chunked_prefill.py --out docs/policies

Sarathi-Serve's scheduler computes prompts with what decoding leaves of ``chunk_size`` tokens a step. Small chunks keep
steps short, so that nobody's next token waits long; they also make a prompt take many steps, and its first token come
late. Which of the two counts depends on what a prompt costs: here for GPT-2 on an H200, and for a model of 7 billion
parameters whose cost is an estimate: it reads 14 GB of weights a step at 1.75 TB/s, and computes 14 GFLOP a token at
200 TFLOP/s.
"""

from __future__ import annotations

from matplotlib.figure import Figure

import simqueue as sq
from common import (
    SERVER,
    SERVERS,
    Case,
    Experiment,
    Figures,
    Found,
    by_server,
    change,
    column,
    long_prompts,
    main,
    run,
)
from simqueue.plot import style
from simqueue.policy import Sarathi

SEATS = 32
CHUNKS = (64, 128, 256, 512, 1024)
LOADS = (0.3, 0.6)
# Enough requests to tell a capacity, and how much of it a server that keeps up has to spare at least.
SAMPLE, KEEPS_UP = 400, 0.95


def measure(seed: int, requests: int) -> dict[Case, Figures]:
    """Every chunk size at every load, on both servers, but where the server cannot keep up.

    Loads are of the saturation throughput with the largest chunks.
    """
    workload, sample = sq.make_workload(long_prompts(requests), seed), sq.make_workload(long_prompts(SAMPLE), seed=0)
    found: dict[Case, Figures] = {}
    for name, cost in SERVERS.items():
        policies = {chunk: Sarathi(SEATS, chunk) for chunk in CHUNKS}
        systems = {chunk: sq.System(policy, cost) for chunk, policy in policies.items()}
        capacities_rps = {chunk: sq.saturation_rps(sample, system) for chunk, system in systems.items()}
        for load in LOADS:
            rate_rps = load * capacities_rps[CHUNKS[-1]]
            arrivals = workload.at_rate(rate_rps)
            for chunk, system in systems.items():
                if rate_rps < KEEPS_UP * capacities_rps[chunk]:
                    found[name, load, chunk] = run(arrivals, system)
    return found


def finding(found: Found) -> str:
    """What the chunk with the shortest tail between tokens gains over the largest, and what it costs."""
    load = LOADS[0]
    told = []
    for name in SERVERS:
        cases = column(found, name, load)
        best = min(cases, key=lambda chunk, cases=cases: cases[chunk]["itl_p99_s"].mean())  # type: ignore[misc]
        case, base = (name, load, best), (name, load, CHUNKS[-1])
        itl, ttft = (100 * change(found, case, base, key)[0] for key in ("itl_p99_s", "ttft_mean_s"))
        gain = "" if best == CHUNKS[-1] else f" ({itl:+.0f} %, TTFT {ttft:+.0f} %)"
        told.append(f"{name} {best:g}{gain}")
    return f"Chunks with the least p99 ITL: {', '.join(told)}"


def draw(found: Found, title: str, note: str) -> Figure:
    """Time to the first token and between tokens against the size of a chunk; a row of panels for each server."""
    whats = {"ttft_mean_s": "TTFT, mean", "itl_p99_s": "ITL, p99"}
    figure, panels = by_server(title, found, {f"load {load:g}": load for load in LOADS}, whats)
    for axes in panels:
        style.log_axis(axes.xaxis)
        axes.set_xticks(CHUNKS, [f"{chunk:,}" for chunk in CHUNKS])
        axes.set(xlabel="chunk_size (tokens)")
    about = note.replace(SERVER, f"{SERVER}; 7B is an estimate: 8 ms a step and 0.07 ms a token")
    style.caption(
        figure,
        f"Policy sarathi, {SEATS} seats; prompts of 400 tokens on average (900 at most), answers of 40. Load: of the "
        f"saturation throughput with chunks of {CHUNKS[-1]:,}; no point where smaller ones cannot keep up. {about}",
    )
    return figure


EXPERIMENT = Experiment("chunked_prefill", ("server", "load", "chunk_size"), 1_000, 6, measure, finding, draw)

if __name__ == "__main__":
    main(EXPERIMENT)
