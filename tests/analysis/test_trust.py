"""What short runs are worth: excursions counted, intervals widened, and figures that are not to be believed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from simqueue import Affine, ErlangNoise, NoBatching, System, WorkloadSpec
from simqueue.analysis.figures import LEVELS, Pooled
from simqueue.analysis.replications import replicate
from simqueue.analysis.trust import Excursions, Trust
from simqueue.analysis.warmup import Warmup
from simqueue.metrics import Sample
from simqueue.theory import MM1
from simqueue.workload import Fixed, Poisson, Users

RESPONSE = "response_s"
SETTLED = Warmup(0, found=True)
PATHS = [(RESPONSE, name) for name in ("mean", "p95", "p99")]


def summary(times: NDArray[np.float64]) -> dict[str, Any]:
    return {"requests": len(times), RESPONSE: Sample(times).stats()}


def trust(
    runs: list[NDArray[np.float64]], *, load: float = 0.0, users: int | None = None, warmup: Warmup = SETTLED
) -> Trust:
    offered = {"offered_rps": load, "saturation_rps": 1.0, "users": users}
    parts = [summary(run) | offered for run in runs]
    whole = Pooled(parts, [{RESPONSE: Sample(run)} for run in runs])
    return Trust(whole, parts, {RESPONSE: excursions(runs)}.get, warmup)


def excursions(runs: list[NDArray[np.float64]]) -> Excursions:
    return Excursions.of(runs, np.quantile(np.concatenate(runs), LEVELS, method="inverted_cdf").tolist(), len(runs))


def reasons(found: Trust) -> Mapping[str, str]:
    return {entry["figure"]: entry["reason"] for entry in found.too_short(found.intervals())}


def lindley(rng: np.random.Generator, load: float, runs: int, requests: int) -> list[NDArray[np.float64]]:
    """Response times in M/M/1 whose services take a second, each run from a state that the law itself draws."""
    service, gaps = rng.standard_exponential((runs, requests)), rng.standard_exponential((runs, requests)) / load
    response = np.empty((runs, requests))
    response[:, 0] = rng.standard_exponential(runs) / (1 - load)
    for i in range(1, requests):
        response[:, i] = np.maximum(response[:, i - 1] - gaps[:, i], 0) + service[:, i]
    return list(response)


def test_an_excursion_ends_at_the_median() -> None:
    low, middle, high = 0.0, 5.0, 9.0
    # Half are low; the 75th percentile and those above it are high.
    run = np.array([low, high, high, middle, high, low, low, high, middle, low, low, low, high, low, middle, low])
    assert excursions([run]).above[0.75] == 3
    assert excursions([run[:8], run[8:]]).above[0.75] == 3
    assert excursions([np.concatenate((run, [high, low]))]).above[0.75] == 4


def counted(run: list[int], level: int, base: int) -> int:
    """One value after the other."""
    excursions, high = 0, False
    for value in run:
        if value <= base:
            high = False
        elif value >= level and not high:
            excursions, high = excursions + 1, True
    return excursions


@given(st.lists(st.lists(st.integers(0, 9), max_size=30), min_size=1, max_size=4).filter(any))
def test_excursions_against_one_value_after_the_other(runs: list[list[int]]) -> None:
    """Ties, runs without values and runs that begin high are all there."""
    found = excursions([np.array(run, np.float64) for run in runs])
    ordered = sorted(value for run in runs for value in run)
    base = ordered[math.ceil(0.5 * len(ordered)) - 1]
    for share, count in found.above.items():
        level = ordered[math.ceil(round(share * len(ordered), 9)) - 1]
        assert count == sum(counted(run, level, base) for run in runs)
    assert found.varied == (max(ordered) > base)


def widening(share: float | None, parts: int = 4, **above: int) -> float:
    counts = {0.5: 9999, 0.75: above["p75"], 0.9: above["p90"], 0.95: above["p95"], 0.99: above["p99"]}
    return Excursions(parts, counts).widening(share)


def test_the_fewer_excursions_the_wider() -> None:
    plenty = {"p75": 360, "p90": 180, "p95": 90, "p99": 60}
    assert widening(0.5, **plenty) == pytest.approx(1 + 9 * 2 / 360)
    for share in (0.9, 0.95, 0.99, None):
        assert widening(share, **plenty) == pytest.approx(1 + 9 * 2 / 180)
    # The more parts they are in, the shorter is each.
    assert widening(0.9, parts=16, **plenty) == pytest.approx(1 + 9 * 4 / 180)


def test_a_rare_state_that_few_excursions_reach_counts() -> None:
    rare = {"p75": 80_000, "p90": 50_000, "p95": 50_000, "p99": 6}
    assert widening(0.99, **rare) == pytest.approx(1 + 9 * 2 / 18)
    assert widening(0.95, **rare) == pytest.approx(1 + 9 * 2 / 50_000)
    assert widening(None, **rare | {"p95": 6}) == widening(0.95, **rare | {"p95": 6}) == pytest.approx(2.0)
    assert widening(0.99, **rare | {"p99": 0}) == math.inf


def test_what_a_figure_has_of_waiting_is_as_wide_as_waiting_alone() -> None:
    """Long answers side by side rise and fall more often than the queue does."""
    often, seldom = (Excursions(4, dict.fromkeys(LEVELS, count)) for count in (1800, 18))
    times = {"response_s": {"p99": 4.0}, "queueing_s": {"p99": 3.0}, "service_s": {"p99": 3.0}}
    whole = {**times, "by_client": [{"client": "quick", "ttft_s": {"p99": 2.0}}]}
    series = {"response_s": often, "service_s": often, "queueing_s": seldom}
    found = Trust(whole, [], series.get, SETTLED)
    assert found.widening(("queueing_s", "p99")) == pytest.approx(2.0)
    assert found.widening(("response_s", "p99")) == pytest.approx(1.75)
    assert found.widening(("by_client", "quick", "ttft_s", "p99")) == pytest.approx(2.0)
    assert found.widening(("service_s", "p99")) == pytest.approx(1.01)
    idle = Trust(whole | {"queueing_s": {"p99": 0.0}}, [], series.get, SETTLED)
    assert idle.widening(("response_s", "p99")) == pytest.approx(1.01)


def test_intervals_of_short_runs_cover_too() -> None:
    """10 runs of 1,500 at load 0.85, whose p99 the plain interval covers in three cases of four; three standard errors
    of 150 experiments are 5.3 %."""
    rng = np.random.default_rng(8)
    queue = MM1(0.85, 1.0)
    exact = [queue.mean_response_s, queue.response_quantile_s(0.95), queue.response_quantile_s(0.99)]
    runs, experiments = 10, 150
    every = lindley(rng, 0.85, runs * experiments, 1_500)
    covered = np.zeros(3)
    for i in range(experiments):
        found = trust(every[i * runs : (i + 1) * runs]).intervals()
        covered += [
            abs(found[path].value - truth) <= found[path].half_width for path, truth in zip(PATHS, exact, strict=True)
        ]
    assert (covered / experiments > 0.95 - 0.053).all()


class TestTooShort:
    def test_long_runs_are_not(self) -> None:
        assert reasons(trust(lindley(np.random.default_rng(1), 0.5, 10, 5_000))) == {}

    def test_no_end_of_the_warmup(self) -> None:
        runs = lindley(np.random.default_rng(1), 0.5, 10, 5_000)
        assert set(reasons(trust(runs, warmup=Warmup(0, found=False))).values()) == {"no end of the warm-up was found"}

    def test_too_few_requests_beyond_a_percentile(self) -> None:
        found = reasons(trust(lindley(np.random.default_rng(1), 0.2, 10, 900)))
        assert found == {"response_s.p99": "9 requests of a part are beyond it, of 10 that it takes"}

    def test_a_wide_interval_is_an_answer(self) -> None:
        runs = trust(lindley(np.random.default_rng(1), 0.97, 10, 5_000))
        assert 1 < runs.intervals()[RESPONSE, "p99"].relative < math.inf
        assert reasons(runs) == {}

    def test_one_without_an_end_is_not(self) -> None:
        runs = [np.concatenate(([scale] * 500, [scale * 1.1] * 500)) for scale in (1.0, 10.0, 100.0)]
        found = trust([np.tile(run, 2) for run in runs])
        assert found.intervals()[RESPONSE, "mean"].half_width == math.inf
        assert set(reasons(found).values()) == {"parts are so far apart that the interval has no end"}

    def test_runs_that_are_short_for_their_load(self) -> None:
        """It is the load that is offered, not what happened, that says so; and the more parts, the longer each."""
        runs = lindley(np.random.default_rng(1), 0.5, 10, 2_500)
        assert reasons(trust(runs, load=0.98)) == {}
        few = reasons(trust(runs, load=0.9801))
        assert few["response_s.p95"] == "at load 0.9801 a part is 0.99 relaxation times long, of 1 that it takes"
        assert reasons(trust(runs[:5], load=0.9801)) == {}
        assert reasons(trust(runs, load=0.9801, warmup=Warmup(100, found=True))) == {}
        # Beyond saturation it is called unstable, and users who wait are no load.
        assert reasons(trust(runs, load=1.0)) == {}
        assert reasons(trust(runs, load=0.9801, users=7)) == {}

    def test_one_part(self) -> None:
        [run] = lindley(np.random.default_rng(1), 0.5, 1, 5_000)
        assert set(reasons(trust([run])).values()) == {"some part has no such figure, or there is one part only"}

    def test_parts_that_agree_are_not(self) -> None:
        assert reasons(trust([np.ones(20)] * 10)) == {}

    def test_times_that_never_rise_are_not(self) -> None:
        """Nor is anything widened for want of excursions."""
        assert reasons(trust([np.full(2_000, 1 + i / 1e9) for i in range(10)])) == {}


class TestOfSimulations:
    @staticmethod
    def reasons(arrivals: Poisson | Users) -> set[str]:
        one = Fixed(value=1)
        spec = WorkloadSpec(requests=1_500, arrivals=arrivals, prompt_tokens=one, output_tokens=one)
        system = System(policy=NoBatching(), cost=Affine(base_s=1.0), noise=ErlangNoise(shape=50))
        found = replicate(spec, system, replications=5, warmup=0)
        return {entry["reason"] for entry in found.summary()["too_short"] if entry["figure"] == "response_s.mean"}

    def test_the_load_is_that_of_the_scenario(self) -> None:
        [reason] = self.reasons(Poisson(rate=0.99))
        assert reason.startswith("at load 0.9")
        assert reason.endswith("relaxation times long, of 0.5 that it takes")
        assert self.reasons(Poisson(rate=0.9)) == set()

    def test_users_who_keep_a_server_busy_are_no_load(self) -> None:
        assert self.reasons(Users(users=8)) == set()
