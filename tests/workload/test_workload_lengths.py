"""Length distributions against their closed forms, and what they refuse."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simqueue.errors import WorkloadError
from simqueue.workload import Empirical, Fixed, Geometric, Lengths, Lognormal, Uniform

DRAWS = 200_000
SIGMAS = 4.0
EVERY_KIND = [
    Fixed(17),
    Uniform(3, 40),
    Lognormal(1000.0, 0.5),
    Lognormal(60.0, 0.66),
    Geometric(1.0),
    Geometric(40.0),
    Empirical((1, 1, 8, 300)),
]


def rng(seed=1):
    return np.random.Generator(np.random.PCG64(seed))


@pytest.mark.statistical
@pytest.mark.parametrize("lengths", EVERY_KIND, ids=repr)
def test_mean_and_cv_are_the_closed_forms(lengths):
    tokens = lengths.draw(DRAWS, rng()).tokens
    sd = lengths.mean * lengths.cv
    assert abs(tokens.mean() - lengths.mean) <= SIGMAS * sd / math.sqrt(DRAWS)
    squares = (tokens - lengths.mean) ** 2
    # Rounding to whole tokens adds the variance of the rounding error, at most 1/4.
    rounding = 1 / 12 if isinstance(lengths, Lognormal) else 0.0
    assert abs(squares.mean() - sd**2 - rounding) <= SIGMAS * squares.std() / math.sqrt(DRAWS) + 1e-9


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("lengths", "probabilities"),
    [
        (Uniform(3, 6), {3: 0.25, 4: 0.25, 5: 0.25, 6: 0.25}),
        (Geometric(4.0), {n: 0.25 * 0.75 ** (n - 1) for n in range(1, 9)}),
        (Empirical((1, 1, 8, 300)), {1: 0.5, 8: 0.25, 300: 0.25}),
        (Geometric(1.0), {1: 1.0}),
        (Fixed(2), {2: 1.0}),
    ],
    ids=repr,
)
def test_each_length_comes_with_its_probability(lengths, probabilities):
    tokens = lengths.draw(DRAWS, rng()).tokens
    for value, p in probabilities.items():
        assert abs(np.mean(tokens == value) - p) <= SIGMAS * math.sqrt(p * (1 - p) / DRAWS)


@pytest.mark.statistical
def test_lognormal_has_the_lognormal_median():
    # The median of a lognormal is mean / sqrt(1 + cv**2); a share of 1/2 lies below it.
    tokens = Lognormal(1000.0, 2.0).draw(DRAWS, rng()).tokens
    below = np.mean(tokens < 1000 / math.sqrt(1 + 2.0**2))
    assert abs(below - 0.5) <= SIGMAS * 0.5 / math.sqrt(DRAWS) + 1 / 1000


@pytest.mark.statistical
def test_the_share_clipped_is_the_share_beyond_the_limits():
    draws = Geometric(40.0, min=10, max=100).draw(DRAWS, rng())
    share = (1 - (39 / 40) ** 9) + (39 / 40) ** 100
    assert draws.tokens.min() == 10
    assert draws.tokens.max() == 100
    assert abs(draws.clipped_share - share) <= SIGMAS * math.sqrt(share * (1 - share) / DRAWS)


def test_clipping_changes_only_what_is_beyond_the_limits():
    free = Lognormal(60.0, 0.66).draw(1000, rng())
    clipped = Lognormal(60.0, 0.66, min=30, max=90).draw(1000, rng())
    assert free.clipped_share == 0
    np.testing.assert_array_equal(clipped.tokens, free.tokens.clip(30, 90))
    assert clipped.clipped_share == np.mean((free.tokens < 30) | (free.tokens > 90))


def test_draws_round_to_the_nearest_of_at_least_one():
    exact = Lognormal(2.6, 0.0).draw(3, rng())
    assert exact.tokens.tolist() == [3, 3, 3]
    assert exact.clipped_share == 0
    assert Lognormal(0.2, 0.0).draw(1, rng()).tokens.tolist() == [1]
    assert Lognormal(1e9, 3.0, max=7).draw(5, rng()).tokens.tolist() == [7] * 5


@given(st.integers(1, 50), st.integers(0, 50), st.integers(1, 200), st.integers(0, 2**32))
def test_uniform_stays_inside_its_bounds(low, width, count, seed):
    tokens = Uniform(low, low + width).draw(count, rng(seed)).tokens
    assert tokens.dtype == np.int64
    assert tokens.min() >= low
    assert tokens.max() <= low + width


@pytest.mark.parametrize("lengths", EVERY_KIND, ids=repr)
def test_a_table_makes_the_same_object(lengths):
    table = msgspec.to_builtins(lengths)
    assert table["kind"] == type(lengths).__name__.lower()
    assert msgspec.convert(table, Lengths) == lengths


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fixed(0), r"fixed lengths: value = 0 is not a whole number from 1 .*; give tokens"),
        (lambda: Fixed(True), r"fixed lengths: value = True is not a whole"),
        (lambda: Fixed(2.5), r"fixed lengths: value = 2.5 is not a whole"),
        (lambda: Fixed(2**31), r"value = 2147483648 is not a whole number from 1 to 2147483647"),
        (lambda: Uniform(0, 5), r"uniform lengths: low = 0"),
        (lambda: Uniform(5, 4), r"uniform lengths: high = 4 is not a whole number from 5"),
        (lambda: Lognormal(0.0, 1.0), r"lognormal lengths: mean = 0.0"),
        (lambda: Lognormal(math.nan, 1.0), r"lognormal lengths: mean = nan"),
        (lambda: Lognormal(math.inf, 1.0), r"lognormal lengths: mean = inf"),
        (lambda: Lognormal(10.0, -0.1), r"lognormal lengths: cv = -0.1"),
        (lambda: Lognormal(10.0, math.inf), r"lognormal lengths: cv = inf"),
        (lambda: Geometric(0.9), r"geometric lengths: mean = 0.9 is not a number from 1"),
        (lambda: Geometric(math.nan), r"geometric lengths: mean = nan"),
        (lambda: Geometric("7"), r"geometric lengths: mean = '7'"),
        (lambda: Empirical(()), r"empirical lengths: values = \[\] is empty; list"),
        (lambda: Empirical((3, 0)), r"empirical lengths: values\[1\] = 0"),
        (lambda: Fixed(5, min=0), r"fixed lengths: min = 0 .*leave it out"),
        (lambda: Fixed(5, max=1.5), r"fixed lengths: max = 1.5"),
        (lambda: Fixed(5, min=9, max=3), r"fixed lengths: min = 9 is above max = 3; swap them"),
    ],
)
def test_bad_values_are_refused_by_name(make, message):
    with pytest.raises(WorkloadError, match=message):
        make()


def test_absurd_draws_are_refused_with_the_remedy():
    with pytest.raises(WorkloadError, match=r"lognormal lengths drew .* tokens; set max, or lower"):
        Lognormal(1e9, 3.0).draw(1000, rng())
