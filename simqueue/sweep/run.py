"""The cells of a plan, each simulated once, in this process or in several."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from simqueue.analysis.replications import replicate
from simqueue.config import Scenario, named
from simqueue.errors import SimqueueError
from simqueue.metrics import PERCENTILES
from simqueue.pool import pool, submit
from simqueue.sim.simulate import fitted, saturation_rps
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
    loads meet the same customers, replication by replication (`simqueue.replicate`). A cell at a load above 1 confirms
    it: what it gets through is the saturation.

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
    scenario, how = cell.scenario, cell.scenario.run
    found = replicate(
        scenario.workload,
        scenario.system,
        seed=how.seed,
        replications=how.replications,
        warmup=how.warmup,
        precision=how.asked_precision,
        base=scenario.path.parent,
        rate=None if cell.load is None else cell.load * saturation,
        saturation_rps=saturation,
    )
    return _figures(cell, found.summary())


def _figures(cell: Cell, summary: dict[str, Any]) -> Row:
    """One row of the table: a summary with its tables laid flat, and behind it the half-widths of the intervals."""
    half_width, short = summary.pop("half_width"), summary.pop("too_short")
    rate, saturation = summary.pop("offered_rps"), summary.pop("saturation_rps")
    load = rate / saturation if cell.load is None else cell.load
    row = {"label": cell.label, "series": cell.series, **cell.values}
    row |= {"load": load, "rate": rate, "saturation_rps": saturation}
    return {
        **row,
        **_flat(_with_clients(summary)),
        **{f"{name}_half_width": _known(value) for name, value in _flat(_with_clients(half_width)).items()},
        "too_short": " ".join(one["figure"] for one in short),
    }


def _known(half_width: float) -> float | None:
    return None if math.isnan(half_width) else half_width


def _with_clients(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The rows of classes of clients as tables named after them."""
    named = {
        f"{told['client']}.{key}": value
        for told in summary.get("by_client", ())
        for key, value in told.items()
        if key != "client"
    }
    return {key: value for key, value in summary.items() if key not in ("by_client", "level", "note")} | named


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
