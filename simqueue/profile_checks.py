"""What makes a profile's numbers unusable: gaps, axes that do not increase, times that are not positive."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from simqueue.checks import seconds
from simqueue.errors import ConfigError
from simqueue.lag import check_lag

if TYPE_CHECKING:
    from simqueue.profile import Curve, DecodeTable, Jitter, Noise, Point, PrefillTable, Profile, Serving

# Quantiles are written with seven digits.
_MEAN_TOLERANCE = 1e-5


def problems(profile: Profile) -> Iterator[str]:
    """What is wrong with the numbers of a profile, one line each, most basic first."""
    if not profile.name:
        yield "name is empty"
    if profile.model.max_context < 1:
        yield f"model.max_context = {profile.model.max_context} must be at least 1"
    if not (math.isfinite(profile.mixed_s) and math.isfinite(profile.host_s) and profile.host_s >= 0):
        yield "mixed_s and host_s must be finite, and host_s not negative"
    yield from _missing(profile)
    if profile.decode:
        yield from _decode_problems(profile.decode, profile.model.max_context)
    if profile.prefill:
        yield from _prefill_problems(profile.prefill, profile.model.max_context)
    if profile.noise:
        yield from _noise_problems(profile.noise)
    for kind in ("decode", "prefill", "chunk", "totals"):
        curve = getattr(profile.curves, kind)
        if curve:
            yield from _curve_problems(f"curves.{kind}", curve)
    if profile.serving:
        yield from _serving_problems(profile.serving, profile.runner)
    yield from (
        f"points[{i}] has times that are not positive and finite" for i, p in enumerate(profile.points) if _bad(p)
    )


def _missing(profile: Profile) -> Iterator[str]:
    if profile.runner == "samples":
        if profile.curves.totals is None:
            yield 'curves.totals is missing, and runner "samples" has nothing else'
    elif not (
        profile.decode and profile.prefill and profile.curves.decode and profile.curves.prefill and profile.noise
    ):
        yield f'runner "{profile.runner}" needs decode, prefill, noise, curves.decode and curves.prefill'


def _bad(point: Point) -> bool:
    times = (point.seconds, point.mean_s)
    return not (all(math.isfinite(t) and t > 0 for t in times) and math.isfinite(point.device_s + point.cv))


def _axis_problems(name: str, axis: Sequence[int], first: int | None, last: int) -> Iterator[str]:
    """Where sizes are padded up the axis may start anywhere (``first`` None), for whatever is below is padded too."""
    if not axis or axis[0] != (max(1, axis[0]) if first is None else first):
        yield f"{name} must start at {'1 or above' if first is None else first}"
    elif any(b <= a for a, b in pairwise(axis)):
        yield f"{name} does not increase"
    elif axis[-1] > last:
        yield f"{name} ends at {axis[-1]}, beyond {last}"


def _first(rule: str) -> int | None:
    return 1 if rule == "linear" else None


def _decode_problems(table: DecodeTable, max_context: int) -> Iterator[str]:
    yield from _axis_problems("decode.rows", table.rows, 1, 2**31)
    # rows that a batch holds go on growing: an eager cache can reach about twice the window
    yield from _axis_problems("decode.longest", table.longest, _first(table.rule), 2 * max_context)
    shape = (len(table.rows), len(table.longest))
    yield from _cell_problems("decode.seconds", table.seconds, shape, lambda t: t > 0)
    yield from _cell_problems("decode.cv", table.cv, shape, lambda t: t >= 0)


def _prefill_problems(table: PrefillTable, max_context: int) -> Iterator[str]:
    yield from _axis_problems("prefill.rows", table.rows, 1, 2**31)
    yield from _axis_problems("prefill.width", table.width, _first(table.rule), max_context)
    yield from _axis_problems("prefill.context", table.context, 0, max_context)
    if len(table.context) > 2:
        yield "prefill.context must be [0] or [0, n]"
    shape = (len(table.rows), len(table.width), len(table.context))
    yield from _cell_problems("prefill.seconds", table.seconds, shape, lambda t: t > 0, gaps=True)
    yield from _cell_problems("prefill.cv", table.cv, shape, lambda t: t >= 0, gaps=True)


def _cell_problems(
    name: str, cells: object, shape: tuple[int, ...], fine: Callable[[float], bool], *, gaps: bool = False
) -> Iterator[str]:
    array: Any = np.array(cells, dtype=object)
    if array.shape != shape:
        yield f"{name} has shape {array.shape}, its axes say {shape}"
        return
    for index in np.ndindex(shape):
        value = array[index]
        if value is not None and not (math.isfinite(value) and fine(value)):
            yield f"{name}{list(index)} = {value} is not a usable number"
        if value is None and (not gaps or index[0] == 0):
            yield f"{name}{list(index)} is missing"
        if value is not None and index[0] and array[(index[0] - 1, *index[1:])] is None:
            yield f"{name}{list(index)} follows a gap: only the largest rows of a width may be missing"


def _noise_problems(noise: Noise) -> Iterator[str]:
    p = noise.probabilities
    if len(p) < 2 or p[0] <= 0 or p[-1] >= 1 or any(b <= a for a, b in pairwise(p)):
        yield "noise.probabilities must increase within 0 and 1"
    for name in ("decode", "prefill"):
        z = getattr(noise, name)
        if len(z) != len(p) or not all(map(math.isfinite, z)) or any(b < a for a, b in pairwise(z)):
            yield f"noise.{name} must be finite, not decreasing, and as long as noise.probabilities"


def _curve_problems(name: str, curve: Curve) -> Iterator[str]:
    columns = (curve.base_s, curve.per_new_token_s, curve.per_context_token_s)
    yield from _axis_problems(f"{name}.knots", curve.knots, None, 2**62)
    if any(len(column) != len(curve.knots) for column in columns):
        yield f"{name}: base_s, per_new_token_s and per_context_token_s must be as long as knots"
    values = [curve.floor_s, curve.per_row_s, curve.per_pair_s, *(v for column in columns for v in column)]
    if not all(map(math.isfinite, values)):
        yield f"{name}: every coefficient must be finite"


def _serving_problems(serving: Serving, runner: str) -> Iterator[str]:
    if runner == "samples":
        yield 'serving is there, but runner "samples" has no tables that it could add to'
    names = ("per_step_s", "per_row_s", "per_prefill_s", "per_prefill_row_s", "per_start_row_s")
    if not all(math.isfinite(getattr(serving, name)) for name in names):
        yield "serving: every coefficient must be finite"
    for name in ("decode_factor", "prefill_factor"):
        value = getattr(serving, name)
        if not (math.isfinite(value) and value > 0):
            yield f"serving.{name} = {value} must be positive and finite"
    for name in serving.paths.__struct_fields__:
        check, value = check_lag if name in ("wake_s", "start_s") else seconds, getattr(serving.paths, name)
        try:
            check("serving", f"paths.{name}", 0.0 if value is None else value)
        except ConfigError as error:
            yield str(error)
    yield from _jitter_problems(serving.jitter)


def _jitter_problems(jitter: Jitter) -> Iterator[str]:
    for name in ("decode", "prefill"):
        column = getattr(jitter, name)
        if not _rises(column) or column[0] <= 0 or abs(sum(column) / len(column) - 1) > _MEAN_TOLERANCE:
            yield f"serving.jitter.{name} must be positive, not decreasing, with mean 1"
    if not (all(share >= 0 for share in jitter.persistent) and sum(jitter.persistent) <= 1):
        yield f"serving.jitter.persistent = {list(jitter.persistent)} must be 0 or more, and 1 at most together"
    if len(jitter.memory) != len(jitter.persistent) or not all(0 <= memory < 1 for memory in jitter.memory):
        yield "serving.jitter.memory must be 0 or more and below 1, and as long as serving.jitter.persistent"
    if not 0 <= jitter.stall_probability <= 1:
        yield f"serving.jitter.stall_probability = {jitter.stall_probability} must be within 0 and 1"
    if bool(jitter.stall_probability) != bool(jitter.stalls) or (
        jitter.stalls and not (_rises(jitter.stalls) and jitter.stalls[0] > 0)
    ):
        yield "serving.jitter.stalls must be positive and not decreasing, and there if a step can stall"


def _rises(column: Sequence[float]) -> bool:
    return bool(column) and all(map(math.isfinite, column)) and all(b >= a for a, b in pairwise(column))
