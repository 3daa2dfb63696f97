"""Where the axes of a figure stand: the cells of one grid, with room for what is written around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from simqueue.plot import ticks

Floats = NDArray[np.float64]
# About as wide and high as numbers at ticks are; what a name beside them needs, and a title.
_WIDE_IN, _HIGH_IN, _NAME_IN, _TITLE_IN = 0.4, 0.22, 0.2, 0.25
# Around each cell, to the sides and above.
_SIDE_IN, _ABOVE_IN = 0.12, 0.08
# The share of the room that the axes themselves have at least, however much is written.
_LEAST = 0.2


def settle(figure: Figure) -> None:
    """Fix ticks and places of a figure's axes, between the ``bottom`` and ``top`` of its `subplotpars`.

    Axes are as wide, and as high, as the ratios of their grid say. Names and titles longer than their axes make them
    no smaller.
    """
    # How many ticks there are depends on the sizes of the axes, which depend on what ticks are called.
    _place(figure, np.array([_about_in(axes) for axes in figure.axes]))
    for axes in figure.axes:
        ticks.fix(axes)
    _place(figure, np.array([_around_in(axes) for axes in figure.axes]))


def _about_in(axes: Axes) -> list[float]:
    """What is most likely written on the left, below, on the right and above."""
    left, below = (_NAME_IN * bool(name) for name in (axes.get_ylabel(), axes.get_xlabel()))
    return [_WIDE_IN + left, _HIGH_IN + below, 0.0, _TITLE_IN * bool(axes.get_title(loc="left"))]


def _around_in(axes: Axes) -> Floats:
    """What is."""
    box: Any = axes.get_tightbbox(for_layout_only=True)
    return np.asarray([*(axes.bbox.min - box.min), *(box.max - axes.bbox.max)]) / axes.figure.dpi


def _place(figure: Figure, around_in: Floats) -> None:
    """With so much room on the left, below, on the right and above each of the axes."""
    cells: list[Any] = [axes.get_subplotspec() for axes in figure.axes]
    grid, free = cells[0].get_gridspec(), figure.subplotpars
    width_in, height_in = figure.get_size_inches()
    left, below, right, above = around_in.T
    columns, rows = ([getattr(cell, span).start for cell in cells] for span in ("colspan", "rowspan"))
    across = _shared(width_in, grid.get_width_ratios(), columns, left, right, _SIDE_IN)
    down = _shared((free.top - free.bottom) * height_in, grid.get_height_ratios(), rows, above, below, _ABOVE_IN)
    for axes, column, row in zip(figure.axes, columns, rows, strict=True):
        (x, wide), (y, high) = across[column], down[row]
        # Rounded from the upper left: digits in an SVG would hang on the last ones of these sums.
        x, from_top, wide, high = np.round([x, (1 - free.top) * height_in + y, wide, high], 4)
        bottom = height_in - from_top - high
        axes.set_position((x / width_in, bottom / height_in, wide / width_in, high / height_in))


def _shared(
    size_in: float, ratios: Sequence[float], cells: Sequence[int], before: Floats, after: Floats, pad_in: float
) -> Floats:
    """Where the axes of each column begin, and how wide they are; or of each row, from above."""
    shares = np.asarray(ratios, np.float64)
    first, last = np.full((2, len(shares)), pad_in)
    np.maximum.at(first, cells, before + pad_in)
    np.maximum.at(last, cells, after + pad_in)
    room = max(size_in - (first + last).sum(), _LEAST * size_in)
    lengths = room * shares / shares.sum()
    return np.column_stack([np.cumsum(first + lengths + last) - lengths - last, lengths])
