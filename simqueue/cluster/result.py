"""`ClusterResult`: what came out of a run of a cluster, as columns, and the figures of merit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from simqueue import metrics
from simqueue.cluster.files import LEAP_FIELDS, write
from simqueue.cluster.share import Share
from simqueue.cluster.tries import Tries
from simqueue.fates import outcome_counts, outcome_names
from simqueue.record import Column
from simqueue.times import Times
from simqueue.units import Grid
from simqueue.workload import Workload

_TICKS = ("arrival", "scheduled", "first_token", "finished")
_TIMES = ("queueing", "service", "response", "ttft")


@dataclass(frozen=True)
class ClusterResult(Times):
    """One run. Times are ticks of ``grid``; the id of a request is its row in ``workload``.

    Attributes:
        workload: what arrived at the router.
        grid: the time grid of all replicas.
        replicas: how many there are.
        arrival, scheduled, first_token, finished: int64 ``(requests,)``, as in `simqueue.Result`.
        replica: int64 ``(requests,)``: which replica served it (last).
        outcome: int64 ``(requests,)``: what became of it: its number in `simqueue.fates.OUTCOMES`.
        sent: int64 ``(requests,)``: how often it was sent to a replica: once, unless one failed.
        shares: of every replica that served anybody, its requests as a `simqueue.Result` of their own; one for each
            time that it had come back.
        warmup: the first so many requests by arrival are left out of every figure.
        ready: int64 ``(changes, 2)``: since when how many replicas took requests.
        replica_ticks: for how long replicas were there, all together: each from its start (where they are scaled, from
            the decision to start it) to the last answer of all, or to its own if it was drained.
        saturation_rps: makes the saturation throughput of all replicas together, in requests per second.
        provenance: what was run, in JSON's types.
    """

    workload: Workload
    grid: Grid
    replicas: int
    arrival: Column
    scheduled: Column
    first_token: Column
    finished: Column
    replica: Column
    outcome: Column
    sent: Column
    shares: Sequence[Share] = field(repr=False)
    warmup: int
    ready: Column = field(repr=False)
    replica_ticks: int
    saturation_rps: Callable[[], float] = field(repr=False)
    provenance: Mapping[str, Any] = field(repr=False)
    until: int | None = None

    @classmethod
    def of(
        cls,
        workload: Workload,
        grid: Grid,
        arrival: Column,
        replicas: int,
        shares: Sequence[Share],
        warmup: int,
        ready: Column,
        replica_ticks: int | None,
        saturation_rps: Callable[[], float],
        provenance: Mapping[str, Any],
    ) -> Self:
        """Put the shares together, in the order of the workload."""
        tries = Tries.of(shares)
        if replica_ticks is None:
            replica_ticks = replicas * int(tries.last("end").max())
        return cls(
            workload=workload,
            grid=grid,
            replicas=replicas,
            arrival=arrival,
            scheduled=tries.scheduled,
            first_token=tries.first_token(workload.prompt_tokens),
            finished=tries.last("finished"),
            replica=tries.last("replica"),
            outcome=tries.last("outcome"),
            sent=tries.count,
            shares=shares,
            warmup=warmup,
            ready=ready,
            replica_ticks=replica_ticks,
            saturation_rps=saturation_rps,
            provenance=provenance,
        )

    # Figures.

    def summary(self) -> dict[str, Any]:
        """Figures of merit of the requests after the warm-up: those of `simqueue.Result.summary` for all replicas
        together, and in ``by_replica`` a row for each. Utilisation is their mean; where replicas come and go it is the
        share of the time in which they were there, in the whole run, and the imbalance is of those who served
        anybody."""
        by_replica = self.by_replica()
        changes = len(self.ready) > 1
        utilisation = self._busy_share if changes else float(np.mean([row["utilisation"] for row in by_replica]))
        served = [row["requests"] for row in by_replica if row["requests"] or not changes]
        return {
            **self.figures(utilisation, *self._row_steps()),
            "replicas": self.replicas,
            "replica_seconds": self.replica_ticks / self.grid.ticks_per_s,
            "imbalance": imbalance(served),
            "by_replica": by_replica,
            **self._fates(),
        }

    def _fates(self) -> dict[str, Any]:
        """What else happened to requests, where something could: sums over the replicas."""
        fates = [(share.result, share.result.fates) for share in self.shares if share.result.fates is not None]
        if not fates:
            return {}
        sums = {
            name: sum(int(getattr(fate, name)[result.counted].sum()) for result, fate in fates)
            for name in ("preemptions", "recomputed_tokens", "cached_tokens")
        }
        hits = sums.pop("cached_tokens") / int(self.workload.prompt_tokens[self.counted].sum())
        outcomes, sent = outcome_counts(self.outcome[self.came]), int(self.sent[self.came].sum())
        return {"outcomes": outcomes, "sent": sent, **sums, "prefix_hit_rate": hits}

    def by_replica(self) -> list[dict[str, Any]]:
        """By replica: requests counted, utilisation over the time in which any were counted, and mean times."""
        rows = self.counted[np.argsort(self.replica[self.counted], kind="stable")]
        bounds = np.searchsorted(self.replica[rows], np.arange(self.replicas + 1))
        busy = np.zeros(self.replicas)
        for share in self.shares:
            busy[share.replica] += metrics.busy(share.result.leaps, *self.window)
        return [self._row(i, rows[begin:end], float(busy[i])) for i, (begin, end) in enumerate(pairwise(bounds))]

    def _row(self, replica: int, kept: Column, busy: float) -> dict[str, Any]:
        row: dict[str, Any] = {"replica": replica, "requests": len(kept), "utilisation": busy}
        for name in ("queueing", "response", "ttft"):
            stats = metrics.stats(getattr(self, name)[kept], float(self.grid.ticks_per_s))
            row[f"{name}_s"] = stats["mean"] if stats else None
        return row

    @cached_property
    def counted(self) -> NDArray[np.intp]:
        """The requests that figures are of."""
        return self.warmup + np.flatnonzero(self.completed[self.came])

    @property
    def completed(self) -> NDArray[np.bool_]:
        """bool ``(requests,)``: whether each was answered whole; figures are of those that were."""
        return np.asarray(self.outcome == 0)

    @property
    def _busy_share(self) -> float:
        return sum(int(share.result.leaps["total"].sum()) for share in self.shares) / self.replica_ticks

    def _row_steps(self) -> tuple[Column, Column]:
        """Of every leap that begins in the window, the rows and how many steps."""
        leaps = [share.result.leaps for share in self.shares]
        starts, steps = (np.concatenate([leap[name] for leap in leaps]) for name in ("start", "steps"))
        rows, begun = np.concatenate([leap["rows"] + leap["prefill_rows"] for leap in leaps]), self.begun(starts)
        return rows[begun], steps[begun]

    @property
    def one_by_one(self) -> NDArray[np.bool_]:
        """By the replica that served it. (Of an answer that went on elsewhere the way there is a part of TPOT.)"""
        one_by_one = np.ones(self.replicas, bool)
        one_by_one[[share.replica for share in self.shares]] = [share.result.one_by_one for share in self.shares]
        return one_by_one[self.replica]

    @cached_property
    def samples(self) -> dict[str, metrics.Sample]:
        """See `Times.samples`."""
        samples, results = super().samples, [share.result for share in self.shares]
        pooled = [pair for one in results if (pair := one.gaps(np.arange(len(one.arrival))[one.counted]))]
        if pooled:
            samples["itl_s"] = metrics.Sample(*(np.concatenate(columns) for columns in zip(*pooled, strict=True)))
        return samples

    def cut(self, warmup: int, until: int | None = None) -> Self:
        """See `Times.cut`."""
        return replace(self, warmup=warmup, until=until, shares=[share.cut(warmup, until) for share in self.shares])

    # Tables.

    def requests(self) -> dict[str, NDArray[Any]]:
        """One row a request: seconds, tokens, its replica, the exact ticks, and the workload's further columns."""
        seconds = {
            "arrival_s": self.workload.arrival_s,
            **{f"{name}_s": self.grid.seconds(getattr(self, name)) for name in _TIMES},
        }
        tokens = {"prompt_tokens": self.workload.prompt_tokens, "output_tokens": self.workload.output_tokens}
        served = {
            "replica": self.replica,
            "sent": self.sent,
            "completed": self.completed,
            "outcome": outcome_names(self.outcome),
        }
        ticks = {f"{name}_ticks": getattr(self, name) for name in _TICKS}
        own: dict[str, NDArray[Any]] = {"request_id": np.arange(len(self.arrival))}
        return self.with_extra(own | {**seconds, **tokens, **served, **ticks})

    def save(self, folder: str | Path, summary: Mapping[str, Any] | None = None) -> None:
        """Write ``requests.parquet``, ``steps.parquet`` (one row a leap of a replica) and ``summary.json``.

        Raises:
            OutputError: the folder holds something else or cannot be written; nothing is half-written.
        """
        steps = {name: np.concatenate([share.result.leaps[name] for share in self.shares]) for name in LEAP_FIELDS}
        replica = [np.full(len(share.result.leaps["start"]), share.replica) for share in self.shares]
        figures = self.summary() if summary is None else summary
        about = {"provenance": self.provenance}
        write(Path(folder), self.requests(), {"replica": np.concatenate(replica), **steps}, {**figures, **about})


def imbalance(by_replica: Sequence[float]) -> float:
    """The largest over the mean: 1 where all are equal, their number where one has it all."""
    return float(max(by_replica) / np.mean(by_replica))
