"""`DisaggregatedResult`: what came out of replicas that prefill and replicas that decode, put together by request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from simqueue import metrics
from simqueue.cluster.files import LEAP_FIELDS, write
from simqueue.cluster.result import ClusterResult, imbalance
from simqueue.cluster.share import Share
from simqueue.fates import outcome_counts, outcome_names
from simqueue.record import Column
from simqueue.times import Times
from simqueue.units import INT64_MAX, Grid
from simqueue.workload import Workload

_TIMES = ("queueing", "service", "response", "ttft")
_TICKS = ("arrival", "scheduled", "first_token", "handed_over", "resumed", "finished")


@dataclass(frozen=True)
class DisaggregatedResult(Times):
    """One run. Times are ticks of ``grid``; the id of a request is its row in ``workload``.

    Attributes:
        workload: what arrived at the router of those who prefill.
        grid: the finer one of those of the two pools.
        prefill: what those who prefill did; its answers are one token long.
        decode: what those who decode did; None if no answer was longer. A prompt there has the first token too.
        rows: int64 ``(requests that were decoded,)``: their rows in ``workload``, in order of their coming there.
        arrival, scheduled, first_token, finished: int64 ``(requests,)``, as in `simqueue.Result`.
        handed_over, resumed: int64 ``(requests,)``: when the cache was with those who decode, and when one of them had
            a seat for the request; its last instant with those who prefill where nobody decodes.
        outcome: int64 ``(requests,)``: numbers of `simqueue.fates.OUTCOMES`; figures are of who was answered whole.
        warmup: the first so many requests by arrival are left out of every figure.
        saturation: makes by part (``prefill``, ``transfer``, ``decode``) the requests per second that it gets through.
    """

    workload: Workload
    grid: Grid
    prefill: ClusterResult = field(repr=False)
    decode: ClusterResult | None = field(repr=False)
    rows: Column = field(repr=False)
    arrival: Column
    scheduled: Column
    first_token: Column
    handed_over: Column
    resumed: Column
    finished: Column
    outcome: Column
    warmup: int
    saturation: Callable[[], Mapping[str, float]] = field(repr=False)
    until: int | None = None

    @classmethod
    def of(
        cls,
        workload: Workload,
        prefill: ClusterResult,
        decode: ClusterResult | None,
        rows: Column,
        warmup: int,
        saturation: Callable[[], Mapping[str, float]],
    ) -> Self:
        """Put the pools together. Raises OverflowError if a run is too long for the finer grid."""
        grid = max((one.grid for one in (prefill, decode) if one), key=lambda grid: grid.ticks_per_s)
        end = _on(grid, prefill, "finished")
        handed_over, resumed, finished, outcome = end.copy(), end.copy(), end.copy(), prefill.outcome.copy()
        if decode:
            handed_over[rows], resumed[rows] = (_on(grid, decode, name) for name in ("arrival", "scheduled"))
            finished[rows], outcome[rows] = _on(grid, decode, "finished"), decode.outcome
        return cls(
            workload=workload,
            grid=grid,
            prefill=prefill,
            decode=decode,
            rows=rows,
            arrival=_on(grid, prefill, "arrival"),
            scheduled=_on(grid, prefill, "scheduled"),
            first_token=_on(grid, prefill, "first_token"),
            handed_over=handed_over,
            resumed=resumed,
            finished=finished,
            outcome=outcome,
            warmup=warmup,
            saturation=saturation,
        )

    # Figures.

    def saturation_rps(self) -> float:
        """That of the narrowest part, in requests per second."""
        return min(self.saturation().values())

    def summary(self) -> dict[str, Any]:
        """Figures of merit of the requests after the warm-up: those of `simqueue.Result.summary` for all replicas
        together; ``handover_s``, from the first token's leaving to a seat with those who decode, of which
        ``transfer_s`` is the way there; and what each replica did."""
        by_pool = [self._rows_of(*pool) for pool in self._pools]
        by_replica = [row for rows in by_pool for row in rows]
        utilisation = float(np.mean([row["utilisation"] for row in by_replica]))
        return {
            **self.figures(utilisation, *self._row_steps()),
            "transfer_s": self.stats("transfer_s"),
            "handover_s": self.stats("handover_s"),
            "saturation_by_part": {part: rps for part, rps in self.saturation().items() if np.isfinite(rps)},
            "replicas": len(by_replica),
            "replica_seconds": sum(pool.replica_ticks / pool.grid.ticks_per_s for _, pool in self._pools),
            "imbalance": max(imbalance([row["requests"] for row in rows]) for rows in by_pool),
            "by_replica": by_replica,
            **self._fates(),
        }

    def _fates(self) -> dict[str, Any]:
        """What else happened to requests, where something could: sums over all replicas."""
        known = [(share.result.fates, np.isin(rows, self.counted)) for _, share, rows, _ in self._shares()]
        fates = [(fate, counted) for fate, counted in known if fate is not None]
        if not fates:
            return {}
        names = ("preemptions", "recomputed_tokens", "cached_tokens")
        sums = {name: sum(int(getattr(fate, name)[counted].sum()) for fate, counted in fates) for name in names}
        hits = sums.pop("cached_tokens") / int(self.workload.prompt_tokens[self.counted].sum())
        return {"outcomes": outcome_counts(self.outcome[self.came]), **sums, "prefix_hit_rate": hits}

    @property
    def _pools(self) -> list[tuple[str, ClusterResult]]:
        return [("prefill", self.prefill), *([("decode", self.decode)] if self.decode else [])]

    @cached_property
    def counted(self) -> NDArray[np.intp]:
        """The requests that figures are of."""
        return self.warmup + np.flatnonzero(self.outcome[self.came] == 0)

    @cached_property
    def _left(self) -> Column:
        """When the first token left those who prefill."""
        left = np.empty_like(self.finished)
        for share in self.prefill.shares:
            left[share.rows] = share.result.finished - share.result.delivery
        return left * (self.grid.ticks_per_s // self.prefill.grid.ticks_per_s)

    def _shares(self) -> Iterator[tuple[str, Share, Column, int]]:
        """Pool, what a replica of it did, of which rows of the workload, and how many ticks of ours are one of its."""
        for name, pool in self._pools:
            for share in pool.shares:
                rows = share.rows if pool is self.prefill else self.rows[share.rows]
                yield name, share, rows, self.grid.ticks_per_s // pool.grid.ticks_per_s

    def _rows_of(self, name: str, pool: ClusterResult) -> list[dict[str, Any]]:
        """By replica: requests counted, and the busy share of the time in which any were counted."""
        start, end = self.window
        requests, busy = np.zeros(pool.replicas, np.int64), np.zeros(pool.replicas)
        for of, share, rows, ticks in self._shares():
            if of == name:
                requests[share.replica] += np.isin(rows, self.counted).sum()
                busy[share.replica] += metrics.busy(share.result.leaps, start // ticks, end // ticks)
        return [
            {"replica": f"{name} {number}", "requests": int(requests[number]), "utilisation": float(busy[number])}
            for number in range(pool.replicas)
        ]

    def _row_steps(self) -> tuple[Column, Column]:
        """Of every leap that begins in the window, the rows and how many steps."""
        leaps = [(share.result.leaps, ticks) for _, share, _, ticks in self._shares()]
        kept = [(leap, self.begun(leap["start"] * ticks)) for leap, ticks in leaps]
        rows = np.concatenate([(leap["rows"] + leap["prefill_rows"])[begun] for leap, begun in kept])
        return rows, np.concatenate([leap["steps"][begun] for leap, begun in kept])

    @cached_property
    def samples(self) -> dict[str, metrics.Sample]:
        """See `Times.samples`."""
        decoded = np.intersect1d(self.counted, self.rows)
        left = self._left[decoded]
        samples = super().samples
        samples["transfer_s"] = metrics.Sample(self.handed_over[decoded] - left)
        samples["handover_s"] = metrics.Sample(self.resumed[decoded] - left)
        if self.decode:
            samples["itl_s"] = self._gaps(self.decode)
        return samples

    def _gaps(self, decode: ClusterResult) -> metrics.Sample:
        """The gap between the first token and the second, and those among who decode."""
        counted = self.counted
        second = np.flatnonzero(np.isin(self.rows, counted))
        rows = self.rows[second]
        between = _on(self.grid, decode, "first_token")[second] - self.first_token[rows]
        pooled = [(between, np.ones_like(between))]
        for name, share, requests, ticks in self._shares():
            pair = share.result.gaps(np.flatnonzero(np.isin(requests, counted))) if name == "decode" else None
            if pair:
                pooled.append((pair[0] * ticks, pair[1]))
        return metrics.Sample(*(np.concatenate(columns) for columns in zip(*pooled, strict=True)))

    # Tables.

    def requests(self) -> dict[str, NDArray[Any]]:
        """One row a request: seconds, tokens, its replicas (-1 where nobody decodes), the exact ticks, and the
        workload's further columns."""
        seconds = {
            "arrival_s": self.workload.arrival_s,
            **{f"{name}_s": self.grid.seconds(getattr(self, name)) for name in _TIMES},
            "tpot_s": self.tpot / self.grid.ticks_per_s,
        }
        tokens = {"prompt_tokens": self.workload.prompt_tokens, "output_tokens": self.workload.output_tokens}
        replica = {"prefill_replica": self.prefill.replica, "decode_replica": np.full(len(self.arrival), -1)}
        if self.decode:
            replica["decode_replica"][self.rows] = self.decode.replica
        ticks = {f"{name}_ticks": getattr(self, name) for name in _TICKS}
        own: dict[str, NDArray[Any]] = {"request_id": np.arange(len(self.arrival))}
        own |= {**seconds, **tokens, **replica, "outcome": outcome_names(self.outcome), **ticks}
        return self.with_extra(own)

    def save(self, folder: str | Path, summary: Mapping[str, Any] | None = None) -> None:
        """Write ``requests.parquet``, ``steps.parquet`` (one row a leap of a replica, in ticks of its own pool's grid)
        and ``summary.json``.

        Raises:
            OutputError: the folder holds something else or cannot be written; nothing is half-written.
        """
        shares = [(name, share) for name, share, _, _ in self._shares()]
        steps = {name: np.concatenate([share.result.leaps[name] for _, share in shares]) for name in LEAP_FIELDS}
        count = [len(share.result.leaps["start"]) for _, share in shares]
        where = {
            "pool": np.repeat(np.array([name for name, _ in shares], object), count),
            "replica": np.repeat([share.replica for _, share in shares], count),
        }
        figures = self.summary() if summary is None else summary
        about = {"provenance": {name: pool.provenance for name, pool in self._pools}}
        write(Path(folder), self.requests(), {**where, **steps}, {**figures, **about})


def _on(grid: Grid, pool: ClusterResult, name: str) -> Column:
    """A column of a pool on a grid that is as fine or finer. Raises OverflowError where it does not fit."""
    factor, column = grid.ticks_per_s // pool.grid.ticks_per_s, getattr(pool, name)
    if int(column.max()) * factor > INT64_MAX:
        raise OverflowError
    return np.asarray(column * factor)
