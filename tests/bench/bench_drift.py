"""How often a queue is said to grow: ``python tests/bench/bench_drift.py`` prints the table of docs/design.md.

Queues of one exponential server, started empty, by Lindley's recursion; at loads of 1 and more they do grow.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from simqueue.analysis.drift import drift

RUNS = 1_000
LOADS = (0.5, 0.8, 0.9, 0.95, 1.0, 1.02, 1.05, 1.2)
REQUESTS = (2_000, 10_000, 50_000)
# Coefficients of variation of the gaps between arrivals.
GAPS = (1, 3)
_TICKS_PER_S = 10**6


def queue(requests: int, load: float, cv: float, rng: np.random.Generator) -> tuple[NDArray[np.int64], ...]:
    """Arrivals (gamma gaps) and departures of a server of rate 1, in ticks.

    Departure i is the latest, over j up to i, of arrival j and all services from j to i.
    """
    arrival = np.cumsum(rng.gamma(1 / cv**2, cv**2 / load, requests))
    served = np.cumsum(service := rng.standard_exponential(requests))
    left = served + np.maximum.accumulate(arrival - served + service)
    return (arrival * _TICKS_PER_S).astype(np.int64), (left * _TICKS_PER_S).astype(np.int64)


def share(requests: int, load: float, cv: float, runs: int) -> tuple[float, float]:
    """Of the runs: the share that is said to grow, and the share whose arrivals were too uneven to tell."""
    rngs = (np.random.default_rng((requests, round(100 * load), cv, run)) for run in range(runs))
    found = [drift(*queue(requests, load, cv, rng), _TICKS_PER_S, load) for rng in rngs]
    return sum(d is not None and d.grows for d in found) / runs, sum(d is None or not d.steady for d in found) / runs


def main(runs: int = RUNS) -> None:
    print(f"| arrivals | requests | {' | '.join(map(str, LOADS))} | too uneven |")
    print(f"|---|---|{'---|' * len(LOADS)}---|")
    for cv in GAPS:
        for requests in REQUESTS:
            cells = [share(requests, load, cv, runs) for load in LOADS]
            grows = " | ".join(f"{100 * grows:.1f}" for grows, _ in cells)
            name = "Poisson" if cv == 1 else f"gamma, cv {cv}"
            print(f"| {name} | {requests:,} | {grows} | {100 * max(uneven for _, uneven in cells):.1f} |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
