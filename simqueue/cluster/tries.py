"""Requests that were sent more than once, since a replica failed: what their clients saw of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from simqueue.cluster.share import Share
from simqueue.record import Column
from simqueue.result import Result
from simqueue.units import INT64_MAX


@dataclass(frozen=True)
class Tries:
    """Every time that any request was sent, in order of the requests' rows, and for each of its times.

    Attributes:
        columns: by name, int64 ``(tries,)``: ``arrival, scheduled, first_token, finished`` as the replica has them;
            ``end``, when it left there; ``replica``; ``outcome``; ``began`` and ``emitted``, whether it was scheduled
            there and whether a token left; ``prompt``, what was computed.
        starts: int64 ``(requests,)``: where the tries of each request begin.
    """

    columns: dict[str, Column]
    starts: Column

    @classmethod
    def of(cls, shares: Sequence[Share]) -> Tries:
        """All that the replicas did; every request has been sent to one at least."""
        rows = np.concatenate([share.rows for share in shares])
        parts = [_columns(share) for share in shares]
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        order = np.lexsort((columns["end"], columns["arrival"], rows))
        starts = np.flatnonzero(np.diff(rows[order], prepend=-1))
        return cls({name: column[order] for name, column in columns.items()}, starts)

    @cached_property
    def count(self) -> Column:
        """How often each request was sent."""
        return np.diff(self.starts, append=len(self.columns["arrival"]))

    def last(self, name: str) -> Column:
        """Of the last time of each request."""
        return np.asarray(self.columns[name][self.starts + self.count - 1])

    @cached_property
    def scheduled(self) -> Column:
        """When each request was scheduled first, wherever."""
        return self._first("scheduled", self.columns["began"] > 0)

    def first_token(self, prompt: Column) -> Column:
        """When the first token of each answer came: of an answer that began anew that of its last time, of one that
        went on (its prompt is then longer than ``prompt``, that of the workload) that of its first."""
        went_on = self.last("prompt") > prompt
        return np.where(went_on, self._first("first_token", self.columns["emitted"] > 0), self.last("first_token"))

    def _first(self, name: str, counts: NDArray[np.bool_]) -> Column:
        found = np.minimum.reduceat(np.where(counts, self.columns[name], INT64_MAX), self.starts)
        return np.where(found < INT64_MAX, found, self.last(name))


def _columns(share: Share) -> dict[str, Column]:
    result = share.result
    completed = completed_of(result)
    end = result.finished - result.delivery
    return {
        **{name: getattr(result, name) for name in ("arrival", "scheduled", "first_token", "finished")},
        "end": end,
        "replica": np.full(len(share.rows), share.replica),
        "outcome": np.zeros(len(share.rows), np.int64) if result.fates is None else result.fates.outcome,
        "began": (completed | (result.scheduled < end)).astype(np.int64),
        "emitted": (completed | (result.first_token - result.first_delivery < end)).astype(np.int64),
        "prompt": result.workload.prompt_tokens,
    }


def completed_of(result: Result) -> NDArray[np.bool_]:
    """bool ``(requests,)``: whether each was answered whole."""
    return np.ones(len(result.arrival), bool) if result.fates is None else result.fates.completed
