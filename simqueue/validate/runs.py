"""The live side of a cell: run now, or read from the folder that keeps it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from simqueue.errors import SimqueueError
from simqueue.live.executor import GRID, Executor
from simqueue.live.journal import Planned, replay
from simqueue.live.serve import Served, core_of, serve
from simqueue.result import Result
from simqueue.system import System
from simqueue.units import digits
from simqueue.validate import machine
from simqueue.validate.again import unchecked
from simqueue.validate.cells import Case
from simqueue.validate.folder import keep, runs_of
from simqueue.validate.processors import processors, stolen_share
from simqueue.validate.record import Cell

# An unmeasured run of so many requests comes first, so that the device is awake and has done what it does once.
_WARM = 8


class Runs(msgspec.Struct, frozen=True):
    """Of one cell: each live run; what became of all requests; mean seconds of each part of the worker's loop, by step;
    plans, and those that differ in a replay; stolen processor time; and where it ran."""

    results: list[Result]
    outcomes: dict[str, int]
    host_s: dict[str, float]
    plans: int | None
    differing_plans: int | None
    stolen: float | None
    provenance: dict[str, Any]


def run(case: Case, executor: Executor, repeats: int, folder: Path) -> Runs:
    """Run a case so many times, and keep the columns in ``folder``.

    Raises:
        SimqueueError: the device or the folder fails, or no request is answered.
        KeyboardInterrupt: it was stopped.
    """
    _warm(case, executor)
    before = processors()
    served = [_serve(case, executor) for _ in range(repeats)]
    stolen = stolen_share(before, processors())
    results = [_result(run) for run in served]
    keep(results, folder, case.name)
    return Runs(
        results,
        dict(sum((Counter(run.outcomes) for run in served), Counter())),
        _host_s(served),
        *_replayed(served, case.scenario.system),
        None if stolen is None else digits(stolen),
        {
            **machine.provenance(case.scenario.system.cost, executor.describe()),
            "live": msgspec.to_builtins(case.live),
        },
    )


def kept(case: Case, cell: Cell, folder: Path) -> tuple[Case, Runs]:
    """The runs of a cell as the folder keeps them, and the case with the load and the workload that they met.

    Raises:
        OutputError: there is none, or they are of something else.
    """
    results = runs_of(folder, case.name)
    met, cost = results[0].workload, case.scenario.system.cost
    compared = {
        "profile": machine.digest_of(cost),
        "foreign": list(machine.foreign(cost, cell.provenance["machine"])),
        "compared": {**machine.software(), "unchecked": unchecked(case, cell, results[0])},
    }
    if not case.workload.closed_loop:
        # Without the columns that only a live run has.
        workload = replace(met, extra={name: met.extra[name] for name in case.workload.extra})
        case = replace(case, load=cell.load, workload=workload)
    measured = (cell.outcomes, cell.host_s, cell.plans, cell.differing_plans, cell.stolen)
    return case, Runs(results, *measured, {**cell.provenance, **compared})


def client_s(results: Sequence[Result], case: Case) -> dict[str, dict[str, float]]:
    """Mean, median and 99th percentile of what only a live run has: lateness, and the way of first and last tokens."""
    names = [name for name in results[0].workload.extra if name not in case.workload.extra]
    columns = {name: np.concatenate([result.workload.extra[name] for result in results]) for name in names}
    for name in ("first_delivery", "delivery"):
        columns[f"{name}_s"] = np.concatenate([result.grid.seconds(getattr(result, name)) for result in results])
    return {name: _stats(column) for name, column in columns.items()}


def _stats(column: NDArray[np.float64]) -> dict[str, float]:
    p50, p99 = np.quantile(column, (0.5, 0.99))
    return {name: digits(float(value)) for name, value in (("mean", column.mean()), ("p50", p50), ("p99", p99))}


def _warm(case: Case, executor: Executor) -> None:
    few = case.workload.head(min(_WARM, len(case.workload)))
    at_once = replace(few, arrival_s=np.zeros(len(few)))
    if serve(at_once, case.scenario.system, executor, clients="thread").interrupted:
        raise KeyboardInterrupt


def _serve(case: Case, executor: Executor) -> Served:
    run = case.scenario.run
    served = serve(
        case.workload,
        case.scenario.system,
        executor,
        clients=case.live.clients,
        seed=run.seed,
        warmup=run.fixed_warmup,
        saturation_rps=lambda: case.saturation_rps,
    )
    if served.interrupted:
        raise KeyboardInterrupt
    return served


def _result(served: Served) -> Result:
    if served.result is None:
        reason = next(iter(served.failed.values()), "no reason was given")
        raise SimqueueError(f"no request was answered: {reason}")
    return served.result


def _replayed(served: Sequence[Served], system: System) -> tuple[int, int]:
    """How many plans the runs made, and how many of them a fresh engine makes otherwise."""
    plans = sum(isinstance(entry, Planned) for run in served for entry in run.journal)
    return plans, sum(len(replay(run.journal, system.policy, GRID, core_of(system))) for run in served)


def _host_s(served: Sequence[Served]) -> dict[str, float]:
    columns = {name: np.concatenate([run.host[name] for run in served]) for name in served[0].host}
    return {name: digits(float(column.mean()) / 1e9) for name, column in columns.items()}
