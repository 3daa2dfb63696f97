"""The service-time curve: several forms fitted by least squares on relative error, chosen by held-out error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from simqueue.accuracy import predict
from simqueue.profile import Curve, Errors, Point

Array = NDArray[np.float64]
_COEFFICIENTS = ("base_s", "per_row_s", "per_new_token_s", "per_context_token_s", "per_pair_s")


@dataclass(frozen=True)
class Padding:
    """What a runner pads to, in the words of `Curve`; empty for one that does not."""

    rows: tuple[int, ...] = ()
    length: tuple[int, ...] = ()
    context: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Form:
    """A form of curve: knots along one axis, and which coefficients are free (at every knot, or once)."""

    name: str
    axis: str
    knots: tuple[int, ...]
    rule: str
    per_knot: tuple[str, ...]
    once: tuple[str, ...]
    floor: bool

    def curve(self, theta: Array, padding: Padding, errors: Array | None = None) -> Curve:
        """The curve with these coefficients, in the order of the columns of `_design`."""
        values, spread = self._named(theta), self._named(np.zeros_like(theta) if errors is None else errors)

        def column(name: str) -> tuple[float, ...]:
            found = values.get(name, (0.0,))
            return found if len(found) == len(self.knots) else found * len(self.knots)

        return Curve(
            form=self.name,
            axis=self.axis,  # type: ignore[arg-type]
            knots=self.knots,
            rule=self.rule,  # type: ignore[arg-type]
            floor_s=values.get("floor_s", (0.0,))[0],
            base_s=column("base_s"),
            per_row_s=values.get("per_row_s", (0.0,))[0],
            per_new_token_s=column("per_new_token_s"),
            per_context_token_s=column("per_context_token_s"),
            per_pair_s=values.get("per_pair_s", (0.0,))[0],
            pad_rows=padding.rows,
            pad_length=padding.length,
            pad_context=padding.context,
            standard_errors=spread,
            errors={},
            reading=(),
        )

    def _named(self, theta: Array) -> dict[str, tuple[float, ...]]:
        found, k = {}, 0
        for name in (*self.per_knot, *self.once, *(("floor_s",) if self.floor else ())):
            n = len(self.knots) if name in self.per_knot else 1
            found[name] = tuple(float(v) for v in theta[k : k + n])
            k += n
        return found


def fit_curve(kind: str, train: Sequence[Point], held_out: Sequence[Point], padding: Padding) -> Curve:
    """The best of the forms by root mean square held-out error, with the held-out errors of all of them.

    ``kind`` is "decode", "prefill" (chunks too) or "totals". Without held-out cells the errors are the fit's own.
    """
    fits = {form.name: _fit(form, kind, train, padding) for form in _forms(kind, train, padding)}
    scores = {name: relative(curve, kind, held_out or train) for name, curve in fits.items()}
    errors = {name: errors_of(score) for name, score in scores.items()}
    best = min(fits, key=lambda name: float(np.mean(scores[name] ** 2)))
    curve = fits[best]
    return msgspec.structs.replace(curve, errors=errors)


def relative(curve: Curve, kind: str, points: Sequence[Point]) -> Array:
    """Predicted / measured - 1 of every cell."""
    return np.array([predict(curve, kind, p) / p.seconds - 1 for p in points])


def errors_of(errors: Array) -> Errors:
    """Median and 95th percentile of the size of relative errors, and their signed mean."""
    size = np.abs(errors)
    return Errors(median=float(np.median(size)), p95=float(np.quantile(size, 0.95)), mean=float(np.mean(errors)))


def _forms(kind: str, train: Sequence[Point], padding: Padding) -> list[_Form]:
    once: dict[str, tuple[str, ...]] = {
        "decode": ("per_row_s", "per_context_token_s"),
        "prefill": ("per_row_s", "per_new_token_s", "per_context_token_s", "per_pair_s"),
        "totals": ("per_row_s", "per_new_token_s", "per_context_token_s"),
    }
    top = (int(max(_sizes(kind, p, padding)[0] for p in train)),)
    forms = [
        _Form("affine", "rows", top, "ceil", ("base_s",), once[kind], False),
        _Form("floor", "rows", top, "ceil", ("base_s",), once[kind], True),
    ]
    axis, column = ("new_tokens", 1) if kind == "prefill" else ("rows", 0)
    seen = sorted({int(_sizes(kind, p, padding)[column]) for p in train})
    bends = _thinned(seen) if kind != "decode" else tuple(seen)
    rule = "ceil" if kind == "decode" and padding.rows else "linear"
    at_knots = ("base_s", "per_context_token_s") if kind == "decode" else ("base_s",)
    rest = tuple(
        name
        for name in once[kind]
        if name not in at_knots and name != {"new_tokens": "per_new_token_s"}.get(axis, "per_row_s")
    )
    if len(bends) * len(at_knots) < len(train):
        forms += [
            _Form("piecewise", axis, bends, rule, at_knots, rest, False),
            _Form("piecewise_floor", axis, bends, rule, at_knots, rest, True),
        ]
    return forms


def _thinned(sizes: Sequence[int]) -> tuple[int, ...]:
    """At most one knot per doubling, the first and the last kept."""
    kept = [sizes[0]]
    for size in sizes[1:]:
        if size >= 2 * kept[-1]:
            kept.append(size)
    return tuple(kept) if kept[-1] == sizes[-1] else (*kept, sizes[-1])


def _sizes(kind: str, point: Point, padding: Padding) -> tuple[float, float, float, float]:
    """Rows, new tokens, context and pairs of a cell as the curve counts them, padding included."""
    if kind == "totals":
        return point.rows, point.width, point.context, 0.0
    if kind == "decode":
        rows = _pad(padding.rows, point.decode_rows)
        return rows, rows, rows * _pad(padding.length, point.longest), 0.0
    rows, width = _pad(padding.rows, point.rows), _pad(padding.length, point.width)
    context = _pad(padding.context, point.context) if point.context else 0
    return rows, rows * width, rows * context, rows * width * max(width / 2, context)


def _pad(sizes: tuple[int, ...], size: int) -> int:
    return next((s for s in sizes if s >= size), size)


def _design(form: _Form, kind: str, points: Sequence[Point], padding: Padding) -> Array:
    """One row a point, one column a coefficient: the terms of the curve before the floor."""
    sizes = np.array([_sizes(kind, p, padding) for p in points])
    terms = dict(zip(_COEFFICIENTS, np.column_stack([np.ones(len(points)), sizes]).T, strict=True))
    x = sizes[:, 0] if form.axis == "rows" else sizes[:, 1]
    weights = _weights(form, x)
    columns = [weights * terms[name][:, None] for name in form.per_knot]
    return np.hstack([*columns, *(terms[name][:, None] for name in form.once)])


def _weights(form: _Form, x: Array) -> Array:
    """How much each knot's coefficient counts at each point: hats, or one for the first knot at or above it."""
    knots = np.array(form.knots, np.float64)
    if form.rule == "ceil":
        at = np.minimum(np.searchsorted(knots, x), len(knots) - 1)
        return np.asarray(np.eye(len(knots))[at], np.float64)
    return np.column_stack([np.interp(x, knots, row) for row in np.eye(len(knots))])


