"""The figure of `simqueue capacity`: every trial with its interval, the limits and the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from simqueue.capacity.evidence import verdict
from simqueue.capacity.rate import Highest
from simqueue.capacity.slo import Limit
from simqueue.capacity.trial import Trial
from simqueue.capacity.values import WIDE, Holding
from simqueue.plot import style

_HEIGHT_IN = 3.4
_SHORT = ("ttft", "tpot", "itl")
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))
# Colour and form, so that neither is needed to tell them apart.
_LOOKS = {
    "met": (style.COLOURS[0], "o", "met with 95 % confidence"),
    "open": (style.COLOURS[4], "D", "open: neither with 95 % confidence"),
    "broken": (style.COLOURS[1], "s", "broken with 95 % confidence"),
    "unstable": (style.COLOURS[6], "X", "unstable"),
}
_LIMIT: dict[str, Any] = {"color": style.COLOURS[1], "linestyle": "--", "linewidth": 1.3}
_ANSWER: dict[str, Any] = {"color": style.COLOURS[2], "linewidth": 1.8}
_SATURATION: dict[str, Any] = {"color": style.GREY, "linestyle": ":", "linewidth": 1.3}


def plot_capacity(
    answer: Highest | Holding, limits: Sequence[Limit], trials: Sequence[Trial], vary: str, about: str, stem: Path
) -> list[Path]:
    """Draw a panel a limit; the files are ``stem.svg`` and ``stem.png``.

    Raises:
        OutputError: they cannot be written.
    """
    name = "arrival rate (requests/s)" if isinstance(answer, Highest) else vary.partition("=")[0]
    # Of several at one value the last decided.
    trials = answer.trials if isinstance(answer, Holding) else trials
    with style.look():
        figure, panels = style.sheet("Where limits hold", len(limits), height_in=_HEIGHT_IN * len(limits))
        for axes, limit in zip(panels, limits, strict=True):
            _draw(axes, limit, trials)
            _mark(axes, answer)
        panels[-1].set_xlabel(name)
        style.legend(figure, _explained(answer, {verdict(trial, [limit]) for trial in trials for limit in limits}))
        shares = any(limit.share is not None for limit in limits)
        told = " Percentiles are told from limits by the share of times above." if shares else ""
        style.caption(
            figure, f"{about}.\nBars are 95 % intervals; one that goes through a whole panel has no end.{told}"
        )
        return style.save(figure, stem)


def _draw(axes: Axes, limit: Limit, trials: Sequence[Trial]) -> None:
    found = [trial.figures[limit.figure] for trial in trials]
    size, unit = _unit(limit)
    known = [one.value / size for one in found if one.value > 0] or [limit.bound / size]
    low, high = min(*known, limit.bound / size), max(*known, limit.bound / size)
    for trial, one in zip(trials, found, strict=True):
        colour, marker, _ = _LOOKS[verdict(trial, [limit])]
        place = float(trial.rate or 0.0) if trial.value is None else trial.value
        half = min(one.half_width, 1e6 * one.value) if math.isfinite(one.half_width) else 1e6 * one.value
        ends = [[min(half, one.value * (1 - 1e-6)) / size], [half / size]]
        axes.errorbar([place], [one.value / size], ends, color=colour, marker=marker, markersize=5, elinewidth=1.1)
    axes.axhline(limit.bound / size, **_LIMIT)
    axes.set_ylim(low / 1.4, high * 1.4)
    axes.set_ylabel(_named(limit.figure) + (f" ({unit})" if unit else ""))
    if high > 2 * low:
        style.log_axis(axes.yaxis)
        axes.set_ylim(low / 1.4, high * 1.4)


def _named(figure: str) -> str:
    """``tpot_s.mean`` is TPOT mean, ``response_s.p99`` response time p99."""
    time, dot, statistic = figure.rpartition("_s.")
    if not dot:
        return figure
    *whose, name = time.split(".")
    return " ".join([*whose, name.upper() if name in _SHORT else f"{name} time", statistic])


def _unit(limit: Limit) -> tuple[float, str]:
    if "_s." not in limit.figure:
        return 1.0, ""
    return next((unit for unit in _UNITS if limit.bound >= unit[0]), _UNITS[-1])


def _mark(axes: Axes, answer: Highest | Holding) -> None:
    if isinstance(answer, Holding):
        values = [trial.value for trial in answer.trials if trial.value]
        if values and 0 < WIDE * min(values) < max(values):
            style.log_axis(axes.xaxis)
        for low, high in answer.ranges:
            axes.axvspan(low, min(high, axes.get_xlim()[1]), color=style.COLOURS[2], alpha=0.15, linewidth=0)
        return
    axes.axvline(answer.saturation_rps, **_SATURATION)
    if answer.rate is not None:
        axes.axvline(answer.rate, **_ANSWER)
    if answer.root_rps is not None and answer.half_width_rps is not None:
        ends = answer.root_rps - answer.half_width_rps, answer.root_rps + answer.half_width_rps
        axes.axvspan(*ends, color=style.COLOURS[2], alpha=0.2, linewidth=0)
    axes.set_xlim(left=0)


def _explained(answer: Highest | Holding, verdicts: set[str]) -> list[Line2D]:
    dots: list[dict[str, Any]] = [
        {"color": colour, "marker": marker, "linestyle": "none", "label": label}
        for name, (colour, marker, label) in _LOOKS.items()
        if name in verdicts
    ]
    lines: list[dict[str, Any]] = [{**_LIMIT, "label": "limit"}]
    if isinstance(answer, Highest):
        if answer.rate is not None:
            lines.append({**_ANSWER, "label": f"highest rate: {answer.rate:.4g}/s"})
        if answer.root_rps is not None:
            band = {"color": style.COLOURS[2], "alpha": 0.3, "linewidth": 8}
            lines.append({**band, "label": "where the limit is reached (95 %)"})
        lines.append({**_SATURATION, "label": f"saturation: {answer.saturation_rps:.4g}/s"})
    elif answer.ranges:
        lines.append({"color": style.COLOURS[2], "alpha": 0.3, "linewidth": 8, "label": "limits hold"})
    return [Line2D([], [], **look) for look in (*dots, *lines)]
