"""The figure of `simqueue compare` for scenarios: how much worse each is than the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from simqueue.plot import style
from simqueue.ranking.ranking import Ranking, Worse
from simqueue.ranking.shown import Shown, shown

_ROW_IN, _AXIS_IN = 0.3, 0.9
_MOST_LETTERS = 44
# Colour and form, so that neither is needed to tell them apart.
_LOOKS: dict[str, dict[str, Any]] = {
    "best": {"color": style.COLOURS[2], "marker": "*", "markersize": 11, "label": "best, as it looks"},
    "open": {"color": style.COLOURS[4], "marker": "D", "markersize": 5.5, "label": "may be the best too"},
    "worse": {"color": style.COLOURS[0], "marker": "o", "markersize": 5.5, "label": "worse, with 95 % confidence"},
    "unstable": {"color": style.COLOURS[6], "marker": "X", "markersize": 7, "label": "unstable: no steady state"},
}


def plot_ranking(ranking: Ranking, about: str, stem: Path) -> list[Path]:
    """Draw a row a competitor, the best on top, and where there are two in what else they differ; the files are
    ``stem.svg`` and ``stem.png``.

    Raises:
        OutputError: they cannot be written.
    """
    figures = list(shown(ranking)) if len(ranking.names) == 2 and ranking.unstable(0) == ranking.unstable(1) else []
    rows = [len(ranking.names), *([len(figures)] if figures else [])]
    title = f"Which is best by {ranking.contest.criterion.words}"
    with style.look():
        height_in = _AXIS_IN * len(rows) + _ROW_IN * sum(rows)
        figure, panels = style.sheet(title, len(rows), height_in=height_in)
        verdicts = _ranks(panels[0], ranking)
        if figures:
            _differences(panels[1], ranking, figures)
            grid: Any = panels[0].get_gridspec()
            grid.set_height_ratios(rows)
        style.legend(figure, _explained(verdicts))
        style.caption(figure, f"{about}.\nBars are paired intervals that hold together, and at every look, with 95 %.")
        return style.save(figure, stem)


def _ranks(axes: Any, ranking: Ranking) -> set[str]:
    """The verdicts that there are."""
    numbers = sorted(range(len(ranking.names)), key=lambda number: ranking.worse(number).value)
    rows = [(ranking.names[number], ranking.worse(number), _verdict(ranking, number)) for number in numbers]
    high = max(end for _, worse, _ in rows for end in worse if math.isfinite(end)) or ranking.indifference
    for place, (_, worse, verdict) in enumerate(rows):
        _draw(axes, place, worse, verdict, 1.05 * high)
    axes.axvspan(0, ranking.indifference, color=style.GREY, alpha=0.12, linewidth=0)
    axes.set(xlim=(-0.05 * high, 1.1 * high), xlabel="worse than the best by, %")
    _rows(axes, [name for name, _, _ in rows])
    return {verdict for _, _, verdict in rows}


def _differences(axes: Any, ranking: Ranking, figures: Sequence[Shown]) -> None:
    """In per cent of the first; hollow where it is not beyond doubt which is larger."""
    first, second = ranking.names
    for place, (_, _, found) in enumerate(figures):
        ends = found.relative_ends
        if found.relative is None or ends is None or not all(map(math.isfinite, ends)):
            continue
        bars = [[found.relative - ends[0]], [ends[1] - found.relative]]
        filled = {} if found.apart else {"markerfacecolor": "white"}
        axes.errorbar([found.relative], [place], xerr=bars, fmt="o", color=style.COLOURS[0], elinewidth=1.4, **filled)
    axes.set(xlabel=f"{_short(second)} - {_short(first)}, % (hollow: not beyond doubt)")
    _rows(axes, [f"{row.of} {row.statistic}".strip() for row in figures])


def _rows(axes: Any, names: Sequence[str]) -> None:
    axes.axvline(0, color=style.GREY, linewidth=1)
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))


def _explained(verdicts: set[str]) -> list[Line2D]:
    band: dict[str, Any] = {"color": style.GREY, "alpha": 0.25, "linewidth": 8}
    dots = [Line2D([], [], linestyle="none", **look) for name, look in _LOOKS.items() if name in verdicts]
    return [*dots, Line2D([], [], **band, label="too little to matter (--indifference)")]


def _draw(axes: Any, place: int, worse: Worse, verdict: str, edge: float) -> None:
    """Who is unstable is worse than any, and stands at the edge."""
    look = {key: value for key, value in _LOOKS[verdict].items() if key != "label"}
    value = worse.value if math.isfinite(worse.value) else edge
    bars = [[value - min(worse.least, value)], [min(worse.most, edge) - min(value, edge)]]
    axes.errorbar([value], [place], xerr=bars, elinewidth=1.4, **look)


def _verdict(ranking: Ranking, number: int) -> str:
    if ranking.unstable(number):
        return "unstable"
    if number == ranking.selection.best:
        return "best"
    return "open" if number in ranking.selection.open else "worse"


def _short(name: str) -> str:
    return name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 3]}..."
