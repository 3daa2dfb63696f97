"""How often `simqueue compare` is right; ``python tests/bench/bench_selection.py`` prints tables of docs/compare.md.

Single servers with Poisson arrivals and exponential service, whose response times are known exactly (M/M/1). All meet
the same arrivals; of the services a share ``common`` is drawn in common too, and the rest by each on its own, so that
common random numbers help much or little. They start empty and run through Lindley's recursion, which takes a
thousandth of the time of a simulation, and from there through what `simqueue compare` uses: paired differences and the
selection.

The first table is of two queues whose figures differ by 5 %: how often the paired interval covers that, and how often
the textbook one of the mean of the replications' differences does. The second is of selections at the least favourable
difference: all but one are worse than the best by the very share that just matters. They look up to five times, as they
do by default.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from simqueue.analysis.figures import at
from simqueue.analysis.replicated import Part
from simqueue.analysis.student import student
from simqueue.analysis.warmup import Warmup
from simqueue.metrics import Sample
from simqueue.pool import cpus, pool, submit
from simqueue.ranking.criterion import Criterion
from simqueue.ranking.ranking import Contest, Ranking
from simqueue.ranking.runs import Competitor, Runs
from simqueue.ranking.selection import Gaps, level_each, looks, select

FIRST, MOST = 10, 160
LEFT_OUT = 0.1
PAIR = 0.05


class Cell(NamedTuple):
    """``count`` queues; service of the best takes a second in the mean."""

    load: float
    figure: str
    requests: int
    common: float
    count: int
    apart: float

    @property
    def rivals_s(self) -> float:
        """The mean service time of the others. Response times are exponential with mean 1 / (1 / service - rate), so
        that this and all percentiles are larger by ``apart``."""
        return 1 / (self.load + (1 - self.load) / (1 + self.apart))


def part(times: NDArray[np.float64], rate: float) -> Part:
    sample = Sample(times[int(LEFT_OUT * len(times)) :])
    figures = {"offered_rps": rate, "saturation_rps": 1.0, "unstable": False}
    summary = {"requests": len(sample.values), "response_s": sample.stats(), **figures}
    return Part(summary, {"response_s": sample}, times)


def replication(cell: Cell, seed: int, number: int) -> list[Part]:
    """Of every queue, all from empty (Lindley, Proceedings of the Cambridge Philosophical Society 48, 1952)."""
    rng = np.random.default_rng((seed, number))
    gaps, shared = rng.standard_exponential((2, cell.requests))
    parts = []
    for queue in range(cell.count):
        own, drawn = rng.standard_exponential(cell.requests), rng.random(cell.requests)
        service = np.where(drawn < cell.common, shared, own) * (cell.rivals_s if queue else 1.0)
        walk = np.append(0.0, np.cumsum(service[:-1] - gaps[1:] / cell.load))
        parts.append(part(walk - np.minimum.accumulate(walk) + service, cell.load))
    return parts


def contest(cell: Cell, looked: int) -> Contest:
    names = [Competitor(str(queue), cast(Any, None), cast(Any, None)) for queue in range(cell.count)]
    warmup = Warmup(int(LEFT_OUT * cell.requests), found=True)
    runs = [Runs(name, 0, cast(Any, None), warmup, [], replicated=True) for name in names]
    return Contest(Criterion(f"response_s.{cell.figure}"), runs, level_each(cell.count, looked))


def extend(cell: Cell, runs: Sequence[Runs], seed: int, count: int) -> None:
    for number in range(max(len(each.parts) for each in runs), count):
        for each, one in zip(runs, replication(cell, seed, number), strict=True):
            each.parts.append(one)


def pair(cell: Cell, seed: int) -> list[float]:
    """Whether the paired interval covers, and the textbook one; the half-width, and the variance ratio."""
    found = contest(cell, 1)
    extend(cell, found.runs, seed, FIRST)
    path, exact = found.criterion.path, math.log1p(cell.apart)
    paired = found.difference(path, 0, 1, FIRST)
    assert paired is not None
    assert paired.log_half_width is not None
    one, other = (np.array([at(one.summary, path) for one in each.parts]) for each in found.runs)
    truth = cell.apart / (1 - cell.load) * (1.0 if cell.figure == "mean" else -math.log(1 - int(cell.figure[1:]) / 100))
    half = student(FIRST - 1, found.level) * np.std(other - one, ddof=1) / math.sqrt(FIRST)
    covers = abs(paired.log_ratio - exact) <= paired.log_half_width, abs(np.mean(other - one) - truth) <= half
    return [*map(float, covers), paired.log_half_width, paired.variance_ratio or math.nan]


def selection(cell: Cell, seed: int) -> list[float]:
    """Whether it says who is best; the best was chosen; somebody else was said to be; all that was said is true; and
    the replications of all."""
    numbers = looks(FIRST, MOST)
    found = contest(cell, len(numbers))

    def look(left: Sequence[int], count: int) -> Gaps:
        extend(cell, found.runs, seed, count)
        return lambda one, other: found.gap(one, other, count)

    chosen = select(cell.count, numbers, look, cell.apart)
    ranking = Ranking(found, chosen, cell.apart, numbers)
    truth = [0.0, *[cell.apart] * (cell.count - 1)]
    gaps = [ranking.worse(queue) for queue in range(cell.count)]
    true = all(gap.least - 1e-12 <= exact <= gap.most + 1e-12 for gap, exact in zip(gaps, truth, strict=True))
    right = chosen.best == 0
    said = ranking.decided
    return [*map(float, (said, right, said and not right, true)), float(sum(chosen.replications.values()))]


def chunk(task: Callable[[Cell, int], list[float]], cell: Cell, seeds: range) -> list[list[float]]:
    return [task(cell, seed) for seed in seeds]


def experiments(
    processes: Any, task: Callable[[Cell, int], list[float]], cell: Cell, count: int
) -> NDArray[np.float64]:
    seeds = [range(i, min(i + 10, count)) for i in range(0, count, 10)]
    run = partial(chunk, task, cell)
    chunks = [each.result() for each in submit(processes, run, seeds)] if processes else list(map(run, seeds))
    return np.array([one for each in chunks for one in each])


def pairs(processes: Any, count: int) -> None:
    print(
        "| load | figure | runs | drawn in common | covers, % | half-width, % | textbook covers, % | variance ratio |"
    )
    print(f"|{'---|' * 8}")
    for load, requests, common, figure in (
        (load, requests, common, figure)
        for load, requests in ((0.5, 2_000), (0.8, 10_000), (0.9, 10_000))
        for common in (1.0, 0.5)
        for figure in ("mean", "p99")
    ):
        found = experiments(processes, pair, Cell(load, figure, requests, common, 2, PAIR), count)
        covers, textbook = 100 * found[:, 0].mean(), 100 * found[:, 1].mean()
        width, ratio = 100 * np.median(found[:, 2]), np.median(found[:, 3])
        where = f"{load} | {figure} | {FIRST} x {requests:,} | {common:.0%}"
        print(f"| {where} | {covers:.1f} | {width:.2g} | {textbook:.1f} | {ratio:.2g} |", flush=True)


def selections(processes: Any, count: int) -> None:
    columns = "said, %", "best chosen, %", "wrong and said, %", "all true, %", "replications a queue"
    print(f"| queues | load | figure | runs of | drawn in common | difference | {' | '.join(columns)} |")
    print(f"|{'---|' * 11}")
    for cell in (
        Cell(0.5, "mean", 2_000, 0.5, 2, 0.02),
        Cell(0.5, "p99", 2_000, 0.5, 2, 0.05),
        Cell(0.5, "p99", 2_000, 0.5, 5, 0.05),
        Cell(0.5, "p99", 2_000, 0.0, 5, 0.1),
        Cell(0.8, "mean", 2_000, 0.5, 5, 0.1),
        Cell(0.8, "p99", 10_000, 1.0, 5, 0.02),
        Cell(0.8, "p99", 2_000, 0.5, 5, 0.2),
        Cell(0.9, "p99", 10_000, 1.0, 2, 0.02),
        Cell(0.9, "mean", 10_000, 1.0, 2, 0.01),
    ):
        found = experiments(processes, selection, cell, count)
        shares = " | ".join(f"{100 * share:.1f}" for share in found[:, :4].mean(axis=0))
        where = f"{cell.count} | {cell.load} | {cell.figure} | {cell.requests:,} | {cell.common:.0%} | {cell.apart:.0%}"
        print(f"| {where} | {shares} | {found[:, 4].mean() / cell.count:.0f} |", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=cpus())
    parser.add_argument("--only", choices=("pairs", "selections"))
    given = parser.parse_args(argv)
    with pool(given.workers) as processes:
        if given.only != "selections":
            pairs(processes, given.experiments)
        if given.only != "pairs":
            selections(processes, given.experiments)


if __name__ == "__main__":
    main()
