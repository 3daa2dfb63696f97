"""Ctrl-C, where there is something to lose: it is noted and raises nothing, however often it is pressed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Whether Ctrl-C has been pressed; the handler of its signal. A plain flag, since a lock that the handler takes may
    be held by the very code that it came into."""

    def __init__(self) -> None:
        self._pressed = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._pressed = True

    def pressed(self) -> bool:
        """Whether it was."""
        return self._pressed


@contextmanager
def noted() -> Iterator[Interrupt]:
    """Until this ends, Ctrl-C is noted in what it gives, and that is all. One within another gives the same.

    Outside the main thread, which alone hears signals, and where Ctrl-C is ignored, nothing changes.
    """
    before = signal.getsignal(signal.SIGINT)
    if isinstance(before, Interrupt):
        yield before
        return
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread() or before in (signal.SIG_IGN, None):
        yield interrupt
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
