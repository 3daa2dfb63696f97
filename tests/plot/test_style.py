"""The common look: room for long legends and captions, whatever the user's settings."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import matplotlib
import pytest
from matplotlib.lines import Line2D

from simqueue.errors import OutputError
from simqueue.plot import style
from simqueue.plot.panels import settle

CAPTION = "gpt2-h200-bf16-graph: gpt2, bfloat16, on NVIDIA H200. " * 5


@pytest.mark.parametrize("names", [["none"], [f"continuous(max_seqs={n})" for n in range(11)], ["static_" * 30]])
def test_nothing_overlaps_or_is_cut_off(names: list[str]) -> None:
    with style.look():
        figure, panels = style.sheet("Response time", 1, 2)
        for axes in panels:
            axes.plot([0.1, 1000], [0.1, 1000])
            axes.set(xlabel="x (s)", ylabel="y", title="panel")
            style.log_axis(axes.xaxis)
        style.legend(figure, [Line2D([], [], label=name) for name in names], [Line2D([], [], label="mean")])
        style.caption(figure, CAPTION)
        settle(figure)
        title, *legend, caption = (text.get_window_extent() for text in figure.texts)
        boxes = [axes.get_tightbbox() for axes in panels]
    assert title.y0 >= max(box.y1 for box in legend) - 1
    assert min(box.y0 for box in legend) >= max(box.y1 for box in boxes)
    assert not any(one.overlaps(other) for one, other in combinations(legend, 2))
    assert caption.y1 <= min(box.y0 for box in boxes)
    assert boxes[0].x1 <= boxes[1].x0
    for box in [title, caption, *legend, *boxes]:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1


def test_the_users_settings_stay_and_do_not_show(tmp_path: Path) -> None:
    def drawn(name: str) -> bytes:
        with style.look():
            figure, [axes] = style.sheet("Title")
            axes.plot([1, 2], [1, 2])
        return style.save(figure, tmp_path / name)[0].read_bytes()

    plain = drawn("plain")
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.fonttype": "path"}):
        assert drawn("loud") == plain
        assert matplotlib.rcParams["font.size"] == 30


def test_colour_and_marker_repeat_late() -> None:
    assert len({(style.colour(i), style.marker(i)) for i in range(56)}) == 56


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with style.look():
        figure, _ = style.sheet("Title")
    with pytest.raises(OutputError, match="cannot be written"):
        style.save(figure, tmp_path / "nowhere" / "figure")
    assert not list(tmp_path.iterdir())
