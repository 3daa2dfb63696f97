"""The tables that `simqueue simulate` and `live` print: times, each with half of its interval below it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    Half = Mapping[str, Any]

_TIMES = {
    "queueing": "queueing_s",
    "service": "service_s",
    "response": "response_s",
    "TTFT": "ttft_s",
    "TPOT": "tpot_s",
    "ITL": "itl_s",
    "transfer": "transfer_s",
    "handover": "handover_s",
}
_MEANS = {"queueing": "queueing_s", "TTFT": "ttft_s", "response": "response_s"}
_FIGURES = ("mean", "p50", "p90", "p95", "p99", "max")
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


def times(summary: Mapping[str, Any]) -> Table:
    """A row a time, its statistics side by side."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=True, padding=(0, 1, 0, 0))
    table.add_column("UNSTABLE" if summary["unstable"] else "", no_wrap=True)
    for figure in _FIGURES:
        table.add_column(figure, justify="right", no_wrap=True)
    for name, key in _TIMES.items():
        if key in summary:
            half = summary.get("half_width", {}).get(key, {})
            table.add_row(name, *_cells(summary[key], half, _FIGURES, _doubted(summary, key)))
    return table


def clients(summary: Mapping[str, Any]) -> Table:
    """A row a class of clients: who was answered, how soon, and, where they have limits, how many met theirs."""
    rows = summary["by_client"]
    halves = summary.get("half_width", {}).get("by_client", [{}] * len(rows))
    figures = {("TTFT", "p99"): "ttft_s", ("response", "p99"): "response_s"}
    limits = ("met SLO",) if "slo_attainment" in rows[0] else ()
    table = _plain("client", "requests", *(name for names in figures for name in names), *limits)
    for row, half in zip(rows, halves, strict=True):
        all_of = "" if row["completed"] == row["requests"] else f"{row['completed']} of "
        cells = [
            cell
            for key in figures.values()
            for cell in _cells(
                row[key], half.get(key, {}), ("mean", "p99"), _doubted(summary, "by_client", row["client"], key)
            )
        ]
        shares = (f"{100 * row['slo_attainment']:.4g} %" for _ in limits)
        table.add_row(row["client"], f"{all_of}{row['requests']}", *cells, *shares)
    return table


def replicas(rows: Sequence[Mapping[str, Any]]) -> Table:
    """A row a replica of a cluster: means of the requests that it served."""
    means = {name: key for name, key in _MEANS.items() if key in rows[0]}
    table = _plain("replica", "requests", "utilisation", *means)
    for row in rows:
        cells = (readable(row[key]) if row[key] is not None else "-" for key in means.values())
        table.add_row(str(row["replica"]), str(row["requests"]), f"{100 * row['utilisation']:.4g} %", *cells)
    return table


def _plain(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE, pad_edge=True)
    for column in table.columns:
        column.justify, column.no_wrap = "right", True
    return table


def _doubted(summary: Mapping[str, Any], *place: str) -> set[str]:
    """Which statistics of a time have intervals that are not to be believed."""
    above = f"{'.'.join(place)}."
    names = (entry["figure"] for entry in summary.get("too_short", ()))
    return {name.removeprefix(above) for name in names if name.startswith(above)}


def _cells(stats: Mapping[str, float] | None, half: Half, names: Sequence[str], doubted: Collection[str]) -> list[str]:
    if not stats:
        return ["-"] * len(names)
    return [_cell(stats[name], half.get(name), name in doubted) for name in names]


def _cell(seconds: float, half: float | None, doubted: bool) -> str:
    """A time, and on a line of its own half of its interval, in brackets if that is not to be believed."""
    if half is None:
        return readable(seconds)
    width = f"±{readable(half, two_digits) if math.isfinite(half) else '?'}"
    return f"{readable(seconds)}\n{f'({width})' if doubted else width}"


def within(value: float, half: float | None, scale: float = 1.0) -> str:
    """``599.8 ± 1.2``; the value alone where it has no interval."""
    return f"{scale * value:.4g}" + ("" if half is None else f" ± {two_digits(scale * half)}")


def two_digits(value: float) -> str:
    """A half-width: to two digits; ``?`` if there is none."""
    if not math.isfinite(value):
        return "?"
    text = f"{value:.2g}"
    return f"{float(text):.0f}" if "e+" in text else text


def four_digits(value: float) -> str:
    """A figure: to four digits."""
    return f"{value:.4g}"


def readable(seconds: float, digits: Callable[[float], str] = four_digits) -> str:
    """A duration with its unit, to four digits or as many as ``digits`` gives."""
    unit, name = next((unit for unit in _UNITS if seconds >= unit[0]), _UNITS[-1] if seconds else _UNITS[0])
    return f"{digits(seconds / unit)} {name}"
