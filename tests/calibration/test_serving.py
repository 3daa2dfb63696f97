"""Calibrating a simulated server, whose terms are known, gives them back within the standard errors that it states."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import msgspec
import numpy as np
import pytest
from profiles import jitter, serving
from simulated import records_of

from calibration.records import Records
from calibration.serving import COEFFICIENTS, design_of, serving_of
from simqueue import NoNoise, ServingNoise
from simqueue.lag import pairs
from simqueue.profile import Paths, Profile, Serving, load_profile

TRUE_WAKE_S = 8e-5
TRUE = serving(
    decode_factor=1.02,
    prefill_factor=0.97,
    per_step_s=60e-6,
    per_row_s=1e-6,
    per_prefill_s=30e-6,
    per_prefill_row_s=10e-6,
    per_start_row_s=6e-6,
    jitter=jitter(
        decode=tuple(np.linspace(0.97, 1.03, 50)), prefill=tuple(np.linspace(0.95, 1.05, 50)), stall_probability=0.002
    ),
    paths=Paths(
        request_path_s=1.5e-4,
        wake_s=TRUE_WAKE_S,
        handover_s=2e-4,
        handover_per_request_s=5e-6,
        response_path_s=1e-4,
        response_per_row_s=2e-6,
        timer_late_s=7e-5,
        start_s=((2e-3, 4e-5), (2e-2, 1.4e-4), (2.0, 3e-4)),
        exposed_s=6e-5,
        exposed_per_row_s=2e-6,
        pause_s=4e-5,
        pause_per_row_s=1e-6,
    ),
)


@cache
def graph(served: bool = True) -> Profile:
    return msgspec.structs.replace(load_profile("gpt2-h200-bf16-graph-128"), serving=TRUE if served else None)


@cache
def recorded(seconds: float = 20.0, seed: int = 0, noise: Any = ServingNoise()) -> Records:  # noqa: B008
    return records_of(graph(), noise, seconds, seed)


def found(records: Records) -> Serving:
    made = serving_of(graph(served=False), records)
    assert made is not None
    return made


def deviations(made: Serving) -> np.ndarray[Any, Any]:
    """How many standard errors each coefficient is off."""
    return np.array([(getattr(made, name) - getattr(TRUE, name)) / made.standard_errors[name] for name in COEFFICIENTS])


def assert_starts(made: Serving, tolerance: float) -> None:
    """Where starts were, a start takes what it does."""
    known, true = pairs(made.paths.start_s), pairs(TRUE.paths.start_s)
    assert len(known) == 8
    assert known[0][0] < 5e-3 < 0.15 < known[-1][0]
    for since, taken in known:
        assert taken == pytest.approx(np.interp(since, *zip(*true, strict=True)), abs=tolerance)


def test_without_noise_everything_comes_back() -> None:
    quiet = msgspec.structs.replace(TRUE, jitter=jitter(stall_probability=0.0, stalls=()))
    records = records_of(msgspec.structs.replace(graph(), serving=quiet), NoNoise(), 20.0)
    made = found(records)
    assert_starts(made, 1e-5)
    for name in COEFFICIENTS:
        assert getattr(made, name) == pytest.approx(getattr(TRUE, name), rel=1e-5)
    assert made.per_start_row_s == pytest.approx(TRUE.per_start_row_s, rel=1e-2)
    lines = ("handover_s", "handover_per_request_s", "response_path_s", "response_per_row_s")
    for name in (*lines, "exposed_s", "exposed_per_row_s", "pause_s", "pause_per_row_s"):
        assert getattr(made.paths, name) == pytest.approx(getattr(TRUE.paths, name), rel=5e-3)
    way = made.paths.request_path_s
    for _, wake_s in pairs(made.paths.wake_s):
        assert way + wake_s == pytest.approx(TRUE.paths.request_path_s + TRUE_WAKE_S, rel=1e-3)
    assert way + made.paths.timer_late_s == pytest.approx(TRUE.paths.request_path_s + TRUE.paths.timer_late_s, rel=1e-3)
    assert made.jitter.stall_probability == 0
    assert max(made.jitter.decode) - min(made.jitter.decode) < 1e-6
    assert all(errors.p95 < (0.005 if sort in ("start", "pause") else 1e-6) for sort, errors in made.errors.items())


def test_coefficients_come_back_within_their_standard_errors() -> None:
    made = found(recorded(60.0))
    assert np.abs(deviations(made)).max() < 4
    for name, most in zip(COEFFICIENTS, (0.02, 0.03, 15e-6, 1e-6, 30e-6, 5e-6), strict=True):
        assert made.standard_errors[name] < most, name
    assert made.errors.keys() == {"decode", "prefill", "chunk", "start", "exposed", "pause"}
    assert all(errors.median < 0.02 for errors in made.errors.values())


def test_standard_errors_cover() -> None:
    """Steps remember each other, and still most coefficients of 12 calibrations are within two of them, unbiased."""
    off = np.array([deviations(found(recorded(15.0, seed))) for seed in range(300, 312)])
    assert np.mean(np.abs(off) < 2) > 0.85
    assert np.abs(off).max() < 6
    assert np.abs(off.mean(axis=0)).max() < 4 / 12**0.5


def test_long_stalls_move_nothing() -> None:
    records = recorded()
    rng = np.random.default_rng(1)
    stalled = (records.kind == "step") & (rng.random(len(records)) < 0.01)
    made = found(replace(records, seconds=np.where(stalled, 50 * records.seconds, records.seconds)))
    assert np.abs(deviations(made)).max() < 4
    expected = TRUE.jitter.stall_probability + 0.01
    assert made.jitter.stall_probability == pytest.approx(expected, rel=0.35)
    assert max(made.jitter.stalls) > 45


def test_a_cost_that_the_model_has_no_term_for_shows_in_the_errors() -> None:
    records = recorded()
    curved = replace(records, seconds=records.seconds + 2e-3 * np.sin(records.rows / 20) ** 2)
    for sort in ("decode", "prefill"):
        assert found(records).errors[sort].p95 < 0.03 < 0.06 < found(curved).errors[sort].p95


def test_what_no_step_tells_stays_where_it_was_expected() -> None:
    """Of one row and no prompt: the table's factor and the seconds of a step cannot be told apart, their sum can."""
    records = recorded()
    alone = records.where((records.kind == "step") & (records.rows == 1) & (records.longest < 128))
    alone = alone.where(alone.prefill_rows == 0)
    made = found(Records.joined([alone] * 3))
    assert made.decode_factor == pytest.approx(1, abs=0.06)
    assert made.standard_errors["decode_factor"] == pytest.approx(0.05, rel=0.2)
    assert (made.prefill_factor, made.per_prefill_s) == (1, 0)
    theta = np.array([getattr(made, name) for name in COEFFICIENTS])
    price = design_of(graph(served=False), alone) @ theta
    assert np.median(alone.seconds / price) == pytest.approx(1, abs=0.01)


def test_few_steps_say_nothing() -> None:
    records = recorded()
    assert serving_of(graph(served=False), records.where(np.arange(len(records)) < 150)) is None
    assert serving_of(graph(served=False), Records.nothing()) is None
