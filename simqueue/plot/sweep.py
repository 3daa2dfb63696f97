"""Figures of a sweep: response time, its parts, batch sizes, TTFT and TPOT against load; one line a policy."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from simqueue.plot import style
from simqueue.pool import copies, submit
from simqueue.sweep.cells import USERS

Row = Mapping[str, Any]
RATE, LOAD = "rate", "load"
Drawn = tuple[Figure, str]
_TITLES = {RATE: "at the same request rate", LOAD: "at the same share of its own limit"}
_AXES = {
    RATE: "arrival rate (requests/s)",
    LOAD: "load (arrival rate / saturation throughput)",
    USERS: "users",
}
_TOKENS = {"TTFT (time to first token)": "ttft_s", "TPOT (time per output token)": "tpot_s"}
_PARTS = {"queueing": style.COLOURS[4], "service": style.COLOURS[0]}
_SECOND: dict[str, Any] = {"linestyle": "--", "linewidth": 1.2, "markersize": 3.5, "markerfacecolor": "white"}
_PALE = 0.18
_LIMIT: dict[str, Any] = {"linestyle": ":", "linewidth": 1.3, "zorder": 1}
_STATISTICS = {"mean_per_step": "mean over steps", "mean_per_request": "mean as a request sees it"}
# Rates, and swept numbers, that span more than this are shown on a log axis.
_WIDE, _WIDE_KNOB = 12.0, 30.0
# Shares of a panel's height and width that the numbers at the foot of the saturation lines take.
_FOOT, _APART = 0.2, 0.036
_PANELS_A_ROW = 2
_TITLE_LETTERS = 40
_HEIGHT_IN = 3.9


@dataclass(frozen=True)
class Line:
    """One policy: its steady-state rows in order of x, and how it is drawn."""

    name: str
    number: int
    rows: tuple[Row, ...]
    saturation_rps: float

    @property
    def colour(self) -> str:
        return style.colour(self.number)

    def column(self, name: str) -> NDArray[np.float64]:
        """One figure of every row, NaN where it does not exist."""
        return np.array([np.nan if row.get(name) is None else row[name] for row in self.rows], np.float64)


def plot_sweep(rows: Sequence[Row], x: str, caption: str, folder: Path, *, processes: int = 1) -> list[Path]:
    """Draw every figure of a sweep's table; unstable rows are left out, and the captions say so.

    Args:
        rows: of the table, at least one.
        x: the column of the x axis: ``rate`` (then drawn against the load too) or a swept number.
        caption: what was run.
        folder: where to write.
        processes: how many to draw in, where they can be copies of this one.

    Returns:
        The files, SVG and PNG of each.
    """
    draw = partial(_drawn, list(_lines(rows, x)), x, (caption, _note(rows)), folder)
    # Who dies may have died for want of memory.
    with suppress(BrokenExecutor), copies(min(processes, len(_FIGURES))) as executor:
        if executor is not None:
            return [file for future in submit(executor, draw, _FIGURES) for file in future.result()]
    return [file for name in _FIGURES for file in draw(name)]


def _drawn(lines: Sequence[Line], x: str, about: tuple[str, str], folder: Path, name: str) -> list[Path]:
    """The files of one figure."""
    caption, note = about
    with style.look():
        figure, remark = _FIGURES[name](lines, x)
        style.caption(figure, "\n".join(text for text in (caption, remark, note) if text))
        return style.save(figure, folder / name)


def _lines(rows: Sequence[Row], x: str) -> Iterator[Line]:
    names = list(dict.fromkeys(row["series"] for row in rows))
    for number, name in enumerate(names):
        own = [row for row in rows if row["series"] == name]
        steady = sorted((row for row in own if not row["unstable"]), key=lambda row: row[x])
        yield Line(name, number, tuple(steady), own[0]["saturation_rps"])


def _note(rows: Sequence[Row]) -> str:
    unstable, runs = sum(row["unstable"] for row in rows), {row["replications"] for row in rows}
    how = f"{runs.pop()} runs a cell; bands" if len(runs) == 1 and runs != {1} else "Bands"
    told = f"{how} are 95 % intervals."
    if not unstable:
        return told
    return f"{told}\n{unstable} of {len(rows)} cells are unstable: they have no steady state and are not drawn."


def _response(lines: Sequence[Line], x: str) -> Drawn:
    return _over_load("Response time", "response time (s)", "response_s", ("mean", "p99"), lines, x), ""


def _batch_size(lines: Sequence[Line], x: str) -> Drawn:
    title, label = "Batch size", "rows in a step (batch size)"
    return _over_load(title, label, "batch_size", ("mean_per_step", "mean_per_request"), lines, x), ""


def _over_load(title: str, label: str, metric: str, pair: tuple[str, str], lines: Sequence[Line], x: str) -> Figure:
    """Two statistics of one metric against x; where that is the rate, against the load too."""
    limits = {line.saturation_rps for line in lines}
    columns = [RATE, LOAD] if x == RATE and len(limits) > 1 else [x]
    figure, panels = style.sheet(title, 1, len(columns), height_in=_HEIGHT_IN)
    for axes, column in zip(panels, columns, strict=True):
        _draw(axes, lines, column, metric, pair)
    if len(panels) == 2:
        for axes, column in zip(panels, columns, strict=True):
            axes.set_title(_TITLES[column])
        panels[1].sharey(panels[0])
        panels[1].tick_params(labelleft=False)
    elif x == RATE:
        _load_above(panels[0], limits.pop())
    panels[0].set_ylabel(label)
    _legend(figure, lines, pair, x)
    return figure


def _tokens(lines: Sequence[Line], x: str) -> Drawn:
    figure, panels = style.sheet("Time to first token and time per output token", 1, 2, height_in=_HEIGHT_IN)
    for axes, (title, metric) in zip(panels, _TOKENS.items(), strict=True):
        _draw(axes, lines, x, metric, ("mean", "p99"))
        axes.set_title(title)
        axes.set_ylabel(f"{title.partition(' ')[0]} (s)")
    _legend(figure, lines, ("mean", "p99"), x)
    silent = [line.name for line in lines if line.rows and np.isnan(line.column("tpot_s_mean")).all()]
    return figure, f"No TPOT: {', '.join(silent)} (single tokens, or answers that leave with their batch)." * bool(
        silent
    )


def _parts(lines: Sequence[Line], x: str) -> Drawn:
    """Mean queueing and service stacked: their sum is the mean response time."""
    against = LOAD if x == RATE else x
    rows = math.ceil(len(lines) / _PANELS_A_ROW)
    columns = min(len(lines), _PANELS_A_ROW)
    figure, panels = style.sheet("Where the mean response time goes", rows, columns, height_in=0.3 + 2.2 * rows)
    for axes, line in zip(panels, lines, strict=False):
        _stack(axes, line, against)
    for axes in panels[len(lines) :]:
        axes.set_axis_off()
    for axes in panels[: len(lines)][-columns:]:
        axes.set_xlabel(_AXES.get(against, against))
    for axes in panels[::columns]:
        axes.set_ylabel("mean time (s)")
    style.legend(figure, [Patch(color=colour, label=name) for name, colour in _PARTS.items()])
    return figure, ""


def _stack(axes: Axes, line: Line, against: str) -> None:
    at = line.column(against)
    service = line.column("service_s_mean")
    total = service + line.column("queueing_s_mean")
    axes.fill_between(at, 0, service, color=_PARTS["service"], linewidth=0)
    axes.fill_between(at, service, total, color=_PARTS["queueing"], linewidth=0)
    axes.plot(at, total, color="black", linewidth=1.0, marker="o", markersize=2.5)
    axes.set_title(textwrap.fill(line.name, _TITLE_LETTERS))
    axes.set_ylim(bottom=0)
    if against == LOAD:
        axes.set_xlim(0, 1)
    _widen(axes, [line], against)


def _draw(axes: Axes, lines: Sequence[Line], against: str, metric: str, pair: tuple[str, str]) -> None:
    for line in lines:
        look: dict[str, Any] = {"color": line.colour, "marker": style.marker(line.number)}
        at = line.column(against)
        for statistic, further in zip(pair, ({}, _SECOND), strict=True):
            axes.plot(at, line.column(f"{metric}_{statistic}"), **look, **further)
    if not any(line.rows for line in lines):
        axes.text(0.5, 0.5, "no cell has a steady state", ha="center", color=style.GREY, transform=axes.transAxes)
    style.log_axis(axes.yaxis)
    _bands(axes, lines, against, [f"{metric}_{statistic}" for statistic in pair])
    axes.set_xlabel(_AXES.get(against, against))
    if against == LOAD:
        axes.set_xlim(0, 1.03)
        axes.axvline(1, color=style.GREY, **_LIMIT)
    if against == RATE:
        _rate_axis(axes, lines)
    _widen(axes, lines, against)


def _bands(axes: Axes, lines: Sequence[Line], against: str, names: Sequence[str]) -> None:
    """The 95 % intervals of figures where they are known, from ``value / (1 + h)`` to ``value (1 + h)``, as far as the
    axes go."""
    limits = axes.get_ylim()
    for line in lines:
        value, half_width = (_one_after_the_other(line, [name + end for name in names]) for end in ("", "_half_width"))
        known = np.isfinite(half_width)
        if known.any():
            share = 1 + np.where(known, half_width / value, 0.0)
            at = _one_after_the_other(line, [against] * len(names))
            axes.fill_between(at, value / share, value * share, color=line.colour, alpha=_PALE, linewidth=0)
    axes.set_ylim(limits)


def _one_after_the_other(line: Line, names: Sequence[str]) -> NDArray[np.float64]:
    """Several columns as one, apart: one polygon is drawn in less time than several."""
    return np.concatenate([np.append(line.column(name), np.nan) for name in names])


def _widen(axes: Axes, lines: Sequence[Line], against: str) -> None:
    """A log axis for a swept number that goes through many sizes."""
    swept = np.concatenate([line.column(against) for line in lines])
    if against not in (RATE, LOAD) and len(swept) and swept.max() > _WIDE_KNOB * swept.min() > 0:
        style.log_axis(axes.xaxis)


def _rate_axis(axes: Axes, lines: Sequence[Line]) -> None:
    """Mark each saturation throughput, its number at the foot of its line where there is room."""
    limits = {line.saturation_rps: line.colour for line in lines}
    shared = {limit for limit in limits if sum(line.saturation_rps == limit for line in lines) > 1}
    for limit, colour in limits.items():
        axes.axvline(limit, color=style.GREY if limit in shared else colour, **_LIMIT)
    rates = np.concatenate([line.column(RATE) for line in lines])
    if len(rates) and max(rates.max(), *limits) > _WIDE * rates.min():
        style.log_axis(axes.xaxis)
    low, high = axes.get_ylim()
    axes.set_ylim(low * (low / high) ** _FOOT, high)
    _number(axes, sorted(limits))


def _number(axes: Axes, limits: Sequence[float]) -> None:
    """To the left of a line, or else to its right, or else nowhere."""
    place: dict[str, Any] = {"rotation": 90, "size": 8, "va": "bottom", "transform": axes.get_xaxis_transform()}
    free = 0.0
    for limit in limits:
        across = axes.transAxes.inverted().transform(axes.transData.transform((limit, 1.0)))[0]
        if across < free:
            continue
        left = across - _APART >= free
        free = across if left else across + _APART
        axes.text(limit, 0.015, _per_second(limit), ha="right" if left else "left", color=style.GREY, **place)


def _per_second(limit: float) -> str:
    """Three digits of it."""
    return f"{float(f'{limit:.3g}'):,.15g}/s"


def _load_above(axes: Axes, limit: float) -> None:
    """Where all have one saturation throughput, the load is the rate in other numbers."""

    def load(rate: Any) -> Any:
        return rate / limit

    def rate(load: Any) -> Any:
        return load * limit

    above = axes.secondary_xaxis("top", functions=(load, rate))
    above.set_xlabel(_AXES[LOAD])
    if axes.get_xscale() == "log":
        style.log_axis(above.xaxis)


def _legend(figure: Figure, lines: Sequence[Line], pair: tuple[str, str], x: str) -> None:
    policies = [Line2D([], [], color=line.colour, marker=style.marker(line.number), label=line.name) for line in lines]
    first, second = (_STATISTICS.get(name, name) for name in pair)
    kinds = [
        Line2D([], [], color=style.GREY, marker="o", label=first),
        Line2D([], [], color=style.GREY, marker="o", label=second, **_SECOND),
    ]
    if x == RATE:
        kinds.append(Line2D([], [], color=style.GREY, label="saturation throughput", **_LIMIT))
    style.legend(figure, policies, kinds)


_FIGURES: Mapping[str, Callable[[Sequence[Line], str], Drawn]] = {
    "response_time": _response,
    "queueing_and_service": _parts,
    "batch_size": _batch_size,
    "ttft_and_tpot": _tokens,
}
