"""The figures of a summary, one by one: what several runs or sections say together, and how far they are apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any

import numpy as np

from simqueue.analysis.interval import Interval, interval
from simqueue.metrics import PERCENTILES, Sample, Stats, named, selected

Path = tuple[str, ...]
Summary = Mapping[str, Any]

TIMES = ("queueing_s", "service_s", "response_s", "ttft_s", "tpot_s", "itl_s", "transfer_s", "handover_s")
RATIOS = ("throughput_rps", "goodput_rps", "utilisation", "waiting.mean")
BATCHES = ("batch_size.mean_per_step", "batch_size.mean_per_request")
_STATISTICS = ("mean", *(f"p{percentile}" for percentile in PERCENTILES))
# What a precision can be asked of.
FIGURES = (*(f"{time}.{name}" for time in TIMES for name in _STATISTICS), *RATIOS, *BATCHES)

# Where excursions are counted (`simqueue.analysis.trust`), and all percentiles.
LEVELS = (0.5, 0.75, 0.9, 0.95, 0.99)

# Of all runs together.
_SUMS = frozenset(
    ("requests", "completed", "span_s", "steps", "dropped", "clipped", "sent", "preemptions", "recomputed_tokens")
)
# No estimates of what a longer run would find: sums, the most of so many, what was given or looked for apart from the
# run, and what is an estimate of an error itself.
_NO_ESTIMATES = frozenset(
    (
        *_SUMS,
        *("max", "replica_seconds", "saturation_rps", "saturation_by_part", "offered_rps"),
        *("prompt_clipped_share", "output_clipped_share", "backlog_growth_rps", "backlog_growth_se_rps"),
    )
)
# At load 1, the hardest case, one run in 100 is said to grow all the same (`simqueue.analysis.drift.Drift`).
_ERRS, _CLOSE = 0.01, 1e-6
# Dicts first: to ask whether something is any mapping takes ten times as long.
_MAPPINGS, _INNER = (dict, Mapping), (dict, list, Mapping)
_ROWS = {"by_client": "client", "by_replica": "replica"}


class Pooled(Mapping[str, Any]):
    """One summary of several runs: counts are sums, statistics are of all values together (the pooled quantile, in
    place of the mean of quantiles), ratios those of sums, the largest is that of all. See `_unstable` for that word.

    Each entry is made when it is first asked for: to look at one figure of long runs takes a fraction of all.

    Args:
        summaries: what each run's `simqueue.Result.summary` says.
        samples: what its statistics are taken of, in seconds.
        known: entries that are not of these runs.
    """

    def __init__(
        self,
        summaries: Sequence[Summary],
        samples: Sequence[Mapping[str, Sample]],
        known: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._summaries = summaries
        self.samples = {
            name: [one[name] for one in samples if name in one] for name in dict.fromkeys(chain.from_iterable(samples))
        }
        self._keys = dict.fromkeys(chain.from_iterable(summaries))
        self._made = dict(known)
        self._cuts: dict[str, list[float]] = {}

    def __getitem__(self, key: str) -> Any:
        if key not in self._keys:
            raise KeyError(key)
        if key not in self._made:
            self._made[key] = self._merged((key,), [one.get(key) for one in self._summaries])
        return self._made[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def cuts(self, name: str) -> list[float]:
        """Of all values of this sample, which has no weights, those at `LEVELS`, and the largest."""
        if name not in self._cuts:
            together = np.concatenate([sample.values for sample in self.samples[name]])
            self._cuts[name] = selected(together, (*LEVELS, 1.0))
        return self._cuts[name]

    def _merged(self, path: Path, nodes: Sequence[Any]) -> Any:
        """One node of what all of ``nodes`` are, each None where there is none."""
        there = [node for node in nodes if node is not None]
        if (name := ".".join(path)) in self.samples:
            return self._statistics(name)
        if not there or not isinstance(there[0], Mapping | list):
            return self._figure(path, nodes) if there else None
        inner = [{} if node is None else _named(node) for node in nodes]
        merged = {
            key: self._merged((*path, key), [node.get(key) for node in inner])
            for key in dict.fromkeys(chain.from_iterable(inner))
        }
        return list(merged.values()) if isinstance(there[0], list) else merged

    def _statistics(self, name: str) -> Stats | None:
        samples = self.samples[name]
        count = sum(len(sample.values) for sample in samples)
        if weights := [sample.weights for sample in samples if sample.weights is not None]:
            return Sample(np.concatenate([sample.values for sample in samples]), np.concatenate(weights)).stats()
        if not count:
            return None
        *cuts, most = self.cuts(name)
        total = math.fsum(float(np.sum(sample.values)) for sample in samples)
        return named(total / count, [cuts[LEVELS.index(p / 100)] for p in PERCENTILES], most)

    def _figure(self, path: Path, values: Sequence[Any]) -> Any:
        summaries, there = self._summaries, [value for value in values if value is not None]
        if path == ("unstable",):
            return _unstable(summaries)
        if path[-1] in _SUMS or path[0] == "outcomes":
            return sum(there)
        if not isinstance(there[0], float) or path[0].startswith("saturation") or len(set(there)) == 1:
            return max(there) if path[-1] == "max" else there[0]
        if path[-1] == "backlog_growth_se_rps":
            return math.sqrt(math.fsum(value**2 for value in there)) / len(there)
        kept = [(value, weight(path, one)) for value, one in zip(values, summaries, strict=True) if value is not None]
        total = math.fsum(share for _, share in kept)
        return math.fsum(value * share for value, share in kept) / total if total else math.nan


def _unstable(summaries: Sequence[Summary]) -> bool:
    """At load 1 and above the first run decides, which alone knows the saturation throughput. Below it, runs that say
    that the number in them grew are counted: are they more than chance would have it, in 99 of 100 cases?"""
    first, said = summaries[0], [bool(one["unstable"]) for one in summaries]
    if first["offered_rps"] > (1 - _CLOSE) * first["saturation_rps"]:
        return said[0]
    return sum(said) >= _by_chance(len(said))


def _by_chance(runs: int) -> int:
    """So many of them, or more, err in at most 1 of 100 cases: binomial."""
    count, probability = 0, 1.0
    while round(probability, 9) > _ERRS:
        probability -= math.comb(runs, count) * _ERRS**count * (1 - _ERRS) ** (runs - count)
        count += 1
    return count


def in_place(found: Mapping[Path, float], whole: Summary) -> dict[str, Any]:
    """What was found for some figures, in the shape of a summary."""
    tree: dict[str, Any] = {}
    for path, value in found.items():
        _put(tree, path, value)
    return _as_rows(tree, whole)


def interval_of(path: Path, value: float, parts: Sequence[Summary]) -> Interval:
    """Of one figure of the whole, from what the parts say."""
    values = [at(part, path) for part in parts]
    known = [math.nan if value is None else float(value) for value in values]
    return interval(known, value, [weight(path, part) for part in parts])


def estimates(whole: Summary) -> Iterator[tuple[Path, float]]:
    """``(place, value)`` of every figure that an interval belongs to: a mean, a percentile or a ratio."""
    for path, value in _leaves((), whole):
        if isinstance(value, float) and math.isfinite(value) and not _NO_ESTIMATES.intersection(path):
            yield path, value


def at(summary: Summary, path: Path) -> Any:
    """The figure at this place; None if it is not there."""
    node: Any = summary
    for key in path:
        node = _named(node).get(key) if isinstance(node, _INNER) else None
    return node


def weight(path: Path, summary: Summary) -> float:
    """How much a run says about a figure: the denominator of a ratio, or how many requests a statistic is of."""
    name, above = ".".join(path), at(summary, path[:2]) if path[0] in _ROWS else summary
    if above is None:
        return 0.0
    if name in RATIOS or path[-1] == "utilisation":
        return float(summary["span_s"])
    if name in BATCHES:
        steps = float(summary["steps"])
        return steps * summary["batch_size"]["mean_per_step"] if name == BATCHES[1] else steps
    return float(above["completed"] if "completed" in above and path[-1] != "slo_attainment" else above["requests"])


def _leaves(path: Path, node: Any) -> Iterator[tuple[Path, Any]]:
    if not isinstance(node, _INNER):
        yield path, node
        return
    for key, inner in _named(node).items():
        yield from _leaves((*path, key), inner)


def _named(node: Mapping[str, Any] | list[Any]) -> Mapping[str, Any]:
    """Rows by the name of their client or replica."""
    if isinstance(node, _MAPPINGS):
        return node
    return {str(next(row[key] for key in _ROWS.values() if key in row)): row for row in node}


def _put(tree: dict[str, Any], path: Path, value: float) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def _as_rows(tree: dict[str, Any], whole: Summary) -> dict[str, Any]:
    """Rows are rows again, each with its name, in the order of those of the whole."""
    for name in tree.keys() & _ROWS.keys():
        label = _ROWS[name]
        tree[name] = [{label: row[label], **tree[name].get(str(row[label]), {})} for row in whole[name]]
    return tree
