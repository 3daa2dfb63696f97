"""The figure of docs/live.md: what a live run measures, from when to when, drawn from a recorded run.

    python experiments/live_timeline.py --out docs

Three requests under continuous batching. The device is a pretended one, whose steps last as long as a formula says; the
clients, the sockets, the worker and its times are real.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

import simqueue as sq
from simqueue.errors import SimqueueError
from simqueue.folders import made, refuse_unusable
from simqueue.live.ledger import HOST_FIELDS
from simqueue.live.serve import Served, serve
from simqueue.live.sleep import SleepExecutor
from simqueue.plot import style
from simqueue.workload import Workload

Array = NDArray[np.float64]
# The first request wakes everybody up, and is not drawn.
ARRIVALS_S, PROMPTS, OUTPUTS = (0.0, 0.03, 0.0310, 0.0339), (20, 80, 40, 20), (3, 5, 4, 2)
COST = sq.Affine(base_s=1.1e-3, per_new_token_s=8e-6)
SYSTEM = sq.System(policy=sq.Continuous(max_seqs=8), cost=COST)
RECORDINGS = 25
# The request whose intervals are named; it comes during the first step of the one before.
NAMED = 1
QUEUEING, SERVICE, DEVICE = style.COLOURS[4], style.COLOURS[5], "#B9B9B9"
HOST = dict(
    zip(
        HOST_FIELDS,
        (*(style.COLOURS[i] for i in (2, 1, 0, 6)), "#EFEFEF", "#8C6D31", style.COLOURS[3]),
        strict=True,
    )
)
# The parts of a round before its step has ended.
_UNTIL_THE_END = HOST_FIELDS[: HOST_FIELDS.index("device") + 1]
_BAR: dict[str, Any] = {"height": 0.42, "linewidth": 0}
# How far below its lane each row of intervals is.
_DEEP = (0.7, 1.5, 2.3, 3.1)
_BESIDE: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "size": 8.5}
_ARROW: dict[str, Any] = {"arrowstyle": "<|-|>", "shrinkA": 0, "shrinkB": 0, "linewidth": 0.9, "mutation_scale": 7}
_MARKS: dict[str, dict[str, Any]] = {
    "intended arrival": {"marker": "v", "color": "black", "markersize": 6},
    "sent": {"marker": ">", "color": "black", "markersize": 5, "markerfacecolor": "white"},
    "received by the worker": {"marker": "D", "color": "black", "markersize": 4, "markerfacecolor": "white"},
    "first scheduled (the plan)": {"marker": "|", "color": "black", "markersize": 17, "markeredgewidth": 1.6},
    "step end: its token is on the host": {"marker": "|", "color": "#00395C", "markersize": 11, "markeredgewidth": 1.2},
    "first and last token at the client": {"marker": "o", "color": "black", "markersize": 5},
}


@dataclass(frozen=True)
class Recording:
    """Milliseconds since the first drawn request was meant to be sent.

    Attributes:
        marks: by name, of each request.
        tokens: the step ends at which each request has a token.
        begin: of each step's round of the worker's loop.
        host: how long each part of the round took, by step.
        ends: of each step.
        shapes: of each step, rows that prefill and rows that decode.
    """

    marks: dict[str, Array]
    tokens: list[Array]
    begin: Array
    host: dict[str, Array]
    ends: Array
    shapes: list[tuple[int, int]]


def record() -> Recording:
    """The least disturbed of some runs: the one whose last answer came soonest."""
    runs: list[Served] = []
    while len(runs) < RECORDINGS:
        run = served()
        runs += [run] if _as_meant(run) else []
    return recorded(min(runs, key=_length))


def served() -> Served:
    """One run. Raises KeyboardInterrupt when it was stopped."""
    run = serve(Workload.from_columns(ARRIVALS_S, PROMPTS, OUTPUTS), SYSTEM, SleepExecutor(COST))
    if run.interrupted:
        raise KeyboardInterrupt
    return run


def _as_meant(run: Served) -> bool:
    """Whether the named request came during the first step of the one before, and the last one while both decoded."""
    result = run.result
    assert result is not None
    first, last = result.first_token - result.first_delivery, result.finished - result.delivery
    return bool(first[1] < result.scheduled[2] < first[1] + result.grid.ticks(1e-3) and last[2] > result.scheduled[3])


def _length(run: Served) -> int:
    assert run.result is not None
    return int(run.result.finished.max())


def recorded(run: Served) -> Recording:
    """What the figure needs of a run."""
    result = run.result
    assert result is not None
    origin = result.arrival[1]

    def ms(ticks: Any) -> Array:
        return np.asarray(result.grid.seconds(np.asarray(ticks) - origin) * 1e3)

    late = {name: 1e3 * result.workload.extra[name] for name in ("sent_late_s", "received_s")}
    arrival, ends = ms(result.arrival), ms(result.step_ends)
    first, last = ms(result.first_token - result.first_delivery), ms(result.finished - result.delivery)
    marks = {
        "arrival": arrival,
        "sent": arrival + late["sent_late_s"],
        "received": arrival + late["received_s"],
        "scheduled": ms(result.scheduled),
        "first": ms(result.first_token),
        "last": ms(result.finished),
    }
    host = {name: column / 1e6 for name, column in run.host.items()}
    before_end = sum(host[name] for name in _UNTIL_THE_END)
    within = [ends[(ends > a - 1e-6) & (ends < b + 1e-6)] for a, b in zip(first, last, strict=True)]
    kept = ends > 0
    return Recording(
        {name: column[1:] for name, column in marks.items()},
        within[1:],
        np.asarray(ends - before_end)[kept],
        {name: column[kept] for name, column in host.items()},
        ends[kept],
        [
            (int(p), int(d))
            for p, d, k in zip(result.leaps["prefill_rows"], result.leaps["rows"], kept, strict=True)
            if k
        ],
    )


def draw(run: Recording, folder: Path) -> list[Path]:
    """``live_timeline.svg`` and ``.png``. Raises OutputError."""
    with style.look():
        figure, (requests, machine, zoom) = style.sheet("What a live run measures, from when to when", 3, height_in=8.2)
        grid: Any = requests.get_gridspec()
        grid.set_height_ratios((4.3, 1.15, 2.1))
        _requests(requests, run)
        _machine(machine, run)
        _zoom(zoom, run)
        machine.sharex(requests)
        marks = [Line2D([], [], linestyle="", label=name, **look) for name, look in _MARKS.items()]
        bars = {"queueing": QUEUEING, "service": SERVICE, "device runs a step": DEVICE}
        patches = [Patch(color=colour, label=name) for name, colour in bars.items()]
        host = [Patch(color=colour, label=name) for name, colour in HOST.items() if name != "device"]
        style.legend(figure, marks, [*patches, *host])
        style.caption(figure, _caption())
        return style.save(figure, folder / "live_timeline")


def _caption() -> str:
    return (
        "Recorded: policy continuous, clients in a process of their own, SleepExecutor (a step takes 1.1 ms and 8 µs "
        f"for each new token). The quietest of {RECORDINGS} recordings. What a step decodes has begun when the "
        "step before ends; meanwhile that one's tokens are delivered and the next decision is made, which adds "
        "prompts. Back to back, a step's duration counts from the end of the step before."
    )


def _requests(axes: Axes, run: Recording) -> None:
    """A lane for each request, the named one's intervals below it."""
    lanes = (6.0, 4.9, 0.0)
    for i, y in enumerate(lanes):
        at = {name: column[i] for name, column in run.marks.items()}
        axes.barh(y, at["scheduled"] - at["arrival"], left=at["arrival"], color=QUEUEING, **_BAR)
        axes.barh(y, at["last"] - at["scheduled"], left=at["scheduled"], color=SERVICE, **_BAR)
        places = (at["arrival"], at["sent"], at["received"], at["scheduled"], run.tokens[i], (at["first"], at["last"]))
        for x, look in zip(places, _MARKS.values(), strict=True):
            above = 0.36 if look["marker"] == "v" else 0.0
            axes.plot(x, np.full(np.size(x), y + above), linestyle="", zorder=3, clip_on=False, **look)
    _intervals(axes, run, lanes[NAMED])
    axes.set_yticks(lanes, ["request 1", "request 2", "request 3"])
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelbottom=False)
    axes.set(ylim=(-0.5, 6.7), title="Requests")
    axes.grid(axis="y", visible=False)


