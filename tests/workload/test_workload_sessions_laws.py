"""Conversations of several turns: the laws of their arrivals, and a network of queues that has a closed form."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

import simqueue
from simqueue.policy import Vllm
from simqueue.workload import (
    Count,
    ExponentialThink,
    Fixed,
    FixedThink,
    GeometricCount,
    LognormalThink,
    Sessions,
    Think,
    Uniform,
    Workload,
    WorkloadSpec,
    make_workload,
)
from simqueue.workload.streams import streams

ONE = Fixed(value=1)


def made(arrivals: Sessions, requests: int, seed: int = 3) -> Workload:
    return make_workload(WorkloadSpec(requests=requests, arrivals=arrivals, prompt_tokens=ONE, output_tokens=ONE), seed)


def sessions(workload: Workload) -> list[list[int]]:
    """The rows of each session."""
    order = np.argsort(workload.extra["session"], kind="stable")
    cuts = np.flatnonzero(np.diff(workload.extra["session"][order])) + 1
    return [rows.tolist() for rows in np.split(order, cuts)]


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("turns", "think_s"),
    [(4, 2.0), (4, LognormalThink(2.0, 1.5)), (GeometricCount(3.0), ExponentialThink(2.0))],
    ids=["fixed", "lognormal", "geometric"],
)
def test_the_rate_is_the_same_from_the_start(turns: Count, think_s: float | Think) -> None:
    """Means of the counts of 200 draws in windows of a second; their errors are found from the draws."""
    arrivals = Sessions(3.0, turns, think_s)
    edges = np.array([0.0, 0.5, 1.0, 2.0, 4.0])
    draws = [made(arrivals, 80, seed).arrival_s for seed in range(200)]
    assert min(times[-1] for times in draws) > edges[-1]
    counts = np.array([np.histogram(times, edges)[0] for times in draws])
    error = counts.std(axis=0, ddof=1) / np.sqrt(len(draws))
    assert arrivals.mean_rate == made(arrivals, 80).rate
    assert np.all(np.abs(counts.mean(axis=0) - arrivals.mean_rate * np.diff(edges)) < 4.5 * error)
    assert np.all(error < 0.08 * arrivals.mean_rate * np.diff(edges) + 0.2)


@pytest.mark.statistical
@pytest.mark.parametrize(
    "think", [FixedThink(2.0), ExponentialThink(2.0), LognormalThink(2.0, 0.8)], ids=lambda think: type(think).__name__
)
def test_what_is_left_of_a_think(think: FixedThink | ExponentialThink | LognormalThink) -> None:
    """Its density is the survival function over the mean (Cox, Renewal Theory, section 5.4): the share that ends within
    t is ``E[min(T, t)] / E[T]``, by a sum over quantiles."""
    rest = think.rest(20_000, streams(5).thinks)
    draws = np.sort(think.draw(20_000, streams(6).thinks))
    at = np.linspace(0.2, 6.0, 12)
    expected = np.array([np.minimum(draws, t).mean() for t in at]) / think.mean
    observed = np.array([np.mean(rest < t) for t in at])
    # Both shares are of 20,000 draws: their standard errors are below 0.0036 and 0.008.
    assert np.all(np.abs(observed - expected) < 4 * 0.009)


@pytest.mark.statistical
def test_sessions_start_as_a_poisson_process_and_have_so_many_turns() -> None:
    workload = made(Sessions(5.0, GeometricCount(3.0)), 20_000)
    # Nobody thinks, so that a session is there at one instant, and none is under way at 0.
    starts, counts = np.unique(workload.arrival_s, return_counts=True)
    assert stats.kstest(np.diff(starts), stats.expon(scale=1 / 5).cdf).pvalue > 1e-3
    observed = np.bincount(np.minimum(counts[:-1], 12), minlength=13)[1:]
    expected = np.append(stats.geom(1 / 3).pmf(range(1, 12)), stats.geom(1 / 3).sf(11)) * (len(counts) - 1)
    assert stats.chisquare(observed, expected).pvalue > 1e-3


@pytest.mark.statistical
def test_turns_before_and_after_a_think_that_is_under_way_are_geometric() -> None:
    arrivals = Sessions(50.0, GeometricCount(3.0), FixedThink(20.0))
    workload = made(arrivals, 40_000)
    rows = [rows for rows in sessions(workload) if workload.extra["turn"][rows[0]] > 0]
    assert len(rows) == pytest.approx(arrivals.mean_under_way, abs=4 * math.sqrt(arrivals.mean_under_way))
    past = workload.extra["turn"][[each[0] for each in rows]]
    # The horizon, about 266 s, leaves time for 12 thinks.
    left = np.array([len(each) for each in rows])
    for counts in (past, left):
        observed = np.bincount(np.minimum(counts, 9), minlength=10)[1:]
        expected = np.append(stats.geom(1 / 3).pmf(range(1, 9)), stats.geom(1 / 3).sf(8)) * len(rows)
        assert stats.chisquare(observed, expected).pvalue > 1e-3
    assert abs(np.corrcoef(past, left)[0, 1]) < 4 / math.sqrt(len(rows))


@pytest.mark.statistical
@pytest.mark.parametrize("think_s", [0.0, ExponentialThink(0.3)])
def test_the_server_of_a_network_of_sessions_is_that_of_a_poisson_stream(think_s: float | Think) -> None:
    """Turns that come back after a think make an open network with a product form: the mean response of the exponential
    server is ``1 / (mu - lambda)``. Source: Jackson, Networks of waiting lines, Operations Research 5 (1957); Baskett,
    Chandy, Muntz and Palacios, Journal of the ACM 22 (1975). Without thinks it is a queue with feedback: who comes back
    stands at the end of it."""
    system = simqueue.System(simqueue.NoBatching(), simqueue.Affine(base_s=0.01), simqueue.ExponentialNoise())
    arrivals = Sessions(15.0, GeometricCount(4.0), think_s)
    means = [
        simqueue.simulate(made(arrivals, 2500, seed), system, seed=seed, warmup=500).summary()["response_s"]["mean"]
        for seed in range(8)
    ]
    error = np.std(means, ddof=1) / np.sqrt(len(means))
    assert abs(np.mean(means) - 1 / (100 - 60)) < 4 * error
    assert error < 0.1 * 0.025


def test_a_turn_finds_all_that_the_turn_before_has_computed_and_nothing_more() -> None:
    """Its prompt but for the last token, in full blocks, as far as the turn before has filled them with its prompt and
    its answer, whose last token is never fed back."""
    arrivals = Sessions(rate=20.0, turns=6, think_s=0.5)
    prompts, outputs = Uniform(low=1, high=70), Uniform(low=1, high=50)
    spec = WorkloadSpec(requests=600, arrivals=arrivals, prompt_tokens=prompts, output_tokens=outputs)
    memory = simqueue.Memory(num_blocks=100_000, prefix_caching=True)
    system = simqueue.System(Vllm(), simqueue.Affine(base_s=1e-3, per_new_token_s=1e-5), memory=memory)
    result = simqueue.simulate(make_workload(spec, 5), system)
    assert result.fates is not None
    tokens = result.workload.prompt_tokens, result.workload.output_tokens
    found = result.fates.cached_tokens
    seen = 0
    for rows in sessions(result.workload):
        # A session that was under way at the start has left nothing here before its first row.
        assert found[rows[0]] == 0
        for before, row in pairwise(rows):
            filled = int(tokens[0][before] + tokens[1][before] - 1) // 16
            assert found[row] == 16 * min(filled, int(tokens[0][row] - 1) // 16)
            seen += filled > int(tokens[0][before]) // 16
    assert seen > 100  # blocks that an answer has filled were found
