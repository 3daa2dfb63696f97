"""A task for each of many items with any executor of PEP 3148, whatever becomes of its workers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from itertools import islice
from typing import Any, TypeVar

from simqueue.errors import ConfigError, SimqueueError
from simqueue.sweep.task import Failure, failure

K = TypeVar("K")
T = TypeVar("T")
# A worker may be ended by somebody else, once or twice.
_DEATHS = 3


def each(
    executor: Executor | None, task: Callable[[T], Any], items: Iterable[tuple[K, T]], ahead: int
) -> Iterator[tuple[K, Any | Failure]]:
    """``(name, what came of the item)`` of every pair ``(name, item)``, as they finish. At most ``ahead`` are with the
    executor; None is this process.

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
    waiting = iter(items)
    while suspects := (yield from _together(executor, task, waiting, ahead)):
        for name, item in suspects:
            yield name, _alone(executor, task, item)


def _together(
    executor: Executor, task: Callable[[T], Any], waiting: Iterator[tuple[K, T]], ahead: int
) -> Generator[tuple[K, Any | Failure], None, list[tuple[K, T]]]:
    """Until nobody waits, or a worker dies. Returns who was under way then."""
    running: dict[Future[Any], tuple[K, T]] = {}
    lost: list[tuple[K, T]] = []
    try:
        while True:
            if not lost:
                running |= {executor.submit(task, pair[1]): pair for pair in islice(waiting, ahead - len(running))}
            if not running:
                return lost
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                pair = running.pop(future)
                if _died(future):
                    lost.append(pair)
                else:
                    yield pair[0], _outcome(future)
    finally:
        for future in running:
            future.cancel()


def _alone(executor: Executor, task: Callable[[T], Any], item: T) -> Any | Failure:
    for _ in range(_DEATHS):
        future = executor.submit(task, item)
        if not _died(future):
            return _outcome(future)
    return Failure(f"the process that ran it died, {_DEATHS} times out of {_DEATHS}: most likely for want of memory")


def _died(future: Future[Any]) -> bool:
    """Whether the worker is gone (for Dask has tried several by then); waits for it."""
    wait([future])
    if future.cancelled():
        raise ConfigError(
            "the workers are gone, and their scheduler with them: run the same command again, which goes on from the "
            "cells that are finished"
        )
    error = future.exception()
    return isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker"


def _outcome(future: Future[Any]) -> Any | Failure:
    error = future.exception()
    if isinstance(error, SimqueueError):
        raise error
    return future.result() if error is None else failure(error)
