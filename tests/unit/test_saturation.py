"""Saturation throughput: exact wherever the run repeats itself, and what it says about stability."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
import pytest

import simqueue
from simqueue import (
    Affine,
    Continuous,
    Dynamic,
    ExponentialNoise,
    NoBatching,
    Overheads,
    Static,
    System,
    Workload,
    saturation_rps,
)

COST = Affine(base_s=0.8e-3, per_row_s=8e-6, per_new_token_s=7e-6, per_context_token_s=2e-9)


def alike(count: int, prompt: int, output: int, rate: float = 1.0) -> Workload:
    """Requests that are all the same."""
    return Workload.from_columns(np.arange(count) / rate, [prompt] * count, [output] * count)


def batch_s(rows: int, prompt: int, output: int) -> float:
    """Time of a run-to-completion batch, by the formula."""
    first = COST.base_s + COST.per_row_s * rows + COST.per_new_token_s * rows * prompt
    later = [
        COST.base_s + (COST.per_row_s + COST.per_new_token_s) * rows + COST.per_context_token_s * rows * (prompt + age)
        for age in range(output - 1)
    ]
    return first + sum(later)


@pytest.mark.parametrize("output", [1, 40])
@pytest.mark.parametrize(
    ("policy", "rows"),
    [
        (NoBatching(), 1),
        *((Static(batch, release), batch) for batch in (1, 7, 32) for release in ("batch", "request")),
        (Dynamic(7), 7),
        (Dynamic(7, 0.1, 3, "request"), 7),
        (Dynamic(8, inf), 8),
        (Dynamic(8, inf, 2, "request"), 8),
    ],
    ids=repr,
)
def test_run_to_completion(policy: Any, rows: int, output: int) -> None:
    workload = alike(1000, 60, output)
    expected = rows / batch_s(rows, 60, output)
    assert saturation_rps(workload, System(policy, COST)) == pytest.approx(expected, rel=1e-9)
    # A hand-over lengthens every cycle; what is on the way before and after does not.
    over = Overheads(1.0, 2e-3, 1e-4, 1.0, 1.0)
    slower = rows / (batch_s(rows, 60, output) + 2e-3 + 1e-4 * rows)
    assert saturation_rps(workload, System(policy, COST, overheads=over)) == pytest.approx(slower, rel=1e-9)


def test_noise_has_mean_1_and_is_left_out() -> None:
    workload = alike(500, 60, 3)
    noisy = System(Static(4), COST, ExponentialNoise())
    assert saturation_rps(workload, noisy) == saturation_rps(workload, System(Static(4), COST))


def test_unequal_lengths_within_batches() -> None:
    """Short and long in turn, so that every batch of two has one of each: a step of 1 s for each of 9 tokens."""
    workload = Workload.from_columns(np.zeros(400), [1] * 400, [1, 9] * 200)
    for release in ("batch", "request"):
        assert saturation_rps(workload, System(Static(2, release), Affine(1.0))) == pytest.approx(2 / 9)
    assert saturation_rps(workload, System(NoBatching(), Affine(1.0))) == pytest.approx(2 / 10, rel=1e-2)


def test_without_a_limit_everybody_is_one_batch() -> None:
    workload = Workload.from_columns(np.zeros(100), [1] * 100, [1, 9] * 50)
    for release in ("batch", "request"):
        system = System(Dynamic(release=release), Affine(1.0, 0.1))
        assert saturation_rps(workload, system) == pytest.approx(100 / (9 * 11))


def test_continuous_by_hand() -> None:
    """Seats fill and empty together: a prefill of 8 rows, then 39 decode steps of 8, over and over."""
    workload = alike(800, 60, 40)
    expected = 8 / batch_s(8, 60, 40)
    assert saturation_rps(workload, System(Continuous(8), COST)) == pytest.approx(expected, rel=1e-9)


def test_continuous_of_one_step_a_request() -> None:
    """Single passes: every step serves 8, whatever the way of batching."""
    expected = 8 / batch_s(8, 60, 1)
    for policy in (Continuous(8), Continuous(8, 480), Dynamic(8), Static(8)):
        assert saturation_rps(alike(800, 60, 1), System(policy, COST)) == pytest.approx(expected, rel=1e-9)


def test_a_budget_of_tokens_bounds_the_throughput() -> None:
    """64 seats but 10 tokens a step of 1 s: a prompt of 5 and one more token each take 6 tokens, so 10/6 a second."""
    workload = alike(3000, 5, 2)
    found = saturation_rps(workload, System(Continuous(10, 10), Affine(1.0)))
    assert found == pytest.approx(10 / 6, rel=2e-3)


def test_with_a_seat_for_everybody_it_is_the_whole_run() -> None:
    workload = Workload.from_columns(np.zeros(10), [1] * 10, list(range(1, 11)))
    assert saturation_rps(workload, System(Continuous(10), Affine(1.0))) == pytest.approx(10 / 10)
    assert saturation_rps(alike(1, 3, 4), System(NoBatching(), Affine(1.0))) == pytest.approx(1 / 4)


@pytest.mark.parametrize(
    ("policy", "capacity"), [(NoBatching(), 0.5), (Static(4), 2.0), (Dynamic(4), 2.0), (Continuous(4), 2.0)], ids=repr
)
@pytest.mark.parametrize(("load", "unstable"), [(0.5, False), (0.999, False), (1.0, True), (1.001, True), (3.0, True)])
def test_a_run_at_or_above_its_capacity_is_labelled_unstable(
    policy: Any, capacity: float, load: float, unstable: bool
) -> None:
    workload = alike(2000, 3, 1, rate=load * capacity)
    result = simqueue.simulate(workload, System(policy, Affine(2.0)))
    assert result.summary()["saturation_rps"] == pytest.approx(capacity)
    assert result.summary()["offered_rps"] == pytest.approx(load * capacity)
    assert result.unstable is unstable
    assert result.summary()["unstable"] is unstable


def test_all_at_once_is_unstable_and_one_request_is_not() -> None:
    system = System(NoBatching(), Affine(1.0))
    assert simqueue.simulate(Workload.from_columns([0.0, 0.0], [1, 1], [1, 1]), system).unstable
    assert not simqueue.simulate(Workload.from_columns([0.0], [1], [1]), system).unstable
