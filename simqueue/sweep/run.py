"""The cells of a plan, each simulated once, in this process or in several."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from simqueue.config import Scenario
from simqueue.errors import SimqueueError
from simqueue.metrics import PERCENTILES
from simqueue.result import Result
from simqueue.sim.simulate import fitted, saturation_rps, simulate
from simqueue.sweep.cells import Cell, Plan
from simqueue.workload import Workload, make_workload

Row = dict[str, Any]
STATS = ("mean", *(f"p{p}" for p in PERCENTILES), "max")
_WITH_STATS = ("queueing_s", "service_s", "response_s", "ttft_s", "tpot_s", "itl_s")


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
    with _pool(min(workers, len(plan.cells))) as pool:
        found = dict(_each(pool, _saturation, list(alike.values())))
        capacity = {key: found[i] for i, key in enumerate(alike)}
        yield from _each(pool, _row, [(cell, capacity[cell.capacity]) for cell in plan.cells])


def _refuse(plan: Plan) -> None:
    """Make every workload once, so that a trace that cannot be used is refused before anything runs."""
    for cell in plan.cells:
        try:
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
    result = simulate(workload, scenario.system, seed=scenario.run.seed, warmup=scenario.run.warmup)
    return _figures(cell, replace(result, saturation_rps=lambda: saturation))


def _figures(cell: Cell, result: Result) -> Row:
    """One row of the table: a summary with its tables laid flat."""
    summary = result.summary()
    rate, saturation = summary.pop("offered_rps"), summary.pop("saturation_rps")
    load = rate / saturation if cell.load is None else cell.load
    row = {"label": cell.label, "series": cell.series, **cell.values}
    row |= {"load": load, "rate": rate, "saturation_rps": saturation}
    for key, value in summary.items():
        if key in _WITH_STATS:
            value = value or dict.fromkeys(STATS)
        row |= {f"{key}_{name}": number for name, number in value.items()} if isinstance(value, dict) else {key: value}
    return row


def _workload(scenario: Scenario) -> Workload:
    """Cut to the model's context before its rate is set: what is dropped there is no load."""
    return fitted(_made(scenario.workload, scenario.run.seed, scenario.path.parent), scenario.system)


# Cells that differ in the system only come one after another.
_made = lru_cache(maxsize=2)(make_workload)


@contextmanager
def _pool(workers: int) -> Iterator[Executor | None]:
    """Processes to run cells in, or None for this one. They end with the block, at once if it did not end well."""
    if workers == 1:
        yield None
        return
    ours = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _ignore_interrupts)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - ours:
            process.terminate()
        raise
    pool.shutdown()


def _each(
    pool: Executor | None, task: Callable[[Any], Any], items: Sequence[Any]
) -> Iterator[tuple[int, Any | Failure]]:
    """``(index, result or failure)`` of every item, as they finish."""
    if pool is None:
        for i, item in enumerate(items):
            yield i, _guarded(task, item)
        return
    with _interrupts_later():
        futures = {pool.submit(_guarded, task, item): i for i, item in enumerate(items)}
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


def _ignore_interrupts() -> None:
    """Ctrl-C reaches every process of a terminal: the one that started the others decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Processes started in here are deaf to Ctrl-C also while they start; ours hears it after the block."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
