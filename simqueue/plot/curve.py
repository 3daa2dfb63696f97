"""The figure of a profile: the fitted service-time curve with the cells behind it, its residuals and its regimes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray

from simqueue.accuracy import KINDS, CurveKind, points_of, predict
from simqueue.folders import made
from simqueue.plot import style
from simqueue.profile import Curve, Point, Profile

Array = NDArray[np.float64]
_MOST_LINES = 5
_SAMPLES = 400
_BEND = 1.1
_FLOOR: dict[str, Any] = {"color": style.GREY, "linestyle": ":", "linewidth": 1.3}
_BENT: dict[str, Any] = {"marker": "|", "markersize": 13, "markeredgewidth": 1.6, "linestyle": ""}
_HELD: dict[str, Any] = {"marker": "o", "markersize": 4.0, "markerfacecolor": "white", "linestyle": ""}
_DOT: dict[str, Any] = {"marker": "o", "markersize": 3.4, "linestyle": ""}
_NAMES = {"decode": "decode", "prefill": "prefill", "chunk": "prefill on a context", "totals": "steps"}


def plot_curve(profile: Profile, folder: Path) -> list[Path]:
    """Draw a profile's fitted curves, its measured cells, the residuals and the regimes.

    Returns the files, ``NAME.svg`` and ``NAME.png`` in ``folder``, which is made where it does not exist. Raises
    OutputError if they cannot be written.
    """
    with style.look():
        figure, note = _totals(profile) if profile.runner == "samples" else _measured(profile)
        style.caption(figure, f"{source_of(profile)}\n{note}")
        return style.save(figure, made(folder) / profile.name)


def source_of(profile: Profile) -> str:
    """What was measured where and when, in a line."""
    source, model = profile.provenance, profile.model
    if profile.runner == "samples":
        return f"{profile.name}: fitted to {source.samples} ({source.repeats}), {source.date}."
    machine = source.cpu if source.gpu == "none" else source.gpu
    return f"{profile.name}: {model.name}, {model.dtype}, {profile.runner} runner, on {machine}, {source.date}."


def _measured(profile: Profile) -> tuple[Any, str]:
    figure, panels = style.sheet(f"Service time of a step: {profile.name}", 3, 2, height_in=10.6)
    _decode_over_rows(panels[0], profile)
    _decode_over_context(panels[1], profile)
    _prefill(panels[2], profile, "prefill", "Prefill from a prompt's start")
    if profile.curves.chunk:
        _prefill(panels[3], profile, "chunk", "Prefill of a chunk on a context")
    else:
        _prefill_over_rows(panels[3], profile)
    _residuals(panels[4], profile, ("decode",), 0)
    _residuals(panels[5], profile, ("prefill", "chunk"), 1)
    style.legend(figure, _explained())
    forms = ", ".join(f"{kind} {curve.form}" for kind in KINDS if (curve := getattr(profile.curves, kind)))
    held = "lie between the lines' sizes" if profile.runner == "eager" else "are shown on the size they are padded to"
    return figure, (
        f"Form of the fitted curves: {forms}. Points: median wall clock of a measured cell, of the lines' sizes only; "
        f"held-out cells {held}; the residuals show all cells. "
        "Beyond the bends decode turns memory-bound (the cache is read) and prefill compute-bound."
    )


def _explained() -> list[Line2D]:
    grey = style.GREY
    return [
        Line2D([], [], color=grey, label="fitted curve"),
        Line2D([], [], color=grey, **_DOT, label="measured"),
        Line2D([], [], color=grey, **_HELD, label="measured, held out of the fit"),
        Line2D([], [], **_FLOOR, label="launch-bound floor of the curve"),
        Line2D(
            [],
            [],
            color=grey,
            **_BENT,
            label="bend: 10 % above the line's least",
        ),
    ]


def _some(axis: Sequence[int], most: int = _MOST_LINES) -> list[int]:
    """At most so many of the sizes, spread evenly, the first and the last among them."""
    at = np.linspace(0, len(axis) - 1, min(most, len(axis))).round().astype(int)
    return [axis[i] for i in at]


def _decode_over_rows(axes: Axes, profile: Profile) -> None:
    table, curve = _both(profile)
    for i, longest in enumerate(_some([n for n in table.longest if n < profile.model.max_context])):
        cells = [p for p in points_of(profile, "decode") if _bucketed(curve.pad_length, p.longest) == longest]
        _line(
            axes,
            i,
            f"{longest:,}",
            range(1, table.rows[-1] + 1),
            lambda r, n=longest: curve.decode(r, n),  # type: ignore[misc]
            [(p.decode_rows, p) for p in cells],
        )
    _finish(axes, "Decode against rows", "rows", "tokens in the cache", _least(curve, "decode"))


def _decode_over_context(axes: Axes, profile: Profile) -> None:
    table, curve = _both(profile)
    for i, rows in enumerate(_some(table.rows)):
        cells = [p for p in points_of(profile, "decode") if _bucketed(curve.pad_rows, p.decode_rows) == rows]
        _line(
            axes,
            i,
            f"{rows:,}",
            range(1, table.longest[-1] + 1),
            lambda n, r=rows: curve.decode(r, n),  # type: ignore[misc]
            [(p.longest, p) for p in cells],
        )
    _finish(axes, "Decode against context", "tokens in the cache of the longest row", "rows", _least(curve, "decode"))


def _prefill(axes: Axes, profile: Profile, kind: CurveKind, title: str) -> None:
    """Against new tokens of a row, one line for some numbers of rows, as far as they fit one launch."""
    table, curve = profile.prefill, getattr(profile.curves, kind)
    assert table
    layer = int(kind == "chunk")
    for i, rows in enumerate(_some(table.rows)):
        cells = [p for p in points_of(profile, kind) if _bucketed(curve.pad_rows, p.rows) == rows]
        at = table.rows.index(rows)
        widest = max(w for j, w in enumerate(table.width) if at < table.launch_rows(j, layer))
        _line(
            axes,
            i,
            f"{rows:,}",
            range(1, widest + 1),
            lambda w, r=rows: curve.prefill(r, w, layer),  # type: ignore[misc]
            [(p.width, p) for p in cells],
        )
    _finish(axes, title, "new tokens of the widest row", "rows", _least(curve, kind))


def _prefill_over_rows(axes: Axes, profile: Profile) -> None:
    table, curve = profile.prefill, profile.curves.prefill
    assert table
    assert curve
    for i, width in enumerate(_some(table.width)):
        cells = [p for p in points_of(profile, "prefill") if p.width == width]
        _line(
            axes,
            i,
            f"{width:,}",
            range(1, table.rows[-1] + 1),
            lambda r, w=width: curve.prefill(r, w),  # type: ignore[misc]
            [(p.rows, p) for p in cells],
        )
    _finish(axes, "Prefill against rows", "rows", "new tokens of a row", _least(curve, "prefill"))


def _both(profile: Profile) -> tuple[Any, Curve]:
    assert profile.decode
    assert profile.curves.decode
    return profile.decode, profile.curves.decode


def _least(curve: Curve, kind: CurveKind) -> float:
    """Milliseconds of the smallest step there is."""
    return 1e3 * (curve.decode(1, 1) if kind == "decode" else curve.prefill(1, 1, int(kind == "chunk")))


def _bucketed(buckets: Sequence[int], size: int) -> int:
    return next((b for b in buckets if b >= size), size)


def _line(
    axes: Axes, i: int, label: str, sizes: range, at: Callable[[int], float], cells: Sequence[tuple[int, Point]]
) -> None:
    """A curve over a range of sizes with its cells and its bend, milliseconds against size."""
    x = np.unique(np.geomspace(sizes[0], sizes[-1], _SAMPLES).round().astype(int))
    y = np.array([at(int(size)) for size in x]) * 1e3
    colour = style.colour(i)
    axes.plot(x, y, color=colour, label=label)
    for held, look in ((False, _DOT), (True, _HELD)):
        some = [(size, p.seconds * 1e3) for size, p in cells if p.held_out == held]
        if some:
            axes.plot(*zip(*some, strict=True), color=colour, **look)
    bent = np.flatnonzero(y > _BEND * y[0])
    if len(bent):
        axes.plot(x[bent[0]], y[bent[0]], color=colour, **_BENT)


def _finish(axes: Axes, title: str, label: str, lines: str, least_ms: float) -> None:
    """Log axes, the floor, and what the lines are."""
    _floor(axes, least_ms, 0.17)
    _sizes(axes)
    axes.set(title=title, xlabel=label, ylabel="step time (ms)")
    narrow = {"handlelength": 1.0, "handletextpad": 0.4, "columnspacing": 0.8, "borderaxespad": 0.1}
    axes.legend(title=lines, loc="upper left", ncols=_MOST_LINES, fontsize=8, title_fontsize=8, **narrow)


def _floor(axes: Axes, least_ms: float, room: float = 0.0) -> None:
    """The launch-bound floor, its milliseconds at the foot, and ``room`` (a share of the height) at the top."""
    axes.axhline(least_ms, **_FLOOR)
    style.log_axis(axes.yaxis)
    low, high = axes.get_ylim()
    axes.set_ylim(low * (low / high) ** 0.09, high * (high / low) ** room)
    place: dict[str, Any] = {"transform": axes.transAxes, "ha": "right", "va": "bottom"}
    axes.text(0.995, 0.015, f"launch-bound at {least_ms:.3g} ms", size=8, color=style.GREY, **place)


def _sizes(axes: Axes) -> None:
    """A log axis of counts, labelled at powers of 4."""
    style.log_axis(axes.xaxis)
    axes.xaxis.set_major_locator(LogLocator(base=4))
    axes.xaxis.set_minor_locator(NullLocator())


def _residuals(axes: Axes, profile: Profile, kinds: Sequence[CurveKind], first: int) -> None:
    """Predicted / measured - 1 in per cent of every cell, against what was measured."""
    for i, kind in enumerate(kind for kind in kinds if getattr(profile.curves, kind)):
        curve = getattr(profile.curves, kind)
        for held, look in ((False, _DOT), (True, _HELD)):
            cells = [p for p in points_of(profile, kind) if p.held_out == held]
            x = [p.seconds * 1e3 for p in cells]
            y = [100 * (predict(curve, kind, p) / p.seconds - 1) for p in cells]
            axes.plot(x, y, color=style.colour(first + i), **look, label="" if held else _NAMES[kind])
    axes.axhline(0, color=style.GREY, linewidth=1)
    style.log_axis(axes.xaxis)
    axes.set(title=f"Residuals: {_NAMES[kinds[0]]}", xlabel="measured step time (ms)")
    axes.set_ylabel("predicted / measured - 1 (%)")
    if profile.curves.chunk and "chunk" in kinds:
        axes.legend(loc="best", fontsize=8)


def _totals(profile: Profile) -> tuple[Any, str]:
    figure, panels = style.sheet(f"Service time of a step: {profile.name}", 2, 2, height_in=7.6)
    names = {"rows": "rows", "width": "new tokens, all rows", "context": "tokens in the cache, all rows"}
    for axes, (field, label) in zip(panels, names.items(), strict=False):
        _against(axes, profile, field, label)
    _residuals(panels[3], profile, ("totals",), 0)
    style.legend(figure, _explained()[:-1])
    return figure, (
        "Lines: the fitted curve along one size, with the other two at their medians; points: every step, whatever its "
        "other sizes."
    )


def _against(axes: Axes, profile: Profile, field: str, label: str) -> None:
    curve, points = profile.curves.totals, points_of(profile, "totals")
    assert curve
    middle = {name: float(np.median([getattr(p, name) for p in points])) for name in ("rows", "width", "context")}
    sizes = np.array([getattr(p, field) for p in points])
    x = np.linspace(sizes.min(), sizes.max(), _SAMPLES)
    y = [curve.seconds(*{**middle, field: float(size)}.values()) * 1e3 for size in x]
    axes.plot(x, y, color=style.colour(0))
    for held, look in ((False, _DOT), (True, _HELD)):
        some = [p for p in points if p.held_out == held]
        axes.plot([getattr(p, field) for p in some], [p.seconds * 1e3 for p in some], color=style.colour(1), **look)
    _floor(axes, min(predict(curve, "totals", p) for p in points) * 1e3)
    if sizes.min() > 0:
        _sizes(axes)
    axes.set(title=f"Step time against {label.partition(',')[0]}", xlabel=label, ylabel="step time (ms)")
