"""The cells of a plan, each simulated once, wherever there are processors."""

from __future__ import annotations

import math
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from simqueue.analysis.replications import REPLICATIONS
from simqueue.config import named
from simqueue.errors import SimqueueError
from simqueue.pool import cpus
from simqueue.sweep.cells import Cell, Plan
from simqueue.sweep.content import Content
from simqueue.sweep.each import each
from simqueue.sweep.store import Store
from simqueue.sweep.task import Failure, Row, Task, done, made

REQUESTS_FILE = "requests_file"


def run(
    plan: Plan,
    executor: Executor | None = None,
    store: Store | None = None,
    *,
    requests: bool = False,
    ahead: int | None = None,
) -> Generator[tuple[int, Row | Failure], None, None]:
    """``(number of the cell, its row or why there is none)`` as they finish; the same rows whatever the executor.

    The saturation throughput of every distinct system comes first, computed once by a run in which every request waits
    from the start (`saturation_rps`), with the very lengths that its cells have. Under ``load`` a cell then meets the
    workload as made at the scenario's own rate, brought to ``load`` times that throughput, so that all policies and
    loads meet the same customers, replication by replication (`simqueue.replicate`). A cell at a load above 1 confirms
    it: what it gets through is the saturation.

    A cell that fails does not stop the others. Those that are likely to take longest come first, so that nobody waits
    for a last one.

    Args:
        plan: what to run.
        executor: any of PEP 3148, this process if None; with `simqueue.pool.pool` processes that die are replaced.
            Closing the iterator withdraws what waits there, and no more.
        store: where what is finished is kept; what is there already comes first, and is not run again.
        requests: also leave the requests of every cell's first replication there, as Parquet.
        ahead: how many tasks the executor has at a time: some more than it has workers, or else these wait. If not
            given twice as many as there are CPUs here.

    Raises:
        SimqueueError: a workload cannot be made, which is found before anything runs; the store cannot be written; a
            worker would have other numbers.
        BrokenExecutor: a worker died, and the executor takes no more tasks.
    """
    files = store if requests else None
    missing = []
    for job in _jobs(plan):
        if (figures := _kept(job, store, files)) is None:
            missing.append(job)
        else:
            yield job.number, _row(job, figures, files)
    _refuse(plan, missing)
    ahead = ahead or 2 * cpus()
    saturation = _saturations(missing, executor, store, ahead)
    ready = []
    for job in sorted(missing, key=_Job.brevity):
        limit = saturation[job.content.saturation]
        if isinstance(limit, Failure):
            yield job.number, Failure(f"its saturation throughput: {limit.reason}")
        else:
            ready.append((job, limit))
    tasks = ((job, job.task(limit, files)) for job, limit in ready)
    for job, found in each(executor, done, tasks, ahead):
        yield job.number, found if isinstance(found, Failure) else _finished(job, found, store, files)


class _Job(NamedTuple):
    """A cell, its number in the plan, what it depends on, and its key."""

    number: int
    cell: Cell
    content: Content
    key: str

    def task(self, saturation_rps: float | None, files: Store | None) -> Task:
        requests = files.requests_file(self.key) if files else None
        return Task(self.cell.scenario, self.content.seen, self.cell.load, saturation_rps, requests)

    def brevity(self) -> tuple[float, float]:
        """Less for what takes longer: more requests, or a higher load, whose intervals ask for more."""
        how, workload = self.cell.scenario.run, self.cell.scenario.workload
        requests = (workload.requests or math.inf) * (how.replications or REPLICATIONS)
        return -requests, -(self.cell.load or workload.mean_rate or 0.0)


def _jobs(plan: Plan) -> Iterator[_Job]:
    """Many cells have one scenario."""
    known: dict[int, Content] = {}
    for number, cell in enumerate(plan.cells):
        if (same := id(cell.scenario)) not in known:
            with _blamed_on(plan, cell):
                known[same] = Content.of(cell.scenario)
        yield _Job(number, cell, known[same], known[same].cell(cell.load))


def _saturations(
    jobs: Iterable[_Job], executor: Executor | None, store: Store | None, ahead: int
) -> dict[str, float | Failure]:
    """By key, each looked for once."""
    alike = {job.content.saturation: job for job in jobs}
    kept: dict[str, Any] = {key: store.get(key) if store else None for key in alike}
    tasks = ((key, alike[key].task(None, None)) for key, found in kept.items() if found is None)
    for key, found in each(executor, done, tasks, ahead):
        kept[key] = found
        if store and not isinstance(found, Failure):
            store.put(key, found)
    return {key: found if isinstance(found, Failure) else found["saturation_rps"] for key, found in kept.items()}


def _kept(job: _Job, store: Store | None, files: Store | None) -> Row | None:
    """The figures of a cell that is finished, and whose requests are there if they are asked for."""
    found = store.get(job.key) if store else None
    if found is None:
        return None
    if files and found["requests_bytes"] != (_bytes(files.requests_file(job.key)) or 0):
        return None
    return dict(found["figures"])


def _finished(job: _Job, figures: Row, store: Store | None, files: Store | None) -> Row | Failure:
    size = _bytes(files.requests_file(job.key)) if files else None
    if files and size is None:
        return Failure(f"its requests are not in {files.folder}: the folder must be one that all workers share")
    if store:
        store.put(job.key, {"figures": figures, "requests_bytes": size})
    return _row(job, figures, files)


def _bytes(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _row(job: _Job, figures: Row, files: Store | None) -> Row:
    """One row of the table. Names are the same objects in all of them, for there may be many thousands of rows."""
    row = {"label": job.cell.label, "series": job.cell.series, **job.cell.values, **figures}
    if files:
        row[REQUESTS_FILE] = files.requests_file(job.key).relative_to(files.folder).as_posix()
    return {sys.intern(name): value for name, value in row.items()}


def _refuse(plan: Plan, jobs: Sequence[_Job]) -> None:
    """Make every workload once, whatever its rate and seed, so that a trace that cannot be used, or lengths that no
    model takes, are refused before anything runs."""
    for job in {job.content.lengths: job for job in reversed(jobs)}.values():
        with _blamed_on(plan, job.cell):
            made(job.cell.scenario, job.cell.scenario.workload, job.content.seen)


@contextmanager
def _blamed_on(plan: Plan, cell: Cell) -> Iterator[None]:
    try:
        with named(plan.path):
            yield
    except SimqueueError as error:
        raise type(error)(f"{error} (in the sweep's cell {cell.label})") from None
