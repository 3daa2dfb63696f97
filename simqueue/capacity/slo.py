"""Limits of figures, as they are written: ``ttft_s.p99 <= 200ms``."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from simqueue.analysis.figures import FIGURES, TIMES, Path
from simqueue.analysis.interval import Interval
from simqueue.errors import ConfigError
from simqueue.metrics import PERCENTILES
from simqueue.workload import WorkloadSpec

_OF_CLIENT = ("response_s", "ttft_s")
_STATISTICS = ("mean", *(f"p{percentile}" for percentile in PERCENTILES))
_SHARES = ("utilisation", "slo_attainment")
_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_LIMIT = re.compile(r"\s*(?P<figure>[^<>=\s]+)\s*(?P<sign><=|>=)\s*(?P<number>[-+.\deE]+)\s*(?P<unit>[a-z%]*)\s*")
# A figure farther from its limit than by this factor is just far away: 0 has no logarithm.
_FARTHEST = math.log(20)


@dataclass(frozen=True)
class Limit:
    """One limit of one figure.

    Attributes:
        figure: its place in the summary, such as ``ttft_s.p99``.
        at_most: whether it shall be at most the ``bound``; at least otherwise.
        bound: in seconds, requests per second or as a share, positive.
    """

    figure: str
    at_most: bool
    bound: float

    def __str__(self) -> str:
        return f"{self.figure} {'<=' if self.at_most else '>='} {self.bound:g}"

    @property
    def path(self) -> Path:
        """Where a summary has the figure; clients may have points in their names."""
        parts = self.figure.split(".")
        if parts[0] != "by_client":
            return tuple(parts)
        last = 1 if parts[-1] in _SHARES else 2
        return ("by_client", ".".join(parts[1:-last]), *parts[-last:])

    def margin(self, value: float) -> float:
        """How far from its limit a value is, on the right side if this is positive: the logarithm of their ratio, at
        most that of 20 to either side."""
        ratio = self.bound / max(value, 1e-300) if self.at_most else max(value, 1e-300) / self.bound
        return min(_FARTHEST, max(-_FARTHEST, math.log(ratio)))

    def worst(self, found: Interval) -> float:
        """The margin of the end of an interval that is nearer to being over the limit; -log 20 if it has no end."""
        return self._end(found, 1 if self.at_most else -1)

    def best(self, found: Interval) -> float:
        """The margin of the other end; log 20 if it has no end."""
        return self._end(found, -1 if self.at_most else 1)

    def _end(self, found: Interval, side: int) -> float:
        if not math.isfinite(found.half_width):
            return -_FARTHEST if (side > 0) == self.at_most else _FARTHEST
        return self.margin(found.value + side * found.half_width)


def limits_of(texts: Sequence[str], spec: WorkloadSpec) -> tuple[Limit, ...]:
    """The limits that are written there, of figures that this workload can have.

    Raises:
        ConfigError: one cannot be read, names no figure or has a wrong unit; or there is none, or two are the same.
    """
    if not texts:
        raise ConfigError('--slo is missing: give at least one, such as --slo "ttft_s.p99 <= 0.2"')
    clients = [each.name for each in spec.classes]
    limits = tuple(_limit(text, clients) for text in texts)
    for i, limit in enumerate(limits):
        if any((limit.figure, limit.at_most) == (other.figure, other.at_most) for other in limits[:i]):
            raise ConfigError(f"--slo {texts[i]!r}: {limit.figure} has such a limit already: leave one of them out")
    return limits


def _limit(text: str, clients: Sequence[str]) -> Limit:
    match = _LIMIT.fullmatch(text)
    if match is None:
        raise ConfigError(f'--slo {text!r} is no limit: write FIGURE <= NUMBER or >=, such as "ttft_s.p99 <= 0.2"')
    figure, known = match["figure"], _known(clients)
    if figure not in known:
        raise ConfigError(f"--slo {text!r}: unknown figure {figure!r}; {_hint(figure, known, clients)}")
    return Limit(figure, match["sign"] == "<=", _bound(text, figure, match["number"], match["unit"]))


def _known(clients: Sequence[str]) -> list[str]:
    of_clients = [
        f"by_client.{name}.{figure}"
        for name in clients
        for figure in ("slo_attainment", *(f"{time}.{one}" for time in _OF_CLIENT for one in _STATISTICS))
    ]
    return [*FIGURES, "slo_attainment", *of_clients]


def _hint(figure: str, known: Sequence[str], clients: Sequence[str]) -> str:
    time, _, rest = figure.partition(".")
    if time in TIMES:
        return f"of {time} there are {', '.join(_STATISTICS)}"
    if time == "by_client" and not any(rest.startswith(f"{name}.") for name in clients):
        return f"classes of clients are {', '.join(clients)}" if clients else "the workload has no classes of clients"
    if near := difflib.get_close_matches(figure, known, 1):
        return f"did you mean {near[0]!r}?"
    others = [name for name in (*FIGURES, "slo_attainment") if "_s." not in name]
    return f"there are {', '.join(others)}; and {', '.join(TIMES)}, each with .{', .'.join(_STATISTICS)}"


def _bound(text: str, figure: str, number: str, unit: str) -> float:
    """In the unit of the figure."""
    is_time, is_share = "_s." in figure, figure.rpartition(".")[2] in _SHARES
    units = _UNITS if is_time else {"%": 0.01} if is_share else {}
    if unit and unit not in units:
        there = f"one of {', '.join(units)}, or none" if units else "none"
        raise ConfigError(f"--slo {text!r}: the unit {unit!r} is not one of {figure}: give {there}")
    try:
        bound = float(number) * units.get(unit, 1.0)
    except ValueError:
        raise ConfigError(f"--slo {text!r}: {number!r} is no number: give one, such as 0.2") from None
    if not 0 < bound < math.inf:
        raise ConfigError(f"--slo {text!r}: the limit {number} is not positive and finite: give a number above 0")
    return bound
