"""What scatters as a profile says is measured as the profile says."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from profiles import jitter
from scipy import stats
from test_paths import made

from calibration.jitter import jitter_of, outside, stalling
from calibration.records import Records
from simqueue.cost.noise import all_draws
from simqueue.cost.spread import ServingSpread
from simqueue.profile import Jitter

COUNT = 60_000
AT = (np.arange(200) + 0.5) / 200
TRUE = jitter(
    decode=tuple(1 + 0.02 * stats.norm.ppf(AT)),
    prefill=tuple(np.linspace(0.9, 1.1, 200)),
    persistent=(0.2, 0.4),
    memory=(0.5, 0.97),
    stall_probability=0.003,
    stalls=(1.0, 2.0, 5.0),
)


def served(true: Jitter, seed: int = 1) -> tuple[Records, np.ndarray[Any, Any]]:
    """Steps of a price of 1, every fourth of which prefills."""
    draws = all_draws(ServingSpread(true), np.random.SeedSequence(seed), COUNT) * true.mean
    prefills = np.arange(COUNT) % 4 == 3
    seconds = np.where(prefills, draws[:, 1], draws[:, 0])
    records = made("step", seconds.tolist(), rows=[1] * COUNT, prefill_rows=prefills.astype(np.int64).tolist())
    return records, prefills.astype(np.int64)


def measured(records: Records, shapes: np.ndarray[Any, Any], price: float = 1.0) -> Jitter:
    prices = np.full(len(records), price)
    return jitter_of(records, prices, shapes, stalling(records, prices))


def correlation(of: Jitter, lag: int) -> float:
    return sum(share * memory**lag for share, memory in zip(of.persistent, of.memory, strict=True))


def test_everything_comes_back() -> None:
    found = measured(*served(TRUE))
    for kind in ("decode", "prefill"):
        column, true = (np.array(getattr(of, kind)) for of in (found, TRUE))
        # A state that is remembered for 30 steps counts as some forty times fewer.
        assert np.abs(np.searchsorted(true, column)[5:-5] / 200 - AT[5:-5]).max() < 4 * 0.5 * (40 / COUNT) ** 0.5
        assert column.mean() == pytest.approx(1, abs=1e-6)
    for lag, measured_at in zip(found.lags, found.autocorrelation, strict=True):
        assert measured_at == pytest.approx(correlation(TRUE, lag), abs=0.04)
        assert correlation(found, lag) == pytest.approx(measured_at, abs=0.03)
    expected = COUNT * TRUE.stall_probability
    assert abs(found.stall_probability * COUNT - expected) < 4 * expected**0.5
    assert np.mean(found.stalls) == pytest.approx(np.mean(TRUE.stalls), rel=0.15)
    assert found.mean == pytest.approx(TRUE.mean, rel=0.003)
    assert np.mean(found.drift) == pytest.approx(1, abs=1e-3)


def test_measured_again_from_its_own_draws_it_is_the_same() -> None:
    once = measured(*served(TRUE))
    twice = measured(*served(once, seed=2))
    assert np.allclose(twice.autocorrelation, once.autocorrelation, atol=0.06)
    assert twice.stall_probability == pytest.approx(once.stall_probability, rel=0.4)
    assert np.abs(np.array(twice.decode) - once.decode)[20:-20].max() < 0.004


def test_steps_that_forget_at_once() -> None:
    found = measured(*served(jitter(persistent=(), memory=(), stall_probability=0.0, stalls=())))
    assert np.abs(found.autocorrelation).max() < 4 / COUNT**0.5
    assert (found.persistent, found.memory) == ((), ())
    assert (found.stall_probability, found.stalls, found.mean) == (0.0, (), 1.0)


def test_gaps_between_steps_are_no_neighbours() -> None:
    """Alternating steps of two states: with a start between any two, nothing is known of neighbours."""
    records, shapes = served(msgspec.structs.replace(TRUE, persistent=(1.0,), memory=(0.999,)))
    records.kind[::2] = "idle"
    found = measured(records, shapes)
    assert found.autocorrelation[0] == 0.0
    assert found.autocorrelation[1] > 0.9


def test_an_error_of_a_shapes_price_is_no_scatter() -> None:
    """A shape that takes a tenth longer whenever it comes, which is in long stretches, seems persistent otherwise."""
    true = jitter(persistent=(), memory=(), stall_probability=0.0, stalls=(), decode=TRUE.decode)
    records, _ = served(true)
    shapes = np.arange(COUNT) // 5000 % 2
    records.seconds[shapes == 1] *= 1.1
    decode = records.prefill_rows == 0
    found = measured(records.where(decode), shapes[decode])
    assert np.abs(found.autocorrelation).max() < 0.02
    assert np.ptp(found.decode) < 0.15
    blurred = measured(records.where(decode), np.zeros(int(decode.sum()), np.int64))
    assert blurred.autocorrelation[-1] > 0.5


def test_a_drift_shows() -> None:
    records, shapes = served(TRUE)
    records.seconds[:] *= np.linspace(0.95, 1.05, COUNT)
    found = measured(records, shapes)
    assert found.drift[0] == pytest.approx(0.955, abs=0.01)
    assert found.drift[-1] == pytest.approx(1.045, abs=0.01)


def test_what_stands_out_stands_out_among_its_sort() -> None:
    ratio = np.array([1.0, 1.01, 0.99, 1.2, 1.0, 5.0, 6.0, 5.5, 5.2, 40.0])
    sort = np.array(["decode"] * 5 + ["prefill"] * 5)
    assert outside(ratio, sort).tolist() == [False, False, False, True, False, False, False, False, False, True]
