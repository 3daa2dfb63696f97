"""The lab's figures: who waited and who was served, latency against users, latency against load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator

from lab.curves import Point
from simqueue.plot import style

_KINDS = ("none", "static", "dynamic", "continuous")
_LIVE: dict[str, Any] = {"linestyle": "", "markersize": 7}
_SAME: dict[str, Any] = {"color": "black", "linestyle": "", "marker": "+", "markersize": 8, "zorder": 3}
_BAND: dict[str, Any] = {"alpha": 0.18, "linewidth": 0}
_QUEUEING, _SERVICE = style.COLOURS[4], style.COLOURS[5]
_TIMES = ("response_s", "response_p99_s")
_NOTE = (
    "Coloured markers: live, one run a point. Crosses: simulations of the same requests. Lines: simulations of other "
    "draws of as many requests, mean of {draws}; bands: lowest to highest of these."
)


class Shown(Protocol):
    """What is drawn of a `lab.trial.Trial`, or of its record in lab.json."""

    name: str
    live: dict[str, float]
    requests: dict[str, list[float]]


def plot_requests(trials: Sequence[Shown], about: str) -> Figure:
    """Every request of some trials over time, from asking to the last token; a panel each, on its own time axis."""
    figure, panels = style.sheet("Everybody asks at once: who waits, who is served", 1, len(trials), height_in=3.6)
    for axes, trial in zip(panels, trials, strict=True):
        _lanes(axes, trial)
    panels[0].set_ylabel("request, in order of being served")
    style.legend(figure, [Patch(color=_QUEUEING, label="queueing"), Patch(color=_SERVICE, label="service")])
    style.caption(figure, f"{about}. Live; mind the time axes, which differ.")
    return figure


def _lanes(axes: Axes, trial: Shown) -> None:
    total_s = trial.live["total_s"]
    scale, unit = (1.0, "s") if total_s >= 1 else (1e3, "ms")
    asked, queueing, service = (
        scale * np.array(trial.requests[name]) for name in ("arrival_s", "queueing_s", "service_s")
    )
    order = np.lexsort((asked + queueing + service, asked + queueing))
    lane = np.arange(len(order))
    axes.barh(lane, queueing[order], left=asked[order], height=0.8, color=_QUEUEING, linewidth=0)
    axes.barh(lane, service[order], left=(asked + queueing)[order], height=0.8, color=_SERVICE, linewidth=0)
    title = f"{trial.name}: {scale * total_s:.3g} {unit}"
    axes.set(title=title, xlabel=f"time ({unit})", xlim=(0, scale * total_s))
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", visible=False)


def plot_users(points: Sequence[Point], about: str) -> Figure:
    """Mean response time and throughput against the number of users who ask again and again."""
    title = "Users who ask again as soon as they are answered"
    figure, panels = style.sheet(title, 1, 2, height_in=3.9)
    for axes, name, label in (
        (panels[0], "response_s", "mean response time (ms)"),
        (panels[1], "tokens_per_s", "output tokens per second"),
    ):
        _curves(axes, points, "users", name)
        style.log_axis(axes.xaxis)
        _log_y(axes)
        axes.set(xlabel="users", ylabel=label)
        axes.set_xticks(sorted({point.users for point in points if point.users}))
        axes.minorticks_off()
    _explain(figure, points, about)
    return figure


def plot_load(points: Sequence[Point], about: str) -> Figure:
    """Mean and p99 response time against the rate of arrivals and against the share of what a policy can sustain."""
    figure, panels = style.sheet(
        "Users who come whatever the server does: response time against load", 2, 2, height_in=6.6
    )
    for i, axes in enumerate(panels):
        against, name = ("rate", "load")[i % 2], ("response_s", "response_p99_s")[i // 2]
        _curves(axes, points, against, name)
        _log_y(axes)
        if against == "rate":
            style.log_axis(axes.xaxis)
            axes.set_ylabel(f"{('mean', 'p99')[i // 2]} response time (ms)")
        else:
            axes.set_xlim(0, 1)
    panels[2].set_xlabel("requests per second")
    panels[3].set_xlabel("load (share of the policy's predicted saturation)")
    _explain(figure, points, about)
    return figure


def _log_y(axes: Axes) -> None:
    """Where an axis is short of a decade, every digit would be a label upon the next."""
    style.log_axis(axes.yaxis)
    low, high = axes.get_ylim()
    if 3 * low < high <= 10 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 4.0, 6.0)))


def _curves(axes: Axes, points: Sequence[Point], against: str, name: str) -> None:
    for kind in _kinds(points):
        own = [point for point in points if point.kind == kind]
        x = np.array([getattr(point, against) for point in own], np.float64)
        scale = 1e3 if name in _TIMES else 1.0
        draws = scale * np.array([[draw[name] for draw in point.draws] for point in own])
        look = _look(kind)
        axes.fill_between(x, draws.min(axis=1), draws.max(axis=1), color=look["color"], **_BAND)
        axes.plot(x, draws.mean(axis=1), color=look["color"])
        ran = [(at, point) for at, point in zip(x, own, strict=True) if point.live]
        for side, marks in (("live", {**look, **_LIVE}), ("simulated", _SAME)):
            axes.plot([at for at, _ in ran], [scale * getattr(point, side)[name] for _, point in ran], **marks)


def _kinds(points: Sequence[Point]) -> list[str]:
    return list(dict.fromkeys(point.kind for point in points))


def _look(kind: str) -> dict[str, Any]:
    i = _KINDS.index(kind)
    return {"color": style.colour(i), "marker": style.marker(i)}


def _explain(figure: Figure, points: Sequence[Point], about: str) -> None:
    policies = [Line2D([], [], label=kind, **_look(kind)) for kind in _kinds(points)]
    style.legend(figure, [*policies, Line2D([], [], label="simulated", **_SAME)])
    note = _NOTE.format(draws=len(points[0].draws))
    if any(point.live is None for point in points):
        note += " Where there is no marker a run would have taken too long."
    style.caption(figure, f"{about}, graph executor. {note}")


def save(figures: dict[str, Figure], folder: Path) -> list[Path]:
    """As SVG and PNG. Raises OutputError if they cannot be written."""
    return [path for name, figure in figures.items() for path in style.save(figure, folder / name)]
