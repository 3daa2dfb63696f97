"""The look that all figures share: colours, sizes, the caption, and files that come out the same every time."""

from __future__ import annotations

import io
import os
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from simqueue.errors import OutputError

# Okabe and Ito, "Color Universal Design" (2008), without its yellow, which does not show on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
GREY = "#6B6B6B"

_WIDTH_IN = 8.0
_DPI = 160
_CAPTION_PT = 8.5
# The mean width of a letter of the caption over its size.
_LETTER = 0.545
_MARGIN_IN = 0.1
_LOOK: dict[Any, Any] = {
    "axes.prop_cycle": cycler(color=COLOURS),
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "figure.constrained_layout.w_pad": 0.1,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.titlesize": 12.5,
    "figure.titleweight": "bold",
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
    figure.suptitle(title, x=_MARGIN_IN / _WIDTH_IN, ha="left")
    grid = figure.subplots(rows, columns, squeeze=False)
    return figure, list(np.ravel(grid))


def caption(figure: Figure, text: str) -> None:
    """Put ``text`` below the axes, broken into lines, and make room for it. Line breaks in it are kept."""
    width_in, height_in = figure.get_size_inches()
    letters = int((width_in - 2 * _MARGIN_IN) * 72 / (_CAPTION_PT * _LETTER))
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, letters)]
    room = (len(lines) * _CAPTION_PT * 1.35 / 72 + 1.5 * _MARGIN_IN) / height_in
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0, room, 1, 1 - room))  # type: ignore[call-arg]
    place = {"x": _MARGIN_IN / width_in, "y": _MARGIN_IN / height_in}
    figure.text(**place, s="\n".join(lines), size=_CAPTION_PT, color=GREY, va="bottom", linespacing=1.25)


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
