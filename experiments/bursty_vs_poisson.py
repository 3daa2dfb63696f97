"""At the same load, how much longer do requests take when they come in bursts?

    python experiments/bursty_vs_poisson.py --out docs/policies

Continuous batching with 64 seats under three kinds of arrivals of one mean rate: Poisson, gamma gaps with a coefficient
of variation of 3, and an on-off process that sends nothing for half of the time and twice the rate for the other.
"""

from __future__ import annotations

from matplotlib.figure import Figure

import simqueue as sq
from common import COST, Case, Experiment, Figures, Found, change, column, explained, line, main, run, short_requests
from simqueue.plot import style
from simqueue.workload import MMPP, Gamma, Open, Poisson

LOADS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9)
SYSTEM = sq.System(sq.Continuous(max_seqs=64), COST)
# Of these only the shape counts: each load brings the mean rate to its own. Stays are in seconds.
ARRIVALS: dict[str, Open] = {
    "Poisson": Poisson(rate=1.0),
    "gamma gaps, cv 3": Gamma(rate=1.0, cv=3.0),
    "on-off, 0.5 s each": MMPP(rates=(2.0, 0.0), mean_stay_s=(0.5, 0.5)),
}
# In a title.
BURSTY = dict(zip(tuple(ARRIVALS)[1:], ("gamma", "on-off"), strict=True))


def measure(seed: int, requests: int) -> dict[Case, Figures]:
    """Every kind of arrivals at every load."""
    found: dict[Case, Figures] = {}
    capacity_rps = sq.saturation_rps(sq.make_workload(short_requests(requests), seed=0), SYSTEM)
    for name, arrivals in ARRIVALS.items():
        workload = sq.make_workload(short_requests(requests, arrivals), seed)
        for load in LOADS:
            found[name, load] = run(workload.at_rate(load * capacity_rps), SYSTEM)
    return found


def finding(found: Found) -> str:
    """How much longer the mean response is than under Poisson arrivals, at half load and at the highest."""

    loads = (0.5, LOADS[-1])
    told = []
    for name, word in BURSTY.items():
        more = (100 * change(found, (name, load), ("Poisson", load), "response_mean_s")[0] for load in loads)
        told.append(f"{word} {', '.join(f'{each:+.0f}' for each in more)} %")
    return f"Mean response at load {loads[0]}, {loads[1]}: {'; '.join(told)}"


def draw(found: Found, title: str, note: str) -> Figure:
    """Mean and 99th percentile against load."""
    figure, panels = style.sheet(title, 1, 2, height_in=3.4)
    for axes, which in zip(panels, ("mean", "p99"), strict=True):
        for i, name in enumerate(ARRIVALS):
            cases = column(found, name)
            values = [1e3 * cases[load][f"response_{which}_s"] for load in LOADS]
            line(axes, i, name, LOADS, values)
        style.log_axis(axes.yaxis)
        axes.set(title=f"response, {which}", xlabel="load (arrival rate / saturation throughput)", ylabel="ms")
    explained(figure, panels[0])
    style.caption(figure, f"Continuous batching, 64 seats. {note}")
    return figure


EXPERIMENT = Experiment("bursty_vs_poisson", ("arrivals", "load"), 6_000, 6, measure, finding, draw)

if __name__ == "__main__":
    main(EXPERIMENT)
