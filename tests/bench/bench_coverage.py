"""How often intervals cover the truth: ``python tests/bench/bench_coverage.py`` prints the table of coverage.md.

Single servers whose response times are known exactly. They start empty and run through Lindley's recursion, which takes
a thousandth of the time of a simulation, and from there through what `simqueue simulate` uses: MSER-5, pooled figures,
intervals, and the word on what is too short. ``--queues one dynamic continuous`` are simulations through
`simqueue.replicate`; the truth of the latter two is from runs of 10 million requests.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from simqueue import (
    Affine,
    Continuous,
    Dynamic,
    ExponentialNoise,
    NoBatching,
    System,
    WorkloadSpec,
    make_workload,
    saturation_rps,
    simulate,
)
from simqueue.analysis.figures import at
from simqueue.analysis.interval import sections
from simqueue.analysis.replicated import SECTIONS, Part, Replicated
from simqueue.analysis.replications import replicate
from simqueue.analysis.server import AnyResult
from simqueue.analysis.warmup import averaged, mser5
from simqueue.metrics import Sample
from simqueue.pool import cpus, pool, submit
from simqueue.theory import GIM1, MD1, MG1, MM1
from simqueue.workload import Fixed, Geometric, Lengths, Poisson

FIGURES = ("mean", "p95", "p99")
SHARES = (0.95, 0.99)
COLUMNS = ("half-width", "covers", "flagged", "covers if not flagged", "wrong and not flagged")
# The share of runs that must not be flagged for "covers if not flagged" to be known, and where it is to lie.
SUBSTANTIAL, HONEST = 0.05, (0.92, 0.98)
LATTICE, POINTS = 256, 1 << 21
LONG, LONG_RUNS = 500_000, 20


class Queue(NamedTuple):
    """One server: gamma gaps of a coefficient of variation, a law of services, which take a second in the mean."""

    gap_cv: float = 1.0
    service: str = "exponential"


QUEUES = {
    "Poisson": Queue(),
    "bursty": Queue(2.0),
    "M/D/1": Queue(service="constant"),
    "M/lognormal/1": Queue(service="lognormal"),
    "gamma-0.5/M/1": Queue(0.5),
    "gamma-3/M/1": Queue(3.0),
}
SERVICE_CV = {"constant": 0.0, "exponential": 1.0, "lognormal": 2.0}
SYSTEMS = {
    "one": System(policy=NoBatching(), cost=Affine(base_s=1.0), noise=ExponentialNoise()),
    "dynamic": System(policy=Dynamic(max_batch=8), cost=Affine(base_s=0.2, per_row_s=0.02)),
    "continuous": System(policy=Continuous(max_seqs=8), cost=Affine(base_s=0.2, per_row_s=0.02)),
}
OUTPUTS: dict[str, Lengths] = {"one": Fixed(value=1), "dynamic": Geometric(mean=4), "continuous": Geometric(mean=4)}


class Cell(NamedTuple):
    """A queue and how it is looked at; ``replications`` 1: one run in sections. ``rate`` in requests/s; ``exact`` are
    the mean and the percentiles of its response time."""

    queue: str
    load: float
    replications: int
    requests: int
    rate: float
    exact: tuple[float, ...]


class _Whole(NamedTuple):
    """As much of a result as a single run is asked for."""

    figures: dict[str, Any]

    def summary(self) -> dict[str, Any]:
        return self.figures


def exact(name: str, load: float) -> tuple[float, ...]:
    """The mean and the percentiles of the response time."""
    queue = QUEUES[name]
    if queue.service == "lognormal":
        return lognormal(load, SERVICE_CV["lognormal"])
    known: MM1 | MD1 | GIM1 = MM1(load, 1.0) if queue.gap_cv == 1 else GIM1.gamma(load, queue.gap_cv, 1.0)
    if queue.service == "constant":
        known = MD1(load, 1.0)
    return known.mean_response_s, *map(known.response_quantile_s, SHARES)


def lognormal(load: float, cv: float) -> tuple[float, ...]:
    """M/G/1: a wait is a geometric sum of residual services (Pollaczek and Khinchine; Asmussen, "Applied Probability
    and Queues", 2003, VIII.5), here on a lattice of 1/256 of a mean service, by Fourier transforms. Half that step
    changes percentiles by less than 1e-6 of themselves."""
    t = (np.arange(POINTS) + 0.5) / LATTICE
    spread = math.sqrt(math.log1p(cv**2))
    place = np.log(t) / spread + spread / 2
    below, shorter = ndtr(place), ndtr(place - spread)
    # E min(S, t) is the distribution function of a residual service of mean 1.
    service, residual = (np.fft.rfft(np.diff(cdf, prepend=0.0)) for cdf in (below, shorter + t * (1 - below)))
    response = np.cumsum(np.fft.irfft((1 - load) / (1 - load * residual) * service, POINTS))
    return MG1(load, 1.0, cv).mean_response_s, *np.interp(SHARES, response, t).tolist()


def simulated(name: str, load: float) -> tuple[float, tuple[float, ...]]:
    """The rate of this load, and the truth from long runs."""
    system = SYSTEMS[name]
    if name == "one":
        return load, exact("Poisson", load)
    rate = load * saturation_rps(make_workload(workload(name, 1.0, 100_000), 1), system)
    spec, found = workload(name, rate, LONG), []
    for seed in range(LONG_RUNS):
        run = simulate(make_workload(spec, seed), system, seed=seed, warmup=LONG // 20)
        stats = run.stats("response_s") or {}
        found.append([stats[figure] for figure in FIGURES])
    return rate, tuple(np.mean(found, axis=0).tolist())


def workload(name: str, rate: float, requests: int) -> WorkloadSpec:
    return WorkloadSpec(
        requests=requests, arrivals=Poisson(rate=rate), prompt_tokens=Fixed(value=1), output_tokens=OUTPUTS[name]
    )


def gaps(cv: float, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    """Of mean 1. A gamma variable of shape k is one of k + 1 times U^(1/k) (Marsaglia and Tsang, ACM TOMS 26(3), 2000,
    section 6), which is quicker here."""
    k = cv**-2
    if k == 1:
        return rng.standard_exponential(shape)
    if k > 1:
        return rng.standard_gamma(k, shape) / k
    return rng.standard_gamma(k + 1, shape) * np.exp(rng.standard_exponential(shape) / -k) / k


def services(law: str, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float64]:
    if law == "constant":
        return np.ones(shape)
    if law == "exponential":
        return rng.standard_exponential(shape)
    variance = math.log1p(SERVICE_CV[law] ** 2)
    return rng.lognormal(-variance / 2, math.sqrt(variance), shape)


def responses(cell: Cell, rng: np.random.Generator) -> NDArray[np.float64]:
    """``(replications, requests)``, from empty: a waiting time is how far the walk of services less gaps is above its
    lowest point so far (Lindley, Proceedings of the Cambridge Philosophical Society 48, 1952)."""
    shape, queue = (cell.replications, cell.requests), QUEUES[cell.queue]
    service, gap = services(queue.service, shape, rng), gaps(queue.gap_cv, shape, rng)
    walk = np.zeros(shape)
    np.cumsum(service[:, :-1] - gap[:, 1:] / cell.load, axis=1, out=walk[:, 1:])
    walk -= np.minimum.accumulate(walk, axis=1)
    walk += service
    return walk


def part(cell: Cell, times: NDArray[np.float64], warmup: int = 0) -> Part:
    sample = Sample(times[warmup:])
    known = {"offered_rps": cell.load, "saturation_rps": 1.0}
    return Part({"requests": len(sample.values), "response_s": sample.stats(), **known}, {"response_s": sample}, times)


def recursion(cell: Cell, rng: np.random.Generator) -> Replicated:
    rows = responses(cell, rng)
    series = averaged(list(rows))
    warmup = mser5(series)
    if cell.replications > 1:
        parts = [part(cell, row, warmup.requests) for row in rows]
        return Replicated(cast(AnyResult, None), parts, len(rows), warmup, series)
    run = rows[0]
    parts = [part(cell, run[begin:end]) for begin, end in sections(warmup.requests, len(run), SECTIONS)]
    whole = _Whole(dict(part(cell, run, warmup.requests).summary))
    return Replicated(cast(AnyResult, whole), parts, 1, warmup, series)


def experiment(cell: Cell, seed: int) -> list[tuple[bool, bool, float]]:
    """For each figure: does its interval cover, is it flagged, and how wide is it."""
    if cell.queue in SYSTEMS:
        spec = workload(cell.queue, cell.rate, cell.requests)
        found = replicate(spec, SYSTEMS[cell.queue], seed=LONG_RUNS + seed, replications=cell.replications)
    else:
        entropy = (seed, [*QUEUES].index(cell.queue), int(100 * cell.load), cell.replications, cell.requests)
        found = recursion(cell, np.random.Generator(np.random.SFC64(entropy)))
    summary = found.summary()
    flagged = {entry["figure"] for entry in summary["too_short"]}
    rows = []
    for name, truth in zip(FIGURES, cell.exact, strict=True):
        value, half = summary["response_s"][name], at(summary["half_width"], ("response_s", name))
        rows.append((bool(abs(value - truth) <= half), f"response_s.{name}" in flagged, half / value))
    return rows


def chunk(cell: Cell, seeds: range) -> list[list[tuple[bool, bool, float]]]:
    return [experiment(cell, seed) for seed in seeds]


class Row(NamedTuple):
    """What the experiments of a cell say of one figure; shares of them."""

    cell: Cell
    figure: str
    width: float
    covers: float
    flagged: float
    honest: float
    misled: float

    @property
    def outside(self) -> bool:
        """Whether a substantial share is not flagged, and of it too few cover, or too many."""
        return self.flagged < 1 - SUBSTANTIAL and not HONEST[0] <= self.honest <= HONEST[1]

    def __str__(self) -> str:
        cell = self.cell
        runs = f"{cell.replications} x {cell.requests:,}"
        shown = [f"{100 * share:.1f}" for share in self[2:]]
        shown[3] = "-" if self.flagged >= 1 - SUBSTANTIAL else f"**{shown[3]}**" if self.outside else shown[3]
        return f"| {' | '.join((cell.queue, str(cell.load), runs, self.figure, *shown))} |"


def row(cell: Cell, figure: str, found: NDArray[np.float64]) -> Row:
    """``found``: (experiments, 3), as `experiment` has it."""
    covers, flagged = found[:, 0] > 0, found[:, 1] > 0
    honest = covers[~flagged].mean() if not flagged.all() else math.nan
    width = float(np.median(found[:, 2]))
    return Row(cell, figure, width, covers.mean(), flagged.mean(), honest, (~covers & ~flagged).mean())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument("--queues", nargs="+", default=["Poisson", "bursty"], choices=[*QUEUES, *SYSTEMS])
    parser.add_argument("--loads", type=float, nargs="+", default=[0.5, 0.8, 0.9])
    parser.add_argument("--runs", nargs="+", default=["10x2000", "10x10000", "10x50000"], help="REPLICATIONSxREQUESTS")
    parser.add_argument("--workers", type=int, default=cpus())
    given = parser.parse_args(argv)
    print(f"| queue | load | runs | figure | {' | '.join(f'{column}, %' for column in COLUMNS)} |")
    print(f"|---|---|---|---|{'---|' * len(COLUMNS)}")
    rows = []
    with pool(given.workers) as processes:
        for queue, load in ((queue, load) for queue in given.queues for load in given.loads):
            rate, truth = simulated(queue, load) if queue in SYSTEMS else (load, exact(queue, load))
            for replications, requests in (map(int, runs.split("x")) for runs in given.runs):
                cell = Cell(queue, load, replications, requests, rate, truth)
                seeds = [range(i, min(i + 20, given.experiments)) for i in range(0, given.experiments, 20)]
                task = partial(chunk, cell)
                chunks = [f.result() for f in submit(processes, task, seeds)] if processes else list(map(task, seeds))
                found = np.array([one for each in chunks for one in each], np.float64)
                rows += [row(cell, name, found[:, i]) for i, name in enumerate(FIGURES)]
                print(*rows[-len(FIGURES) :], sep="\n", flush=True)
    told = [one for one in rows if one.flagged < 1 - SUBSTANTIAL]
    print(f"\n{sum(one.outside for one in told)} of {len(told)} outside {HONEST[0]:.0%} to {HONEST[1]:.0%}")


if __name__ == "__main__":
    main()
