"""Is it worth waiting for company before a batch starts, and how long?

    python experiments/batching_delay.py --out docs/policies

Dynamic batching runs at most 32 requests to completion; a server that is free waits until so many are there or the
oldest has waited for the delay. Fuller batches keep the GPU busy for less of the time; do they also answer sooner?
Beside it continuous batching with as many seats, which needs no delay.
"""

from __future__ import annotations

from matplotlib.figure import Figure

import simqueue as sq
from common import COST, Case, Experiment, Figures, Found, change, column, explained, line, main, run, short_requests
from simqueue.plot import style
from simqueue.policy import Dynamic

SEATS = 32
DELAYS_S = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
LOADS = (0.05, 0.3, 0.8)
NAMED_S = 0.05
# A gain that somebody would care for.
WORTH = 0.01
# Not a delay: the case beside them.
CONTINUOUS = -1.0


def _dynamic(delay_s: float) -> sq.System:
    return sq.System(Dynamic(SEATS, delay_s, release="request"), COST)


def measure(seed: int, requests: int) -> dict[Case, Figures]:
    """Every delay at every load; loads are of the saturation throughput, which no delay changes."""
    capacity_rps = sq.saturation_rps(sq.make_workload(short_requests(requests), seed=0), _dynamic(0.0))
    workload = sq.make_workload(short_requests(requests), seed)
    found: dict[Case, Figures] = {}
    for load in LOADS:
        arrivals = workload.at_rate(load * capacity_rps)
        for delay_s in DELAYS_S:
            found[load, delay_s] = run(arrivals, _dynamic(delay_s))
        found[load, CONTINUOUS] = run(arrivals, sq.System(sq.Continuous(max_seqs=SEATS), COST))
    return found


def pays(found: Found, load: float, delay_s: float) -> bool:
    """Whether the mean response is shorter than without a delay, by enough to care beyond its error; never with one
    seed, whose error is nan."""
    gain, error = change(found, (load, delay_s), (load, 0.0), "response_mean_s")
    return gain + error < -WORTH


def finding(found: Found) -> str:
    """Whether any delay pays, and what a usual one costs."""
    paying = [f"{1e3 * d:g} ms at load {load:g}" for load in LOADS for d in DELAYS_S[1:] if pays(found, load, d)]
    ends = LOADS[0], LOADS[-1]
    more = (round(100 * change(found, (load, NAMED_S), (load, 0.0), "response_mean_s")[0]) for load in ends)
    told = ", ".join(f"{percent:+} % at load {load:g}" for percent, load in zip(more, ends, strict=True))
    return f"{paying[0] if paying else 'No delay'} pays; {1e3 * NAMED_S:g} ms: response {told}"


def draw(found: Found, title: str, note: str) -> Figure:
    """Response time, and how busy the GPU is, against the delay."""
    figure, panels = style.sheet(title, 1, 2, height_in=3.4)
    at = range(len(DELAYS_S))
    for axes, key, factor in zip(panels, ("response_mean_s", "utilisation"), (1e3, 100.0), strict=True):
        for i, load in enumerate(LOADS):
            cases = column(found, load)
            line(axes, i, f"load {load:g}", at, [factor * cases[delay_s][key] for delay_s in DELAYS_S])
            axes.axhline(factor * cases[CONTINUOUS][key].mean(), color=style.colour(i), linestyle=":", linewidth=1)
        axes.set_xticks(at, [f"{1e3 * delay_s:g}" for delay_s in DELAYS_S])
        axes.set_xlabel("delay (ms)")
    style.log_axis(panels[0].yaxis)
    panels[0].set(title="response, mean", ylabel="ms")
    panels[1].set(title="GPU busy", ylabel="% of the time", ylim=(0, 102))
    explained(figure, panels[0])
    style.caption(
        figure,
        f"Dynamic batching, at most {SEATS} to completion; dotted: continuous batching with {SEATS} seats. {note}",
    )
    return figure


EXPERIMENT = Experiment("batching_delay", ("load", "delay_s"), 3_000, 6, measure, finding, draw)

if __name__ == "__main__":
    main(EXPERIMENT)