def _intervals(axes: Axes, run: Recording, y: float) -> None:
    at = {name: column[NAMED] for name, column in run.marks.items()}
    tokens = run.tokens[NAMED]
    rows = (
        [("queueing", at["arrival"], at["scheduled"]), ("service", at["scheduled"], at["last"])],
        [("TTFT", at["arrival"], at["first"])],
        [("ITL", a, b) for a, b in pairwise(tokens)],
        [("response = queueing + service", at["arrival"], at["last"])],
    )
    for row, spans in enumerate(rows):
        for name, a, b in spans:
            _span(axes, name, a, b, y - _DEEP[row])
    depths = {at["scheduled"]: 0, at["first"]: 1, **dict.fromkeys(tokens.tolist(), 2), at["arrival"]: 3, at["last"]: 3}
    for x, row in depths.items():
        axes.plot([x, x], [y - 0.25, y - _DEEP[row]], color=style.GREY, linewidth=0.7, linestyle=":", zorder=1)


def _span(axes: Axes, name: str, begin: float, end: float, y: float) -> None:
    axes.annotate("", (begin, y), (end, y), arrowprops=_ARROW)
    axes.text((begin + end) / 2, y - 0.06, name, ha="center", va="top", size=8.5)


def _machine(axes: Axes, run: Recording) -> None:
    for n, (prefill, decode) in enumerate(run.shapes):
        _round(axes, run, n)
        told = [f"{rows} {what}" for rows, what in ((prefill, "prefills"), (decode, "decode")) if rows]
        middle = run.ends[n] - run.host["device"][n] / 2
        axes.text(middle, 0, "\n".join(told), ha="center", va="center", size=7.5, linespacing=1.1)
    axes.set_yticks((1, 0), ["worker", "device"])
    axes.tick_params(axis="y", length=0)
    axes.set(ylim=(-0.5, 1.5), xlabel="ms since the first request was meant to be sent", title="The worker's loop")
    axes.grid(axis="y", visible=False)


