"""Noise: means and variations by z-tests on fixed seeds, and draws that belong to steps whatever the leap."""

from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest
from scipy import stats

from simqueue import ErlangNoise, ExponentialNoise, LognormalNoise
from simqueue.cost.base import UNLIMITED
from simqueue.cost.linear import LinearCost
from simqueue.cost.noise import NoisyCost, Spread, all_draws
from simqueue.errors import ConfigError
from simqueue.plan import Shape

COUNT = 200_000
SEED = np.random.SeedSequence(11)
CASES = [
    (LognormalNoise(0.05), 0.05, stats.lognorm(np.sqrt(np.log1p(0.05**2)), scale=1 / np.sqrt(1 + 0.05**2))),
    (LognormalNoise(0.8), 0.8, stats.lognorm(np.sqrt(np.log1p(0.8**2)), scale=1 / np.sqrt(1 + 0.8**2))),
    (ExponentialNoise(), 1.0, stats.expon()),
    (ErlangNoise(1), 1.0, stats.expon()),
    (ErlangNoise(4), 0.5, stats.gamma(4, scale=0.25)),
]


@pytest.mark.parametrize(("noise", "cv", "law"), CASES, ids=lambda value: repr(value)[:30])
def test_multipliers_have_mean_1_the_variation_asked_for_and_their_law(noise: Any, cv: float, law: Any) -> None:
    draws = noise.draw(np.random.default_rng(SEED), COUNT)
    assert draws.shape == (COUNT,)
    assert draws.min() > 0
    assert law.mean() == pytest.approx(1)
    assert law.std() == pytest.approx(cv)
    z = (draws.mean() - 1) / (cv / np.sqrt(COUNT))
    assert abs(z) < 4
    fourth = float(law.stats("k")) + 3
    z = (draws.var() / cv**2 - 1) / np.sqrt((fourth - 1) / COUNT)
    assert abs(z) < 4
    assert stats.kstest(draws, law.cdf).pvalue > 1e-3


def noisy(seed: np.random.SeedSequence = SEED) -> NoisyCost:
    return NoisyCost(LinearCost(1000, 10, 10, 1), Spread(ExponentialNoise().draw), seed)


def test_step_n_takes_draw_n_whoever_asks_and_beyond_a_block() -> None:
    count = 40_000
    draws = all_draws(Spread(ExponentialNoise().draw), SEED, count)
    assert len(draws) == count
    expected = [max(1, int((1020 + 10 + age) * draw + 0.5)) for age, draw in enumerate(draws.tolist())]
    stepping = noisy()
    shapes = (Shape(decode_rows=1, context=10 + age) for age in range(count))
    assert [stepping.step(shape) for shape in shapes] == expected
    assert list(noisy().series(1, 10, 10, count)) == expected
    leaping, at = noisy(), 0
    for size in (1, 7, 20_000, 100_000):
        wanted = expected[at : min(at + size, count)]
        assert leaping.leap(1, 10 + at, 10 + at, len(wanted), UNLIMITED) == (len(wanted), sum(wanted))
        at += len(wanted)
    assert at == count


def test_a_leap_that_is_cut_takes_no_more_draws_than_steps() -> None:
    whole = list(islice(noisy().series(1, 0, 0, 50), 50))
    cut = noisy()
    done, total = cut.leap(1, 0, 0, 50, sum(whole[:7]) - 1)
    assert (done, total) == (7, sum(whole[:7]))
    assert cut.leap(1, 7, 7, 43, UNLIMITED) == (43, sum(whole[7:]))


def test_no_draws_of_no_steps() -> None:
    assert len(all_draws(Spread(ExponentialNoise().draw), SEED, 0)) == 0


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: LognormalNoise(0.0), "cv = 0.0 must be a positive, finite number"),
        (lambda: LognormalNoise(float("nan")), "cv = nan"),
        (lambda: ErlangNoise(0), "shape = 0 must be at least 1"),
        (lambda: ErlangNoise(2.5), "shape = 2.5 is not a whole number"),
    ],
)
def test_noise_refuses(make: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        make()
