"""Ticks that are placed once: the picture is matplotlib's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simqueue.plot import style, ticks


def _log(axes: Axes) -> None:
    axes.plot([1, 900], [0.002, 3])
    style.log_axis(axes.xaxis)
    style.log_axis(axes.yaxis)


def _powers(axes: Axes) -> None:
    axes.plot([0, 3e7], [1e-7, 4e-7])


def _names(axes: Axes) -> None:
    axes.barh([0, 1, 2], [1, 2, 4])
    axes.set_yticks([0, 1, 2], ["a", "much longer than b", "c"])
    axes.set_ylim(2.6, -0.6)
    axes.grid(False, axis="y")


def _unnamed(axes: Axes) -> None:
    axes.plot([0, 1], [-5, 5])
    axes.tick_params(labelleft=False)
    axes.tick_params(axis="x", length=0)


def picture(figure: Figure) -> Any:
    canvas: Any = figure.canvas
    canvas.draw()
    return np.array(canvas.buffer_rgba(), np.int16)


@pytest.mark.parametrize("draw", [_log, _powers, _names, _unnamed])
def test_it_looks_the_same(draw: Callable[[Axes], None]) -> None:
    with style.look():
        figure, [axes] = style.sheet("Title")
        axes.set_position((0.3, 0.2, 0.6, 0.6))
        draw(axes)
        axes.set(xlabel="load", ylabel="response time (s)", title="panel")
        before = picture(figure)
        ticks.fix(axes)
        after = picture(figure)
    assert np.abs(after - before).max() == 0
