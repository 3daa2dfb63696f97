"""The figure of `simqueue optimise`: latency against throughput, every trial, the front and the point that is best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from simqueue.analysis.interval import Interval
from simqueue.optimise.answer import Answer
from simqueue.optimise.goal import COST, PER_REPLICA, Goal
from simqueue.optimise.trial import Trial
from simqueue.plot import style

_HEIGHT_IN = 4.4
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
_WORDS = {PER_REPLICA: "requests per second and replica", COST: "cost of a million output tokens"}
_ALL: dict[str, Any] = {"color": style.GREY, "marker": "o", "markersize": 3.2, "alpha": 0.55, "linestyle": "none"}
_OVER: dict[str, Any] = {"color": style.COLOURS[1], "marker": "x", "markersize": 4, "alpha": 0.6, "linestyle": "none"}
_FINAL: dict[str, Any] = {"color": style.COLOURS[5], "marker": "s", "markersize": 4.5}
_FRONT: dict[str, Any] = {"color": style.COLOURS[0], "marker": "o", "markersize": 5.5}
_BEST: dict[str, Any] = {"color": style.COLOURS[2], "marker": "*", "markersize": 14}
_LIMIT: dict[str, Any] = {"color": style.COLOURS[1], "linestyle": "--", "linewidth": 1.3}
# What is out of sight says nothing: latencies so many times the highest of the front.
_ABOVE = 4.0


def plot_pareto(
    answer: Answer, goal: Goal, searched: Sequence[Trial], finalists: Iterable[Trial], about: str, stem: Path
) -> list[Path]:
    """Draw it; the files are ``stem.svg`` and ``stem.png``.

    Raises:
        OutputError: they cannot be written.
    """
    size, unit = _unit(goal, answer, searched)
    others = [trial for trial in finalists if trial not in answer.front] if answer.confirmed else []
    with style.look():
        figure, [axes] = style.sheet("Latency against throughput", height_in=_HEIGHT_IN)
        for kept, look in ((False, _OVER), (True, _ALL)):
            _dots(axes, goal, [trial for trial in searched if trial.keeps(goal.limits) == kept], size, look)
        for trials, look in ((others, _FINAL), (answer.front, _FRONT), (_known(answer.chosen), _BEST)):
            for trial in trials:
                _bars(axes, goal, trial, size, look)
        _steps(axes, goal, answer.front, size)
        for limit in goal.limits:
            if limit.figure == goal.latency:
                axes.axhline(limit.bound / size, **_LIMIT)
        _scale(axes, goal, answer, searched, size)
        axes.set_xlabel(_WORDS[goal.objective])
        axes.set_ylabel(goal.latency.replace("_s.", " ") + f" ({unit})")
        style.legend(figure, _explained(goal, answer, bool(others)))
        bars = "Bars are 95 % intervals. " if answer.confirmed else "From the search alone, which was interrupted. "
        style.caption(figure, f"{about}.\n{bars}Dots and crosses are of shorter runs with other seeds.")
        return style.save(figure, stem)


def _known(trial: Trial | None) -> list[Trial]:
    return [] if trial is None else [trial]


def _place(goal: Goal, trial: Trial, size: float) -> tuple[float, float]:
    return trial.figures[goal.objective].value, trial.figures[goal.latency].value / size


def _dots(axes: Axes, goal: Goal, trials: Sequence[Trial], size: float, look: dict[str, Any]) -> None:
    places = [_place(goal, trial, size) for trial in trials]
    if places:
        axes.plot(*zip(*places, strict=True), **look)


def _bars(axes: Axes, goal: Goal, trial: Trial, size: float, look: dict[str, Any]) -> None:
    place, height = _place(goal, trial, size)
    half = _half(trial.figures[goal.objective]), _half(trial.figures[goal.latency]) / size
    # On a log axis a bar ends above 0.
    down = min(half[1], height * (1 - 1e-6))
    axes.errorbar([place], [height], [[down], [half[1]]], [[half[0]], [half[0]]], elinewidth=1.1, zorder=3, **look)


def _half(found: Interval) -> float:
    return found.half_width if math.isfinite(found.half_width) else 0.0


def _steps(axes: Axes, goal: Goal, front: Sequence[Trial], size: float) -> None:
    """Between two points of the front nothing better than either is known: a stair."""
    places = sorted(_place(goal, trial, size) for trial in front)
    if places:
        steps = "steps-post" if goal.objective == COST else "steps-pre"
        axes.plot(*zip(*places, strict=True), drawstyle=steps, color=style.COLOURS[0], linewidth=1.1, alpha=0.7)


def _scale(axes: Axes, goal: Goal, answer: Answer, searched: Sequence[Trial], size: float) -> None:
    """As far as what matters goes."""
    heights = [_place(goal, trial, size)[1] for trial in answer.front or _known(answer.nearest) or searched]
    heights += [limit.bound / size for limit in goal.limits if limit.figure == goal.latency]
    seen = [_place(goal, trial, size) for trial in [*searched, *answer.front, *_known(answer.nearest)]]
    top = min(_ABOVE * max(heights), max(*heights, *(height for _, height in seen)))
    places, inside = zip(*(place for place in seen if place[1] <= top), strict=True)
    low, room = min(inside), 0.04 * (max(places) - min(places) or max(places))
    if top > 3 * low:
        style.log_axis(axes.yaxis)
    axes.set(xlim=(min(places) - room, max(places) + room), ylim=(low / 1.25, top * 1.15))


def _unit(goal: Goal, answer: Answer, searched: Sequence[Trial]) -> tuple[float, str]:
    trials = answer.front or _known(answer.nearest) or searched
    least = max(trial.figures[goal.latency].value for trial in trials)
    return next((unit for unit in _UNITS if least >= unit[0]), _UNITS[-1])


def _explained(goal: Goal, answer: Answer, others: bool) -> list[Line2D]:
    looks = [{**_ALL, "label": "tried"}]
    if goal.limits:
        looks.append({**_OVER, "label": "tried, over a limit or unstable"})
    if others:
        looks.append({**_FINAL, "linestyle": "none", "label": "run again, not on the front"})
    if answer.front:
        looks.append({**_FRONT, "label": "Pareto front"})
    if answer.chosen:
        looks.append({**_BEST, "linestyle": "none", "label": "best"})
    if any(limit.figure == goal.latency for limit in goal.limits):
        looks.append({**_LIMIT, "label": "limit"})
    return [Line2D([], [], **look) for look in looks]
