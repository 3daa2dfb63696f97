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

# Okabe and Ito, "Color Universal Design" (2008), without its yellow, which does not show on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#6B6B6B"

_WIDTH_IN = 8.0
_DPI = 160
_CAPTION_PT = 8.5
_TITLE_PT = 12.5
_LEGEND_PT = 9.0
# The mean width of a letter over its size.
_LETTER = 0.57
_MARGIN_IN = 0.1
_HANDLE_IN = 0.62
_HANDLE_LETTERS = 9
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
    "legend.fontsize": _LEGEND_PT,
    "legend.frameon": False,
    "figure.constrained_layout.w_pad": 0.1,
    "figure.constrained_layout.h_pad": 0.06,
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
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Geneva", "Arial", "Helvetica"],
    "svg.hashsalt": "simqueue",
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
    figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    _add_text(figure, title, from_top_in=_MARGIN_IN, size=_TITLE_PT, weight="bold", va="top")
    _make_room(figure, top_in=_MARGIN_IN + _TITLE_PT * 1.5 / 72)
    return figure, list(np.ravel(figure.subplots(rows, columns, squeeze=False)))


def _make_room(figure: Figure, *, top_in: float = 0.0, bottom_in: float = 0.0) -> float:
    """Make the figure higher, the axes as they are; how much is then free above the axes, in inches."""
    engine: Any = figure.get_layout_engine()
    width_in, before_in = figure.get_size_inches()
    height_in = before_in + top_in + bottom_in
    _, bottom, _, height = engine.get()["rect"]
    below_in, axes_in = bottom * before_in + bottom_in, height * before_in
    figure.set_size_inches(width_in, height_in)
    engine.set(rect=(0, below_in / height_in, 1, axes_in / height_in))
    return float(height_in - below_in - axes_in)


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
        for handle in handles:
            handle.set_label(textwrap.fill(str(handle.get_label()), _letters(_WIDTH_IN - _HANDLE_IN, _LEGEND_PT)))
        texts = [str(handle.get_label()).splitlines() for handle in handles]
        entry = max(len(line) for text in texts for line in text)
        columns = max(1, min(len(handles), _letters(_WIDTH_IN, _LEGEND_PT) // (entry + _HANDLE_LETTERS)))
        # Lines of one name stand closer than names.
        lines = 1.5 * math.ceil(len(handles) / columns) + 1.2 * sum(len(text) - 1 for text in texts)
        own_in = (lines + 0.8) * _LEGEND_PT / 72
        figure.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(0, own_in - _make_room(figure, top_in=own_in)),
            bbox_transform=_top_left(figure),
            ncols=columns,
            borderaxespad=0.2,
        ).set_in_layout(False)
    _make_room(figure, top_in=0.5 * _MARGIN_IN)


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
    _settle(figure)
    return [_write(figure, stem.with_name(stem.name + suffix)) for suffix in (".svg", ".png")]


def _settle(figure: Figure) -> None:
    """Lay the axes out once: with the engine left in, they would be at every drawing."""
    engine: Any = figure.get_layout_engine()
    with look():
        engine.execute(figure)
    figure.set_layout_engine("none")
    for axes in figure.axes:
        # The solver's last digits depend on where things lie in memory, and the names of an SVG's clips on those.
        left, bottom, width, height = np.round(axes.get_position().bounds, 12)
        axes.set_position((left, bottom, width, height))


def _write(figure: Figure, path: Path) -> Path:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    data = _rendered(figure, path.suffix[1:])
    try:
        aside.write_bytes(data)
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written: {error.strerror}; choose another place") from None
    return path


def _rendered(figure: Figure, kind: str) -> bytes:
    """By the canvas itself: `Figure.savefig` would draw everything once more beforehand, to learn of its layout."""
    buffer = io.BytesIO()
    canvas: Any = FigureCanvasSVG(figure) if kind == "svg" else FigureCanvasAgg(figure)
    with look():
        if kind == "svg":
            canvas.print_svg(buffer, metadata={"Date": None})
        else:
            figure.set_dpi(_DPI)
            canvas.print_png(buffer)
    return buffer.getvalue()
