"""The fit finds the coefficients that cells were made from, says how well it knows them, and picks the right form."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.fit import Padding, errors_of, fit_curve
from simqueue.profile import Point

ROWS = (1, 2, 4, 8, 16, 32, 64, 128)
LENGTHS = (1, 64, 256, 512, 1023)


def cell(kind, seconds, held_out=False, **sizes):
    plain = {"rows": 0, "width": 0, "context": 0, "decode_rows": 0, "longest": 0, **sizes}
    times = {"seconds": float(seconds), "mean_s": float(seconds), "device_s": float(seconds)}
    return Point(kind=kind, **plain, **times, cv=0.0, repeats=1, held_out=held_out)


def decode_cells(law, rng, noise, rows=ROWS, lengths=LENGTHS, held_out=False):
    return [
        cell("decode", law(r, n) * np.exp(noise * rng.normal()), held_out, decode_rows=r, longest=n)
        for r in rows
        for n in lengths
    ]


def affine(r, n):
    return 2e-3 + 3e-5 * r + 2e-8 * r * n


def floored(r, n):
    return max(4e-3, 1e-3 + 5e-5 * r + 2e-8 * r * n)


def stepped(r, n):
    padded = next(size for size in ROWS if size >= r)
    base = {1: 0.8e-3, 2: 0.8e-3, 4: 0.9e-3, 8: 1.3e-3, 16: 1.4e-3, 32: 2.6e-3, 64: 2.7e-3, 128: 6e-3}[padded]
    return base + 1e-8 * padded * n


def between(law, rng, noise):
    return decode_cells(law, rng, noise, rows=(3, 5, 11, 27, 50, 90, 127), lengths=(30, 400, 900), held_out=True)


def test_affine_coefficients_are_recovered():
    rng = np.random.default_rng(1)
    curve = fit_curve("decode", decode_cells(affine, rng, 0), between(affine, rng, 0), Padding())
    assert curve.errors["affine"].p95 < 1e-6
    assert curve.decode(100, 1000) == pytest.approx(affine(100, 1000), rel=1e-6)
    assert curve.decode(1, 1) == pytest.approx(affine(1, 1), rel=1e-6)


def test_a_launch_floor_is_recovered_and_chosen():
    rng = np.random.default_rng(2)
    curve = fit_curve("decode", decode_cells(floored, rng, 0.005), between(floored, rng, 0.005), Padding())
    assert curve.form == "floor"
    assert curve.floor_s == pytest.approx(4e-3, rel=0.01)
    assert curve.per_row_s == pytest.approx(5e-5, rel=0.05)
    assert curve.per_context_token_s[0] == pytest.approx(2e-8, rel=0.05)
    assert curve.errors["floor"].p95 < 0.02 < curve.errors["affine"].p95


def test_steps_at_buckets_are_recovered_and_chosen():
    rng = np.random.default_rng(3)
    padding = Padding(rows=ROWS)
    curve = fit_curve("decode", decode_cells(stepped, rng, 0.005), between(stepped, rng, 0.005), padding)
    assert curve.form in ("piecewise", "piecewise_floor")
    assert curve.rule == "ceil"
    assert curve.knots == ROWS
    for r, n in ((3, 500), (17, 100), (65, 900)):
        assert curve.decode(r, n) == pytest.approx(stepped(r, n), rel=0.02)
    assert curve.errors[curve.form].p95 < 0.02 < curve.errors["affine"].p95


def test_pairs_of_a_prefill_are_recovered():
    def law(r, w):
        return 1e-3 + 2e-5 * r + 6e-7 * r * w + 3e-10 * r * w * w / 2

    cells = [cell("prefill", law(r, w), rows=r, width=w) for r in (1, 2, 8, 32) for w in (1, 16, 64, 256, 1024)]
    held = [cell("prefill", law(r, w), True, rows=r, width=w) for r in (3, 20) for w in (5, 100, 700)]
    curve = fit_curve("prefill", cells, held, Padding())
    assert curve.errors["affine"].p95 < 1e-6
    assert curve.prefill(20, 700) == pytest.approx(law(20, 700), rel=1e-4)


def test_a_term_that_no_cell_has_is_0():
    """Prompts from their start have no context: nothing is known of its cost, and nothing may be made up."""
    cells = [cell("prefill", max(4e-3, 1e-6 * r * w), rows=r, width=w) for r in ROWS for w in (1, 16, 128, 1024)]
    curve = fit_curve("prefill", cells, [], Padding())
    assert set(curve.per_context_token_s) == {0.0}


def test_standard_errors_cover():
    """In 40 fits to noisy cells about 93 % of estimates lie within two standard errors (Student, 13 degrees)."""
    true = np.array([2e-3, 3e-5, 2e-8])
    found, spread = [], []
    for seed in range(40):
        # with two contexts a number of rows there are too few cells for knots, so affine terms are what is fitted
        cells = decode_cells(affine, np.random.default_rng(seed), 0.02, lengths=(1, 1023))
        curve = fit_curve("decode", cells, [], Padding())
        names = ("base_s", "per_row_s", "per_context_token_s")
        found.append([curve.base_s[0], curve.per_row_s, curve.per_context_token_s[0]])
        spread.append([curve.standard_errors[name][0] for name in names])
    inside = (np.abs(np.array(found) - true) <= 2 * np.array(spread)).sum(axis=0)
    assert (inside >= 32).all()
    assert np.std(found, axis=0) == pytest.approx(np.mean(spread, axis=0), rel=0.35)


def test_errors_are_of_size_and_sign():
    errors = errors_of(np.array([-0.1, 0.02, 0.02, 0.02]))
    assert errors.median == pytest.approx(0.02)
    assert errors.p95 == pytest.approx(np.quantile([0.02, 0.02, 0.02, 0.1], 0.95))
    assert errors.mean == pytest.approx(-0.01)
