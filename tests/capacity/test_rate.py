"""The highest rate against the exact roots of M/M/1 and M/D/1, and where limits hold nowhere, everywhere or apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from scipy.optimize import brentq

from simqueue import (
    Affine,
    Cluster,
    Continuous,
    Disaggregation,
    ExponentialNoise,
    NoBatching,
    NoNoise,
    System,
    Transfer,
    WorkloadSpec,
    simulate,
)
from simqueue.analysis.replicated import Part, Replicated, response_of
from simqueue.analysis.replications import seed_of
from simqueue.analysis.warmup import Warmup
from simqueue.capacity import trial, trials
from simqueue.capacity.rate import Highest, highest_rate
from simqueue.capacity.slo import limits_of
from simqueue.capacity.trial import Case, Effort
from simqueue.capacity.trials import Trials
from simqueue.cluster.round_robin import RoundRobin
from simqueue.errors import ConfigError
from simqueue.policy import Vllm
from simqueue.pool import pool
from simqueue.theory import MD1, MM1
from simqueue.workload import Fixed, Gamma, Geometric, Poisson, Trace

ONE = Fixed(value=1)
SPEC = WorkloadSpec(requests=100, arrivals=Poisson(rate=0.3), prompt_tokens=ONE, output_tokens=ONE)
MD = System(policy=NoBatching(), cost=Affine(base_s=1.0), noise=NoNoise())
MM = System(policy=NoBatching(), cost=Affine(base_s=1.0), noise=ExponentialNoise())


@pytest.fixture(autouse=True)
def short_first_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_FIRST_REQUESTS", 150)
    monkeypatch.setattr(trial, "_SATURATING", 1000)


def ask(*slo: str, precision: float = 0.1, most: int = 10**6, seed: int = 1, **case: object) -> tuple[Highest, Trials]:
    what = Case(**{"spec": SPEC, "server": MD, "base": None, "seed": seed, **case})  # type: ignore[arg-type]
    limits = limits_of(slo, what.spec)
    made = Trials(limits, None, most)
    return highest_rate(what, limits, made, precision), made


@pytest.mark.statistical
def test_intervals_of_the_root_cover_the_exact_one() -> None:
    questions: list[tuple[System, str, Callable[[float], float]]] = [
        (MM, "response_s.mean <= 2.5", lambda rate: MM1(rate, 1.0).mean_response_s - 2.5),
        (MD, "response_s.p95 <= 3.0", lambda rate: MD1(rate, 1.0).response_quantile_s(0.95) - 3.0),
    ]
    covered = below = 0
    for system, slo, excess in questions:
        exact = brentq(excess, 0.01, 0.99)
        for seed in range(5):
            found, _ = ask(slo, server=system, seed=seed, precision=0.2)
            assert found.why is None
            assert found.rate is not None
            assert found.root_rps is not None
            assert found.half_width_rps is not None
            assert found.half_width_rps <= 0.2 * found.root_rps
            covered += abs(found.root_rps - exact) <= found.half_width_rps
            below += found.rate <= exact
    assert covered >= 9
    assert below >= 9


@pytest.mark.statistical
def test_intervals_cover_the_root_at_a_knee() -> None:
    """The load is the share of those who wait: up to a load of 0.1 the p90 of queueing times is 0. So the root is
    hardly above that, where the p90 is far from any line. (M/D/1: ``P(W <= t) = (1 - load) exp(load t)`` for t below
    the service time: Erlang, 1909.)"""
    exact = brentq(lambda load: 1 - (1 - load) * math.exp(load * 0.05) - 0.1, 0.01, 0.99)
    answers = [ask("queueing_s.p90 <= 0.05", seed=seed, precision=0.1)[0] for seed in range(20)]
    assert all(found.why is None and found.rate and found.root_rps and found.half_width_rps for found in answers)
    assert all(found.half_width_rps <= 0.1 * exact * 1.1 for found in answers)
    assert sum(abs(found.root_rps - exact) <= found.half_width_rps for found in answers) >= 17
    assert sum(found.rate <= exact for found in answers) >= 17


def test_limits_that_do_not_bind_may_never_be_near() -> None:
    """Nobody is above the second: that there are no clusters of those is no reason for longer runs."""
    alone, _ = ask("response_s.p95 <= 3")
    found, made = ask("response_s.p95 <= 3", "response_s.p99 <= 1000")
    assert str(found.binds) == "response_s.p95 <= 3"
    assert found.rate == alone.rate
    assert made.spent < 10**6


def test_rates_may_be_low() -> None:
    """Places on the axis are loads there, and so are the distances between trials."""
    exact = brentq(lambda rate: MD1(rate, 1.0).response_quantile_s(0.95) - 1.5, 0.001, 0.5)
    assert exact < 0.11
    found, made = ask("response_s.p95 <= 1.5", precision=0.1)
    assert found.why is None
    assert found.rate == pytest.approx(exact, rel=0.2)
    assert made.spent < 500_000


@pytest.mark.parametrize("requests", [3, 12, 60])
def test_short_recordings_show_nothing(requests: int, tmp_path: Path) -> None:
    """None above the limit is no evidence where there are hardly any; and what is not known is no number."""
    path = tmp_path / "trace.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{i},1,1\n" for i in range(requests)))
    recorded = WorkloadSpec(arrivals=Trace(path=str(path)))
    for slo in ("response_s.p99 <= 50", "response_s.mean <= 1.0000001", "queueing_s.p99 >= 50"):
        found, _ = ask(slo, spec=recorded)
        assert found.rate is None or 0 < found.rate <= found.saturation_rps
        assert "p99 <=" not in slo or found.rate is None
        assert found.root_rps is None or found.root_rps - found.half_width_rps > 0


def test_the_answer_is_where_the_interval_ends_at_the_limit() -> None:
    found, _ = ask("queueing_s.mean <= 0.5", precision=0.1)
    assert found.root_rps == pytest.approx(0.5, rel=0.1)
    assert found.rate == pytest.approx(found.root_rps - found.half_width_rps)
    figure = found.trial.figures["queueing_s.mean"]
    # Linear between the trial and the answer, on a stretch of a few percent.
    slope = (0.5 / 0.5) / 0.5
    assert figure.value + figure.half_width + slope * (found.rate - found.trial.rate) == pytest.approx(0.5, rel=0.05)


def test_runs_get_longer_and_all_trials_are_told() -> None:
    told: list[int] = []
    limits = limits_of(["response_s.mean <= 2"], SPEC)
    made = Trials(limits, None, 10**6, lambda trial, spent: told.append(spent))
    highest_rate(Case(SPEC, MD, None, 1), limits, made, 0.3)
    assert all(a <= b for a, b in pairwise([one.requests for one in made.done]))
    assert told[-1] == made.spent == sum(one.requests for one in made.done)


def test_what_does_not_bind_leaves_it_to_saturation() -> None:
    found, made = ask("service_s.mean <= 10")
    assert found.rate == pytest.approx(0.9 * found.saturation_rps)
    assert found.binds is None
    assert found.why is None
    assert made.spent < 50_000


def test_of_several_limits_the_first_that_is_reached_binds() -> None:
    found, _ = ask("service_s.mean <= 10", "response_s.mean <= 2", "queueing_s.mean <= 50", precision=0.2)
    assert str(found.binds) == "response_s.mean <= 2"
    assert found.rate == pytest.approx(2 / 3, rel=0.2)


def test_where_limits_hold_nowhere_the_nearest_is_told() -> None:
    found, _ = ask("response_s.mean <= 0.9")
    assert found.rate is None
    assert found.why is None
    assert found.trial.rate == pytest.approx(0.01 * found.saturation_rps)
    assert found.trial.figures["response_s.mean"].value >= 1.0


def test_a_figure_that_shall_be_large_forbids_where_others_forbid_more() -> None:
    found, _ = ask("throughput_rps >= 0.7", "response_s.mean <= 1.5", precision=0.2)
    assert found.rate is None


def test_a_window_between_the_rates_that_are_scanned_is_found() -> None:
    found, _ = ask("throughput_rps >= 0.4", "response_s.mean <= 1.5", precision=0.1)
    assert found.rate == pytest.approx(0.5, rel=0.1)


def test_the_cap_is_told() -> None:
    found, made = ask("response_s.p99 <= 20", precision=0.01, most=30_000)
    assert made.spent <= 30_000
    assert found.why is not None
    assert "--max-requests" in found.why
    assert found.rate is None or found.rate < 0.97


def test_the_same_whatever_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "_WORTH_PROCESSES_S", 0.0)
    limits = limits_of(["response_s.mean <= 2"], SPEC)
    case, found = Case(SPEC, MM, None, 3), []
    with pool(2) as processes:
        for executor in (None, processes):
            made = Trials(limits, executor, 8_000)
            found.append((highest_rate(case, limits, made, 0.2), made.done))
    assert found[0] == found[1]


def test_bursty_arrivals_leave_less() -> None:
    bursty = WorkloadSpec(requests=100, arrivals=Gamma(rate=0.1, cv=2.0), prompt_tokens=ONE, output_tokens=ONE)
    found, _ = ask("response_s.mean <= 3", spec=bursty, precision=0.2)
    # Below what is the root for Poisson arrivals.
    assert found.rate is not None
    assert found.rate < 0.7 < brentq(lambda rate: MD1(rate, 1.0).mean_response_s - 3, 0.01, 0.99)


def test_a_recording_is_replayed_faster_and_as_long_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    rows = "".join(f"{i},1,1\n" for i in range(400))
    path.write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}")
    half = System(policy=NoBatching(), cost=Affine(base_s=0.5))
    found, made = ask("response_s.mean <= 0.6", spec=WorkloadSpec(arrivals=Trace(path=str(path))), server=half)
    # Even gaps: nobody waits up to saturation.
    assert found.rate == pytest.approx(0.9 * 2.0, rel=0.01)
    assert {one.requests for one in made.done} == {400}


def test_figures_that_runs_do_not_have_are_refused() -> None:
    with pytest.raises(ConfigError, match="no goodput_rps: requests are promised nothing"):
        ask("goodput_rps >= 0.2")
    with pytest.raises(ConfigError, match=r"no tpot_s\.mean"):
        ask("tpot_s.mean <= 0.2")


def test_promises_are_shares_of_all_requests() -> None:
    promised = WorkloadSpec(
        requests=100, arrivals=Poisson(rate=0.1), prompt_tokens=ONE, output_tokens=Geometric(mean=3), ttft_slo_s=4.0
    )
    system = System(policy=Continuous(max_seqs=2), cost=Affine(base_s=1.0))
    found, made = ask("slo_attainment >= 0.9", spec=promised, server=system, precision=0.2)
    assert found.rate is not None
    assert 0 < found.rate < found.saturation_rps
    assert all(0 <= one.figures["slo_attainment"].value <= 1 for one in made.done)


@pytest.mark.parametrize("requests", [2, 19, 20, 21])
def test_runs_of_hardly_any_requests_have_figures(requests: int) -> None:
    spec = WorkloadSpec(requests=9, arrivals=Poisson(rate=0.5), prompt_tokens=ONE, output_tokens=ONE)
    case = Case(spec, System(policy=Continuous(max_seqs=2), cost=Affine(base_s=1.0)), None, 1)
    made = Trials(limits_of(["response_s.mean <= 9"], spec), None, 10**6).run(case, Effort(requests, 3), 0.5)
    assert made.figures["response_s.mean"].value >= 1


def test_intervals_know_of_the_waits() -> None:
    """Response times are widened by how seldom queues rise (docs/intervals.md). The first tenth and the last twentieth
    of every run are left out."""
    spec = WorkloadSpec(
        requests=2000, arrivals=Poisson(rate=2.5), prompt_tokens=Fixed(value=1), output_tokens=Geometric(mean=3)
    )
    system = System(policy=Continuous(max_seqs=8), cost=Affine(base_s=1.0))
    limits = limits_of(["response_s.p95 <= 9"], spec)
    case = Case(spec, system, None, 1)
    seen = Trials(limits, None, 10**6).run(case, Effort(2000, 10), 2.5).figures["response_s.p95"]
    seeds = [seed_of(1, number) for number in range(10)]
    runs = [simulate(case.workload(seed, 2000).at_rate(2.5), system, seed=seed).cut(200, 1900) for seed in seeds]
    known = Replicated(runs[0], [Part.of(run) for run in runs], 10, Warmup(200, True), [response_of(runs[0])])
    assert seen == known.interval(("response_s", "p95"))
    assert known.widening(("response_s", "p95")) > 1


def test_a_curve_with_a_knee() -> None:
    """TTFT hardly rises until all seats are taken, and then a lot: no line goes through that."""
    chat = WorkloadSpec(
        requests=100, arrivals=Poisson(rate=1.0), prompt_tokens=ONE, output_tokens=Geometric(mean=20, max=200)
    )
    system = System(policy=Continuous(max_seqs=16), cost=Affine(base_s=0.05))
    found, _ = ask("ttft_s.p95 <= 0.2", spec=chat, server=system, precision=0.05, most=10**7)
    exact, _ = ask("ttft_s.p95 <= 0.2", spec=chat, server=system, precision=0.01, most=10**8, seed=2)
    assert found.why is exact.why is None
    assert found.root_rps is not None
    assert found.half_width_rps is not None
    assert found.root_rps == pytest.approx(exact.root_rps, abs=1.2 * found.half_width_rps)


def test_prefill_and_decode_apart() -> None:
    """Two queues in a row, of which decode is the slower one: two tokens that it computes, at a second each."""
    spec = WorkloadSpec(requests=100, arrivals=Poisson(rate=0.3), prompt_tokens=ONE, output_tokens=Fixed(value=3))
    quick, slow = (
        Cluster.of(1, System(policy=Vllm(max_num_seqs=1), cost=Affine(base_s=base_s)), RoundRobin())
        for base_s in (0.01, 1.0)
    )
    apart = Disaggregation(quick, slow, Transfer(gib_per_s=1.0, kv_bytes_per_token=1.0))
    found, _ = ask("response_s.mean <= 4", spec=spec, server=apart, precision=0.2)
    assert found.why is None
    assert found.root_rps is not None
    assert found.saturation_rps == pytest.approx(0.5, rel=0.01)
    # What prefill of a hundredth of a second leaves of Poisson arrivals is as good as Poisson.
    root = brentq(lambda rate: MD1(rate, 2.0).mean_response_s + 0.01 - 4, 0.01, 0.499)
    assert abs(found.root_rps - root) <= 1.2 * found.half_width_rps
