"""What every test of live runs is watched for."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
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
    files, threads = _files(), threading.active_count()
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert threading.active_count() == threads
    assert _files() == files
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def _files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
