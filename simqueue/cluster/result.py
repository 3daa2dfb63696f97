"""`ClusterResult`: what came out of a run of a cluster, as columns, and the figures of merit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from simqueue import metrics
from simqueue.cluster.files import LEAP_FIELDS, write
from simqueue.cluster.share import Share
from simqueue.cluster.tries import Tries
from simqueue.record import Column
from simqueue.units import Grid
from simqueue.workload import Workload

_TICKS = ("arrival", "scheduled", "first_token", "finished")
_TIMES = ("queueing", "service", "response", "ttft")


@dataclass(frozen=True)
class ClusterResult:
    """One run. Times are ticks of ``grid``; the id of a request is its row in ``workload``.

    Attributes:
        workload: what arrived at the router.
        grid: the time grid of all replicas.
        replicas: how many there are.
        arrival, scheduled, first_token, finished: int64 ``(requests,)``, as in `simqueue.Result`.
        replica: int64 ``(requests,)``: which replica served it (last).
        completed: bool ``(requests,)``: whether it was answered whole; figures are of those that were.
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
    completed: NDArray[np.bool_]
    sent: Column
    shares: Sequence[Share] = field(repr=False)
    warmup: int
    ready: Column = field(repr=False)
    replica_ticks: int
    saturation_rps: Callable[[], float] = field(repr=False)
    provenance: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(
        cls,
        workload: Workload,
        grid: Grid,
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
            arrival=grid.column(workload.arrival_s),
            scheduled=tries.scheduled,
            first_token=tries.first_token(workload.prompt_tokens),
            finished=tries.last("finished"),
            replica=tries.last("replica"),
            completed=tries.last("completed") > 0,
            sent=tries.count,
            shares=shares,
            warmup=warmup,
            ready=ready,
            replica_ticks=replica_ticks,
            saturation_rps=saturation_rps,
            provenance=provenance,
        )

    # Ticks, per request.

    @property
    def queueing(self) -> Column:
        """First scheduled - arrival."""
        return self.scheduled - self.arrival

    @property
    def service(self) -> Column:
        """Finished - first scheduled."""
        return self.finished - self.scheduled

    @property
    def response(self) -> Column:
        """Finished - arrival: queueing + service, exactly."""
        return self.finished - self.arrival

    @property
    def ttft(self) -> Column:
        """First token - arrival."""
        return self.first_token - self.arrival

    # Figures.

    @cached_property
    def unstable(self) -> bool:
        """Whether the offered load is at or above the saturation throughput of all replicas together. One that gets
        more than its part may have no steady state all the same."""
        return bool(self.workload.rate >= self.saturation_rps() * (1 - 1e-9))

    def summary(self) -> dict[str, Any]:
        """Figures of merit of the requests after the warm-up: those of `simqueue.Result.summary` for all replicas
        together (utilisation is their mean), and in ``by_replica`` a row for each."""
        counted, unit, (start, end) = self._counted, float(self.grid.ticks_per_s), self._window
        times = {f"{name}_s": getattr(self, name)[counted] for name in _TIMES}
        _, waiting = metrics.waiting_over_time(self.arrival[counted], self.scheduled[counted], self.grid)
        by_replica = self.by_replica()
        meta = self.workload.meta
        return {
            "requests": len(counted),
            "replicas": self.replicas,
            "unstable": self.unstable,
            "throughput_rps": len(counted) * unit / (end - start),
            "utilisation": float(np.mean([row["utilisation"] for row in by_replica])),
            "batch_size": self._batch_size(start),
            **{name: metrics.stats(ticks, unit) for name, ticks in times.items()},
            "tpot_s": self._tpot(unit),
            "itl_s": self._itl(unit),
            "waiting": {
                "mean": float(self.queueing[counted].sum(dtype=np.float64) / (end - start)),
                "max": int(waiting.max()),
            },
            "saturation_rps": self.saturation_rps(),
            "offered_rps": self.workload.rate,
            "users": None,
            "replica_seconds": self.replica_ticks / unit,
            "imbalance": imbalance([row["requests"] for row in by_replica]),
            "by_replica": by_replica,
            **{key: meta[key] for key in ("dropped", "clipped", "prompt_clipped_share", "output_clipped_share")},
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
        hits = sums.pop("cached_tokens") / int(self.workload.prompt_tokens[self._counted].sum())
        lost = int((~self.completed[self.warmup :]).sum())
        outcomes = {"completed": len(self._counted), "not completed": lost}
        return {"outcomes": outcomes, "sent": int(self.sent[self.warmup :].sum()), **sums, "prefix_hit_rate": hits}

    def by_replica(self) -> list[dict[str, Any]]:
        """By replica: requests counted, utilisation over the time in which any were counted, and mean times."""
        return [self._row(replica) for replica in range(self.replicas)]

    def _row(self, replica: int) -> dict[str, Any]:
        kept = self._counted[self.replica[self._counted] == replica]
        row: dict[str, Any] = {"replica": replica, "requests": len(kept), "utilisation": self._busy(replica)}
        for name in ("queueing", "response", "ttft"):
            stats = metrics.stats(getattr(self, name)[kept], float(self.grid.ticks_per_s))
            row[f"{name}_s"] = stats["mean"] if stats else None
        return row

    @cached_property
    def _window(self) -> tuple[int, int]:
        """From the first counted arrival to the last answer."""
        return int(self.arrival[self._counted].min()), int(self.finished[self._counted].max())

    @cached_property
    def _counted(self) -> Column:
        """The requests that figures are of."""
        return self.warmup + np.flatnonzero(self.completed[self.warmup :])

    def _busy(self, replica: int) -> float:
        mine = (share.result.leaps for share in self.shares if share.replica == replica)
        return sum(metrics.busy(leaps, *self._window) for leaps in mine)

    def _batch_size(self, start: int) -> dict[str, float]:
        leaps = [share.result.leaps for share in self.shares]
        begun, steps = (np.concatenate([leap[name] for leap in leaps]) for name in ("start", "steps"))
        rows = np.concatenate([leap["rows"] + leap["prefill_rows"] for leap in leaps])
        return metrics.batch_sizes(rows[begun >= start], steps[begun >= start])

    @property
    def tpot(self) -> NDArray[np.float64]:
        """As in `simqueue.Result`; of an answer that went on elsewhere the way there is a part of it."""
        gaps = self.workload.output_tokens - 1
        with_batch = np.zeros(self.replicas, bool)
        with_batch[[share.replica for share in self.shares]] = [share.result.with_batch for share in self.shares]
        tpot = np.full(len(gaps), np.nan)
        np.divide(self.finished - self.first_token, gaps, out=tpot, where=(gaps > 0) & ~with_batch[self.replica])
        return tpot

    def _tpot(self, unit: float) -> metrics.Stats | None:
        tpot = self.tpot[self._counted]
        return metrics.stats(tpot[~np.isnan(tpot)], unit)

    def _itl(self, unit: float) -> metrics.Stats | None:
        results = [share.result for share in self.shares]
        pooled = [pair for one in results if (pair := one.gaps(np.arange(len(one.arrival))[one.counted]))]
        if not pooled:
            return None
        gaps, weights = (np.concatenate(columns) for columns in zip(*pooled, strict=True))
        return metrics.weighted_stats(gaps, weights, unit)

    # Tables.

    def requests(self) -> dict[str, NDArray[Any]]:
        """One row a request: seconds, tokens, its replica, the exact ticks, and the workload's further columns."""
        seconds = {
            "arrival_s": self.workload.arrival_s,
            **{f"{name}_s": self.grid.seconds(getattr(self, name)) for name in _TIMES},
        }
        tokens = {"prompt_tokens": self.workload.prompt_tokens, "output_tokens": self.workload.output_tokens}
        served = {"replica": self.replica, "sent": self.sent}
        ticks = {f"{name}_ticks": getattr(self, name) for name in _TICKS}
        own: dict[str, NDArray[Any]] = {"request_id": np.arange(len(self.arrival))}
        own |= {**seconds, **tokens, **served, "completed": self.completed, **ticks}
        extra = self.workload.extra
        return {**own, **{f"{name}_given" if name in own else name: column for name, column in extra.items()}}

    def save(self, folder: str | Path) -> None:
        """Write ``requests.parquet``, ``steps.parquet`` (one row a leap of a replica) and ``summary.json``.

        Raises:
            OutputError: the folder holds something else or cannot be written; nothing is half-written.
        """
        steps = {name: np.concatenate([share.result.leaps[name] for share in self.shares]) for name in LEAP_FIELDS}
        replica = [np.full(len(share.result.leaps["start"]), share.replica) for share in self.shares]
        summary = {**self.summary(), "provenance": self.provenance}
        write(Path(folder), self.requests(), {"replica": np.concatenate(replica), **steps}, summary)


def imbalance(by_replica: Sequence[float]) -> float:
    """The largest over the mean: 1 where all are equal, their number where one has it all."""
    return float(max(by_replica) / np.mean(by_replica))
