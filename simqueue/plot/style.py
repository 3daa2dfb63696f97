"""The look that all figures share: colours, sizes, the caption, and files that come out the same every time."""

from __future__ import annotations

import io
import math
import os
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from matplotlib.transforms import ScaledTranslation, Transform

from simqueue.errors import OutputError
from simqueue.plot import panels
from simqueue.plot.legend import SIZE_PT, Entry, add_columns, column_height_in

# Okabe and Ito, "Color Universal Design" (2008), without its yellow, which does not show on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#6B6B6B"

_WIDTH_IN = 8.0
_DPI = 160
# Whoever shows an SVG may not have the first.
_SVG_FONTS = ["DejaVu Sans", "Verdana", "Geneva", "Arial", "Helvetica"]
# Of PNG files, from 0 to 9.
_COMPRESSION = 3
_CAPTION_PT = 8.5
_TITLE_PT = 12.5
# The mean width of a letter over its size.
_LETTER = 0.57
_MARGIN_IN = 0.1
_HANDLE_IN = 0.62
_HANDLE_LETTERS = 9
_BELOW_LEGEND_IN = 0.1
# A log axis that spans more than this has room for its decades only.
_MANY = {"x": 1e3, "y": 1e5}
_LOOK: dict[Any, Any] = {
    "axes.prop_cycle": cycler(color=COLOURS),
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": SIZE_PT,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.7,
    "lines.markersize": 4.5,
    # Text stays text: it can be searched, and the same figure is the same file.
    "svg.fonttype": "none",
    # It comes with matplotlib, which would look for others with every text.
    "font.sans-serif": ["DejaVu Sans"],
    "svg.hashsalt": "simqueue",
    # At this resolution it shows no better, and takes longer.
    "text.hinting": "none",
}


@contextmanager
def look() -> Iterator[None]:
    """Everything drawn inside has the common look, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_LOOK)
        yield


def colour(i: int) -> str:
    """The colour of series i."""
    return COLOURS[i % len(COLOURS)]


def marker(i: int) -> str:
    """The marker of series i; colour and marker repeat together only after 56 series."""
    return MARKERS[i % len(MARKERS)]


def sheet(title: str, rows: int = 1, columns: int = 1, *, height_in: float = 4.0) -> tuple[Figure, list[Axes]]:
    """A figure of ``rows`` times ``columns`` empty axes, listed row by row, ``height_in`` high in all.

    Title, legend and caption come on top of that height. Call it inside `look`.
    """
    figure = Figure(figsize=(_WIDTH_IN, height_in), dpi=_DPI)
    figure.subplotpars.update(left=0, bottom=0, right=1, top=1)
    FigureCanvasAgg(figure)
    _add_text(figure, title, from_top_in=_MARGIN_IN, size=_TITLE_PT, weight="bold", va="top")
    _make_room(figure, top_in=_MARGIN_IN + _TITLE_PT * 1.5 / 72)
    return figure, list(np.ravel(figure.subplots(rows, columns, squeeze=False)))


def _make_room(figure: Figure, *, top_in: float = 0.0, bottom_in: float = 0.0) -> float:
    """Make the figure higher, the axes as they are; how much is then free above the axes, in inches."""
    width_in, before_in = figure.get_size_inches()
    height_in = before_in + top_in + bottom_in
    free = figure.subplotpars
    below_in, above_in = free.bottom * before_in + bottom_in, (1 - free.top) * before_in + top_in
    figure.set_size_inches(width_in, height_in)
    free.update(bottom=below_in / height_in, top=1 - above_in / height_in)
    return float(above_in)


def _top_left(figure: Figure) -> Transform:
    """Inches from the figure's upper left corner, wherever that will be."""
    whole: Any = figure.transFigure
    return figure.dpi_scale_trans + ScaledTranslation(0, 1, whole)


def _add_text(figure: Figure, text: str, *, from_top_in: float, **look: Any) -> None:
    figure.text(_MARGIN_IN, -from_top_in, text, transform=_top_left(figure), **look)


def log_axis(axis: XAxis | YAxis) -> None:
    """A log scale with plain numbers, on as many of them as there is room for. Call it after drawing the data."""
    axes: Any = axis.axes
    axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = axis.get_view_interval()
    steps = ((_MANY[axis.axis_name], (1.0,)), (5.0, (1.0, 2.0, 5.0)), (2.5, (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)))
    subs = next((subs for span, subs in steps if high > span * low), tuple(range(1, 10)))
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def legend(figure: Figure, *groups: Sequence[Line2D | Patch]) -> None:
    """Explain the handles of each group, group below group, between the title and the axes."""
    for handles in groups:
        columns = _columns(handles)
        own_in = max(map(column_height_in, columns)) + _BELOW_LEGEND_IN
        add_columns(figure, columns, _make_room(figure, top_in=own_in) - own_in, _top_left(figure))
    _make_room(figure, top_in=0.5 * _MARGIN_IN)


def _columns(handles: Sequence[Line2D | Patch]) -> list[list[Entry]]:
    """As many as surely fit, with the names in lines that fit."""
    letters = _letters(_WIDTH_IN - _HANDLE_IN, SIZE_PT)
    entries = [(handle, textwrap.wrap(str(handle.get_label()), letters)) for handle in handles]
    widest = max(len(line) for _, lines in entries for line in lines)
    most = max(1, _letters(_WIDTH_IN, SIZE_PT) // (widest + _HANDLE_LETTERS))
    rows = math.ceil(len(entries) / most)
    return [entries[first : first + rows] for first in range(0, len(entries), rows)]


def caption(figure: Figure, text: str) -> None:
    """Put ``text`` below the axes, broken into lines. Line breaks in it are kept."""
    letters = _letters(_WIDTH_IN - 2 * _MARGIN_IN, _CAPTION_PT)
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, letters)]
    _make_room(figure, bottom_in=len(lines) * _CAPTION_PT * 1.35 / 72 + 1.5 * _MARGIN_IN)
    bottom_in = float(figure.get_size_inches()[1]) - _MARGIN_IN
    look: dict[str, Any] = {"size": _CAPTION_PT, "color": GREY, "va": "bottom", "linespacing": 1.25}
    _add_text(figure, "\n".join(lines), from_top_in=bottom_in, **look)


def _letters(width_in: float, size_pt: float) -> int:
    """How many letters fit a width, on the safe side of the mean."""
    return int(width_in * 72 / (size_pt * _LETTER))


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem.svg`` and ``stem.png``, each aside and then renamed; the same figure gives the same bytes.

    Raises:
        OutputError: they cannot be written there.
    """
    with look():
        panels.settle(figure)
        # The sizes of texts are known to the canvas that has settled them.
        png, svg = _png(figure), _svg(figure)
    return [_write(data, stem.with_name(stem.name + suffix)) for suffix, data in ((".svg", svg), (".png", png))]


def _png(figure: Figure) -> bytes:
    """By the canvas itself, as `_svg`: `Figure.savefig` would draw everything once more beforehand."""
    buffer = io.BytesIO()
    canvas: Any = figure.canvas
    canvas.print_png(buffer, pil_kwargs={"compress_level": _COMPRESSION})
    return buffer.getvalue()


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    canvas: Any = FigureCanvasSVG(figure)
    with matplotlib.rc_context({"font.sans-serif": _SVG_FONTS}):
        canvas.print_svg(buffer, metadata={"Date": None})
    return buffer.getvalue()


def _write(data: bytes, path: Path) -> Path:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.write_bytes(data)
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written: {error.strerror}; choose another place") from None
    return path
