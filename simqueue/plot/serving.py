"""The figure of a profile's serving run: what serving adds to the table, and how steps scatter."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from simqueue.cost.table import TableCost
from simqueue.errors import OutputError
from simqueue.folders import made
from simqueue.plot import style
from simqueue.plot.curve import source_of
from simqueue.profile import Jitter, Profile
from simqueue.units import Grid

_GRID = Grid()
_LONGEST = (0.1, 0.9)
_FINE = 400


def plot_serving(profile: Profile, folder: Path) -> list[Path]:
    """Draw a profile's serving run; the files are ``NAME-serving.svg`` and ``NAME-serving.png`` in ``folder``.

    Raises:
        OutputError: they cannot be written.
    """
    serving = profile.serving
    if serving is None:
        raise OutputError(f"profile {profile.name} has no serving run to draw")
    with style.look():
        figure, panels = style.sheet(f"Steps when served: {profile.name}", 2, 2, height_in=7.2)
        _periods(panels[0], profile)
        _exceeded(panels[1], serving.jitter)
        _remembered(panels[2], serving.jitter)
        _drift(panels[3], serving.jitter)
        style.caption(
            figure,
            f"{source_of(profile)}\n{serving.steps:,} steps of serving runs, from the end of one to that of the next, "
            "with the host's part between the two. Multipliers are of a step's mean without stalls.",
        )
        return style.save(figure, made(folder) / f"{profile.name}-serving")


def _periods(axes: Axes, profile: Profile) -> None:
    """Decode steps by rows: the table's medians, and the mean period."""
    assert profile.decode
    rows = np.arange(1, profile.decode.rows[-1] + 1)
    bare = msgspec.structs.replace(profile, serving=None)
    for i, share in enumerate(_LONGEST):
        longest = np.full(len(rows), max(1, int(share * profile.decode.longest[-1])))
        for which, line, what in ((bare, ":", "table"), (profile, "-", "served")):
            cost = TableCost(which, _GRID, curve=False, extrapolate=False)
            ms = 1e3 * _GRID.seconds(cost.column(rows, rows, longest))
            axes.plot(rows, ms, line, color=style.colour(i), label=f"{what}, {longest[0]:,} tokens")
    axes.set(title="Decode step", xlabel="rows", ylabel="ms", ylim=(0, None))
    axes.legend(fontsize=8)


def _exceeded(axes: Axes, jitter: Jitter) -> None:
    """How often a step takes more than so many times its mean, stalls included."""
    p = jitter.stall_probability
    sizes = 1 + np.array(jitter.stalls)
    for i, (name, column) in enumerate((("decode", jitter.decode), ("with a prefill", jitter.prefill))):
        body = np.array(column)
        x = np.unique(np.concatenate([np.linspace(body[0], body[-1], _FINE), sizes]))
        beyond = (1 - p) * _share_above(body, x) + p * _share_above(sizes, x)
        axes.plot(x[beyond > 0], beyond[beyond > 0], color=style.colour(i), label=name, drawstyle="steps-post")
    style.log_axis(axes.yaxis)
    style.log_axis(axes.xaxis)
    axes.set(title="Scatter", xlabel="multiplier of the mean", ylabel="share of steps above")
    axes.legend(fontsize=8)


def _share_above(values: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    if not len(values):
        return np.zeros(len(x))
    return np.asarray(1 - np.searchsorted(np.sort(values), x, "right") / len(values))


def _remembered(axes: Axes, jitter: Jitter) -> None:
    lags = np.array(jitter.lags)
    fine = np.geomspace(lags[0], lags[-1], _FINE)
    axes.plot(lags, jitter.autocorrelation, "o", color=style.colour(0), label="measured")
    model = np.array(jitter.persistent) @ np.array(jitter.memory)[:, None] ** fine
    axes.plot(fine, model, color=style.colour(1), label="as simulated")
    axes.axhline(0, color=style.GREY, linewidth=1)
    style.log_axis(axes.xaxis)
    axes.set(title="From step to step", xlabel="lag (steps)", ylabel="autocorrelation of normal scores")
    axes.legend(fontsize=8)


def _drift(axes: Axes, jitter: Jitter) -> None:
    tenths = np.arange(1, len(jitter.drift) + 1)
    axes.plot(tenths, jitter.drift, "o-", color=style.colour(0))
    axes.axhline(1, color=style.GREY, linewidth=1)
    axes.set(title="Over the run", xlabel="tenth of the run", ylabel="mean multiplier")
    axes.xaxis.set_minor_locator(NullLocator())
