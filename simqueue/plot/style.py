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
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

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
_LETTER = 0.545
_MARGIN_IN = 0.1
_HANDLE_IN = 0.62
_MANY_DECADES = 1e5
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


def sheet(title: str, rows: int = 1, columns: int = 1, *, height_in: float = 4.6) -> tuple[Figure, list[Axes]]:
    """An empty figure of ``rows`` times ``columns`` axes, listed row by row. Call it inside `look`."""
    figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    figure.text(_MARGIN_IN / _WIDTH_IN, 1 - _MARGIN_IN / height_in, title, size=_TITLE_PT, weight="bold", va="top")
    _reserve(figure, top_in=_MARGIN_IN + _TITLE_PT * 1.5 / 72)
    return figure, list(np.ravel(figure.subplots(rows, columns, squeeze=False)))


def _reserve(figure: Figure, *, top_in: float = 0.0, bottom_in: float = 0.0) -> float:
    """Keep so much more of the figure free of axes; how much is then free at the top, in inches."""
    engine: Any = figure.get_layout_engine()
    height_in = float(figure.get_size_inches()[1])
    left, bottom, width, height = engine.get()["rect"]
    bottom, height = bottom + bottom_in / height_in, height - (top_in + bottom_in) / height_in
    engine.set(rect=(left, bottom, width, height))
    return float((1 - bottom - height) * height_in)


def log_axis(axis: XAxis | YAxis) -> None:
    """A log scale with plain numbers, on as many of them as there is room for. Call it after drawing the data."""
    axes: Any = axis.axes
    axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = axis.get_view_interval()
    subs = (1.0,) if high > _MANY_DECADES * low else (1.0, 2.0, 5.0) if high > 10 * low else tuple(range(1, 10))
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def legend(figure: Figure, *groups: Sequence[Line2D | Patch]) -> None:
    """Explain the handles of each group, group below group, between the title and the axes."""
    width_in, height_in = figure.get_size_inches()
    for handles in groups:
        longest = max(len(str(handle.get_label())) for handle in handles)
        entry_in = longest * _LEGEND_PT * _LETTER / 72 + _HANDLE_IN
        columns = max(1, min(len(handles), int(width_in / entry_in)))
        own_in = math.ceil(len(handles) / columns) * _LEGEND_PT * 1.75 / 72
        place = (0.0, 1 - (_reserve(figure, top_in=own_in) - own_in) / height_in)
        shown = figure.legend(handles=handles, loc="upper left", bbox_to_anchor=place, ncols=columns, borderaxespad=0.2)
        shown.set_in_layout(False)
    _reserve(figure, top_in=0.5 * _MARGIN_IN)


def caption(figure: Figure, text: str) -> None:
    """Put ``text`` below the axes, broken into lines, and make room for it. Line breaks in it are kept."""
    width_in, height_in = figure.get_size_inches()
    letters = int((width_in - 2 * _MARGIN_IN) * 72 / (_CAPTION_PT * _LETTER))
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, letters)]
    _reserve(figure, bottom_in=len(lines) * _CAPTION_PT * 1.35 / 72 + 1.5 * _MARGIN_IN)
    place = (_MARGIN_IN / width_in, _MARGIN_IN / height_in)
    figure.text(*place, "\n".join(lines), size=_CAPTION_PT, color=GREY, va="bottom", linespacing=1.25)


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem.svg`` and ``stem.png``, each aside and then renamed; the same figure gives the same bytes.

    Raises:
        OutputError: they cannot be written there.
    """
    return [_write(figure, stem.with_name(stem.name + suffix)) for suffix in (".svg", ".png")]


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
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {}
    with look():
        figure.savefig(buffer, format=kind, dpi=_DPI, metadata=metadata)
    return buffer.getvalue()
