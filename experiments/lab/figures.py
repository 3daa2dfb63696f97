"""The lab's figures: who waited and who was served, latency against users, latency against load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from lab.curves import Point
from lab.trial import Trial
from simqueue.plot import style

_KINDS = ("none", "static", "dynamic", "continuous")
_LIVE: dict[str, Any] = {"linestyle": "", "markersize": 6}
_BAND: dict[str, Any] = {"alpha": 0.18, "linewidth": 0}
_QUEUEING, _SERVICE = style.COLOURS[4], style.COLOURS[5]
_NOTE = (
    "Lines: simulated, mean over {draws} draws of as many requests; bands: lowest to highest of these. Markers: live, "
    "one run a point."
)


def plot_requests(trials: Sequence[Trial], about: str) -> Figure:
    """Every request of some trials over time, from asking to the last token; a panel each, on its own time axis."""
    figure, panels = style.sheet("Everybody asks at once: who waits, who is served", 1, len(trials), height_in=3.6)
    for axes, trial in zip(panels, trials, strict=True):
        _lanes(axes, trial)
    panels[0].set_ylabel("request, in order of being served")
    style.legend(figure, [Patch(color=_QUEUEING, label="queueing"), Patch(color=_SERVICE, label="service")])
    style.caption(figure, f"{about}. Live; mind the time axes, which differ.")
    return figure


def _lanes(axes: Axes, trial: Trial) -> None:
    asked, queueing, service = (np.array(trial.requests[name]) for name in ("arrival_s", "queueing_s", "service_s"))
    order = np.lexsort((asked + queueing + service, asked + queueing))
    lane = np.arange(len(order))
    axes.barh(lane, queueing[order], left=asked[order], height=0.8, color=_QUEUEING, linewidth=0)
    axes.barh(lane, service[order], left=(asked + queueing)[order], height=0.8, color=_SERVICE, linewidth=0)
    axes.set(title=f"{trial.name}: {trial.live['total_s']:.3g} s", xlabel="time (s)", xlim=(0, trial.live["total_s"]))
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", visible=False)


def plot_users(points: Sequence[Point], about: str) -> Figure:
    """Mean response time and throughput against the number of users who ask again and again."""
    title = "Users who ask again as soon as they are answered: the more there are"
    figure, panels = style.sheet(title, 1, 2, height_in=3.9)
    for axes, name, label in (
        (panels[0], "response_s", "mean response time (s)"),
        (panels[1], "tokens_per_s", "output tokens per second"),
    ):
        _curves(axes, points, "users", name)
        for axis in (axes.xaxis, axes.yaxis):
            style.log_axis(axis)
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
        style.log_axis(axes.yaxis)
        if against == "rate":
            style.log_axis(axes.xaxis)
            axes.set_ylabel(f"{('mean', 'p99')[i // 2]} response time (s)")
        else:
            axes.set_xlim(0, 1)
    panels[2].set_xlabel("arrivals per second")
    panels[3].set_xlabel("load: arrivals / predicted saturation of the policy")
    _explain(figure, points, about)
    return figure


def _curves(axes: Axes, points: Sequence[Point], against: str, name: str) -> None:
    for kind in _kinds(points):
        own = [point for point in points if point.kind == kind]
        x = np.array([getattr(point, against) for point in own], np.float64)
        draws = np.array([[draw[name] for draw in point.draws] for point in own])
        look = _look(kind)
        axes.fill_between(x, draws.min(axis=1), draws.max(axis=1), color=look["color"], **_BAND)
        axes.plot(x, draws.mean(axis=1), color=look["color"])
        ran = [(at, point.live[name]) for at, point in zip(x, own, strict=True) if point.live]
        axes.plot(*np.array(ran).T, **look, **_LIVE)


def _kinds(points: Sequence[Point]) -> list[str]:
    return list(dict.fromkeys(point.kind for point in points))


def _look(kind: str) -> dict[str, Any]:
    i = _KINDS.index(kind)
    return {"color": style.colour(i), "marker": style.marker(i)}


def _explain(figure: Figure, points: Sequence[Point], about: str) -> None:
    policies = [Line2D([], [], label=kind, **_look(kind)) for kind in _kinds(points)]
    style.legend(figure, policies)
    note = _NOTE.format(draws=len(points[0].draws))
    if any(point.live is None for point in points):
        note += " Where there is no marker a run would have taken too long."
    style.caption(figure, f"{about}, graph executor. {note}")


def save(figures: dict[str, Figure], folder: Path) -> list[Path]:
    """As SVG and PNG. Raises OutputError if they cannot be written."""
    return [path for name, figure in figures.items() for path in style.save(figure, folder / name)]
