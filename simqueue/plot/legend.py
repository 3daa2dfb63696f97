"""A legend as lines and texts in fixed places: matplotlib's own packs its boxes anew at every drawing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.transforms import Transform

Handle: TypeAlias = Line2D | Patch
# A handle and the lines of its name.
Entry: TypeAlias = tuple[Handle, list[str]]

SIZE_PT = 9.0
_EM_IN = SIZE_PT / 72
# How wide a handle is drawn, and how high a patch; from there to its name, and from one column to the next.
_WIDE_IN, _HIGH_IN, _GAP_IN, _APART_IN = 2.0 * _EM_IN, 0.7 * _EM_IN, 0.8 * _EM_IN, 2.0 * _EM_IN
# From name to name, and from line to line of one name.
_NAME_IN, _LINE_IN = 1.5 * _EM_IN, 1.2 * _EM_IN
# Where the letters of a name stand below its top, and where their middle is above that.
_FOOT_IN, _MIDDLE_IN = 1.33 * _EM_IN, 0.36 * _EM_IN
_BORDER_IN = 0.8 * _EM_IN


def column_height_in(column: Sequence[Entry]) -> float:
    """What a column needs."""
    return sum(_NAME_IN + _LINE_IN * (len(lines) - 1) for _, lines in column)


def add_columns(figure: Figure, columns: Sequence[Sequence[Entry]], top_in: float, corner: Transform) -> None:
    """Draw columns of entries from left to right, ``top_in`` below the figure's upper left ``corner``."""
    left_in = _BORDER_IN
    for column in columns:
        left_in = _APART_IN + _add(figure, column, left_in, top_in, corner)


def _add(figure: Figure, column: Sequence[Entry], left_in: float, top_in: float, corner: Transform) -> float:
    """One below the other; how far to the right they reach."""
    texts, foot_in = [], top_in + _FOOT_IN
    for entry in column:
        handle, lines = entry
        figure.add_artist(_drawn(handle, left_in, _MIDDLE_IN - foot_in)).set_transform(corner)
        for i, line in enumerate(lines):
            place = left_in + _WIDE_IN + _GAP_IN, -foot_in - i * _LINE_IN
            texts.append(figure.text(*place, line, size=SIZE_PT, transform=corner))
        foot_in += column_height_in([entry])
    return float(max(text.get_window_extent().x1 for text in texts) / figure.dpi)


def _drawn(handle: Handle, left_in: float, middle_in: float) -> Artist:
    """A line with one marker, or a patch, that looks like the handle."""
    if isinstance(handle, Line2D):
        line = Line2D([left_in, left_in + _WIDE_IN / 2, left_in + _WIDE_IN], [middle_in] * 3)
        line.update_from(handle)
        line.set(markevery=[1], clip_on=False)
        return line
    patch = Rectangle((left_in, middle_in - _HIGH_IN / 2), _WIDE_IN, _HIGH_IN)
    patch.update_from(handle)
    patch.set(clip_on=False)
    return patch
