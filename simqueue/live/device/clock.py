"""Time on the device."""

from __future__ import annotations

from typing import Any

import torch

_cuda: Any = torch.cuda


class Clock:
    """CUDA events around a step's work on the device; without a GPU there is nothing to tell apart from the host.

    Only where ``on``: recording costs the host some microseconds, which a step's wall clock would show.
    """

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.on = False
        if self.cuda:
            self._first, self._last = (_cuda.Event(enable_timing=True) for _ in range(2))

    def start(self) -> None:
        """The device's work begins here."""
        if self.on:
            self._first.record()

    def stop(self) -> None:
        """The device's work ends here."""
        if self.on:
            self._last.record()

    def elapsed_s(self) -> float:
        """Seconds on the device from `start` to `stop`, once it is done."""
        self._last.synchronize()
        return float(self._first.elapsed_time(self._last)) / 1e3
