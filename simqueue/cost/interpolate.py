"""Reading a profile's axes, and evaluating something once for each number of rows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)


def along(axis: tuple[int, ...], column: NDArray[np.float64], x: NDArray[np.int64], rule: str) -> NDArray[np.float64]:
    """Values at ``x``: between axis points as the rule says, beyond the last by the line through the last two."""
    knots = np.array(axis)
    if rule == "linear":
        y = np.interp(x, knots, column)
    else:
        y = column[np.minimum(np.searchsorted(knots, x), len(knots) - 1)]
    if len(knots) > 1:
        slope = max(0.0, (column[-1] - column[-2]) / (knots[-1] - knots[-2]))
        y = y + slope * np.maximum(x - knots[-1], 0)
    return np.asarray(y, np.float64)


def between(axis: Sequence[int], columns: NDArray[np.float64], x: int, rule: str) -> NDArray[np.float64]:
    """The column at one place ``x`` of an axis whose points have a column each, read as `along` reads."""
    i = bisect_left(axis, x)
    if i == len(axis):
        i -= 1
        if i == 0:
            return np.asarray(columns[0], np.float64)
        slope = np.maximum(0.0, (columns[i] - columns[i - 1]) / (axis[i] - axis[i - 1]))
        return np.asarray(columns[i] + slope * (x - axis[i]), np.float64)
    if rule == "ceil" or i == 0 or axis[i] == x:
        return np.asarray(columns[i], np.float64)
    share = (x - axis[i - 1]) / (axis[i] - axis[i - 1])
    return np.asarray(columns[i - 1] + share * (columns[i] - columns[i - 1]), np.float64)


def by_rows(rows: NDArray[np.int64], of: Callable[[int, NDArray[np.bool_]], NDArray[T]]) -> NDArray[T]:
    """Evaluate ``of(rows, where they are so many)`` once for each number of rows."""
    out: NDArray[T] | None = None
    for r in np.flatnonzero(np.bincount(rows)).tolist():
        at = rows == r
        values = of(r, at)
        if out is None:
            out = np.empty(len(rows), values.dtype)
        out[at] = values
    return np.empty(0) if out is None else out  # type: ignore[return-value]
