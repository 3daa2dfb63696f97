"""Processes to simulate in: replaced when they die, deaf to Ctrl-C, and gone when whoever started them is."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from importlib.machinery import ModuleSpec
from multiprocessing import get_all_start_methods, get_context, parent_process
from typing import Any

_LOOK_S = 0.5
_TRIES = 2
_FORKS = "forkserver"


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
            for _ in range(_TRIES):
                try:
                    return self._future(task, *args, **kwargs)
                except BrokenExecutor:
                    pass
                except (OSError, EOFError):
                    # Whoever forks them is gone too: then they start by themselves.
                    _ready.clear()
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
        if _ready.is_set():
            forks = get_context(_FORKS)
            return ProcessPoolExecutor(self._workers, context=forks, initializer=_born, initargs=(_whoever_asked_ends,))
        return ProcessPoolExecutor(self._workers, initializer=_born, initargs=(partial(_parent_ends, os.getpid()),))


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


@contextmanager
def copies(processes: int) -> Iterator[Executor | None]:
    """Copies of this process as it stands, for the second that it takes to draw what was simulated: they have imported
    what it has. None for this one, and where to copy a process is not safe: anywhere but on Linux."""
    if processes == 1 or sys.platform != "linux":
        yield None
        return
    ends = partial(_parent_ends, os.getpid())
    with ProcessPoolExecutor(processes, get_context("fork"), initializer=_born, initargs=(ends,)) as executor:
        with _interrupts_later():
            # All of them are made for the first task.
            executor.submit(int)
        yield executor


def submit(executor: Executor, task: Callable[[Any], Any], items: Iterable[Any]) -> list[Future[Any]]:
    """The task on every item, in order."""
    return [executor.submit(task, item) for item in items]


def get_ready(processes: int) -> None:
    """For commands, as the first thing they do: begin to import `simqueue.cli.ahead` in a process that pools have
    theirs forked from, so that these need not import it. Where the system cannot, they import what they need.

    Nothing else in the program may want its script, or Ctrl-C, in processes of a fork server.
    """
    if processes == 1 or _FORKS not in get_all_start_methods():
        return
    from multiprocessing import forkserver

    # Tasks do not need the script that the program was started by.
    sys.modules["__main__"].__spec__ = ModuleSpec("__main__", None)
    forkserver.set_forkserver_preload(["simqueue.cli.ahead"])
    # Without a folder for its socket, say, it cannot.
    with suppress(OSError), _same_modules(), _interrupts_later():
        forkserver.ensure_running()
        _ready.set()


_ready = threading.Event()


@contextmanager
def _same_modules() -> Iterator[None]:
    """A Python that is started in here looks for modules where this one does, and not first in the folder it is in."""
    places = [place or os.getcwd() for place in sys.path if isinstance(place, str)]
    ours = {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(places)}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _born(whoever_started_it_ends: Callable[[], None]) -> None:
    """Ctrl-C reaches every process of a terminal: the one that started the others decides. They end when it is gone,
    however it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow, args=(whoever_started_it_ends,), daemon=True).start()


def _follow(whoever_started_it_ends: Callable[[], None]) -> None:
    whoever_started_it_ends()
    os._exit(1)


def _parent_ends(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)


def _whoever_asked_ends() -> None:
    """The parent is the server that forked this process, and does not know."""
    asked = parent_process()
    assert asked is not None
    asked.join()


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
