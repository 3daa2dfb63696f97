"""When the steps of a live run were decided on, and how long ago prompts were last computed by then."""

from __future__ import annotations

import numpy as np

from simqueue.policy.base import BatchingPolicy
from simqueue.record import Column
from simqueue.result import Result


def decided(result: Result, policy: BatchingPolicy) -> Column:
    """Of each step, in ticks: for a batch that follows another one the decision, which comes after the hand-over; else
    when the step began, for what passes between two steps that follow each other is part of the second."""
    start = result.leaps["start"]
    if getattr(policy, "iteration_level", True):
        return start
    begin = start.copy()
    scheduled = np.unique(result.scheduled)
    # Within the step that took them, or in what passed before it.
    begin[np.searchsorted(start, scheduled, "right") - 1] = scheduled
    return begin


def since_prefill(begin: Column, prefill_rows: Column) -> Column:
    """Of each step, ticks since the last one before it that prefilled began, or the run."""
    last = np.maximum.accumulate(np.where(prefill_rows > 0, begin, 0))
    return np.asarray(begin - np.concatenate([[0], last[:-1]]), np.int64)
