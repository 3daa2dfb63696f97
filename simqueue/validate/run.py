"""Every cell run live some times over, and simulated on the very workload that ran."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor as Pool
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

import msgspec
import numpy as np

from simqueue import provenance
from simqueue.errors import SimqueueError
from simqueue.live.executor import Executor
from simqueue.live.serve import check_rows
from simqueue.units import Grid, digits
from simqueue.validate import machine, runs
from simqueue.validate.cells import Case
from simqueue.validate.compare import SATURATION, compare, judge
from simqueue.validate.measure import DRAWN, Array, Figures, Measures, measure, span_s
from simqueue.validate.predict import Task, check_scalable, elasticity, predict
from simqueue.validate.record import Cell, Curves, Validation
from simqueue.validate.runs import Runs
from simqueue.validate.steps import steps


@dataclass(frozen=True)
class Failure:
    """Why a cell could not be compared, in one line."""

    name: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """How to validate.

    Attributes:
        repeats: live runs of each cell.
        folder: where their columns are kept.
        here: what a case, and all others with its ``device``, will run on (see `simqueue.testbed.before_loading`).
        executor: makes what runs them.
        pool: processes to simulate in, or None for this one.
        other_machine: whether a cost that was measured elsewhere will do.
    """

    repeats: int
    folder: Path
    here: Callable[[Case], Mapping[str, str]]
    executor: Callable[[Case], Executor]
    pool: Pool | None
    other_machine: bool


def validate(cases: Sequence[Case], plan: Plan, before: Validation) -> Iterator[Cell | Failure]:
    """Each case in turn, as soon as it is compared; one that ``before`` has, with the same key, as it is there.

    Raises:
        ProfileError: a cost was measured on another machine, and that was not asked for; nothing has run then.
        ConfigError: a policy asks for more rows than there are, a cost cannot be scaled, which the elasticities need,
            or there is no such device; nothing has run.
        SimqueueError: an executor cannot be made.
    """
    known = {cell.name: cell for cell in before.cells}
    devices = [(alike, plan.here(alike[0])) for alike in _by_device(cases)]
    for alike, here in devices:
        _check(alike, here, plan)
    for alike, here in devices:
        yield from _on_one_device(alike, here, plan, known)


def _by_device(cases: Sequence[Case]) -> Iterator[list[Case]]:
    for _, alike in groupby(cases, key=lambda case: case.device):
        yield list(alike)


def _check(cases: Sequence[Case], here: Mapping[str, str], plan: Plan) -> None:
    for case in cases:
        check_rows(case.scenario.system.policy, case.live.max_rows)
        check_scalable(case.scenario.system.cost)
        if not plan.other_machine:
            machine.refuse_foreign(case.scenario.system.cost, here)


def _on_one_device(
    cases: Sequence[Case], here: Mapping[str, str], plan: Plan, known: Mapping[str, Cell]
) -> Iterator[Cell | Failure]:
    """The executor is made when the first cell needs it."""
    executor = cache(lambda: plan.executor(cases[0]))
    for case in cases:
        cell = known.get(case.name)
        if cell and _is_same(cell, case, here, plan.repeats):
            yield cell
        else:
            key = key_of(case, plan.repeats, executor().describe())
            yield _live(case, key, executor(), plan)


def _is_same(cell: Cell, case: Case, here: Mapping[str, str], repeats: int) -> bool:
    """Whether a cell is the very experiment; the weights of its model, which nothing here depends on, are its own."""
    there: dict[str, str] = cell.provenance["machine"]
    return here.items() <= there.items() and key_of(case, repeats, there) == cell.key


def _live(case: Case, key: str, executor: Executor, plan: Plan) -> Cell | Failure:
    try:
        return compared(case, runs.run(case, executor, plan.repeats, plan.folder), key, plan.pool)
    except SimqueueError as error:
        return Failure(case.name, str(error).partition("\n")[0])


def compare_again(cases: Sequence[Case], plan: Plan, before: Validation) -> Iterator[Cell | Failure]:
    """The live runs that a folder keeps against what the simulator says now; nothing runs live.

    The load of a cell stays the one that it ran at.

    Raises:
        ProfileError: the cost was measured on another machine than the runs were made on, and that was not asked for.
    """
    known = {cell.name: cell for cell in before.cells}
    if not plan.other_machine:
        for case in cases:
            if cell := known.get(case.name):
                machine.refuse_foreign(case.scenario.system.cost, cell.provenance["machine"])
    for case in cases:
        cell = known.get(case.name)
        if cell is None:
            yield Failure(case.name, f"{plan.folder} has no live runs of it: run it live first")
            continue
        try:
            yield compared(*runs.kept(case, cell, plan.folder), cell.key, plan.pool)
        except SimqueueError as error:
            yield Failure(case.name, str(error).partition("\n")[0])


def key_of(case: Case, repeats: int, here: Mapping[str, str]) -> str:
    """The same for the same experiment: workload, system, profile, device and software."""
    scenario = case.scenario
    about = provenance.provenance(case.workload, scenario.system, scenario.run.seed, Grid())
    parts = {
        **{name: about[name] for name in ("simqueue", "seed", "workload", "system")},
        "profile": machine.digest_of(scenario.system.cost),
        "live": msgspec.to_builtins(case.live),
        "warmup": scenario.run.fixed_warmup,
        "repeats": repeats,
        "machine": dict(here),
    }
    return machine.digest(parts)[:16]


def compared(case: Case, ran: Runs, key: str, pool: Pool | None) -> Cell:
    """The live runs of a case against simulations of the workload that they met.

    Raises:
        SimqueueError: it cannot be simulated.
    """
    system, warmup = case.scenario.system, case.scenario.run.fixed_warmup
    span = span_s(ran.results)
    task = Task(case.workload, system, warmup, span)
    predicted, live = predict(task, pool), [measure(result, system.policy, span) for result in ran.results]
    figures = compare([m.figures for m in live], [m.figures for m in predicted])
    saturates = case.load is not None and case.load > 1
    if saturates:
        figures |= compare(_saturations(live), _saturations(predicted))
    counted = len(case.workload) - warmup
    return Cell(
        file=case.file,
        label=case.label,
        series=case.series,
        key=key,
        load=None if case.load is None else digits(case.load),
        rate_rps=None if case.load is None else digits(case.workload.rate),
        requests=len(case.workload),
        counted=counted,
        seeds=len(predicted),
        outcomes=ran.outcomes,
        saturation_rps=digits(case.saturation_rps),
        figures=judge(figures, case.load, counted, _unfit(case, ran)),
        elasticity={} if saturates else elasticity(task, predicted, pool),
        steps=steps(ran.results, system),
        client_s=runs.client_s(ran.results, case),
        host_s=ran.host_s,
        quantiles={
            name: _curves([m.quantiles[name] for m in live], [m.quantiles[name] for m in predicted]) for name in DRAWN
        },
        waiting=_curves([m.waiting for m in live], [m.waiting for m in predicted]),
        span_s=digits(span),
        plans=ran.plans,
        differing_plans=ran.differing_plans,
        stolen=ran.stolen,
        provenance=ran.provenance,
    )


def _saturations(measured: Sequence[Measures]) -> list[Figures]:
    return [{SATURATION: {"mean": m.saturation_rps}} for m in measured]


def _unfit(case: Case, ran: Runs) -> str:
    lost = sum(len(case.workload) - len(result.arrival) for result in ran.results)
    return f"{lost} requests were not answered" if lost else ""


def _curves(live: Sequence[Array], predicted: Sequence[Array]) -> Curves:
    every = np.array(predicted)
    return Curves(
        live=tuple(map(_short, live)),
        low=_short(every.min(axis=0)),
        mean=_short(every.mean(axis=0)),
        high=_short(every.max(axis=0)),
    )


def _short(column: Array) -> tuple[float, ...]:
    """Five digits, which a figure does not show."""
    return tuple(float(f"{value:.5g}") for value in column)
