"""The cells of a plan, each simulated once, in this process or in several."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

from simqueue.config import Scenario, named
from simqueue.errors import SimqueueError
from simqueue.metrics import PERCENTILES
from simqueue.pool import pool, submit
from simqueue.result import Result
from simqueue.sim.simulate import fitted, saturation_rps, simulate
from simqueue.sweep.cells import Cell, Plan
from simqueue.workload import Workload, make_workload

Row = dict[str, Any]
STATS = ("mean", *(f"p{p}" for p in PERCENTILES), "max")


@dataclass(frozen=True)
class Failure:
    """Why a cell has no figures, in one line."""

    reason: str


def run(plan: Plan, workers: int = 1) -> Generator[tuple[int, Row | Failure], None, None]:
    """``(number of the cell, its row or why there is none)`` as they finish; the same rows whatever ``workers``.

    The saturation throughput of every distinct system comes first, computed once by a run in which every request waits
    from the start (`saturation_rps`), with the very lengths that its cells have. Under ``load`` a cell then meets the
    workload as made at the scenario's own rate, brought to ``load`` times that throughput, so that all policies and
    loads meet the same customers. A cell at a load above 1 confirms it: what it gets through is the saturation.

    A cell that fails does not stop the others. Closing the iterator, or an interrupt, ends the processes. With several
    workers they are spawned: a script that asks for them needs its ``if __name__ == "__main__"``.

    Raises:
        SimqueueError: before anything runs, a workload cannot be made.
    """
    _refuse(plan)
    alike = {cell.capacity: cell for cell in reversed(plan.cells)}
    with pool(min(workers, len(plan.cells))) as processes:
        found = dict(_each(processes, _saturation, list(alike.values())))
        capacity = {key: found[i] for i, key in enumerate(alike)}
        yield from _each(processes, _row, [(cell, capacity[cell.capacity]) for cell in plan.cells])


def _refuse(plan: Plan) -> None:
    """Make every workload once, so that a trace that cannot be used is refused before anything runs."""
    for cell in plan.cells:
        try:
            with named(plan.path):
                _workload(cell.scenario)
        except SimqueueError as error:
            raise type(error)(f"{error} (in the sweep's cell {cell.label})") from None


def _saturation(cell: Cell) -> float:
    return saturation_rps(_workload(cell.scenario), cell.scenario.system)


def _row(task: tuple[Cell, float | Failure]) -> Row | Failure:
    cell, saturation = task
    if isinstance(saturation, Failure):
        return Failure(f"its saturation throughput: {saturation.reason}")
    scenario, workload = cell.scenario, _workload(cell.scenario)
    if cell.load is not None:
        workload = workload.at_rate(cell.load * saturation)
    result = simulate(workload, scenario.system, seed=scenario.run.seed, warmup=scenario.run.fixed_warmup)
    return _figures(cell, replace(result, saturation_rps=lambda: saturation))


def _figures(cell: Cell, result: Result) -> Row:
    """One row of the table: a summary with its tables laid flat."""
    summary = result.summary()
    rate, saturation = summary.pop("offered_rps"), summary.pop("saturation_rps")
    load = rate / saturation if cell.load is None else cell.load
    row = {"label": cell.label, "series": cell.series, **cell.values}
    row |= {"load": load, "rate": rate, "saturation_rps": saturation}
    clients = {f"{told['client']}.{key}": value for told in summary.pop("by_client", ()) for key, value in told.items()}
    return row | _flat(summary) | _flat({key: value for key, value in clients.items() if not key.endswith(".client")})


def _flat(figures: Mapping[str, Any]) -> Row:
    row: Row = {}
    for key, value in figures.items():
        if value is None and key.endswith("_s"):
            value = dict.fromkeys(STATS)
        row |= {f"{key}_{name}": number for name, number in value.items()} if isinstance(value, dict) else {key: value}
    return row


def _workload(scenario: Scenario) -> Workload:
    """Cut to the model's context before its rate is set: what is dropped there is no load."""
    return fitted(_made(scenario.workload, scenario.run.seed, scenario.path.parent), scenario.system)


# Cells that differ in the system only come one after another.
_made = lru_cache(maxsize=2)(make_workload)


def _each(
    processes: Executor | None, task: Callable[[Any], Any], items: Sequence[Any]
) -> Iterator[tuple[int, Any | Failure]]:
    """``(index, result or failure)`` of every item, as they finish."""
    if processes is None:
        for i, item in enumerate(items):
            yield i, _guarded(task, item)
        return
    futures = {future: i for i, future in enumerate(submit(processes, partial(_guarded, task), items))}
    for future in as_completed(futures):
        error = future.exception()
        yield futures[future], _failure(error) if isinstance(error, Exception) else future.result()


def _guarded(task: Callable[[Any], Any], item: Any) -> Any | Failure:
    try:
        return task(item)
    except Exception as error:
        return _failure(error)


def _failure(error: Exception) -> Failure:
    reason = str(error).partition("\n")[0]
    return Failure(reason if isinstance(error, SimqueueError) else f"{type(error).__name__}: {reason}")
