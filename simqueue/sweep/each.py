"""What to do with each of many items, by any executor of PEP 3148, whatever becomes of its workers."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, wait
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from simqueue.errors import ConfigError, SimqueueError
from simqueue.sweep.task import Failure, failure

K = TypeVar("K")
T = TypeVar("T")
# A worker may be ended by somebody else, once or twice.
_DEATHS = 3
# A batch takes about so much processor time: little beside it is what it costs to send it, and little is lost with it.
_BATCH_S = 0.2
# And, where there are many workers, so much for each that is with the executor: with two of them a worker, 50 a second
# come back. A scheduler of Dask bears thrice as many (docs/scale.md).
_SHARE_S = 0.01


def each(
    executor: Executor | None, task: Callable[[T], Any], items: Iterable[tuple[K, T]], ahead: int
) -> Iterator[tuple[K, Any | Failure]]:
    """``(name, what came of the item)`` of every pair ``(name, item)``, as they finish. None is this process.

    Items that take little time go to the executor in batches, at most ``ahead`` of them at a time. The first are of
    one item each, later ones grow until they take 0.2 s of processor time (with more than 20 at a time 10 ms for each
    of those), and towards the end they shrink, so that all workers end together.

    When a worker dies nobody knows whose fault it was. All that were under way then are run again, one at a time:
    whoever is alone when its worker dies three times is a `Failure`.

    Raises:
        SimqueueError: of the task, or the executor has dropped it.
        BrokenExecutor: a worker died, and the executor takes no more tasks.
    """
    if executor is None:
        for name, item in items:
            yield name, task(item)
        return
    waiting = deque(items)
    while suspects := (yield from _together(executor, task, waiting, ahead)):
        for name, item in suspects:
            yield name, _alone(executor, task, item)


class _Found(NamedTuple):
    """What came of the items of a batch, and the processor time that they took. Dask sends dicts and lists value by
    value, each with a header of its own, but this in one piece."""

    outcomes: list[Any]
    took_s: float


def _together(
    executor: Executor, task: Callable[[T], Any], waiting: deque[tuple[K, T]], ahead: int
) -> Generator[tuple[K, Any | Failure], None, list[tuple[K, T]]]:
    """Until nobody waits, or a worker dies. Returns who was under way then."""
    running: dict[Future[_Found], list[tuple[K, T]]] = {}
    finished: SimpleQueue[Future[_Found]] = SimpleQueue()
    lost: list[tuple[K, T]] = []
    size = 1
    try:
        while True:
            while waiting and not lost and len(running) < ahead:
                batch = [waiting.popleft() for _ in range(min(size, math.ceil(len(waiting) / ahead)))]
                future = executor.submit(_all, task, [item for _, item in batch])
                running[future] = batch
                future.add_done_callback(finished.put)
            if not running:
                return lost
            future = finished.get()
            batch = running.pop(future)
            if _error(future) is not None:
                lost += batch
                continue
            found = future.result()
            yield from zip((name for name, _ in batch), found.outcomes, strict=True)
            size = _size(len(batch), found.took_s, ahead)
    finally:
        for future in running:
            future.cancel()


def _size(before: int, took_s: float, ahead: int) -> int:
    """Of a batch, by the one before. One may be quick by chance."""
    growth = max(_BATCH_S, ahead * _SHARE_S) / max(took_s, 1e-9)
    return max(1, int(before * min(2.0, growth)))


def _all(task: Callable[[T], Any], items: list[T]) -> _Found:
    begin = time.thread_time()
    return _Found([task(item) for item in items], time.thread_time() - begin)


def _alone(executor: Executor, task: Callable[[T], Any], item: T) -> Any | Failure:
    for _ in range(_DEATHS):
        future = executor.submit(_all, task, [item])
        if (error := _error(future)) is None:
            return future.result().outcomes[0]
        if not _died(error):
            return failure(error)
    return Failure(f"the process that ran it died, {_DEATHS} times out of {_DEATHS}: most likely for want of memory")


def _error(future: Future[Any]) -> BaseException | None:
    """Waits for it. Raises what concerns all."""
    wait([future])
    if future.cancelled():
        raise ConfigError(
            "the workers are gone, and their scheduler with them: run the same command again, which goes on from the "
            "cells that are finished"
        )
    error = future.exception()
    if isinstance(error, SimqueueError):
        raise error
    return error


def _died(error: BaseException) -> bool:
    """For Dask has tried several workers by then."""
    return isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker"
