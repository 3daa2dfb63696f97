"""Leaps made whole again: what their first steps prefilled, and how long every single step lasted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simqueue.cost.base import StepCost
from simqueue.cost.noise import EmpiricalNoise, NoNoise, ServingNoise, Spread, all_draws
from simqueue.cost.prices import Priced
from simqueue.cost.profile import Measured
from simqueue.errors import ConfigError
from simqueue.record import Column
from simqueue.sim.compiled import recursions
from simqueue.system import CostSpec, Overheads
from simqueue.units import Grid


def spread_of(cost: CostSpec, noise: Any) -> Spread | None:
    """What the draws of ``noise`` mean to the steps of ``cost``. Raises ConfigError if they do not go together."""
    if isinstance(noise, NoNoise):
        return None
    if not isinstance(noise, EmpiricalNoise | ServingNoise):
        return Spread(noise.draw)
    if not isinstance(cost, Measured):
        kind = type(noise).__struct_config__.tag
        raise ConfigError(f'noise {kind}: only a measured cost has residuals: use cost = {{ kind = "profile", ... }}')
    return cost.spread() if isinstance(noise, EmpiricalNoise) else cost.serving_spread()


@dataclass(frozen=True)
class Durations:
    """Makes the duration of every step of a run, in ticks, from its leaps and from what was configured."""

    leaps: Mapping[str, Column] = field(repr=False)
    cost: CostSpec
    noise: Any
    overheads: Overheads
    grid: Grid
    seed: np.random.SeedSequence

    def __call__(self) -> Column:
        """int64 ``(steps,)``."""
        spread = spread_of(self.cost, self.noise)
        return expand(self.leaps, self.overheads.around(self.cost.on(self.grid), self.grid), spread, self.seed)


def with_prefill(
    leaps: Mapping[str, Column],
    chunks: Mapping[int, tuple[int, int, int, int]],
    prompt: Column,
    named: Collection[int],
) -> dict[str, Column]:
    """Add ``prefill_rows, new_tokens, prefill_context, widest``: of the requests that a leap admitted from the head
    of the queue, which follow each other in order of id, or of what the policy named."""
    rows = leaps["admitted"].copy()
    if named:
        in_order = np.ones(len(prompt), bool)
        in_order[np.fromiter(named, np.int64, len(named))] = False
        prompt = prompt[in_order]
    tokens, context, widest = (np.zeros(len(rows), np.int64) for _ in range(3))
    admits = rows > 0
    starts = (np.cumsum(rows) - rows)[admits]
    if len(starts):
        tokens[admits] = np.add.reduceat(prompt, starts)
        widest[admits] = np.maximum.reduceat(prompt, starts)
    if chunks:
        at = np.fromiter(chunks, np.int64, len(chunks))
        rows[at], tokens[at], context[at], widest[at] = np.array(list(chunks.values()), np.int64).T
    kept = {name: column for name, column in leaps.items() if name != "admitted"}
    return {**kept, "prefill_rows": rows, "new_tokens": tokens, "prefill_context": context, "widest": widest}


def expand(leaps: Mapping[str, Column], cost: StepCost, spread: Spread | None, seed: np.random.SeedSequence) -> Column:
    """The duration of every step, in ticks: the very ones that were run."""
    steps, first, rows, longest = leaps["steps"], leaps["first"], leaps["rows"], leaps["longest"]
    prefills = first > 0
    after = rows + np.where(prefills, leaps["prefill_rows"], 0)
    context = leaps["context"] + np.where(prefills, rows + leaps["new_tokens"] + leaps["prefill_context"], 0)
    longest = np.where(prefills, np.maximum(longest + 1, leaps["widest"]), longest)
    if spread is None and (known := _priced(steps, first, after, context, longest, cost)) is not None:
        return known
    begins = np.cumsum(steps) - steps
    durations = np.zeros(int(steps.sum()), np.int64)
    durations[begins[prefills]] = first[prefills]
    # The plain decode steps: all of a leap, or all but a first one that prefills.
    count = steps - prefills
    skip = prefills.astype(np.int64)
    age = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
    rows_now = np.repeat(after, count)
    longest_now = np.repeat(longest, count) + age
    decode = cost.column(rows_now, np.repeat(context, count) + rows_now * age, longest_now)
    at = np.repeat(begins + skip, count) + age
    if spread is not None:
        draws = all_draws(spread, seed, len(durations))[at]
        noisy = (decode * spread.column(rows_now, longest_now, draws) + 0.5).astype(np.int64)
        decode = np.maximum(noisy, 1)
    durations[at] = decode
    return durations


def _priced(
    steps: Column, first: Column, rows: Column, context: Column, longest: Column, cost: StepCost
) -> Column | None:
    """The same, compiled, where it can be and all of them have a price beforehand."""
    if recursions is None or not isinstance(cost, Priced) or not len(steps):
        return None
    prices = cost.prices(int(rows.max()), 1, int((longest + steps).max()))
    if prices is None:
        return None
    steps, first, rows, context, longest = map(np.ascontiguousarray, (steps, first, rows, context, longest))
    return recursions.durations(steps, first, rows, context, longest, prices, int(steps.sum()))
