"""Random small scenarios full of ties, each in two spellings: for the package (seconds) and for the reference (ticks).

A tick is a picosecond. All numbers are whole ticks of less than 2^50, so that seconds and ticks convert exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from math import inf
from typing import Any, NamedTuple

import numpy as np
import reference
from hypothesis import strategies as st
from profiles import jitter, measured, serving
from reference import StepShape

import simqueue
from simqueue import Affine, Overheads, System, Workload
from simqueue.cost.profile import Measured
from simqueue.policy import BatchingPolicy, Continuous, Dynamic, NoBatching, Static
from simqueue.profile import Serving

PS = 1e-12
# Where the noise of the only replica comes from, among the children of a run's seed.
NOISE_STREAM = (1 << 16, 0)


def _seconds(ticks: Any) -> Any:
    return tuple(tuple(at * PS for at in pair) for pair in ticks) if isinstance(ticks, tuple) else ticks * PS


@dataclass(frozen=True)
class Scenario:
    """One run, as the package and as the reference understand it."""

    arrivals: tuple[int, ...]
    prompts: tuple[int, ...]
    outputs: tuple[int, ...]
    policy: BatchingPolicy
    slow_policy: reference.Policy
    cost: Affine | Measured
    price: reference.Price
    overheads: reference.Overheads = field(default_factory=reference.Overheads)
    noise: Any = field(default_factory=simqueue.NoNoise)
    seed: int = 0

    @cached_property
    def workload(self) -> Workload:
        return Workload.from_columns([a * PS for a in self.arrivals], self.prompts, self.outputs)

    @cached_property
    def system(self) -> System:
        over = {f"{name}_s": _seconds(ticks) for name, ticks in vars(self.overheads).items()}
        return System(self.policy, self.cost, self.noise, Overheads(**over), max_context_tokens=10**9)

    def run(self, **how: Any) -> simqueue.Result:
        """By the package."""
        return simqueue.simulate(self.workload, self.system, seed=self.seed, **how)

    def run_slowly(self) -> reference.Outcome:
        """By the reference."""
        columns = zip(self.arrivals, self.prompts, self.outputs, strict=True)
        requests = [reference.Request(i, *row) for i, row in enumerate(columns)]
        return reference.simulate(requests, self.slow_policy, self.price, self.overheads, self.draws())

    def draws(self) -> list[float] | None:
        """The multipliers of the first 16,384 steps."""
        if isinstance(self.noise, simqueue.NoNoise):
            return None
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=NOISE_STREAM))
        return self.noise.draw(rng, 1 << 14).tolist()


# Load: gaps between arrivals that tie with each other and with the ends of steps, or none of both.

_GAPS = st.one_of(
    st.just(st.sampled_from([0, 0, 0, 10])),
    st.just(st.sampled_from([0, 5, 10, 20, 100])),
    st.just(st.integers(0, 4)),
    st.just(st.integers(0, 60)),
    st.just(st.integers(0, 10**10)),
)
_LENGTHS = st.sampled_from([(1, 1), (4, 1), (1, 4), (3, 3), (9, 6), (20, 30)])


@st.composite
def loads(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Columns of arrivals, prompts and outputs."""
    prompt, output = draw(_LENGTHS)
    row = st.tuples(draw(_GAPS), st.integers(1, prompt), st.integers(1, output))
    gaps, prompts, outputs = zip(*draw(st.lists(row, min_size=1, max_size=40)), strict=True)
    return tuple(np.cumsum(gaps).tolist()), prompts, outputs


# Costs.

_SMALL = st.integers(0, 5)
_COEFFICIENTS = st.one_of(
    st.tuples(st.sampled_from([1, 5, 10]), st.just(0), st.just(0), st.just(0)),
    st.tuples(st.integers(1, 20), _SMALL, _SMALL, _SMALL),
    st.tuples(_SMALL, _SMALL, st.integers(1, 5), _SMALL),
    st.tuples(st.just(800_000_000), st.just(8_000_000), st.just(8_000_000), st.just(2_000)),
)


@st.composite
def affine(draw: st.DrawFn) -> tuple[Affine, reference.Price]:
    """Small coefficients, which tie with arrivals, and realistic ones."""
    ticks = draw(_COEFFICIENTS)
    return Affine(*(c * PS for c in ticks)), reference.Affine(*ticks)


class Served(NamedTuple):
    """What serving adds to the tables, in ticks."""

    decode_factor: int = 1
    prefill_factor: int = 1
    per_step: int = 0
    per_row: int = 0
    per_prefill: int = 0
    per_prefill_row: int = 0
    per_start_row: int = 0

    def run(self) -> Serving:
        """The same for a profile, with noise but without stalls, which would count in the mean."""
        terms = {f"{name}_s": ticks * PS for name, ticks in self._asdict().items() if name.startswith("per")}
        factors = {"decode_factor": float(self.decode_factor), "prefill_factor": float(self.prefill_factor)}
        return serving(**factors, **terms, jitter=jitter(stall_probability=0.0, stalls=()))


