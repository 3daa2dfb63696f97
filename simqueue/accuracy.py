"""How far a profile's fitted curves are from held-out cells, whether that is good enough, and if not why."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from simqueue.profile import Curve, Errors, Point, Profile

CurveKind = Literal["decode", "prefill", "chunk", "totals"]
KINDS: tuple[CurveKind, ...] = ("decode", "prefill", "chunk", "totals")
# median, 95th percentile and signed mean of the relative error on held-out cells
_DECODE = Errors(median=0.03, p95=0.08, mean=0.005)
_PREFILL = Errors(median=0.05, p95=0.12, mean=0.005)
_FLAT = 1.1
_ALIGNED = 8


@dataclass(frozen=True)
class Target:
    """One figure of a curve's held-out error beside what it should stay under, both as a fraction."""

    figure: str
    value: float
    limit: float

    @property
    def reached(self) -> bool:
        return abs(self.value) <= self.limit


def predict(curve: Curve, kind: str, point: Point) -> float:
    """Seconds that a curve gives for a cell."""
    if kind == "decode":
        return curve.decode(point.decode_rows, point.longest)
    if kind == "totals":
        return curve.seconds(point.rows, point.width, point.context)
    return curve.prefill(point.rows, point.width, point.context)


def points_of(profile: Profile, kind: CurveKind) -> list[Point]:
    """The cells that belong to one curve, held out or not."""
    name = "total" if kind == "totals" else kind
    return [p for p in profile.points if p.kind == name]


def repeat_noise(profile: Profile, kind: CurveKind) -> float:
    """What repeats leave open of a held-out cell's median, relative, in the median over cells; 0 without any.

    The standard error of a median is that of a mean times sqrt(pi / 2) (Kenney and Keeping 1962, normal samples).
    """
    left = [(math.pi / 2 / p.repeats) ** 0.5 * p.cv for p in points_of(profile, kind) if p.held_out]
    return float(np.median(left)) if left else 0.0


def targets(profile: Profile, kind: CurveKind) -> list[Target]:
    """The chosen curve's held-out errors and their limits: those of prefill are at least twice the repeat noise.

    None for "totals": what can be reached depends on what was summed.
    """
    curve: Curve | None = getattr(profile.curves, kind)
    if curve is None or kind == "totals":
        return []
    limits, errors = (_DECODE if kind == "decode" else _PREFILL), curve.errors[curve.form]
    least = 0.0 if kind == "decode" else 2 * repeat_noise(profile, kind)
    return [
        Target("median", errors.median, max(limits.median, least)),
        Target("p95", errors.p95, max(limits.p95, least)),
        Target("signed mean", errors.mean, limits.mean),
    ]


def causes(profile: Profile, kind: CurveKind) -> Iterator[str]:
    """Likely reasons for the held-out errors of a curve, from the profile's own cells."""
    curve: Curve | None = getattr(profile.curves, kind)
    held = [p for p in points_of(profile, kind) if p.held_out]
    if curve is None or not held:
        return
    worst = max(held, key=lambda p: abs(predict(curve, kind, p) / p.seconds - 1))
    yield f"largest error {predict(curve, kind, worst) / worst.seconds - 1:+.1%}, at {shape(worst)}"
    if profile.runner == "eager":
        yield from _eager_causes(curve, kind, held)
        yield from _alignment(profile, kind)
    yield from _falling(profile, kind)


def shape(point: Point) -> str:
    """A cell in words."""
    if point.kind == "decode":
        return f"{_count(point.decode_rows, 'row')} with up to {_count(point.longest, 'token')} in the cache"
    if point.kind == "total":
        return f"{_count(point.rows, 'row')}, {_count(point.width, 'new token')}, context {point.context}"
    return f"{_count(point.rows, 'row')} of {_count(point.width, 'new token')} on a context of {point.context}"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def _eager_causes(curve: Curve, kind: CurveKind, held: list[Point]) -> Iterator[str]:
    """A launch-bound step takes what the host takes, which varies; and padding brings a mask with it."""
    least = min(predict(curve, kind, p) for p in held)
    bound = [p.cv for p in held if predict(curve, kind, p) <= _FLAT * least]
    yield (
        f"host noise: {len(bound)} of {len(held)} held-out steps are launch-bound, and their repeats scatter by "
        f"{np.median(bound):.1%} (standard deviation / mean, median)"
    )
    yield (
        "padding mask: a batch of one row, or of one token, has no padding and skips the mask, which the others pay "
        "for; no form has a term for that"
    )


def _alignment(profile: Profile, kind: CurveKind) -> Iterator[str]:
    """Kernels are quickest on aligned sizes, which the widths of the table mostly are."""
    odd = [p for p in points_of(profile, kind) if p.held_out and p.width % _ALIGNED]
    if kind == "prefill" and odd:
        yield (
            f"alignment: most widths of the table are multiples of {_ALIGNED}, {len(odd)} held-out ones are not, and "
            "kernels are likely slower on sizes that are not aligned"
        )


def _falling(profile: Profile, kind: CurveKind) -> Iterator[str]:
    """Where more rows take less time, which no form can follow."""
    cells = [p for p in points_of(profile, kind) if not p.held_out and p.kind in ("prefill", "chunk")]
    by_width: dict[int, list[Point]] = {}
    for p in sorted(cells, key=lambda p: p.rows):
        by_width.setdefault(p.width, []).append(p)
    falls = [(a, b) for line in by_width.values() for a, b in pairwise(line) if b.seconds < 0.95 * a.seconds]
    if profile.runner == "graph" and falls:
        a, b = min(falls, key=lambda pair: pair[1].seconds / pair[0].seconds)
        yield (
            f"more rows can take less time: {a.rows} rows of {a.width} tokens {a.seconds * 1e3:.2f} ms, {b.rows} rows "
            f"{b.seconds * 1e3:.2f} ms (every captured launch has an attention plan of its own); the curve is linear "
            "in the rows and cannot follow, the table does"
        )
