"""`Result`: what came out of a run, as columns, and the figures of merit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from simqueue import metrics
from simqueue.fates import Fates, outcome_counts
from simqueue.record import Column
from simqueue.times import Times
from simqueue.units import Grid
from simqueue.workload import Workload

if TYPE_CHECKING:
    import pandas as pd

TICKS = ("arrival", "scheduled", "first_token", "finished", "first_delivery", "delivery")


@dataclass(frozen=True)
class Result(Times):
    """One run. Times are ticks of ``grid``; the id of a request is its row in ``workload``.

    Attributes:
        workload: what arrived.
        grid: the time grid.
        arrival, scheduled, first_token, finished: int64 ``(requests,)``. Tokens and answers count as there when they
            are at the client.
        first_delivery, delivery: int64 ``(requests,)``: how long after their step ends the first and the last token
            were there.
        leaps: int64 columns, one row a leap: ``start, steps, first, total, rows, context, longest`` as in
            `simqueue.record.Leaps`, and ``prefill_rows, new_tokens, prefill_context, widest`` of its first step; and
            where there are such, ``paused``: how many rows that decode did not go on.
        with_batch: answers leave when their batch ends, so that TPOT and ITL do not exist.
        warmup: the first so many requests by arrival are left out of every figure.
        durations: makes the duration of every step, one by one.
        saturation_rps: makes the saturation throughput of this system on this workload, in requests per second.
        provenance: what was run, in JSON's types.
        fates: what else happened to requests, where something could: figures are of those that were completed.
        gapless: leave ITL out of the figures, since the gaps between tokens take longer to look at than all else.
    """

    workload: Workload
    grid: Grid
    arrival: Column
    scheduled: Column
    first_token: Column
    finished: Column
    first_delivery: Column = field(repr=False)
    delivery: Column = field(repr=False)
    leaps: Mapping[str, Column] = field(repr=False)
    with_batch: bool
    warmup: int
    durations: Callable[[], Column] = field(repr=False)
    saturation_rps: Callable[[], float] = field(repr=False)
    provenance: Mapping[str, Any] = field(repr=False)
    fates: Fates | None = field(default=None, repr=False)
    until: int | None = None
    gapless: bool = False

    # Ticks, per request.

    @cached_property
    def step_ends(self) -> Column:
        """The end of every step, in ticks: leaps expanded."""
        leaps, durations = self.leaps, self.durations()
        first = np.cumsum(leaps["steps"]) - leaps["steps"]
        passed = np.cumsum(durations)
        before = passed[first] - durations[first] if len(first) else passed
        return np.repeat(leaps["start"] - before, leaps["steps"]) + passed

    # Figures.

    def summary(self) -> dict[str, Any]:
        """Figures of merit of the requests after the warm-up, as ``simqueue simulate --json`` prints them."""
        leaps, begun = self.leaps, self.begun(self.leaps["start"])
        rows = (leaps["rows"] + leaps["prefill_rows"])[begun]
        return {**self.figures(metrics.busy(leaps, *self.window), rows, leaps["steps"][begun]), **self._fates()}

    @cached_property
    def samples(self) -> dict[str, metrics.Sample]:
        """See `Times.samples`; and how long requests that had lost their seats waited for the next token."""
        samples, pooled = super().samples, self.gaps(np.arange(len(self.arrival))[self.counted])
        if pooled:
            samples["itl_s"] = metrics.Sample(*pooled)
        if self.fates is not None:
            resumed = self.fates.resume_to_next_token[self.counted]
            samples["resume_to_next_token_s"] = metrics.Sample(resumed[resumed > 0])
        return samples

    @property
    def counted(self) -> slice | NDArray[np.intp]:
        """The requests that figures are of."""
        if self.fates is None:
            return self.came
        return self.warmup + np.flatnonzero(self.fates.completed[self.came])

    def _fates(self) -> dict[str, Any]:
        fates = self.fates
        if fates is None:
            return {}
        counted = self.counted
        prompts = int(self.workload.prompt_tokens[counted].sum())
        return {
            "outcomes": outcome_counts(fates.outcome[self.came]),
            "preemptions": int(fates.preemptions[counted].sum()),
            "recomputed_tokens": int(fates.recomputed_tokens[counted].sum()),
            "resume_to_next_token_s": self.stats("resume_to_next_token_s"),
            "prefix_hit_rate": int(fates.cached_tokens[counted].sum()) / prompts,
        }

    @property
    def one_by_one(self) -> bool:
        """Unless answers leave with their batch."""
        return not self.with_batch

    def gaps(self, requests: Column) -> tuple[Column, Column] | None:
        """``(gap in ticks, how often)`` between the tokens of these requests, each gap once, where there are any.

        See `metrics.token_gaps`; an answer that was interrupted is several stretches, with a gap between them.
        """
        ids = requests[self.workload.output_tokens[requests] > 1]
        if self.gapless or self.with_batch or not len(ids):
            return None
        first, last = (self.first_token - self.first_delivery)[ids], (self.finished - self.delivery)[ids]
        ends = self.step_ends
        if "paused" in self.leaps:
            ends = ends[np.repeat(self.leaps["paused"] == 0, self.leaps["steps"])]
        if self.fates is None or not len(self.fates.spells):
            return metrics.tallied(*metrics.token_gaps(ends, first, last))
        spells = self.fates.spells[np.isin(self.fates.spells[:, 0], ids)]
        gaps = metrics.interrupted_gaps(ends, ids, first, last, spells[:, 0], spells[:, 1], spells[:, 3])
        return metrics.tallied(*gaps)

    # Tables.

    def requests(self) -> dict[str, NDArray[Any]]:
        """One row a request: seconds, tokens, the exact ticks, its fate where it could have another, and last the
        workload's further columns.

        A further column with a name of ours (a trace's own ``request_id``) gets ``_given`` behind it.
        """
        grid = self.grid
        seconds = {
            "arrival_s": self.workload.arrival_s,
            "queueing_s": grid.seconds(self.queueing),
            "service_s": grid.seconds(self.service),
            "response_s": grid.seconds(self.response),
            "ttft_s": grid.seconds(self.ttft),
            "tpot_s": self.tpot / grid.ticks_per_s,
            "delivery_s": grid.seconds(self.delivery),
        }
        ticks = {f"{name}_ticks": getattr(self, name) for name in TICKS}
        ticks |= self._fate_columns()
        tokens = {"prompt_tokens": self.workload.prompt_tokens, "output_tokens": self.workload.output_tokens}
        return self.with_extra({"request_id": np.arange(len(self.arrival)), **seconds, **tokens, **ticks})

    def _fate_columns(self) -> dict[str, NDArray[Any]]:
        if self.fates is None:
            return {}
        return {
            "outcome": self.fates.names(),
            "preemptions": self.fates.preemptions,
            "recomputed_tokens": self.fates.recomputed_tokens,
            "cached_tokens": self.fates.cached_tokens,
            "resume_to_next_token_s": self.grid.seconds(self.fates.resume_to_next_token),
        }

    def steps(self) -> dict[str, NDArray[Any]]:
        """One row a step, leaps expanded: start and duration in seconds, and rows that decode, are held and prefill."""
        leaps, ends, durations = self.leaps, self.step_ends, self.durations()
        count = leaps["steps"]
        age = np.arange(len(ends)) - np.repeat(np.cumsum(count) - count, count)
        prefills = np.repeat(leaps["first"] > 0, count) & (age == 0)
        size = np.repeat(leaps["rows"] + leaps["prefill_rows"], count)
        prefill_rows = np.where(prefills, np.repeat(leaps["prefill_rows"], count), 0)
        # Where sequences can be interrupted or go on from elsewhere, no batch runs to completion, and nobody is held.
        held = np.zeros_like(size) if self._interrupted else size - prefill_rows - self._emitting(ends)
        return {
            "start_s": self.grid.seconds(ends - durations),
            "duration_s": self.grid.seconds(durations),
            "batch_size": size,
            "prefill_rows": prefill_rows,
            "new_tokens": np.where(prefills, np.repeat(leaps["new_tokens"], count), 0),
            "held_rows": held,
            "decode_rows": size - prefill_rows - held,
        }

    @property
    def _interrupted(self) -> bool:
        fates = self.fates
        if self.workload.meta["adopted"]:
            return True
        return fates is not None and ("paused" in self.leaps or len(fates.spells) > 0 or bool(fates.preemptions.any()))

    def _emitting(self, ends: Column) -> Column:
        """Rows that emit a token after their first at each step end."""
        first = np.searchsorted(ends, self._prefilled())
        last = first + self.workload.output_tokens - 1
        if self.fates is not None:
            # Whoever gave up emits nothing after the step that was under way then, or nothing at all.
            left = self.finished - self.delivery
            gone = np.where(left > self.scheduled, np.searchsorted(ends, left), first)
            last = np.where(self.fates.completed, last, np.maximum(first, np.minimum(last, gone)))
        size = len(ends) + 2
        change = np.bincount(first + 1, minlength=size) - np.bincount(last + 1, minlength=size)
        return np.asarray(np.cumsum(change)[: len(ends)], np.int64)

    def _prefilled(self) -> Column:
        """The end of the step in which each request's prompt was done, also where the answer leaves later."""
        if not self.with_batch:
            return self.first_token - self.first_delivery
        starts = self.leaps["start"]
        leap = np.searchsorted(starts, self.scheduled, "right") - 1
        return np.asarray((starts + self.leaps["first"])[leap])

    def to_pandas(self) -> pd.DataFrame:
        """`requests` as a data frame (needs pandas)."""
        import pandas as pd

        return pd.DataFrame(self.requests())

    def save(self, folder: str | Path, summary: Mapping[str, Any] | None = None) -> None:
        """Write ``requests.parquet``, ``steps.parquet`` (one row a leap) and ``summary.json`` with provenance, which
        has other figures than those of `summary` where they are given.

        Raises:
            OutputError: the folder holds something else or cannot be written; nothing is half-written.
        """
        from simqueue.results import write

        write(self, Path(folder), self.summary() if summary is None else summary)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """What `save` wrote. Raises OutputError if that is not in the folder, or not whole."""
        from simqueue.results import read

        return cls(**read(Path(folder)))
