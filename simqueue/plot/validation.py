"""Figures of a validation: errors against load, saturation, and what ran live beside what was predicted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from numpy.typing import NDArray

from simqueue.folders import made
from simqueue.plot import style
from simqueue.validate.compare import CENTRE, JUDGED, SATURATION, SATURATION_TARGET, TAIL, TARGETS, target_of
from simqueue.validate.folder import slug, unique_slug
from simqueue.validate.measure import LEVELS
from simqueue.validate.record import SPREADS, Cell, Curves

Array = NDArray[np.float64]
_NAMES = {"response_s": "response time", "ttft_s": "TTFT"}
_COLOURS = {"response_s": style.COLOURS[0], "ttft_s": style.COLOURS[1]}
_LIVE: dict[str, Any] = {"color": "black", "linewidth": 0.9}
_BAND: dict[str, Any] = {"alpha": 0.45, "linewidth": 0}
_FLOOR: dict[str, Any] = {"color": "#D9D9D9", "linewidth": 0, "zorder": 0}
_TARGET: dict[str, Any] = {"color": style.GREY, "linestyle": "--", "linewidth": 1.1}
_ZERO: dict[str, Any] = {"color": style.GREY, "linewidth": 0.8, "zorder": 1}
_RING: dict[str, Any] = {"marker": "o", "color": "black", "markersize": 10, "markerfacecolor": "none", "clip_on": False}
# Beyond this errors are drawn on a log scale, if there are much larger ones.
_LINEAR_PERCENT = 10.0
_TICKS = (0, 5, 10, 20, 50, 100, 200, 500, 1000)
_QUEUE = style.COLOURS[2]


@dataclass(frozen=True)
class Series:
    """Cells that differ in their load alone, in order of it."""

    name: str
    number: int
    cells: tuple[Cell, ...]

    @property
    def look(self) -> dict[str, Any]:
        return {"color": style.colour(self.number), "marker": style.marker(self.number)}


def plot_validation(cells: Sequence[Cell], folder: Path) -> list[Path]:
    """Draw every figure of these cells, as SVG and PNG in ``folder``, which is made where it does not exist.

    Raises:
        OutputError: they cannot be written.
    """
    every = list(_series(cells))
    made(folder)
    with style.look():
        drawn = {"errors": _errors(every), "saturation": _saturation(every)}
        drawn |= {_file_name(series, every): _distributions(series) for series in every}
        files = [style.save(figure, folder / name) for name, figure in drawn.items() if figure is not None]
    return [path for pair in files for path in pair]


def _file_name(series: Series, every: Sequence[Series]) -> str:
    """Its slug, unless that is another's too."""
    alike = sum(slug(other.name) == slug(series.name) for other in every)
    return slug(series.name) if alike == 1 else unique_slug(series.name)


def _series(cells: Sequence[Cell]) -> Iterator[Series]:
    """A file with one series gives it its name."""
    keys = list(dict.fromkeys((cell.file, cell.series) for cell in cells))
    files = [file for file, _ in keys]
    for number, (file, series) in enumerate(keys):
        name = file if files.count(file) == 1 else f"{file}: {series}"
        own = (cell for cell in cells if (cell.file, cell.series) == (file, series))
        yield Series(name, number, tuple(sorted(own, key=lambda cell: cell.load or 0.0)))


# Errors against load.


