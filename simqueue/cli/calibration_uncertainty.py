"""What `simqueue simulate --calibration-uncertainty` prints: each figure with both of its intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from simqueue.cli.sensitivity import in_unit
from simqueue.cli.table import two_digits

if TYPE_CHECKING:
    from simqueue.analysis.figures import Path
    from simqueue.analysis.replicated import Replicated
    from simqueue.sensitivity.carried import Carried

_FIGURE = ("response_s", "p99")
_TIMES = ("queueing_s", "service_s", "response_s", "ttft_s", "tpot_s", "itl_s")
_STATISTICS = ("mean", "p50", "p99")
_RATIOS = (("throughput_rps",), ("utilisation",))


def show(carried: Carried, found: Replicated) -> None:
    """A table of times and ratios, and what it says in words."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    value, simulation = found.interval(_FIGURE)
    calibration = _half("response_s.p99", carried.half_width(_FIGURE))
    halves = f"{_half('response_s.p99', simulation)} (simulation) ± {calibration} (calibration)"
    console.print(f"response_s.p99 = {in_unit('response_s.p99', value)} ± {halves}")
    console.print(_table(carried, found))
    for line in _words(carried):
        console.print(line, markup=False)


def _table(carried: Carried, found: Replicated) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=True)
    table.add_column("figure", no_wrap=True)
    for heading in ("value", "± simulation", "± calibration", "in %", "due to"):
        table.add_column(heading, justify="right", no_wrap=True)
    figures = [(time, statistic) for time in _TIMES for statistic in _STATISTICS]
    for figure in (*figures, *_RATIOS):
        if figure in carried.shares:
            table.add_row(".".join(figure), *_cells(carried, found, figure))
    return table


def _cells(carried: Carried, found: Replicated, figure: Path) -> Iterator[str]:
    value, simulation = found.interval(figure)
    calibration, name = carried.half_width(figure), ".".join(figure)
    yield in_unit(name, value)
    yield _half(name, simulation)
    # Squares of chance were taken off: what is left of an effect that was not seen is 0.
    yield _half(name, calibration) if calibration else "not seen"
    yield f"{100 * calibration / value:.2g}" if value and math.isfinite(calibration) else "-"
    shares = carried.shares[figure]
    yield carried.coefficients[max(range(len(shares)), key=lambda i: abs(shares[i]))].kind if calibration else ""


def _half(name: str, width: float) -> str:
    return in_unit(name, width, two_digits) if math.isfinite(width) else "?"


def _words(carried: Carried) -> Iterator[str]:
    known = ", ".join(f"{one.kind} {100 * (one.half_width or 0):.2g} %" for one in carried.coefficients)
    profiles = " and ".join(dict.fromkeys(one.profile for one in carried.coefficients))
    yield f"  calibration  steps are known to: {known} (95 % of held-out steps of {profiles})"
    if carried.unstable:
        yield f"  UNSTABLE     within that, at an end of {', '.join(carried.unstable)}: there is no upper limit"
    if carried.not_known:
        yield f"  not known    what the error of these does: {', '.join(carried.not_known)}"