@dataclass(frozen=True)
class TablePrice:
    """What a profile's tables say, in exact fractions; prefills fit one launch. Odd axis gaps: nothing ends in .5."""

    rows: tuple[int, ...]
    longest: tuple[int, ...]
    decode: tuple[tuple[int, ...], ...]
    width: tuple[int, ...]
    prefill: tuple[tuple[tuple[int, int], ...], ...]
    rule: str
    mixed: int
    served: Served

    def __call__(self, step: StepShape) -> int:
        decoding, served = step.decode_rows + step.held_rows, self.served
        price, launched = 0, Fraction(0)
        if step.prefill_rows:
            plane = 1 if step.prefill_context else 0
            cells = [[cell[plane] for cell in line] for line in self.prefill]
            launched = self._look(self.rows, self.width, cells, step.prefill_rows, step.widest)
            price += round(served.prefill_factor * launched) + served.prefill_factor * self.mixed
            price += served.per_prefill + served.per_prefill_row * step.prefill_rows
        if not decoding:
            return max(1, round(launched) + served.per_start_row * step.prefill_rows)
        launched = served.decode_factor * self._look(self.rows, self.longest, self.decode, decoding, step.longest)
        return max(1, price + max(1, round(launched) + served.per_step + served.per_row * decoding))

    def _look(self, xs: Any, ys: Any, cells: Any, x: int, y: int) -> Fraction:
        lines = [self._between(ys, line, y) for line in cells]
        return self._between(xs, lines, x)

    def _between(self, axis: tuple[int, ...], values: Any, x: int) -> Fraction:
        x = max(x, axis[0])
        above = next(i for i, knot in enumerate(axis) if knot >= x)
        if self.rule == "ceil" or axis[above] == x:
            return Fraction(values[above])
        low, high = axis[above - 1], axis[above]
        return values[above - 1] + Fraction(x - low, high - low) * (values[above] - values[above - 1])


@st.composite
def tables(draw: st.DrawFn) -> tuple[Measured, reference.Price]:
    """A profile with arbitrary cells, not monotone either, wide enough for every scenario."""
    rows, longest, width = (1, 4, 11, 50), (1, 6, 15, 70), (1, 4, 9, 50)
    cell = st.integers(1, 30) if draw(st.booleans()) else st.integers(10**8, 10**9)
    cells = draw(st.lists(cell, min_size=48, max_size=48))
    take = iter(cells)
    decode = tuple(tuple(next(take) for _ in longest) for _ in rows)
    prefill = tuple(tuple((next(take), next(take)) for _ in width) for _ in rows)
    rule = draw(st.sampled_from(["ceil", "linear"]))
    mixed = draw(st.integers(-20, 20))
    term = st.integers(-5, 20)
    served = draw(st.just(Served()) | st.builds(Served, *[st.integers(1, 3)] * 2, *[term] * 5))
    return (
        measured(rows, longest, decode, width, prefill, rule, mixed, PS, serving=served.run()),
        TablePrice(rows, longest, decode, width, prefill, rule, mixed, served),
    )


# Policies.

_RELEASE = st.sampled_from(["batch", "request"])


@st.composite
def statics(draw: st.DrawFn) -> tuple[Static, reference.Static]:
    batch, release = draw(st.integers(1, 9)), draw(_RELEASE)
    return Static(batch, release), reference.Static(batch, release)


@st.composite
def dynamics(draw: st.DrawFn) -> tuple[Dynamic, reference.Dynamic]:
    least = draw(st.none() | st.integers(1, 6))
    most = draw(st.none() | st.integers(least or 1, 9))
    finite = st.one_of(st.just(0), st.sampled_from([1, 5, 10, 20, 100]), st.integers(0, 40), st.integers(0, 10**10))
    endless = least is not None or most is not None
    wait = draw(st.one_of(finite, finite, st.none()) if endless else finite)
    release = draw(_RELEASE)
    wait_s = inf if wait is None else wait * PS
    return Dynamic(most, wait_s, least, release), reference.Dynamic(most, wait, least, release)


@st.composite
def continuous(draw: st.DrawFn, *, budget: bool) -> tuple[Continuous, reference.Continuous]:
    seats = draw(st.integers(1, 9))
    tokens = draw(st.integers(seats, seats + 12)) if budget else None
    return Continuous(seats, tokens), reference.Continuous(seats, tokens)


POLICIES: dict[str, st.SearchStrategy[Any]] = {
    "none": st.just((NoBatching(), reference.Alone())),
    "static": statics(),
    "dynamic": dynamics(),
    "continuous": continuous(budget=False),
    "chunked": continuous(budget=True),
}

# Noise and overheads.

NOISES: st.SearchStrategy[Any] = st.one_of(
    st.just(simqueue.NoNoise()),
    st.just(simqueue.NoNoise()),
    st.just(simqueue.ExponentialNoise()),
    st.builds(simqueue.LognormalNoise, st.sampled_from([0.01, 0.5])),
    st.builds(simqueue.ErlangNoise, st.integers(1, 9)),
)
_DELAY = st.sampled_from([0, 0, 0, 1, 3, 5, 10, 10**9])
_LAGS = st.dictionaries(st.sampled_from([0, 1, 7, 20, 10**3, 10**9]), _DELAY, min_size=1).map(
    lambda pairs: tuple(sorted(pairs.items()))
)


@st.composite
def delays(draw: st.DrawFn, *, handover: bool) -> reference.Overheads:
    """All of them; the hand-over only where batches run to completion."""
    pause = _DELAY if handover else st.just(0)
    lag = st.one_of(_DELAY, _LAGS)
    return reference.Overheads(*map(draw, (_DELAY, lag, pause, pause, _DELAY, _DELAY, _DELAY, lag, _DELAY, _DELAY)))


@st.composite
def scenarios(draw: st.DrawFn, kind: str) -> Scenario:
    """A run of a policy of that kind."""
    arrivals, prompts, outputs = draw(loads())
    policy, slow_policy = draw(POLICIES[kind])
    cost, price = draw(st.one_of(affine(), affine(), tables()))
    over = draw(st.one_of(st.just(reference.Overheads()), delays(handover=kind not in ("continuous", "chunked"))))
    noise = draw(NOISES)
    seed = draw(st.integers(0, 2**32))
    return Scenario(arrivals, prompts, outputs, policy, slow_policy, cost, price, over, noise, seed)
