"""How long a server that waits takes to look into the queue once something is there: the longer it has waited, the
longer, as caches, clocks and sleep have it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise

from simqueue.checks import seconds
from simqueue.errors import ConfigError
from simqueue.units import Grid

Wake = float | tuple[tuple[float, float], ...]
"""Seconds, whatever it has waited; or pairs of seconds, waited and taken: linear between them, constant beyond."""


def check_wake(where: str, key: str, wake: Wake) -> None:
    """Refuse what is neither. Raises ConfigError."""
    if not isinstance(wake, tuple):
        seconds(where, key, wake)
        return
    for pair in wake:
        for value in pair:
            seconds(where, key, value)
    if not wake or any(later[0] <= earlier[0] for earlier, later in pairwise(wake)):
        raise ConfigError(
            f"{where}: {key} = {[list(pair) for pair in wake]} must be a number of seconds, or pairs [waited, taken], "
            "each of a longer wait"
        )


def pairs(wake: Wake) -> tuple[tuple[float, float], ...]:
    """The pairs; one for what does not depend on the wait."""
    return wake if isinstance(wake, tuple) else ((0.0, wake),)


def on_grid(wake: Wake, grid: Grid) -> Callable[[int], int]:
    """Ticks that it takes, by ticks that were waited."""
    waited, taken = (list(map(grid.ticks, column)) for column in zip(*pairs(wake), strict=True))

    def takes(ticks: int) -> int:
        after = bisect_right(waited, ticks)
        if after == 0 or after == len(waited):
            return taken[max(0, after - 1)]
        before = after - 1
        rise, run = taken[after] - taken[before], waited[after] - waited[before]
        return taken[before] + rise * (ticks - waited[before]) // run

    return takes
