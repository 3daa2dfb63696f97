"""What a step takes when served: its period regressed on what the tables say of it and on what was in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.fit import errors_of
from calibration.jitter import deviation, jitter_of, outside, stalling
from calibration.paths import line, paths_of, starts_of
from calibration.ramp import HELD_OUT
from calibration.records import Kind, Records
from simqueue.cost.table import TableCost
from simqueue.lag import Lag, on_grid
from simqueue.plan import Shape
from simqueue.profile import Errors, Profile, Serving
from simqueue.units import Grid, digits

Array = NDArray[np.float64]
COEFFICIENTS = ("decode_factor", "prefill_factor", "per_step_s", "per_row_s", "per_prefill_s", "per_prefill_row_s")
# Steps that nothing is launched ahead of.
_UNHIDDEN: tuple[Kind, ...] = ("exposed", "pause")
_GRID = Grid()
_LEAST = 200
_EXPECTED = np.array([1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
# How far from that a coefficient may be, before anything is measured: a factor, and of the others what they add to a
# step as a share of it. It decides only what the steps leave open, where two coefficients always go together.
_OPEN = np.array([0.05, 0.05, 0.5, 0.5, 0.5, 0.5])
# Steps scatter by so much until more is known, and by no less.
_SCATTER, _NO_SCATTER = 0.05, 1e-4
_HUBER = 1.5
_ROUNDS = 30
_STRETCH = 200
_ENOUGH_OF_A_SHAPE = 10


class Fit(NamedTuple):
    """Coefficients, in the order of `COEFFICIENTS`, and their standard errors."""

    theta: Array
    errors: Array


def serving_of(profile: Profile, records: Records) -> Serving | None:
    """What serving adds to the tables of ``profile``; None if there are too few steps to say.

    Raises:
        ProfileError: a step is outside what the tables were measured for.
    """
    shaped = records.of("step", "start", *_UNHIDDEN)
    step, start, alone = shaped.kind == "step", shaped.kind == "start", np.isin(shaped.kind, ("start", "pause"))
    design = design_of(profile, shaped)
    held = np.isin(shaped.stage, HELD_OUT)
    used = step & ~held
    if used.sum() < _LEAST:
        return None
    fit = regress(design[used], shaped.seconds[used], shaped.sort[used])
    shapes = _shapes(profile, shaped)
    price = np.where(alone, design[:, 1], design @ fit.theta)
    stalls = stalling(shaped, price)
    jitter = jitter_of(shaped, price, shapes, stalls)
    told = start & ~held
    lag, start_row = starts_of(shaped.where(told), (shaped.seconds - price * jitter.mean)[told])
    price[alone] += _later(lag, shaped.where(alone)) + start_row * shaped.prefill_rows[alone]
    late, rows = shaped.seconds - price * jitter.mean, np.where(alone, shaped.ended, shaped.rows)
    host: dict[str, tuple[float, float]] = {}
    for kind in _UNHIDDEN:
        mine = shaped.kind == kind
        if not mine.any():
            continue
        fixed, each = host[kind] = line(rows[mine & ~held], late[mine & ~held])
        price[mine] += fixed + each * rows[mine]
    quiet = held & ~stalls & ~(~step & outside(shaped.seconds / price, shaped.sort))
    return Serving(
        **dict(zip(COEFFICIENTS, _short(fit.theta), strict=True)),
        per_start_row_s=start_row,
        standard_errors=dict(zip(COEFFICIENTS, _short(fit.errors), strict=True)),
        steps=int(step.sum()),
        errors=dict(_errors(shaped.where(quiet), price[quiet], shapes[quiet])),
        jitter=jitter,
        paths=paths_of(records, lag, **host),
    )


def _later(lag: Lag, starts: Records) -> Array:
    """Seconds that each of them takes by how long ago a prompt was begun last."""
    takes = on_grid(lag, _GRID)
    return np.asarray(_GRID.seconds(np.array([takes(_GRID.ticks(ns / 1e9)) for ns in starts.since_ns.tolist()])))


def design_of(profile: Profile, records: Records) -> Array:
    """``(records, 6)``: what each coefficient is multiplied by, seconds of the tables and counts."""
    bare = msgspec.structs.replace(profile, noise=None, serving=None)
    cost = TableCost(bare, _GRID, curve=False, extrapolate=False)
    rows, longest, joining = records.rows, records.longest, records.prefill_rows
    decode = np.zeros(len(records))
    decodes = rows > 0
    decode[decodes] = cost.column(rows[decodes], rows[decodes], longest[decodes])
    sizes = zip(*(c.tolist() for c in (rows, longest, joining, records.context, records.widest)), strict=True)
    whole = np.array([cost.step(Shape(r, 0, r, n, j, j, behind, w)) for r, n, j, behind, w in sizes], np.float64)
    prefill = np.where(joining > 0, whole - decode, 0.0)
    return np.column_stack(
        [_GRID.seconds(decode), _GRID.seconds(prefill), np.ones(len(records)), rows, joining > 0, joining]
    )


def regress(design: Array, seconds: Array, sort: NDArray[np.str_]) -> Fit:
    """Ridge regression on relative error over the steps that do not stand out among those of their sort.

    Huber's weights first, since steps that stall must not decide which stand out (Huber 1981, section 7.8); what is
    left by least squares, for queues feel means. Standard errors take stretches of steps as independent, not steps,
    which remember each other (the cluster jackknife; MacKinnon, Nielsen and Webb, Journal of Econometrics 232, 2023).
    """
    table = design[:, 0] + design[:, 1]
    x, y = design / table[:, None], seconds / table
    size: Array = np.asarray(np.sqrt(np.mean(x**2, axis=0)))
    # What no step had is left where it was expected.
    size[size == 0] = np.where(_EXPECTED > 0, 1.0, 1 / np.median(table))[size == 0]
    ridge = _Ridge(x / size, y, _EXPECTED * size, _OPEN * np.where(_EXPECTED > 0, size, 1.0), _SCATTER)
    weights: Array = np.ones(len(y))
    for _ in range(_ROUNDS):
        off = np.abs(ridge.residuals(weights))
        ridge = ridge._replace(scatter=max(_NO_SCATTER, deviation(off)))
        weights = np.asarray(1 / np.maximum(1, off / (_HUBER * ridge.scatter)))
    for _ in range(_ROUNDS):
        weights = np.asarray(~outside(y / (y - ridge.residuals(weights)), sort), np.float64)
    return Fit(ridge.solve(weights) / size, ridge.errors(weights) / size)


class _Ridge(NamedTuple):
    """Of ``y = x @ theta``, with what is expected of theta, how far it may be from that, and how far y scatters."""

    x: Array
    y: Array
    expected: Array
    open: Array
    scatter: float

    @property
    def pull(self) -> Array:
        """How strongly each coefficient is held where it is expected."""
        return np.asarray((self.scatter / self.open) ** 2)

    def solve(self, weights: Array) -> Array:
        """Weighted least squares."""
        weighted = self.x.T * weights
        return np.asarray(np.linalg.solve(self._normal(weights), weighted @ self.y + self.pull * self.expected))

    def residuals(self, weights: Array) -> Array:
        """What these weights leave unexplained."""
        return self.y - self.x @ self.solve(weights)

    def errors(self, weights: Array) -> Array:
        """Of noise, by leaving out one stretch of steps after another, and of expectations where they decide."""
        normal, scores = self._normal(weights), self.x * (weights * self.residuals(weights))[:, None]
        moved = []
        for begin in range(0, len(scores), _STRETCH):
            part = slice(begin, begin + _STRETCH)
            own = (self.x[part].T * weights[part]) @ self.x[part]
            moved.append(np.linalg.solve(normal - own, scores[part].sum(axis=0)))
        held = np.linalg.solve(normal, np.diag(self.pull * self.open))
        return np.asarray(np.sqrt(np.sum(np.square([*moved, *held.T]), axis=0)))

    def _normal(self, weights: Array) -> Array:
        return np.asarray((self.x.T * weights) @ self.x + np.diag(self.pull))


def _shapes(profile: Profile, records: Records) -> NDArray[np.int64]:
    """Numbers of the shapes of steps: those of one cell of a table, be it decode's or, with a prefill, prefill's."""
    assert profile.decode
    assert profile.prefill
    decode, prefill = profile.decode, profile.prefill
    decodes = [np.searchsorted(decode.rows, records.rows), np.searchsorted(decode.longest, records.longest)]
    prefills = [np.searchsorted(prefill.rows, records.prefill_rows), np.searchsorted(prefill.width, records.widest)]
    cell = np.where(records.prefill_rows > 0, prefills, decodes)
    sorts = np.unique(records.sort, return_inverse=True)[1]
    return np.asarray(np.unique([sorts, *cell], axis=1, return_inverse=True)[1].ravel(), np.int64)


def _errors(records: Records, price: Array, shapes: NDArray[np.int64]) -> Iterator[tuple[str, Errors]]:
    """By sort of step: predicted over measured time, less 1, of every shape that came often enough to tell."""
    for sort in np.unique(records.sort).tolist():
        mine = records.sort == sort
        count, predicted, measured = (
            np.bincount(shapes[mine], weights) for weights in (None, price[mine], records.seconds[mine])
        )
        known = count >= _ENOUGH_OF_A_SHAPE
        if known.any():
            errors = errors_of(predicted[known] / measured[known] - 1)
            yield sort, Errors(*_short(np.array([errors.median, errors.p95, errors.mean])))


def _short(values: Array) -> list[float]:
    return [digits(value) for value in values.tolist()]
