"""Replications of several competitors that all meet the same customers, and more of them when they are asked for."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simqueue.analysis.replicated import Part, Replicated, response_of, sectioned
from simqueue.analysis.replications import AUTO, is_stationary, seed_of
from simqueue.analysis.server import AnyResult, Server, run, without_capacity
from simqueue.analysis.warmup import Warmup, averaged, mser5
from simqueue.errors import SimqueueError
from simqueue.pool import submit
from simqueue.workload import Trace, TraceWarning, WorkloadSpec, make_workload


@dataclass(frozen=True)
class Competitor:
    """What is compared with others.

    Attributes:
        name: what it is called in the answer.
        spec: what arrives.
        server: what serves it: a `System`, `Cluster` or `Disaggregation`.
        base: the folder that a trace's relative path starts from.
    """

    name: str
    spec: WorkloadSpec
    server: Server
    base: Path | None = None

    @property
    def recorded(self) -> bool:
        """Whether its arrivals happened once, and cannot be drawn again."""
        return isinstance(self.spec.arrivals, Trace)


class _Task(NamedTuple):
    """One replication; ``warmup`` is None where it has yet to be found."""

    competitor: Competitor
    seed: int
    warmup: int | None


@dataclass
class Runs:
    """The replications of one competitor, or the sections of a single one.

    Attributes:
        competitor: whose.
        seed: of replication 0, which is the run of `simqueue.simulate` with it.
        first: that run.
        warmup: how many requests are left out at the beginning of each.
        parts: one a replication, in order; or one a section.
        replicated: whether they are replications.
    """

    competitor: Competitor
    seed: int
    first: AnyResult
    warmup: Warmup
    parts: list[Part]
    replicated: bool
    _found: dict[int, Replicated] = field(default_factory=dict, repr=False)

    def found(self, count: int) -> Replicated:
        """What the first ``count`` replications say together; all sections, whatever the ``count``."""
        if count not in self._found:
            parts = self.parts[:count] if self.replicated else self.parts
            series = averaged([part.response_s for part in parts])
            replications = len(parts) if self.replicated else 1
            self._found[count] = Replicated(self.first, parts, replications, self.warmup, [series])
        return self._found[count]

    @property
    def random(self) -> bool:
        """Whether replications differ at all."""
        one, other = self.parts[0].response_s, self.parts[-1].response_s
        return not (self.replicated and np.array_equal(one, other, equal_nan=True))

    def missing(self, count: int) -> list[_Task]:
        """Those up to ``count`` that there are not yet."""
        numbers = range(len(self.parts), count)
        return [_Task(self.competitor, seed_of(self.seed, n), self.warmup.requests) for n in numbers]


def begin(
    processes: Executor | None, competitors: Sequence[Competitor], seed: int, warmup: int | str | None, count: int
) -> list[Runs]:
    """The first ``count`` replications of each; a single one in sections.

    Replications of one number have one seed. So that figures are of the same customers too, all competitors whose
    warm-up is looked for, and found, leave out as many requests as the one that needs most.

    Args:
        processes: where to run; None: here.
        competitors: what to run.
        seed: of every draw.
        warmup: how many first requests to leave out, as in `simqueue.replicate`.
        count: how many.

    Raises:
        ConfigError, ProfileError, WorkloadError, InvariantError: as `simqueue.simulate` has them.
    """
    numbers = range(1, count)
    tasks = [_Task(each, seed, _given(each, warmup)) for each in competitors]
    others = [task._replace(seed=seed_of(seed, n)) for task in tasks for n in numbers]
    futures = submit(processes, _replication, others) if processes else []
    # The first one alone knows the saturation throughput, and stays in this process.
    firsts = [_run(task) for task in tasks]
    rest = [future.result() for future in futures] if processes else [_replication(task) for task in others]
    runs = [[first, *rest[i * len(numbers) : (i + 1) * len(numbers)]] for i, first in enumerate(firsts)]
    return [_begun(task, results, cut) for task, results, cut in zip(tasks, runs, _warmups(tasks, runs), strict=True)]


def extend(processes: Executor | None, runs: Sequence[Runs], count: int) -> None:
    """Up to ``count`` replications of each."""
    tasks = [each.missing(count) for each in runs]
    flat = [task for each in tasks for task in each]
    done = iter(
        [future.result() for future in submit(processes, _replication, flat)]
        if processes
        else [_replication(task) for task in flat]
    )
    for each, missing in zip(runs, tasks, strict=True):
        each.parts += [part for _ in missing if isinstance(part := next(done), Part)]


def _given(competitor: Competitor, warmup: int | str | None) -> int | None:
    """None where it is to be found."""
    if warmup == AUTO or (warmup is None and is_stationary(competitor.spec)):
        return None
    return int(warmup or 0)


def _warmups(tasks: Sequence[_Task], runs: Sequence[Sequence[AnyResult | Part]]) -> list[Warmup]:
    series = [averaged([_response(one) for one in each]) for each in runs]
    cuts = [
        mser5(each) if task.warmup is None else Warmup(task.warmup, found=True)
        for task, each in zip(tasks, series, strict=True)
    ]
    looked_for = [task.warmup is None and cut.found for task, cut in zip(tasks, cuts, strict=True)]
    most = max((cut.requests for cut, yes in zip(cuts, looked_for, strict=True) if yes), default=0)
    return [
        cut._replace(requests=min(most, len(each) // 2)) if yes else cut
        for cut, each, yes in zip(cuts, series, looked_for, strict=True)
    ]


def _begun(task: _Task, results: Sequence[AnyResult | Part], warmup: Warmup) -> Runs:
    first = results[0]
    assert not isinstance(first, Part)
    first = first.cut(warmup.requests)
    if len(results) == 1:
        return Runs(task.competitor, task.seed, first, warmup, sectioned(first), replicated=False)
    others = [one if isinstance(one, Part) else Part.of(one.cut(warmup.requests)) for one in results[1:]]
    return Runs(task.competitor, task.seed, first, warmup, [Part.of(first), *others], replicated=True)


def _response(one: AnyResult | Part) -> NDArray[np.float64]:
    return one.response_s if isinstance(one, Part) else response_of(one)


def _replication(task: _Task) -> AnyResult | Part:
    """What goes back to the first process: the whole run only where the warm-up is still to be found. What is to be
    said of a trace the first run has said."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TraceWarning)
        result = without_capacity(_run(task))
    return result if task.warmup is None else Part.of(result)


def _run(task: _Task) -> AnyResult:
    each = task.competitor
    try:
        workload = make_workload(each.spec, task.seed, each.base)
        return run(each.server, workload, seed=task.seed, warmup=task.warmup or 0)
    except SimqueueError as error:
        raise type(error)(f"{each.name}: {error}") from None
