"""Paired differences: the textbook's where parts are close, nothing where nothing differs, and exact queues."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from simqueue import Affine, ExponentialNoise, NoBatching, System, WorkloadSpec
from simqueue.analysis.replicated import Part, Replicated
from simqueue.analysis.replications import replicate
from simqueue.analysis.warmup import Warmup
from simqueue.metrics import Sample
from simqueue.ranking.paired import Deviations, Difference, difference
from simqueue.workload import Fixed, Poisson

MEAN, P99 = ("response_s", "mean"), ("response_s", "p99")
ONE = Fixed(value=1)
near = st.floats(0.999, 1.001)


def replicated(*runs: list[float]) -> Replicated:
    """Of these response times, as though they had been simulated."""
    parts = []
    for run in runs:
        sample = Sample(np.array(run))
        parts.append(Part({"requests": len(run), "response_s": sample.stats()}, {"response_s": sample}, sample.values))
    return Replicated(None, parts, len(parts), Warmup(0, found=True), parts[0].response_s)  # type: ignore[arg-type]


def of(first: Replicated, second: Replicated, path: tuple[str, ...] = MEAN, level: float = 0.95) -> Difference:
    one, other = Deviations.of(path, first), Deviations.of(path, second)
    assert one is not None
    assert other is not None
    return difference(one, other, level)


@settings(max_examples=15)
@given(st.lists(st.tuples(near, near), min_size=2, max_size=20), st.floats(0.5, 5))
def test_parts_that_are_close_have_the_textbook_interval(pairs: list[tuple[float, float]], scale: float) -> None:
    """One request a part, so that nothing is widened but by its excursions, which are divided out."""
    first, second = replicated(*([a] for a, _ in pairs)), replicated(*([scale * b] for _, b in pairs))
    found, count = of(first, second), len(pairs)
    apart = [scale * b - a for a, b in pairs]
    logs = [math.log(scale * b / a) for a, b in pairs]
    assert found.value == pytest.approx(np.mean(apart), abs=1e-12)
    widening = max(first.widening(MEAN), second.widening(MEAN))
    for half, values in ((found.half_width, apart), (found.log_half_width, logs)):
        textbook = stats.t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count)
        assert half == pytest.approx(textbook * widening, rel=0.05, abs=1e-4 if textbook < 1e-4 else 1e-9)


def test_the_same_figures_differ_by_nothing() -> None:
    one = replicated([1.0, 2.0, 4.0], [2.0, 3.0, 9.0])
    found = of(one, one)
    assert (found.value, found.half_width, found.log_half_width, found.relative) == (0.0, 0.0, 0.0, 0.0)
    assert not found.apart
    assert found.variance_ratio is None


def test_a_factor_is_known_exactly() -> None:
    """However much the parts vary, if both vary alike."""
    rng = np.random.default_rng(2)
    runs = rng.lognormal(size=(5, 50))
    found = of(replicated(*runs.tolist()), replicated(*(3 * runs).tolist()))
    assert found.relative == pytest.approx(2)
    assert found.log_half_width == pytest.approx(0, abs=1e-12)
    assert found.apart
    assert found.half_width > 0.1


def test_what_is_not_positive_has_no_share() -> None:
    rng = np.random.default_rng(3)
    runs = rng.standard_normal((6, 200))
    found = of(replicated(*runs.tolist()), replicated(*(runs + 1).tolist()))
    assert found.value == pytest.approx(1)
    assert found.relative is None
    assert found.relative_ends is None
    assert found.variance_ratio is None
    assert found.apart


def test_what_one_does_not_have_has_no_difference() -> None:
    one = replicated([1.0, 2.0], [2.0, 3.0])
    assert Deviations.of(("goodput_rps",), one) is None


def test_one_part_tells_nothing() -> None:
    """Of a run that is too short for sections."""
    spec = WorkloadSpec(requests=5, arrivals=Poisson(rate=0.5), prompt_tokens=ONE, output_tokens=ONE)
    systems = [System(policy=NoBatching(), cost=Affine(base_s=s)) for s in (1.0, 1.05)]
    found = of(*(replicate(spec, system, replications=1) for system in systems))
    assert math.isnan(found.half_width)
    assert not found.apart


def test_wider_for_a_higher_level_and_the_same_the_other_way_round() -> None:
    rng = np.random.default_rng(4)
    one, other = (replicated(*rng.lognormal(size=(8, 400)).tolist()) for _ in range(2))
    found, back = of(one, other, P99), of(other, one, P99)
    assert back.value == -found.value
    assert back.half_width == pytest.approx(found.half_width)
    assert back.log_half_width == pytest.approx(found.log_half_width)
    wider = of(one, other, P99, 0.99)
    assert wider.half_width / found.half_width == pytest.approx(stats.t.ppf(0.995, 7) / stats.t.ppf(0.975, 7))


@pytest.mark.statistical
def test_independent_runs_have_a_variance_ratio_of_one() -> None:
    rng = np.random.default_rng(5)
    one, other = (replicated(*rng.lognormal(sigma=0.1, size=(500, 20)).tolist()) for _ in range(2))
    assert of(one, other).variance_ratio == pytest.approx(1, abs=0.2)


@pytest.mark.statistical
def test_two_simulated_queues_whose_difference_is_exactly_known() -> None:
    """M/M/1 with services of 1 s and 1.05 s: means and percentiles are 1 / (1 / service - rate) times the same."""
    spec = WorkloadSpec(requests=600, arrivals=Poisson(rate=0.5), prompt_tokens=ONE, output_tokens=ONE)
    systems = [System(policy=NoBatching(), cost=Affine(base_s=s), noise=ExponentialNoise()) for s in (1.0, 1.05)]
    exact = math.log((1 - 0.5) / (1 / 1.05 - 0.5))
    covered = 0
    for seed in range(6):
        one, other = (
            replicate(spec, system, seed=seed, replications=4, warmup=100, saturation_rps=1.0) for system in systems
        )
        mean, p99 = of(one, other), of(one, other, P99)
        assert mean.log_half_width is not None
        assert p99.log_half_width is not None
        covered += abs(mean.log_ratio - exact) <= mean.log_half_width
        covered += abs(p99.log_ratio - exact) <= p99.log_half_width
        assert mean.variance_ratio is not None
        assert mean.variance_ratio > 5
    assert covered >= 10
