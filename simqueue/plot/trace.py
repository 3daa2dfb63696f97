"""The figure of a recorded workload: its rate over time, and how irregular it is inside each minute."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from simqueue.folders import made
from simqueue.plot import style
from simqueue.workload import Workload
from simqueue.workload.dispersion import FEWEST_GAPS, windowed_cv

_MOST_WINDOWS = 240
_MINUTE_S = 60.0
_UNITS = ((86_400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


def plot_trace(workload: Workload, name: str, folder: Path) -> list[Path]:
    """Draw rate and windowed coefficient of variation over time; the files are ``NAME-arrivals.svg`` and ``.png``.

    Raises:
        OutputError: they cannot be written.
    """
    since = workload.arrival_s - workload.arrival_s[0]
    unit_s, unit = next(((size, unit) for size, unit in _UNITS if since[-1] >= 5 * size), _UNITS[-1])
    window_s = _round_window(since[-1] / _MOST_WINDOWS)
    with style.look():
        figure, (rate, cv) = style.sheet(f"Arrivals of {name}", 2, height_in=5.6)
        _rate(rate, since, window_s, unit_s)
        _irregularity(cv, since, unit_s)
        for axes in (rate, cv):
            axes.set(xlim=(0, since[-1] / unit_s or 1))
        cv.set(xlabel=f"{unit} since the first arrival")
        style.caption(
            figure,
            f"{len(since):,} requests in {since[-1]:,.6g} s. Rate in windows of {window_s:g} s. Coefficient of "
            f"variation of the inter-arrival times inside each window of {_MINUTE_S:g} s that has at least "
            f"{FEWEST_GAPS} of them: 1 where arrivals are locally Poisson.",
        )
        return style.save(figure, made(folder) / f"{name}-arrivals")


def _rate(axes: Axes, since: NDArray[np.float64], window_s: float, unit_s: float) -> None:
    whole = math.floor(since[-1] / window_s)
    edges = np.arange(whole + 1) * window_s
    counts, _ = np.histogram(since[since < edges[-1]], edges) if whole else (np.zeros(0), edges)
    axes.stairs(counts / window_s, edges / unit_s, color=style.colour(0), linewidth=1.2)
    if since[-1] > 0:
        axes.axhline((len(since) - 1) / since[-1], color=style.GREY, linewidth=1, linestyle="--", label="mean")
        axes.legend(fontsize=8)
    axes.set(title="Arrival rate", ylabel="requests/s", ylim=(0, None))


def _irregularity(axes: Axes, since: NDArray[np.float64], unit_s: float) -> None:
    start_s, cv = windowed_cv(since, _MINUTE_S)
    axes.plot((start_s + _MINUTE_S / 2) / unit_s, cv, "o", color=style.colour(1), markersize=3)
    axes.axhline(1, color=style.GREY, linewidth=1, linestyle="--", label="Poisson")
    axes.set(title="Irregularity inside a minute", ylabel="coefficient of variation", ylim=(0, None))
    axes.legend(fontsize=8)


def _round_window(least_s: float) -> float:
    """The shortest of 1, 2 or 5 times a power of ten that is no shorter than ``least_s``."""
    if least_s <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least_s))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least_s)