def _errors(every: Sequence[Series]) -> Figure | None:
    steady = [Series(s.name, s.number, tuple(c for c in s.cells if c.load and c.load <= 1)) for s in every]
    steady = [series for series in steady if series.cells]
    if not steady:
        return None
    statistics = (*CENTRE, *TAIL)
    figure, panels = style.sheet("Error of the prediction against load", len(statistics), 2, height_in=9.0)
    limit = _limit([cell for series in steady for cell in series.cells])
    for i, axes in enumerate(panels):
        _error_panel(axes, steady, JUDGED[i % 2], statistics[i // 2], limit)
    for axes in panels[-2:]:
        axes.set_xlabel("load (arrival rate / predicted saturation)")
    for axes in panels[::2]:
        axes.set_ylabel("predicted / live - 1 (%)")
    style.legend(figure, [Line2D([], [], label=s.name, **s.look) for s in steady], _explained())
    looks = "Filled: reached; hollow: not judged or not told apart; ringed: missed."
    scale = f" Beyond {_LINEAR_PERCENT:g} % the scale is logarithmic." if _is_log(limit) else ""
    style.caption(figure, f"{_source(steady[0].cells)} {looks}{scale}")
    return figure


def _explained() -> list[Line2D | Patch]:
    return [
        Line2D([], [], label="target", **_TARGET),
        Patch(color=_FLOOR["color"], label=f"noise floor: {SPREADS:g} spreads of the live runs (median of the cells)"),
    ]


def _limit(cells: Sequence[Cell]) -> float:
    """Of all panels, in per cent: room for every error, and for the targets at least."""
    figures = [cell.figures[metric][statistic] for cell in cells for metric in JUDGED for statistic in (*CENTRE, *TAIL)]
    errors = [100 * abs(figure.error) for figure in figures if figure.error is not None]
    return max(1.15 * max(errors, default=0.0), _LINEAR_PERCENT)


def _is_log(limit: float) -> bool:
    return limit > 2 * _LINEAR_PERCENT


def _error_panel(axes: Axes, every: Sequence[Series], metric: str, statistic: str, limit: float) -> None:
    cells = [cell for series in every for cell in series.cells]
    for series in every:
        _error_line(axes, series, metric, statistic)
    loads = sorted({cell.load for cell in cells if cell.load is not None})
    floor = np.array([_floor(cells, load, metric, statistic) for load in loads])
    axes.fill_between(loads, -floor, floor, **_FLOOR)
    _targets(axes, metric, statistic)
    axes.axhline(0, **_ZERO)
    if _is_log(limit):
        axes.set_yscale("symlog", linthresh=_LINEAR_PERCENT)
        axes.set_yticks([side * size for size in _TICKS if size < limit for side in (-1, 1)], minor=False)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.label_outer()
    axes.set(title=f"{_NAMES[metric]}, {statistic}", ylim=(-limit, limit), xlim=(0, 1.0))


def _error_line(axes: Axes, series: Series, metric: str, statistic: str) -> None:
    known = [cell for cell in series.cells if cell.figures[metric][statistic].error is not None]
    figures = [cell.figures[metric][statistic] for cell in known]
    x = np.array([cell.load for cell in known], np.float64)
    y = np.array([100 * figure.error for figure in figures if figure.error is not None])
    look = {**series.look, "clip_on": False}
    axes.plot(x, y, color=look["color"], linewidth=1.0, alpha=0.6)
    verdicts = np.array([figure.verdict for figure in figures])
    hollow = np.isin(verdicts, ("not judged", "not told apart"))
    groups = [(~hollow, {**look, "markerfacecolor": look["color"]}), (hollow, {**look, "markerfacecolor": "white"})]
    for some, how in (*groups, (verdicts == "MISSED", _RING)):
        # Nothing at all would have a place in the layout.
        if some.any():
            axes.plot(x[some], y[some], **how, linestyle="", zorder=3)


def _floor(cells: Sequence[Cell], load: float, metric: str, statistic: str) -> float:
    spreads = [cell.figures[metric][statistic].spread for cell in cells if cell.load == load]
    known = [spread for spread in spreads if spread is not None]
    return 100 * SPREADS * float(np.median(known)) if known else 0.0


def _targets(axes: Axes, metric: str, statistic: str) -> None:
    least = 0.0
    for target in TARGETS:
        share = target_of(metric, statistic, target.load)
        assert share is not None
        axes.hlines([-100 * share, 100 * share], least, target.load, **_TARGET)
        least = target.load


# Saturation.


def _saturation(every: Sequence[Series]) -> Figure | None:
    found = [(series, cell) for series in every for cell in series.cells if SATURATION in cell.figures]
    if not found:
        return None
    figure, [axes] = style.sheet("Saturation throughput, predicted against measured", height_in=1.0 + 0.3 * len(found))
    for row, (series, cell) in enumerate(found):
        result = cell.figures[SATURATION]["mean"]
        assert result.simulated is not None
        errors = [100 * (result.simulated / rps - 1) for rps in result.live if rps]
        axes.plot(errors, [row] * len(errors), "|", color=series.look["color"], markersize=9)
        axes.plot(100 * (result.error or 0.0), row, linestyle="", **series.look)
    axes.axvspan(-100 * SATURATION_TARGET, 100 * SATURATION_TARGET, color=_FLOOR["color"], zorder=0)
    axes.axvline(0, **_ZERO)
    widest = max(2.0, *(abs(x) for x in axes.get_xlim()))
    axes.set(xlabel="predicted / live - 1 (%)", ylim=(len(found) - 0.5, -0.5), xlim=(-widest, widest))
    names = [f"{series.name}: {cell.figures[SATURATION]['mean'].simulated:.4g}/s" for series, cell in found]
    axes.set_yticks(range(len(found)), names)
    style.caption(
        figure,
        f"{_source([cell for _, cell in found])} Strokes: each live run. Grey: the target, "
        f"{SATURATION_TARGET:.0%}. Beside the names: predicted requests per second.",
    )
    return figure


# What ran beside what was predicted.


def _distributions(series: Series) -> Figure:
    cells = series.cells
    title = f"Live and predicted: {series.name}"
    figure, panels = style.sheet(title, len(cells), 3, height_in=0.5 + 2.1 * len(cells))
    for row, cell in enumerate(cells):
        own = panels[3 * row : 3 * row + 3]
        _distribution(own[0], cell)
        _quantiles(own[1], cell)
        _queue(own[2], cell)
        own[0].set_ylabel("" if cell.load is None else f"load {cell.load:.3g}", fontweight="bold")
    for axes, name in zip(panels, ("distribution functions", "quantile by quantile", "requests waiting"), strict=False):
        axes.set_title(name)
    for axes, name in zip(panels[-3:], ("time (ms)", "predicted (ms)", "time since the start (s)"), strict=True):
        axes.set_xlabel(name)
    style.legend(figure, _sides())
    style.caption(
        figure,
        f"{_source(cells)} Bands: lowest to highest of these. Quantiles: 0.5 % to 99.5 %, live over the mean of the "
        "predicted.",
    )
    return figure


def _sides() -> list[Line2D | Patch]:
    predicted = {**{_NAMES[name]: colour for name, colour in _COLOURS.items()}, "requests waiting": _QUEUE}
    patches = [
        Patch(color=colour, alpha=_BAND["alpha"], label=f"{name}, predicted") for name, colour in predicted.items()
    ]
    return [*patches, Line2D([], [], label="live, each run", **_LIVE)]


def _distribution(axes: Axes, cell: Cell) -> None:
    for metric, curves in cell.quantiles.items():
        low, mean, high = _ms(curves.low, curves.mean, curves.high)
        axes.fill_betweenx(LEVELS, low, high, color=_COLOURS[metric], **_BAND)
        axes.plot(mean, LEVELS, color=_COLOURS[metric], linewidth=2.2, alpha=0.6)
        axes.plot(np.transpose(_ms(*curves.live)), LEVELS, **_LIVE)
    axes.set_ylim(0, 1)
    _time_axis(axes.xaxis)


def _quantiles(axes: Axes, cell: Cell) -> None:
    for metric, curves in cell.quantiles.items():
        axes.plot(_ms(curves.mean)[0], np.transpose(_ms(*curves.live)), color=_COLOURS[metric], linewidth=1.2)
    low, high = _range(list(cell.quantiles.values()))
    axes.plot([low, high], [low, high], color=style.GREY, linewidth=0.9, zorder=1)
    axes.set(xlim=(low, high), ylim=(low, high))
    for axis in (axes.xaxis, axes.yaxis):
        _time_axis(axis)


def _ms(*columns: Sequence[float]) -> Array:
    return 1e3 * np.array(columns)


def _time_axis(axis: XAxis | YAxis) -> None:
    """Log, with few ticks: the panels are small, and ticks are what takes the time of drawing them."""
    style.log_axis(axis)
    low, high = axis.get_view_interval()
    axis.set_major_locator(
        LogLocator(subs=(1.0, 2.0, 5.0) if high < 8 * low else (1.0, 3.0) if high < 300 * low else (1.0,))
    )
    axis.set_minor_locator(NullLocator())


def _range(curves: Sequence[Curves]) -> tuple[float, float]:
    values = np.concatenate([np.ravel(_ms(*c.live, c.mean)) for c in curves])
    return 0.9 * float(values[values > 0].min()), 1.1 * float(values.max())


def _queue(axes: Axes, cell: Cell) -> None:
    edges = np.linspace(0, cell.span_s, len(cell.waiting.mean) + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    axes.fill_between(middle, cell.waiting.low, cell.waiting.high, color=_QUEUE, **_BAND)
    axes.plot(middle, np.transpose(cell.waiting.live), **{**_LIVE, "linewidth": 0.7})
    axes.set_xlim(0, cell.span_s)
    axes.set_ylim(bottom=0)


def _source(cells: Sequence[Cell]) -> str:
    """What ran and what predicted."""
    here, profile = cells[0].provenance["machine"], cells[0].provenance["profile"]
    machine = here["gpu"] if here["gpu"] != "none" else here.get("cpu", "no device")
    repeats = sorted({cell.repeats for cell in cells})
    runs = f"{repeats[0]}" if len(repeats) == 1 else f"{repeats[0]} to {repeats[-1]}"
    return (
        f"Live: {here['runner']} executor, {here['model']}, {machine}, {runs} runs a cell of one workload. "
        f"Predicted: {profile['name'] if profile else 'a formula'}, {max(c.seeds for c in cells)} noise seeds on that "
        f"workload."
    )
