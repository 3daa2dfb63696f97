"""The Welch plot: response times by arrival, averaged over runs, and where the warm-up was cut off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from simqueue.analysis.replicated import Replicated
from simqueue.analysis.warmup import batch_means, moving_average
from simqueue.folders import made
from simqueue.plot import style

_MOST_POINTS = 2000
# Of a run, to either side.
_REACH = 0.02
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


def plot_welch(found: Replicated, name: str, stem: Path) -> list[Path]:
    """Draw the averaged response times, their moving average and the cut; the files are ``stem.svg`` and ``stem.png``.

    Raises:
        OutputError: they cannot be written.
    """
    series = found.averaged_s[~np.isnan(found.averaged_s)]
    reach = int(_REACH * len(series))
    smooth = moving_average(series, reach)
    unit, unit_name = next(((unit, name) for unit, name in _UNITS if series.mean() >= unit), _UNITS[-1])
    with style.look():
        figure, [axes] = style.sheet(f"Warm-up of {name}", height_in=3.6)
        _line(axes, series / unit, color=style.colour(5), linewidth=0.8, label=f"mean of {_runs(found)}, by arrival")
        _line(axes, smooth / unit, color=style.colour(0), linewidth=2.2, label=f"moving average of {2 * reach + 1:,}")
        cut = found.warmup.requests
        axes.axvline(cut, color=style.colour(1), linestyle="--", label=_left_out(cut))
        low, high = 0.0, 1.15 * max(float(smooth.max()), float(np.quantile(series, 0.995))) / unit
        axes.set(xlabel="requests in order of arrival", ylabel=f"response time, {unit_name}", ylim=(low, high))
        axes.set_xlim(-0.01 * len(series), len(series))
        style.legend(figure, axes.get_legend_handles_labels()[0])  # type: ignore[arg-type]
        style.caption(figure, _caption(found))
        return style.save(figure, made(stem.parent) / stem.name)


def _line(axes: Axes, series: NDArray[np.float64], **look: object) -> None:
    """No more points than can be seen: means of some after the other."""
    size = -(-len(series) // _MOST_POINTS)
    means = batch_means(series, size)
    axes.plot(np.arange(len(means)) * size + (size - 1) / 2, means, **look)  # type: ignore[arg-type]


def _runs(found: Replicated) -> str:
    return f"{found.replications} replications" if found.replications > 1 else "one run"


def _left_out(cut: int) -> str:
    return f"the first {cut:,} are left out" if cut else "none is left out"


def _caption(found: Replicated) -> str:
    cut = found.warmup
    if not cut.found:
        return "No end of the warm-up was found: the runs are too short to tell. Ask for more requests."
    return (
        "MSER-5 leaves out as many requests as make the standard error of the rest least; a number that was given is "
        "taken as it is. The moving average should be level from there on."
    )
