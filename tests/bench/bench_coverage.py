"""How often intervals cover the truth: ``python tests/bench/bench_coverage.py`` prints the table of docs/intervals.md.

Single servers with exponential service, whose response times are known exactly: Poisson arrivals (M/M/1), and bursty
ones with gamma gaps of coefficient of variation 2 (GI/M/1). They start empty and run through Lindley's recursion, which
takes a thousandth of the time of a simulation, and from there through what `simqueue simulate` uses: MSER-5, pooled
figures, intervals, and the word on what is too short. ``--simulated`` runs them through
`simqueue.analysis.replications.replicate` in place of that.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from simqueue import Affine, ExponentialNoise, NoBatching, System, WorkloadSpec
from simqueue.analysis.figures import at
from simqueue.analysis.interval import sections
from simqueue.analysis.replicated import SECTIONS, Part, Replicated
from simqueue.analysis.replications import replicate
from simqueue.analysis.server import AnyResult
from simqueue.analysis.warmup import averaged, mser5
from simqueue.metrics import Sample
from simqueue.pool import cpus, pool, submit
from simqueue.theory import GIM1, MM1
from simqueue.workload import Fixed, Gamma, Poisson

BURSTY_CV = 2.0
FIGURES = ("mean", "p95", "p99")
COLUMNS = ("half-width", "covers", "flagged", "covers if not flagged", "wrong and not flagged")
SYSTEM = System(policy=NoBatching(), cost=Affine(base_s=1.0), noise=ExponentialNoise())


class Cell(NamedTuple):
    """One queue, and how it is looked at; service takes a second. ``replications`` 1: one run in sections."""

    load: float
    bursty: bool
    requests: int
    replications: int
    simulated: bool

    @property
    def exact(self) -> list[float]:
        """The mean and the percentiles of its response time."""
        queue = GIM1.gamma(self.load, BURSTY_CV, 1.0) if self.bursty else MM1(self.load, 1.0)
        return [queue.mean_response_s, queue.response_quantile_s(0.95), queue.response_quantile_s(0.99)]


class _Whole(NamedTuple):
    """As much of a result as a single run is asked for."""

    figures: dict[str, Any]

    def summary(self) -> dict[str, Any]:
        return self.figures


def responses(cell: Cell, rng: np.random.Generator) -> NDArray[np.float64]:
    """``(replications, requests)``, from empty: a waiting time is how far the walk of services less gaps is above its
    lowest point so far (Lindley, Proceedings of the Cambridge Philosophical Society 48, 1952)."""
    shape = (cell.replications, cell.requests)
    service, cv = rng.standard_exponential(shape), BURSTY_CV if cell.bursty else 1.0
    gaps = rng.standard_gamma(cv**-2, shape) * cv**2 / cell.load
    walk = np.zeros(shape)
    np.cumsum(service[:, :-1] - gaps[:, 1:], axis=1, out=walk[:, 1:])
    return np.asarray(walk - np.minimum.accumulate(walk, axis=1) + service)


def part(times: NDArray[np.float64], warmup: int = 0) -> Part:
    sample = Sample(times[warmup:])
    summary = {"requests": len(sample.values), "response_s": sample.stats()}
    return Part(summary, {"response_s": sample}, times)


def recursion(cell: Cell, seed: int) -> Replicated:
    rows = responses(cell, np.random.default_rng((seed, *map(int, (100 * cell.load, *cell[1:4])))))
    series = averaged(list(rows))
    warmup = mser5(series)
    if cell.replications > 1:
        parts = [part(row, warmup.requests) for row in rows]
        return Replicated(cast(AnyResult, None), parts, len(rows), warmup, series)
    run = rows[0]
    parts = [part(run[begin:end]) for begin, end in sections(warmup.requests, len(run), SECTIONS)]
    whole = _Whole(dict(part(run, warmup.requests).summary))
    return Replicated(cast(AnyResult, whole), parts, 1, warmup, series)


def simulation(cell: Cell, seed: int) -> Replicated:
    arrivals = Gamma(rate=cell.load, cv=BURSTY_CV) if cell.bursty else Poisson(rate=cell.load)
    one = Fixed(value=1)
    spec = WorkloadSpec(requests=cell.requests, arrivals=arrivals, prompt_tokens=one, output_tokens=one)
    return replicate(spec, SYSTEM, seed=seed, replications=cell.replications)


def experiment(cell: Cell, seed: int) -> list[tuple[bool, bool, float]]:
    """For each figure: does its interval cover, is it flagged, and how wide is it."""
    found = simulation(cell, seed) if cell.simulated else recursion(cell, seed)
    summary = found.summary()
    flagged = {entry["figure"] for entry in summary["too_short"]}
    rows = []
    for name, exact in zip(FIGURES, cell.exact, strict=True):
        value, half = summary["response_s"][name], at(summary["half_width"], ("response_s", name))
        rows.append((bool(abs(value - exact) <= half), f"response_s.{name}" in flagged, half / value))
    return rows


def chunk(cell: Cell, seeds: range) -> list[list[tuple[bool, bool, float]]]:
    return [experiment(cell, seed) for seed in seeds]


def row(
    cell: Cell, name: str, covers: NDArray[np.bool_], flagged: NDArray[np.bool_], width: NDArray[np.float64]
) -> str:
    trusted = covers[~flagged]
    honest = f"{100 * trusted.mean():.1f}" if len(trusted) else "-"
    how = f"{cell.replications} x {cell.requests:,}" if cell.replications > 1 else f"1 x {cell.requests:,} in sections"
    kind = "bursty" if cell.bursty else "Poisson"
    cells = (kind, f"{cell.load}", how, name, f"{100 * np.median(width):.1f}", f"{100 * covers.mean():.1f}")
    misled = 100 * (~covers & ~flagged).mean()
    return f"| {' | '.join(cells)} | {100 * flagged.mean():.1f} | {honest} | {misled:.1f} |"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument("--requests", type=int, nargs="+", default=[2_000, 10_000, 50_000])
    parser.add_argument("--loads", type=float, nargs="+", default=[0.5, 0.8, 0.9])
    parser.add_argument("--replications", type=int, nargs="+", default=[10])
    parser.add_argument("--simulated", action="store_true")
    parser.add_argument("--workers", type=int, default=cpus())
    given = parser.parse_args(argv)
    print(f"| arrivals | load | runs | figure | {' | '.join(f'{column}, %' for column in COLUMNS)} |")
    print(f"|---|---|---|---|{'---|' * len(COLUMNS)}")
    with pool(given.workers) as processes:
        for cell in (
            Cell(load, bursty, requests, replications, given.simulated)
            for bursty in (False, True)
            for load in given.loads
            for replications in given.replications
            for requests in given.requests
        ):
            seeds = [range(i, min(i + 20, given.experiments)) for i in range(0, given.experiments, 20)]
            task = partial(chunk, cell)
            chunks = [f.result() for f in submit(processes, task, seeds)] if processes else list(map(task, seeds))
            found = np.array([one for each in chunks for one in each], np.float64)
            for i, name in enumerate(FIGURES):
                print(row(cell, name, found[:, i, 0] > 0, found[:, i, 1] > 0, found[:, i, 2]), flush=True)


if __name__ == "__main__":
    main()
