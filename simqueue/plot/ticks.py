"""The ticks of an axis, placed once: matplotlib's own look for their places several times at every drawing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox, ScaledTranslation
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Between an axis and the power of ten that its numbers leave out; matplotlib's.
_POWER_PAD_IN = 3 / 72
# How far beyond the ends of an axis a tick may be, in lengths of the axis.
_SLACK = 1e-10


def fix(axes: Axes) -> None:
    """Draw both axes from now on with the ticks that they have now, at whatever size; they look the same.

    For ticks and labels that are on the left and below.
    """
    for axis in (axes.xaxis, axes.yaxis):
        if axes.axison and axis.get_visible():
            # They stand outside.
            axes.add_artist(_Ticks(axis)).set_clip_on(False)
            axis.set_visible(False)


class _Ticks(Artist):
    """Grid, ticks, labels and name of an axis: all ticks are one line, and all labels one text, put here and there."""

    def __init__(self, axis: XAxis | YAxis) -> None:
        super().__init__()
        self.set_zorder(axis.get_zorder())
        self._axis, self._is_x = axis, axis.axis_name == "x"
        places = np.asarray(axis.get_majorticklocs(), np.float64)
        names = axis.get_major_formatter().format_ticks(list(places))
        seen = _seen(axis, places)
        first = axis.get_major_ticks(1)[0]
        self._label = first.label1
        shown = [pair for pair, there in zip(zip(places, names, strict=True), seen, strict=True) if there]
        self._named = shown if self._label.get_visible() else []
        self._lines = [self._grid(first.gridline, places[seen]), self._marks(first.tick1line, places[seen])]
        self._add_minor()
        self._reach_in = self._reach()
        self._put_beside()

    def _xy(self, along: Any, across: Any) -> tuple[Any, Any]:
        return (along, across) if self._is_x else (across, along)

    def _grid(self, like: Line2D, places: Floats) -> Line2D:
        """Not matplotlib's own line, which is cut into 180 pieces."""
        grid = Line2D(*self._xy(np.repeat(places, 3), np.tile([0.0, 1.0, np.nan], len(places))))
        grid.update_from(like)
        return grid

    def _marks(self, tick: Line2D, places: Floats) -> Line2D:
        tick.set_data(*self._xy(places, np.zeros(len(places))))
        return tick

    def _add_minor(self) -> None:
        places = np.asarray(self._axis.get_minorticklocs(), np.float64)
        seen = _seen(self._axis, places)
        if seen.any():
            self._lines.append(self._marks(self._axis.get_minor_ticks(1)[0].tick1line, places[seen]))

    def _reach(self) -> float:
        """How far ticks and labels stand out, in inches."""
        axes, edge = self._axis.axes, "y0" if self._is_x else "x0"
        most = min([getattr(label.get_window_extent(), edge) for label in self._labels(self._named)], default=np.inf)
        return float(max(self._axis.get_tick_padding() / 72, (getattr(axes.bbox, edge) - most) / axes.figure.dpi))

    def _put_beside(self) -> None:
        """The name beyond the labels, and at the axis' end the power of ten that they leave out."""
        axis = self._axis
        middle = axis.label.get_position()[not self._is_x]
        self._put(axis.label, self._xy(middle, 0), self._xy(0, -self._reach_in - axis.labelpad / 72))
        axis.offsetText.set_text(axis.get_major_formatter().get_offset())
        up_in = -self._reach_in - _POWER_PAD_IN if self._is_x else _POWER_PAD_IN
        self._put(axis.offsetText, self._xy(1, 0), (0, up_in))

    def _put(self, text: Text, place: tuple[Any, Any], away_in: tuple[float, float]) -> None:
        axes = self._axis.axes
        text.set(position=place, transform=axes.transAxes + ScaledTranslation(*away_in, axes.figure.dpi_scale_trans))

    def _labels(self, named: list[tuple[float, str]]) -> Iterator[Text]:
        """The same one at each place."""
        for place, name in named:
            self._label.set(position=self._xy(place, 0), text=name)
            yield self._label

    def draw(self, renderer: Any) -> None:
        """Draw all of it."""
        for artist in (*self._lines, self._axis.label, self._axis.offsetText):
            artist.draw(renderer)
        for label in self._labels(self._named):
            label.draw(renderer)

    def get_tightbbox(self, renderer: Any = None) -> Bbox:
        """What it takes beside the axes. Its name may be longer than these."""
        axes, beside = self._axis.axes, (self._axis.label, self._axis.offsetText)
        right, up = self._xy(0, -self._reach_in * axes.figure.dpi)
        ends = [label.get_window_extent() for label in self._labels(self._named[:1] + self._named[-1:])]
        written = [self._narrowed(text.get_window_extent()) for text in beside if text.get_text()]
        return Bbox.union([axes.bbox, axes.bbox.translated(right, up), *ends, *written])

    def _narrowed(self, box: Bbox) -> Bbox:
        """Its middle, along the axis."""
        x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
        return Bbox.from_extents(x, box.y0, x, box.y1) if self._is_x else Bbox.from_extents(box.x0, y, box.x1, y)


def _seen(axis: XAxis | YAxis, places: Floats) -> NDArray[np.bool_]:
    """Which of the places are within the axis' limits."""
    scale = axis.get_transform()
    low, high = np.sort(scale.transform(np.asarray(axis.get_view_interval(), np.float64)))
    slack, at = _SLACK * (high - low), scale.transform(places)
    return np.asarray((low - slack <= at) & (at <= high + slack))
