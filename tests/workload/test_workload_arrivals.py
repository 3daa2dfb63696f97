"""Renewal and Markov-modulated arrivals against their closed forms, and what they refuse."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from simqueue.errors import WorkloadError
from simqueue.workload import MMPP, Arrivals, Constant, Gamma, Poisson, Trace
from simqueue.workload.mmpp import _Path
from simqueue.workload.streams import streams

DRAWS = 100_000
REPLICATIONS = 3_000
SIGMAS = 4.0
RENEWAL = [Constant(3.0), Poisson(0.6), Gamma(2.0, cv=0.5), Gamma(2.0, cv=3.0), Gamma(0.7, burstiness=0.25)]
TWO_STATES = MMPP((5.0, 1.0), (2.0, 3.0))
ON_OFF = MMPP((50.0, 0.0), (1.0, 4.0))
THREE_STATES = MMPP((4.0, 0.0, 1.0), (0.5, 2.0, 1.0), ((0.0, 0.25, 0.75), (1.0, 0.0, 0.0), (0.5, 0.5, 0.0)))
MODULATED = [TWO_STATES, ON_OFF, THREE_STATES, MMPP((3.0,), (1.0,))]


def gap_cv(process):
    return {Constant: 0.0, Poisson: 1.0}.get(type(process)) if not isinstance(process, Gamma) else process.shape**-0.5


@pytest.mark.statistical
@pytest.mark.parametrize("process", RENEWAL, ids=repr)
def test_renewal_gaps_have_their_mean_and_cv(process):
    gaps = np.diff(process.times(DRAWS, streams(3)), prepend=0.0)
    mean, sd = 1 / process.rate, gap_cv(process) / process.rate
    squares = (gaps - mean) ** 2
    assert abs(gaps.mean() - mean) <= SIGMAS * sd / math.sqrt(DRAWS) + 1e-12
    assert abs(squares.mean() - sd**2) <= SIGMAS * squares.std() / math.sqrt(DRAWS) + 1e-9


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("process", "law"),
    [
        (Poisson(0.6), stats.expon(scale=1 / 0.6)),
        (Gamma(2.0, cv=0.5), stats.gamma(4.0, scale=1 / 8.0)),
        (Gamma(2.0, burstiness=0.25), stats.gamma(0.25, scale=2.0)),
    ],
    ids=["poisson", "regular gamma", "bursty gamma"],
)
def test_renewal_gaps_have_their_whole_law(process, law):
    gaps = np.diff(process.times(20_000, streams(5)), prepend=0.0)
    assert stats.kstest(gaps, law.cdf).pvalue > 1e-3


def test_constant_arrivals_are_exact():
    assert Constant(4.0).times(4, streams(0)).tolist() == [0.25, 0.5, 0.75, 1.0]


def test_both_spellings_of_gamma_are_one_process():
    by_cv, by_burstiness = Gamma(2.0, cv=2.0), Gamma(2.0, burstiness=0.25)
    np.testing.assert_array_equal(by_cv.times(100, streams(1)), by_burstiness.times(100, streams(1)))


@settings(deadline=None)
@given(st.sampled_from(RENEWAL), st.integers(1, 50), st.integers(0, 2**63 - 1))
def test_the_first_arrival_comes_one_gap_after_zero_and_more_requests_change_no_earlier_one(process, count, seed):
    few, many = process.times(count, streams(seed)), process.times(count + 7, streams(seed))
    np.testing.assert_array_equal(few, many[:count])
    assert few[0] == process._unit_gaps(1, streams(seed).gaps)[0] / process.rate
    assert (np.diff(few, prepend=0.0) >= 0).all()


def counts(process, window_s, requests):
    """Arrivals in ``[0, window_s]``, one independent replication a seed."""
    times = (process.times(requests, streams(seed)) for seed in range(REPLICATIONS))
    return np.array([np.searchsorted(t, window_s, side="right") for t in times])


@pytest.mark.statistical
@pytest.mark.parametrize("window_s", [0.05, 1.0, 6.0])
@pytest.mark.parametrize("process", [TWO_STATES, THREE_STATES], ids=["two", "three"])
def test_mmpp_counts_are_stationary_from_the_start(process, window_s):
    # E N(t) = mean rate * t for every t only if the chain starts in its time-stationary law.
    sample = counts(process, window_s, 120)
    assert sample.max() < 120
    error = sample.std() / math.sqrt(REPLICATIONS)
    assert abs(sample.mean() - process.mean_rate * window_s) <= SIGMAS * error


def dispersion(process, window_s):
    """Variance over mean of the count of a stationary two-state MMPP in a window.

    Source: Fischer and Meier-Hellstern, The Markov-modulated Poisson process (MMPP) cookbook, Performance Evaluation
    18 (1993), section on counts: 1 + A (1 - (1 - exp(-r t)) / (r t)), r = r1 + r2.
    """
    (fast, slow), (out1, out2) = process.rates, (1 / stay for stay in process.mean_stay_s)
    out = out1 + out2
    limit = 2 * (fast - slow) ** 2 * out1 * out2 / (out**2 * (fast * out2 + slow * out1))
    return 1 + limit * (1 - (1 - math.exp(-out * window_s)) / (out * window_s))


@pytest.mark.statistical
@pytest.mark.parametrize(("process", "window_s"), [(TWO_STATES, 1.0), (TWO_STATES, 6.0), (ON_OFF, 1.0)])
def test_mmpp_index_of_dispersion(process, window_s):
    sample = counts(process, window_s, 200)
    assert sample.max() < 200
    mean = process.mean_rate * window_s
    squares = (sample - mean) ** 2
    error = squares.std() / math.sqrt(REPLICATIONS)
    assert abs(squares.mean() - dispersion(process, window_s) * mean) <= SIGMAS * error


def test_mmpp_stationary_law_solves_the_balance_equations():
    for process in MODULATED:
        out = 1 / np.array(process.mean_stay_s)
        generator = out[:, None] * (process.jump_matrix - np.eye(len(out)))
        np.testing.assert_allclose(process.stationary @ generator, 0, atol=1e-12)
        assert process.stationary.sum() == pytest.approx(1, abs=1e-14)
    assert TWO_STATES.mean_rate == pytest.approx((5 * 2 + 1 * 3) / 5)


@pytest.mark.statistical
def test_mmpp_with_one_state_is_poisson():
    gaps = np.diff(MMPP((3.0,), (0.5,)).times(20_000, streams(2)), prepend=0.0)
    assert stats.kstest(gaps, stats.expon(scale=1 / 3.0).cdf).pvalue > 1e-3


@pytest.mark.statistical
def test_mmpp_stays_and_jumps_follow_their_law():
    path = _Path(THREE_STATES, streams(4))
    while len(path.rate) < 50_000:
        path._grow()
    stay_s = np.diff(path.knot_s)
    for state, mean_s in enumerate(THREE_STATES.mean_stay_s):
        here = path.rate == THREE_STATES.rates[state]
        assert stats.kstest(stay_s[here], stats.expon(scale=mean_s).cdf).pvalue > 1e-3
        onward = path.rate[1:][here[:-1]]
        for after, p in enumerate(THREE_STATES.transitions[state]):
            error = math.sqrt(p * (1 - p) / len(onward))
            assert abs(np.mean(onward == THREE_STATES.rates[after]) - p) <= SIGMAS * error


def test_cyclic_states_follow_in_the_order_given():
    path = _Path(MMPP((1.0, 2.0, 3.0), (1.0, 1.0, 1.0)), streams(0))
    path._grow()
    np.testing.assert_array_equal(path.rate[1:], path.rate[:-1] % 3 + 1)


def test_mmpp_sends_nothing_in_a_silent_state():
    for process in (ON_OFF, THREE_STATES):
        arrival_s, path = process.times(20_000, streams(6)), _Path(process, streams(6))
        while path.knot_s[-1] < arrival_s[-1]:
            path._grow()
        piece = np.searchsorted(path.knot_s, arrival_s, side="left") - 1
        assert (path.rate == 0).any()
        assert (path.rate[piece] > 0).all()


def test_scaling_the_rates_keeps_the_stays():
    slow, fast = _Path(THREE_STATES, streams(8)), _Path(THREE_STATES.scaled(10.0), streams(8))
    for path in (slow, fast):
        path._grow()
        path._grow()
    np.testing.assert_array_equal(slow.knot_s, fast.knot_s)
    np.testing.assert_allclose(fast.mass, 10 * slow.mass)


@settings(deadline=None)
@given(st.sampled_from(MODULATED), st.integers(1, 300), st.integers(0, 2**63 - 1), st.floats(0.01, 100))
def test_rescaled_mmpp_arrivals_are_those_made_with_scaled_rates(process, count, seed, factor):
    rescaled = process.rescale(process.times(count, streams(seed)), factor, streams(seed))
    np.testing.assert_allclose(rescaled, process.scaled(factor).times(count, streams(seed)), rtol=1e-9)
    assert (np.diff(rescaled, prepend=0.0) >= 0).all()


def test_mmpp_mean_rate_scales_with_the_rates():
    assert THREE_STATES.scaled(3.0).mean_rate == pytest.approx(3 * THREE_STATES.mean_rate)


@pytest.mark.parametrize("process", [*RENEWAL, *MODULATED, Trace("a.csv", overlong="clip")], ids=repr)
def test_a_table_makes_the_same_object(process):
    table = msgspec.to_builtins(process)
    assert table["kind"] == type(process).__name__.lower()
    assert msgspec.convert(table, Arrivals) == process


def test_mean_rates():
    assert [process.mean_rate for process in RENEWAL] == [3.0, 0.6, 2.0, 2.0, 0.7]
    assert Trace("a.csv").mean_rate is None


@pytest.mark.parametrize("kind", ["constant", "poisson", "gamma"])
@pytest.mark.parametrize("rate", [math.nan, math.inf, -1.0, 0.0, 1e-300])
def test_bad_rates_are_refused_by_name(kind, rate):
    message = rf"{kind} arrivals: rate = {rate} is not a positive, finite number .*; give the mean requests"
    with pytest.raises(WorkloadError, match=message):
        msgspec.convert({"kind": kind, "rate": rate}, Arrivals)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Poisson("0.6"), r"poisson arrivals: rate = '0.6'"),
        (lambda: Poisson(True), r"poisson arrivals: rate = True"),
        (lambda: Gamma(1.0), r"cv = None and burstiness = None; give exactly one"),
        (lambda: Gamma(1.0, cv=1.0, burstiness=1.0), r"cv = 1.0 and burstiness = 1.0; give exactly one"),
        (lambda: Gamma(1.0, cv=0.0), r"gamma arrivals: cv = 0.0 .*use kind = 'constant'"),
        (lambda: Gamma(1.0, cv=math.nan), r"gamma arrivals: cv = nan"),
        (lambda: Gamma(1.0, burstiness=math.inf), r"gamma arrivals: burstiness = inf"),
        (lambda: MMPP((), ()), r"rates = \[\] never sends a request"),
        (lambda: MMPP((0.0, 0.0), (1.0, 1.0)), r"rates = \[0.0, 0.0\] never sends a request; give a rate above 0"),
        (lambda: MMPP((1.0, -1.0), (1.0, 1.0)), r"mmpp arrivals: rates\[1\] = -1.0 .*0 for silence"),
        (lambda: MMPP((1.0, math.nan), (1.0, 1.0)), r"mmpp arrivals: rates\[1\] = nan"),
        (lambda: MMPP((1.0, 2.0), (1.0,)), r"mean_stay_s has 1 values and rates has 2; give one"),
        (lambda: MMPP((1.0, 2.0), (1.0, 0.0)), r"mean_stay_s\[1\] = 0.0 is not a positive"),
        (lambda: MMPP((1.0, 2.0), (math.inf, 1.0)), r"mean_stay_s\[0\] = inf"),
        (lambda: MMPP((1.0, 2.0), (1.0, 1.0), "ring"), r"transitions = 'ring' is unknown; use 'cyclic'"),
        (lambda: MMPP((1.0, 2.0), (1.0, 1.0), ((0.0, 1.0),)), r"transitions is not 2 rows of 2"),
        (lambda: MMPP((1.0, 2.0), (1.0, 1.0), ((0.5, 0.5), (1.0, 0.0))), r"transitions\[0\] .*to itself"),
        (lambda: MMPP((1.0, 2.0), (1.0, 1.0), ((0.0, 0.9), (1.0, 0.0))), r"sums to 0.9; make each row sum to 1"),
        (lambda: MMPP((1.0, 2.0), (1.0, 1.0), ((0.0, 1.0), (2.0, -1.0))), r"transitions\[1\] .*no probability"),
        (
            lambda: MMPP((1.0,) * 3, (1.0,) * 3, ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.5, 0.5, 0.0))),
            r"leave some state out of reach",
        ),
        (lambda: MMPP((1.0, 2.0), (1e-9, 1e-9)).times(100, streams(0)), r"makes about .* stays .*use longer stays"),
        (lambda: Trace("a.csv", overlong="cut"), r"overlong = 'cut' is no rule; use 'error', 'drop' or 'clip'"),
        (lambda: streams(-1), r"seed = -1 is not a whole number from 0"),
        (lambda: streams(1.5), r"seed = 1.5 is not a whole number"),
    ],
)
def test_bad_values_are_refused_by_name(make, message):
    with pytest.raises(WorkloadError, match=message):
        make()
