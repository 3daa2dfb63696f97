"""What every test of live runs is watched for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

import pytest

_GUARD_S = 60


@pytest.fixture
def nothing_stays() -> Iterator[None]:
    """No thread, no process and no open file is left behind; what hangs fails."""

    def hangs(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"still running after {_GUARD_S} s")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(_GUARD_S)
    files, children, threads = _files(), _children(), threading.active_count()
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert threading.active_count() == threads
    assert _files() == files
    assert _children() <= children


def _files() -> int:
    """How many are open, where the system says so."""
    return len(list(Path("/proc/self/fd").glob("*")))


def _children() -> set[str]:
    """Processes that this one has started and not waited for, where the system says so."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = path.read_text().rpartition(")")[2].split()[1]
            found |= {path.parent.name} if parent == str(os.getpid()) else set()
    return found
