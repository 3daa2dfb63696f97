"""How often intervals cover the truth where a precision is asked for: ``python tests/bench/bench_control.py`` prints
the table of docs/intervals.md, "Precision".

Single servers whose response times are known exactly, through `simqueue.analysis.replications.replicate` as a sweep has
it: a first look with short runs, and further ones until the half-width is a given share of the figure. Service takes a
second: always (M/D/1), or a geometric number of milliseconds, which is exponential to one in a thousand (M/M/1).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from simqueue import Affine, Dynamic, System, WorkloadSpec
from simqueue.analysis.replicated import Precision
from simqueue.analysis.replications import replicate
from simqueue.pool import cpus, pool, submit
from simqueue.theory import MD1, MM1
from simqueue.workload import Fixed, Geometric, Poisson

_ONE, _STEPS = Fixed(value=1), 1000
# One at a time; answers leave whole, so that there are no gaps between their tokens to look at.
ALONE = Dynamic(max_batch=1)


class Cell(NamedTuple):
    """One queue, and what is asked of it."""

    random: bool
    load: float
    requests: int
    replications: int
    precision: float

    @property
    def exact_s(self) -> float:
        """The 99th percentile of its response time."""
        return (MM1 if self.random else MD1)(self.load, 1.0).response_quantile_s(0.99)


def experiment(cell: Cell, seed: int) -> tuple[bool, bool, float, int, float]:
    """Does the interval cover; is it as narrow as asked, and to be believed; how wide, of how many requests, in how
    many seconds of the processor."""
    output = Geometric(mean=_STEPS) if cell.random else _ONE
    system = System(policy=ALONE, cost=Affine(base_s=1 / _STEPS if cell.random else 1.0))
    spec = WorkloadSpec(
        requests=cell.requests, arrivals=Poisson(rate=cell.load), prompt_tokens=_ONE, output_tokens=output
    )
    begun, asked = time.process_time(), Precision(cell.precision, ("response_s.p99",), 100_000)
    found = replicate(
        spec, system, seed=seed, replications=cell.replications, precision=asked, saturation_rps=1.0
    ).summary()
    value, half = found["response_s"]["p99"], found["half_width"]["response_s"]["p99"]
    told = found["precision"]["reached"] and not any(one["figure"] == "response_s.p99" for one in found["too_short"])
    return abs(value - cell.exact_s) <= half, told, half / value, found["requests"], time.process_time() - begun


def chunk(cell: Cell, seeds: range) -> list[tuple[bool, bool, float, int, float]]:
    return [experiment(cell, seed) for seed in seeds]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.5, 0.8, 0.9])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--replications", type=int, default=10)
    parser.add_argument("--precision", type=float, default=0.07)
    parser.add_argument("--workers", type=int, default=cpus())
    given = parser.parse_args(argv)
    print("| queue | load | asked, % | covers, % | reached, % | half-width, % | requests | CPU s |")
    print("|---|---|---|---|---|---|---|---|")
    with pool(given.workers) as processes:
        for random in (False, True):
            for load in given.loads:
                cell = Cell(random, load, given.requests, given.replications, given.precision)
                seeds = [range(i, min(i + 10, given.experiments)) for i in range(0, given.experiments, 10)]
                task = partial(chunk, cell)
                chunks = [f.result() for f in submit(processes, task, seeds)] if processes else list(map(task, seeds))
                covers, reached, width, requests, spent = np.array([one for each in chunks for one in each], float).T
                print(
                    f"| {'M/M/1' if random else 'M/D/1'} | {load} | {100 * cell.precision:.3g} | "
                    f"{100 * covers.mean():.1f} | {100 * reached.mean():.1f} | {100 * np.median(width):.1f} | "
                    f"{requests.mean():,.0f} | {spent.mean():.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
