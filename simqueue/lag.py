"""What takes the longer, the longer ago it was done last, as caches, clocks and sleep have it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise

from simqueue.checks import seconds
from simqueue.errors import ConfigError
from simqueue.units import Grid

Lag = float | tuple[tuple[float, float], ...]
"""Seconds, however long ago; or pairs of seconds, since then and taken: linear between them, constant beyond."""


def check_lag(where: str, key: str, lag: Lag) -> None:
    """Refuse what is neither. Raises ConfigError."""
    if not isinstance(lag, tuple):
        seconds(where, key, lag)
        return
    for pair in lag:
        for value in pair:
            seconds(where, key, value)
    if not lag or any(later[0] <= earlier[0] for earlier, later in pairwise(lag)):
        raise ConfigError(
            f"{where}: {key} = {[list(pair) for pair in lag]} must be a number of seconds, or pairs [since, taken], "
            "each of a longer time since"
        )


def pairs(lag: Lag) -> tuple[tuple[float, float], ...]:
    """The pairs; one for what does not depend on the time since."""
    return lag if isinstance(lag, tuple) else ((0.0, lag),)


def on_grid(lag: Lag, grid: Grid) -> Callable[[int], int]:
    """Ticks that it takes, by ticks since it was done last."""
    since, taken = (list(map(grid.ticks, column)) for column in zip(*pairs(lag), strict=True))

    def takes(ticks: int) -> int:
        after = bisect_right(since, ticks)
        if after == 0 or after == len(since):
            return taken[max(0, after - 1)]
        before = after - 1
        rise, run = taken[after] - taken[before], since[after] - since[before]
        return taken[before] + rise * (ticks - since[before]) // run

    return takes
