"""Axes in one grid: as large as their ratios say, with room for what is written around them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simqueue.plot import style
from simqueue.plot.panels import settle

NAMES = st.text(alphabet="abcd (%)", max_size=40)


@settings(max_examples=8, deadline=None)
@given(
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    largest=st.sampled_from([1e-7, 0.3, 12345.0, 4e9]),
    names=st.tuples(NAMES, NAMES, NAMES),
)
def test_what_is_written_stays_on_the_sheet_and_apart(
    rows: int, columns: int, largest: float, names: tuple[str, str, str]
) -> None:
    with style.look():
        figure, panels = style.sheet("Title", rows, columns, height_in=2.0 * rows)
        for axes in panels:
            axes.plot([0, largest], [-largest, largest])
            axes.set(xlabel=names[0], ylabel=names[1], title=names[2])
        settle(figure)
        boxes = np.array([axes.get_tightbbox(for_layout_only=True).extents for axes in panels])  # type: ignore[union-attr]
    grid = boxes.reshape(rows, columns, 4)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= figure.bbox.max).all()
    assert (grid[:, :-1, 2] <= grid[:, 1:, 0]).all()
    assert (grid[:-1, :, 1] >= grid[1:, :, 3]).all()


def test_rows_are_as_high_as_their_ratios_and_columns_equally_wide() -> None:
    with style.look():
        figure, panels = style.sheet("Title", 2, 2, height_in=6.0)
        grid: Any = panels[0].get_gridspec()
        grid.set_height_ratios((1, 3))
        panels[1].set_ylabel("wide")
        settle(figure)
    places = [axes.get_position() for axes in panels]
    assert [place.width for place in places] == pytest.approx([places[0].width] * 4, rel=1e-3)
    assert [place.height / places[0].height for place in places] == pytest.approx([1, 1, 3, 3], rel=1e-3)
    assert places[0].x0 == places[2].x0
    assert places[0].y0 == places[1].y0
