"""Limits of figures, as they are written: ``ttft_s.p99 <= 200ms``."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from simqueue.analysis.figures import FIGURES, TIMES, Path
from simqueue.analysis.interval import Interval
from simqueue.analysis.replicated import Replicated
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
# Found by trying: docs/capacity.md.
_CLUSTERS = 30
_FARTHEST_ODDS = 20.0
_LEAST = 1e-300


class Told(NamedTuple):
    """What tells whether a limit is kept.

    Attributes:
        of: the figure itself or, of a percentile, the share of times above the bound.
        clusters: of those times, in how many they are at most where the limit is reached; None of all else.
    """

    of: Interval
    clusters: float | None = None

    @property
    def few(self) -> bool:
        """Whether these are too few to say how much they vary."""
        return self.clusters is not None and self.clusters < _CLUSTERS


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

    @property
    def share(self) -> float | None:
        """Of a percentile, how many times may be above the bound; None of all else.

        A percentile is at most a bound if no more are above it, and that is what can be told well: where the percentile
        is at a knee, as TTFT where all seats get taken, its intervals are far too narrow or too wide, while the share
        goes on as before."""
        statistic = self.path[-1]
        return (100 - int(statistic[1:])) / 100 if statistic[1:].isdigit() else None

    def told_by(self, found: Replicated) -> Told:
        """What runs say of the limit."""
        if self.share is None:
            return Told(found.interval(self.path))
        share, clusters = found.above(self.path, self.bound, at_least=not self.at_most)
        if clusters is None:
            return Told(share)
        # As many as there are where the limit is reached, which is what intervals are asked of.
        return Told(share, clusters * min(1.0, self.share / max(share.value, _LEAST)))

    def margin(self, told: float) -> float:
        """How far from its limit that is, on the right side if this is positive: the logarithm of their ratio, at most
        that of 20 to either side; of shares above a bound that of the ratio of their odds, which may be farther away on
        the wrong side, where many tell it."""
        return self.margin_of_figure(told) if self.share is None else self._near(self._by_odds(told))

    def margin_of_figure(self, value: float) -> float:
        """The same of the figure itself."""
        ratio = self.bound / max(value, _LEAST) if self.at_most else max(value, _LEAST) / self.bound
        return min(_FARTHEST, max(-_FARTHEST, math.log(ratio)))

    def worst(self, told: Interval) -> float:
        """The margin of the end of an interval that is nearer to being over the limit; as far as can be if it has
        none."""
        return self._end(told, -1)

    def best(self, told: Interval) -> float:
        """The margin of the other end; log 20 if it has no end."""
        return self._end(told, 1)

    def _end(self, told: Interval, side: int) -> float:
        value, half = told
        if not math.isfinite(half):
            return self._near(side * math.inf)
        end = value - side * half if self.at_most else value + side * half
        if self.share is None:
            return self.margin_of_figure(end)
        if not 0 < value < 1:
            return self._near(self._by_odds(min(max(end, 0.0), 1.0)))
        # By the delta method: log odds of shares are nearly normal, and shares of what is rare are not.
        return self._near(self._by_odds(value) + side * half / (value * (1 - value)))

    def _by_odds(self, told: float) -> float:
        assert self.share is not None
        away = _log_odds(self.share) - _log_odds(told)
        return away if self.at_most else -away

    def _near(self, margin: float) -> float:
        farthest = _FARTHEST if self.share is None else _FARTHEST_ODDS
        return min(_FARTHEST, max(-farthest, margin))


def _log_odds(share: float) -> float:
    return math.log(max(share, _LEAST) / max(1 - share, _LEAST))


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
