"""Processes to simulate in: replaced when they die, deaf to Ctrl-C, and gone when whoever started them is."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from typing import Any

_LOOK_S = 0.5


def cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Processes(Executor):
    """An executor that lives on when its processes die: what was under way then has failed with a `BrokenExecutor`,
    and new processes take what is submitted next."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._loky = self._started()

    def submit(self, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See `concurrent.futures.Executor.submit`."""
        # They start with the first tasks, and are to be deaf to Ctrl-C from the beginning.
        with _interrupts_later():
            try:
                return self._future(task, *args, **kwargs)
            except BrokenExecutor:
                self._loky.shutdown(wait=False, kill_workers=True)
                self._loky = self._started()
                return self._future(task, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `concurrent.futures.Executor.shutdown`; with ``cancel_futures`` what is under way is ended too."""
        self._loky.shutdown(wait=wait, kill_workers=cancel_futures)

    def _future(self, task: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = self._loky.submit(task, *args, **kwargs)
        return future

    def _started(self) -> Any:
        # Importing it takes a while, and not every command needs processes.
        from loky import ProcessPoolExecutor

        # That a process has grown and is replaced, or was ended by somebody, is dealt with.
        warnings.filterwarnings("ignore", "A worker (stopped|was restarted) while", UserWarning)
        return ProcessPoolExecutor(self._workers, initializer=_born, initargs=(os.getpid(),))


@contextmanager
def pool(workers: int) -> Iterator[Executor | None]:
    """Processes to run in, or None for this one. They end with the block, at once and whatever they do."""
    if workers == 1:
        yield None
        return
    executor = Processes(workers)
    try:
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


def submit(executor: Executor, task: Callable[[Any], Any], items: Iterable[Any]) -> list[Future[Any]]:
    """The task on every item, in order."""
    return [executor.submit(task, item) for item in items]


def _born(parent: int) -> None:
    """Ctrl-C reaches every process of a terminal: the one that started the others decides. They end when it is gone,
    however it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Processes started in here are deaf to Ctrl-C also while they start; ours hears it after the block."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    # Whoever starts it lets interrupts through afterwards: so not in the block, as the first process would.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
