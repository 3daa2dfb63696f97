"""`Replicated`: what several independent runs of one scenario say together, and how far to believe it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simqueue.analysis.clusters import clusters
from simqueue.analysis.figures import Pooled, Summary, at, estimates, in_place
from simqueue.analysis.interval import LEVEL, Interval, interval, sections
from simqueue.analysis.server import AnyResult
from simqueue.analysis.student import student
from simqueue.analysis.trust import Excursions, Trust
from simqueue.analysis.warmup import Warmup, averaged
from simqueue.cluster.result import ClusterResult
from simqueue.errors import ConfigError
from simqueue.metrics import Sample

SECTIONS = 10
GAPS = "itl_s"
_NONE = Sample(np.empty(0))
_LOOKED_FOR = ("saturation_rps", "saturation_by_part")


class Precision(NamedTuple):
    """What is asked of intervals: half-widths of at most ``relative`` of the value, for every one of these figures, in
    at most so many replications, or as many requests in longer ones."""

    relative: float
    of: tuple[str, ...]
    max_replications: int


@dataclass(frozen=True)
class Part:
    """What one replication, or one section of a run, says.

    Attributes:
        summary: `simqueue.Result.summary`.
        samples: what its statistics are taken of, in seconds.
        response_s: float64 ``(requests,)`` by arrival, those of the warm-up too; NaN of who was not answered.
    """

    summary: Summary
    samples: dict[str, Sample]
    response_s: NDArray[np.float64]

    @classmethod
    def of(cls, result: AnyResult) -> Part:
        """Of the requests that figures are of."""
        unit = result.grid.ticks_per_s
        samples = {name: sample._replace(values=sample.values / unit) for name, sample in result.samples.items()}
        return cls(result.summary(), samples, response_of(result))

    def after(self, first: Part) -> Part:
        """The same, with what only the first runs look for: the saturation throughput."""
        known = {name: first.summary[name] for name in _LOOKED_FOR if name in first.summary}
        return replace(self, summary={**self.summary, **known})


def response_of(result: AnyResult) -> NDArray[np.float64]:
    """float64 ``(requests,)``: response times in seconds by arrival; NaN of who was not answered."""
    whole = result.cut(0)
    series = np.full(len(result.arrival), np.nan)
    series[whole.counted] = result.response[whole.counted] / result.grid.ticks_per_s
    return series


@dataclass(frozen=True)
class Replicated:
    """Several independent runs of one scenario, or one run in sections.

    Attributes:
        first: the first run, which is the one that `simqueue.simulate` gives with the scenario's own seed.
        parts: the replications or, where there is one only, its sections.
        replications: how many runs these are.
        warmup: how many requests are left out at the beginning of each, and whether that was found to be enough.
        series: float64 ``(requests,)`` of each run, or one that is averaged over them: response times by arrival.
        precision: what was asked of the intervals, if anything was.
        note: what else to know of them.
        short: the first runs, which ITL is of, where further ones have left it out.
    """

    first: AnyResult
    parts: Sequence[Part]
    replications: int
    warmup: Warmup
    series: Sequence[NDArray[np.float64]]
    precision: Precision | None = None
    note: str | None = None
    short: Replicated | None = None

    @cached_property
    def averaged_s(self) -> NDArray[np.float64]:
        """float64 ``(requests,)``: response times by arrival, averaged over the runs."""
        return averaged(self.series)

    @cached_property
    def figures(self) -> Summary:
        """Of all runs together, each made when it is first asked for; of a single run its `simqueue.Result.summary`."""
        return self.first.summary() if self.replications == 1 else self._pooled

    @cached_property
    def _pooled(self) -> Pooled:
        known = {GAPS: self.short.figures[GAPS]} if self.short else {}
        return Pooled([part.summary for part in self.parts], [part.samples for part in self.parts], known)

    def relative(self, figure: str) -> float:
        """The half-width of a figure (``response_s.p99``) over its value. Raises ConfigError if there is none."""
        path = tuple(figure.split("."))
        value = at(self.figures, path)
        if not isinstance(value, float):
            raise ConfigError(f"run: precision_of: these runs have no {figure}: name another figure")
        return self.interval(path).relative

    def interval(self, path: tuple[str, ...]) -> Interval:
        """Of the figure at this place of `figures`, which must be there."""
        if path not in self._intervals:
            self._intervals[path] = self._of(path)._trust.interval(path, at(self.figures, path))
        return self._intervals[path]

    def above(self, path: tuple[str, ...], bound_s: float, at_least: bool = False) -> tuple[Interval, float | None]:
        """Of the share of times above a bound (or at least that), in seconds, where the figure at this place is a
        statistic of them, and is there; and in how many clusters they are (`simqueue.analysis.clusters`) or, where they
        are more than half, those that are not; None where times have no order.

        The interval is that of a ratio (`simqueue.analysis.interval`), deviations as they are. By chance the parts may
        be nearer to each other than so few clusters can be. A Poisson number of clusters, of sizes that are geometric
        with this mean, adds up to something whose variance over its square is ``(2 - 1 / mean) / clusters`` (compound
        Poisson: ``E[size^2] / E[size]^2`` over the mean number), times the share of the others. The interval is as wide
        as that at least; where there are none of ``n``, ``3 / n`` wide, which n independent ones would be with 95 %."""
        of, name = self._of(path), ".".join(path[:-1])
        samples = [part.samples.get(name, _NONE) for part in of.parts]
        over, counts = zip(*(sample.above(bound_s, at_least) for sample in samples), strict=True)
        shares = [some / count if count else math.nan for some, count in zip(over, counts, strict=True)]
        told = interval(shares, sum(over) / sum(counts), counts, reciprocal=False)
        ordered, rare = all(sample.weights is None for sample in samples), min(told.value, 1 - told.value)
        if len(samples) == 1 or not rare:
            least = math.nan if len(samples) == 1 else 3 / sum(counts)
            return told._replace(half_width=least), 0.0 if ordered else None
        if not ordered:
            return told._replace(half_width=told.half_width * self.widening(path)), None
        found = clusters([sample.over(bound_s, at_least) == (rare == told.value) for sample in samples])
        spread = (2 / found - 1 / (rare * sum(counts))) * (1 - rare)
        least = student(len(samples) - 1, LEVEL) * rare * math.sqrt(spread)
        return told._replace(half_width=max(told.half_width, least)), found

    def widening(self, path: tuple[str, ...]) -> float:
        """By how much intervals of this figure are widened, since the runs are short (`Trust.widening`)."""
        return self._of(path)._trust.widening(path)

    def doubt(self, path: tuple[str, ...]) -> str | None:
        """Why the runs are too short to believe that interval; None if they are not."""
        short = self._of(path)._trust.too_short({path: self.interval(path)})
        return short[0]["reason"] if short else None

    @property
    def too_short(self) -> bool:
        """Whether the runs are too short to believe the intervals of what `precision` names."""
        return self.precision is not None and any(self.doubt(tuple(one.split("."))) for one in self.precision.of)

    def _of(self, path: tuple[str, ...]) -> Replicated:
        """The runs that this figure is of."""
        return self.short if self.short and path[0] == GAPS else self

    def save(self, folder: str | Path) -> None:
        """Write the tables of the first run, as `simqueue.Result.save` does, and in ``summary.json`` `summary`.

        Raises:
            OutputError: the folder holds something else or cannot be written; nothing is half-written.
        """
        self.first.save(folder, self.summary())

    @property
    def precise(self) -> bool:
        """Whether intervals are as narrow as was asked."""
        wanted = self.precision
        return wanted is None or all(self.relative(figure) <= wanted.relative for figure in wanted.of)

    def summary(self) -> dict[str, Any]:
        """`figures`, and last in ``half_width`` that of the 95 % interval of each in the same places; from how many
        ``replications`` or ``sections``; the ``warmup`` of each and whether it was found; under ``precision`` what was
        asked and reached; and in ``too_short`` for which figures the runs are too short to believe it, and why."""
        intervals = {path: self.interval(path) for path, _ in estimates(self.figures)}
        doubts = {".".join(path): self.doubt(path) for path in intervals}
        return {
            **self.figures,
            "half_width": in_place({path: found.half_width for path, found in intervals.items()}, self.figures),
            "level": LEVEL,
            "replications": self.replications,
            "sections": len(self.parts) if self.replications == 1 else None,
            "warmup": self.warmup.requests,
            "warmup_found": self.warmup.found,
            **({"precision": self._reached()} if self.precision else {}),
            "too_short": [{"figure": figure, "reason": reason} for figure, reason in doubts.items() if reason],
            "note": self.note,
        }

    @cached_property
    def _intervals(self) -> dict[tuple[str, ...], Interval]:
        """Those that were asked for."""
        return {}

    @cached_property
    def _trust(self) -> Trust:
        excursions = partial(_excursions, self._pooled, len(self.parts), self.replications > 1)
        return Trust(self.figures, [part.summary for part in self.parts], cache(excursions), self.warmup)

    def _reached(self) -> dict[str, Any]:
        assert self.precision is not None
        found = {figure: self.relative(figure) for figure in self.precision.of}
        return {"asked": self.precision.relative, "reached": self.precise, "relative_half_width": found}


def _excursions(pooled: Pooled, parts: int, replicated: bool, name: str) -> Excursions | None:
    """Of these times of requests; sections are one run after all."""
    runs = [sample.values for sample in pooled.samples.get(name, ()) if sample.weights is None]
    if not sum(map(len, runs)):
        return None
    *levels, _ = pooled.cuts(name)
    return Excursions.of(runs if replicated else [np.concatenate(runs)], levels, parts)


def sectioned(result: AnyResult) -> list[Part]:
    """A run after its warm-up as `SECTIONS` parts by arrival, each up to the arrival of the next one's first request;
    as one part where it is too short for that."""
    requests = len(result.arrival)
    cuts = sections(result.warmup, requests, SECTIONS)
    counted = np.arange(requests)[result.counted]
    in_each = np.diff(np.searchsorted(counted, [begin for begin, _ in cuts] + [requests]))
    begins = result.arrival[[min(begin, requests - 1) for begin, _ in cuts]]
    if not in_each.all() or not np.diff(begins).all():
        return [Part.of(result)]
    parts = [Part.of(result.cut(begin, end if end < requests else None)) for begin, end in cuts]
    if isinstance(result, ClusterResult) and len(result.ready) > 1:
        # Where replicas come and go utilisation is that of the whole run, whatever is cut out of it.
        return [replace(part, summary={**part.summary, "utilisation": math.nan}) for part in parts]
    return parts
