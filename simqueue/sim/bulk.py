"""Runs of run-to-completion batches without an event loop: a batch is decided on when the last one has ended.

Nothing happens in between that the next decision would depend on but arrivals, which are known. So a run is a recursion
over batches, with the same ticks as the event loop's.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from simqueue.cost.base import UNLIMITED, StepCost
from simqueue.plan import Shape
from simqueue.policy import BatchingPolicy, Dynamic, NoBatching, Static
from simqueue.record import NEVER, STEP_FIELDS, Column, Leaps, Requests, leap_row
from simqueue.units import INT64_MAX, Grid

# Contexts up to which every decode step of a single row is priced beforehand.
_LONGEST = 1 << 20


class Rule(NamedTuple):
    """The general bulk service rule (Neuts, "A general class of bulk queues with Poisson input", Annals of Mathematical
    Statistics 38, 1967) with a deadline: a free server starts up to ``most`` as soon as ``least`` wait, or the oldest
    has waited ``wait`` ticks. ``wait`` None: it waits for ``least``, or until nobody can come any more."""

    least: int
    most: int
    wait: int | None

    def next_batch(self, arrival: list[int], head: int, count: int, free: int) -> tuple[int, int]:
        """``(start, end)`` of the batch from request ``head`` on: when it starts, and the first who is not in it."""
        last = head + self.least - 1
        due = arrival[min(last, count - 1)] if last < count or self.wait is None else NEVER
        if self.wait is not None:
            due = min(due, arrival[head] + self.wait)
        start = max(free, due)
        return start, bisect_right(arrival, start, head + 1, min(head + self.most, count))


def bulk_run(policy: BatchingPolicy, grid: Grid, requests: Requests, cost: StepCost) -> Leaps | None:
    """Run to completion by the policy's `Rule`; None if it has none. Fills in ``requests``."""
    rule = _rule(policy, grid)
    if rule is None:
        return None
    leaps = _one_by_one(requests, cost) if rule.most == 1 else None
    return leaps or _batches(rule, requests, cost, with_batch=policy.release == "batch")  # type: ignore[attr-defined]


def _rule(policy: BatchingPolicy, grid: Grid) -> Rule | None:
    """Of these very classes: one that is derived from them may decide otherwise."""
    if type(policy) is NoBatching:
        return Rule(1, 1, 0)
    if type(policy) is Static:
        return Rule(policy.batch, policy.batch, None)
    if type(policy) is Dynamic:
        decider = policy.decider(grid)
        return Rule(decider.min_batch, decider.max_batch, decider.max_wait)
    return None


def _batches(rule: Rule, requests: Requests, cost: StepCost, *, with_batch: bool) -> Leaps:
    arrival, prompt, output, finished = requests.arrival, requests.prompt, requests.output, requests.finished
    leaps, head, free, count = Leaps(), 0, 0, requests.count
    while head < count:
        start, end = rule.next_batch(arrival, head, count, free)
        prompts, outputs, size = prompt[head:end], output[head:end], end - head
        tokens, widest, steps = sum(prompts), max(prompts), max(outputs)
        first = cost.step(Shape(prefill_rows=size, new_tokens=tokens, widest=widest))
        if with_batch:
            total = first + cost.leap(size, tokens, widest, steps - 1, UNLIMITED)[1]
        else:
            ends = list(accumulate(cost.series(size, tokens, widest, steps - 1), initial=start + first))
            finished[head:end] = [ends[n - 1] for n in outputs]
            total = ends[-1] - start
        leaps.append(leap_row(start, steps, first, total, size, 0, 0, 0))
        head, free = end, start + total
    return leaps


def _one_by_one(requests: Requests, cost: StepCost) -> Leaps | None:
    """Whoever comes is served alone: a start is how far the walk of services less gaps is above its lowest point so far
    (Lindley, Proceedings of the Cambridge Philosophical Society 48, 1952). None where sums might leave 64 bits or there
    would be too many contexts to price."""
    arrival, prompt, output = (np.array(c, np.int64) for c in (requests.arrival[:-1], requests.prompt, requests.output))
    lowest, longest = int(prompt.min()), int((prompt + output).max())
    if longest > _LONGEST:
        return None
    first = _first_steps(prompt, cost)
    context = np.arange(lowest, max(longest - 1, lowest + 1))
    each = cost.column(np.ones_like(context), context, context)
    before = np.concatenate(([0], np.cumsum(each)))
    total = first + before[prompt + output - 1 - lowest] - before[prompt - lowest]
    ticks = max(each.sum(dtype=np.float64), arrival[-1] + total.sum(dtype=np.float64))
    if ticks > INT64_MAX / 2 or min(each.min(), total.min()) < 1:
        return None
    served = np.cumsum(total) - total
    start = np.maximum.accumulate(arrival - served) + served
    columns = {"start": start, "steps": output, "first": first, "total": total, "admitted": np.ones_like(start)}
    nobody = np.zeros_like(start)
    leaps = Leaps()
    leaps.append(np.stack([columns.get(name, nobody) for name in STEP_FIELDS], axis=1).tobytes())
    return leaps


def _first_steps(prompt: Column, cost: StepCost) -> Column:
    widths, which = np.unique(prompt, return_inverse=True)
    steps = [cost.step(Shape(prefill_rows=1, new_tokens=width, widest=width)) for width in widths.tolist()]
    return np.array(steps, np.int64)[which]
