"""The figure of `simqueue sensitivity`: a bar a parameter, its interval, and what chance alone would do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from simqueue.plot import style
from simqueue.sensitivity.effect import Effect
from simqueue.sensitivity.sobol import Indices
from simqueue.sensitivity.study import Answer, Study

_BAR_IN, _AROUND_IN = 0.32, 0.9
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_SEEN, _UNSEEN, _FIRST = style.COLOURS[0], "#C4C4C4", style.COLOURS[5]
_NOISE: dict[str, Any] = {"color": style.COLOURS[1], "linewidth": 2.0}
_INTERVAL: dict[str, Any] = {"ecolor": style.COLOURS[6], "elinewidth": 1.1, "capsize": 2.5, "linestyle": "none"}


def plot_sensitivity(study: Study, answer: Answer, stem: Path) -> list[Path]:
    """Draw a panel a figure; the files are ``stem.svg`` and ``stem.png``.

    Raises:
        OutputError: they cannot be written.
    """
    height_in = len(answer.effects) * (_BAR_IN * len(study.parameters) + _AROUND_IN)
    with style.look():
        figure, panels = style.sheet("What moves it most", len(answer.effects), height_in=height_in)
        for axes, (name, effects) in zip(panels, answer.effects.items(), strict=True):
            _draw(axes, name, effects)
        style.legend(figure, _explained(answer))
        style.caption(figure, _about(study))
        return style.save(figure, stem)


def _draw(axes: Axes, figure: str, effects: Sequence[Effect]) -> None:
    shares = isinstance(effects[0], Indices)
    size, unit = (1.0, "") if shares else _unit(figure, max(effect.size for effect in effects))
    places = np.arange(len(effects))[::-1]
    sizes, halves = ([getattr(effect, name) / size for effect in effects] for name in ("size", "half_width"))
    axes.barh(places, sizes, 0.66, color=[_SEEN if effect.seen else _UNSEEN for effect in effects])
    for place, effect in zip(places, effects, strict=True):
        if isinstance(effect, Indices):
            axes.barh(place - 0.2, max(0.0, effect.first), 0.2, color=_FIRST)
        axes.plot([effect.noise / size] * 2, [place - 0.42, place + 0.42], **_NOISE)
    below = [min(half, value) for value, half in zip(sizes, halves, strict=True)]
    axes.errorbar(sizes, places, xerr=[below, halves], **_INTERVAL)
    axes.set_yticks(places, [effect.parameter for effect in effects])
    axes.set_xlim(left=0)
    axes.grid(False, axis="y")
    axes.set_title(figure)
    axes.set_xlabel("share of the variance" if shares else f"change over the range{unit and f' ({unit})'}")


def _unit(figure: str, largest: float) -> tuple[float, str]:
    if "_s." not in figure:
        return 1.0, ""
    return next((unit for unit in _UNITS if largest >= unit[0]), _UNITS[-1])


def _explained(answer: Answer) -> list[Line2D | Patch]:
    every = [effect for effects in answer.effects.values() for effect in effects]
    handles: list[Line2D | Patch] = []
    shares = isinstance(every[0], Indices)
    if any(effect.seen for effect in every):
        handles.append(Patch(color=_SEEN, label="total index" if shares else "mean size of the effect"))
    if any(not effect.seen for effect in every):
        handles.append(Patch(color=_UNSEEN, label="no more than chance"))
    if shares:
        handles.append(Patch(color=_FIRST, label="index of first order"))
    return [*handles, Line2D([], [], label="what chance alone stays under (95 %)", **_NOISE)]


def _about(study: Study) -> str:
    changed = f", with {', '.join(study.overrides)}" if study.overrides else ""
    ranges = ", ".join(f"{one.name} {one.low:.4g} to {one.high:.4g}" for one in study.parameters)
    return (
        f"{study.file.name}{changed}, seed {study.scenario.run.seed}. Ranges: {ranges}.\n"
        "Thin lines are 95 % intervals over other points of the same ranges."
    )