def _fit(form: _Form, kind: str, points: Sequence[Point], padding: Padding) -> Curve:
    """Least squares on relative error with coefficients of 0 or more; then, under a floor, on log error."""
    measured = np.array([p.seconds for p in points])
    design = _design(form, kind, points, padding)
    scale = np.abs(design).max(axis=0)
    unseen = scale == 0
    scale[unseen] = 1.0
    theta = optimize.nnls(design / scale / measured[:, None], np.ones(len(points)))[0]
    active = np.ones(len(points), bool)
    if form.floor:
        theta = _fit_floor(design / scale, measured, theta)
        # the search ends a little inside its bounds; what moves no step by a billionth of itself is 0
        theta[theta < 1e-9 * measured.min()] = 0.0
        theta[:-1][unseen] = 0.0
        active = design / scale @ theta[:-1] > theta[-1]
        scale = np.append(scale, 1.0)
        design = np.column_stack([design * active[:, None], ~active])
    return form.curve(theta / scale, padding, _spread(design / scale, measured, theta) / scale)


def _fit_floor(design: Array, measured: Array, start: Array) -> Array:
    """Coefficients and, last, the floor. The larger of two terms is not smooth, so from several floors."""

    def residuals(theta: Array) -> Array:
        predicted = np.maximum(design @ theta[:-1], theta[-1])
        return np.asarray(np.log(np.maximum(predicted, 1e-12) / measured), np.float64)

    best, least = np.append(start, 0.0), np.inf
    for quantile in (0.02, 0.1, 0.25, 0.5):
        floor = float(np.quantile(measured, quantile))
        above = measured > 1.05 * floor
        if above.sum() > design.shape[1]:
            fitted = optimize.nnls(design[above] / measured[above, None], np.ones(above.sum()))[0]
            guess = np.append(fitted, floor)
        else:
            guess = np.append(start, floor)
        unit = np.maximum(np.abs(guess), 1e-9)
        found = optimize.least_squares(lambda t, u=unit: residuals(t * u), guess / unit, bounds=(0, np.inf))  # type: ignore[misc]
        if found.cost < least:
            best, least = found.x * unit, found.cost
    return best


def _spread(design: Array, measured: Array, theta: Array) -> Array:
    """Standard errors of the coefficients, from the residuals of the relative fit and the inverse normal matrix.

    Seber and Wild, Nonlinear Regression (1989), section 2.1; a coefficient held at 0 has none.
    """
    jacobian = design / measured[:, None]
    free = (theta > 0) & (np.abs(jacobian).max(axis=0) > 0)
    residual = jacobian @ theta - 1
    variance = residual @ residual / max(1, len(measured) - free.sum())
    errors = np.zeros(len(theta))
    normal = jacobian[:, free].T @ jacobian[:, free]
    errors[free] = np.sqrt(np.maximum(np.diag(variance * np.linalg.pinv(normal)), 0))
    return errors
