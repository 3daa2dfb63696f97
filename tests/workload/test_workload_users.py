"""Closed-loop users as a workload: think times from a stream of their own, and arrivals that only a run knows."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import simqueue
from simqueue.errors import WorkloadError
from simqueue.workload import (
    ExponentialThink,
    Fixed,
    FixedThink,
    Geometric,
    LognormalThink,
    Poisson,
    Think,
    Users,
    Workload,
    WorkloadSpec,
    make_workload,
)
from simqueue.workload.streams import streams

DRAWS = 20_000


def spec(arrivals: Users | Poisson, requests: int = 100) -> WorkloadSpec:
    return WorkloadSpec(
        requests=requests, arrivals=arrivals, prompt_tokens=Fixed(value=9), output_tokens=Geometric(mean=5)
    )


def made(think_s: float | Think = 2.0, users: int = 8, seed: int = 3) -> Workload:
    return make_workload(spec(Users(users, think_s)), seed)


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("think", "law"),
    [
        (ExponentialThink(2.5), stats.expon(scale=2.5)),
        (LognormalThink(2.5, 0.8), stats.lognorm(math.sqrt(math.log1p(0.64)), scale=2.5 / math.sqrt(1.64))),
    ],
    ids=["exponential", "lognormal"],
)
def test_think_times_have_their_whole_law(think: ExponentialThink | LognormalThink, law: stats.rv_frozen) -> None:
    assert law.mean() == pytest.approx(think.mean)
    assert stats.kstest(think.draw(DRAWS, streams(4).thinks), law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("think_s", [3, 3.0, FixedThink(3.0)])
def test_a_number_is_always_that_long(think_s: float | Think) -> None:
    assert made(think_s).extra["think_s"].tolist() == [3.0] * 100
    assert Users(2, think_s).think.mean == 3.0


@given(st.integers(0, 2**63 - 1), st.integers(1, 60))
def test_thinks_have_a_stream_of_their_own_and_more_requests_change_no_earlier_one(seed: int, count: int) -> None:
    users = Users(1, ExponentialThink(1.0))
    closed, longer = (make_workload(spec(users, requests), seed) for requests in (count, count + 9))
    opened = make_workload(spec(Poisson(1.0), count), seed)
    assert np.array_equal(closed.output_tokens, opened.output_tokens)
    assert np.array_equal(closed.extra["think_s"], longer.extra["think_s"][:count])
    # A stream at the end leaves the others as they were before there were users.
    assert [streams(7).gaps.random(), streams(7).stays.random()] == [
        np.random.Generator(np.random.PCG64(child)).random() for child in np.random.SeedSequence(7).spawn(2)
    ]


def test_arrivals_are_not_known_before_a_run() -> None:
    workload = made()
    assert workload.closed_loop
    assert not workload.arrival_s.any()
    assert math.isnan(workload.rate)
    assert workload.meta["users"] == 8
    assert repr(workload) == "<Workload of 100 requests from 8 users>"
    assert not make_workload(spec(Poisson(1.0)), 3).closed_loop


def test_a_run_finds_them_out() -> None:
    workload = made(ExponentialThink(2.0))
    result = simqueue.simulate(workload, simqueue.System(simqueue.NoBatching(), simqueue.Affine(base_s=0.1)))
    arrival_s = result.workload.arrival_s
    assert np.array_equal(arrival_s, result.grid.seconds(result.arrival))
    assert sorted(workload.extra["think_s"][:8])[0] == pytest.approx(arrival_s[0])
    assert np.all(np.diff(arrival_s) >= 0)
    assert result.workload.rate == pytest.approx(99 / (arrival_s[-1] - arrival_s[0]))
    assert result.workload.closed_loop
    assert not workload.arrival_s.any()


def test_all_at_once_is_no_rate() -> None:
    workload = make_workload(spec(Users(100)), 1)
    result = simqueue.simulate(workload, simqueue.System(simqueue.NoBatching(), simqueue.Affine(base_s=0.1)))
    assert not result.workload.arrival_s.any()
    assert math.isnan(result.workload.rate)
    assert math.isnan(result.summary()["offered_rps"])
    assert not result.unstable


def test_the_rate_offered_is_that_of_the_counted_requests() -> None:
    """All 40 users come at 0, and then one a second, since that is what the server does."""
    workload = make_workload(spec(Users(40)), 1)
    system = simqueue.System(simqueue.Continuous(1), simqueue.Affine(base_s=1.0))
    workload = simqueue.Workload.of({**workload.columns, "output_tokens": np.ones(100, np.int64)}, workload.meta)
    assert simqueue.simulate(workload, system, warmup=40).summary()["offered_rps"] == pytest.approx(1.0)
    assert simqueue.simulate(workload, system).summary()["offered_rps"] == pytest.approx(99 / 60)


def test_parquet_pickles_and_heads_stay_closed(tmp_path: Path) -> None:
    workload = made()
    workload.save(tmp_path / "w.parquet")
    for same in (Workload.load(tmp_path / "w.parquet"), pickle.loads(pickle.dumps(workload))):
        assert same == workload
        assert same.meta == workload.meta
        assert same.closed_loop
    assert workload.head(20).closed_loop
    assert workload.fit_context(50, "clip").closed_loop
    assert msgspec.convert(workload.meta["spec"], WorkloadSpec) == spec(Users(8, 2.0))


def test_what_a_closed_loop_cannot_do_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"CSV cannot say that users wait for their answers; save as \.parquet"):
        made().save(tmp_path / "w.csv")
    with pytest.raises(WorkloadError, match="8 users wait for their answers and send as fast as those come; change"):
        made().at_rate(3.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Users(0), "users arrivals: users = 0 is not a whole number from 1"),
        (lambda: Users(2.0), "users = 2.0 is not a whole number"),  # type: ignore[arg-type]
        (lambda: Users(2, -1.0), r"users arrivals: think_s = -1.0 is not a number from 0 to 1e\+12; give seconds"),
        (lambda: Users(2, math.nan), "think_s = nan"),
        (lambda: Users(2, math.inf), "think_s = inf"),
        (lambda: Users(2, True), "think_s = True"),
        (lambda: Users(2, "long"), "think_s = 'long'"),  # type: ignore[arg-type]
        (lambda: FixedThink(-0.1), "fixed times: value = -0.1 is not a number from 0"),
        (lambda: ExponentialThink(0.0), "exponential times: mean = 0.0 is not a positive, finite number"),
        (lambda: LognormalThink(1.0, -1.0), "lognormal times: cv = -1.0"),
        (lambda: LognormalThink(math.inf, 1.0), "lognormal times: mean = inf"),
        (lambda: spec(Users(101)), "users = 101 are more than requests = 100, so that not all would send one; ask"),
    ],
)
def test_bad_values_are_refused_by_name(make: object, message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        make()  # type: ignore[operator]
