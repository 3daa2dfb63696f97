"""Processes to simulate in: spawned, deaf to Ctrl-C, and gone when whoever started them is."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any


def cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def pool(workers: int) -> Iterator[Executor | None]:
    """Processes to run in, or None for this one. They end with the block, at once if it did not end well."""
    if workers == 1:
        yield None
        return
    ours = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _ignore_interrupts)
    try:
        yield executor
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - ours:
            process.terminate()
        raise
    executor.shutdown()


def submit(executor: Executor, task: Callable[[Any], Any], items: Iterable[Any]) -> list[Future[Any]]:
    """The task on every item, in order. Processes that this starts are deaf to Ctrl-C also while they start."""
    with _interrupts_later():
        return [executor.submit(task, item) for item in items]


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