def _round(axes: Axes, run: Recording, n: int) -> None:
    """The worker's parts of a step, and the device: from the end of the step before if anybody decodes, else from the
    launch, to its end."""
    at = run.begin[n]
    for name in HOST_FIELDS:
        width = run.host[name][n]
        if name != "device":
            axes.barh(1, width, left=at, color=HOST[name], height=0.6, linewidth=0)
        if name == "launch":
            begin = run.ends[n - 1] if n and run.shapes[n][1] else at + width
            axes.barh(0, run.ends[n] - begin, left=begin, color=DEVICE, height=0.6, linewidth=0)
        at += width


def _zoom(axes: Axes, run: Recording) -> None:
    """The end of the first step, in microseconds: the named request is taken in, a token of the one before leaves."""

    def us(ms: Any) -> Any:
        return 1e3 * (ms - run.ends[0])

    host = {name: 1e3 * column for name, column in run.host.items()}
    near = replace(run, begin=us(run.begin), host=host, ends=us(run.ends))
    for step in (0, 1):
        _round(axes, near, step)
    delivers = _name_parts(axes, near)
    there = us(run.marks["first"][0])
    for mark, name, x, y in (
        ("received by the worker", "", us(run.marks["received"][NAMED]), 1),
        ("first scheduled (the plan)", "request 2 is scheduled", us(run.marks["scheduled"][NAMED]), 1),
        ("first and last token at the client", "request 1's first token", there, 2),
    ):
        axes.plot(x, y, linestyle="", zorder=3, **_MARKS[mark])
        axes.annotate(name, (x, y), xytext=(0, -22 if y == 1 else 7), **_BESIDE)
    way: dict[str, Any] = {**_ARROW, "arrowstyle": "-|>", "color": HOST["deliver"], "shrinkB": 4}
    axes.annotate("", (there, 2), (delivers, 1.32), arrowprops=way)
    axes.set_yticks((2, 1, 0), ["client 1", "worker", "device"])
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(-0.3 * there, 1.3 * there), ylim=(-0.5, 2.6), xlabel="µs since the end of the first step")
    axes.set_title("Between two steps, closer")
    axes.grid(axis="y", visible=False)


def _name_parts(axes: Axes, near: Recording) -> float:
    """Returns when the worker is done delivering."""
    complete, deliver = (near.host[name][0] for name in ("complete", "deliver"))
    delivered = near.ends[0] + complete + deliver
    parts = [("complete", near.ends[0], complete), ("deliver", near.ends[0] + complete, deliver)]
    at = near.begin[1]
    for name in _UNTIL_THE_END[:-1]:
        parts.append((name, at, near.host[name][1]))
        at += near.host[name][1]
    for i, (name, left, width) in enumerate(parts):
        text: dict[str, Any] = {"ha": "center", "va": "bottom", "size": 8.5, "color": HOST[name], "weight": "bold"}
        axes.text(left + width / 2, 1.34 + 0.26 * (i % 3), name, **text)
    return float(delivered)


def main(arguments: Sequence[str] | None = None) -> None:
    """Record and draw. Exits with 2 after a refusal in one line, with 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder for the figure")
    out = parser.parse_args(arguments).out
    try:
        refuse_unusable(out)
        made(out)
        print(*draw(record(), out), sep="\n")
    except SimqueueError as error:
        print(f"live_timeline: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("live_timeline: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
