"""Laws that hold on every sample path, whatever the policy, the cost, the noise and the overheads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from leaps import figures
from scenarios import POLICIES, PS, Scenario, scenarios

from simqueue import Affine, EmpiricalNoise, ExponentialNoise, Result, ServingNoise
from simqueue.cost.profile import Measured
from simqueue.policy import Continuous, Dynamic, NoBatching, Static

NEVER = 1 << 100
COLUMNS = ("scheduled", "first_token", "finished")


RUN_TO_COMPLETION = ("none", "static", "dynamic")
ITERATION_LEVEL = ("continuous", "chunked")
Law = Callable[[Scenario], None]


def for_every_policy(examples: int, kinds: Sequence[str] = tuple(POLICIES)) -> Callable[[Law], Callable[[str], None]]:
    """Try a law on that many random scenarios of each kind of policy."""

    def decorate(law: Law) -> Callable[[str], None]:
        @pytest.mark.parametrize("kind", kinds)
        def test(kind: str) -> None:
            many = settings(max_examples=examples * settings.default.max_examples // 100)
            many(given(scenarios(kind))(law))()

        return test

    return decorate


def same(one: Result, other: Result) -> bool:
    """Whether every request met the same fate at the same ticks."""
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in COLUMNS)


def area(starts: Any, ends: Any) -> int:
    """Integral over time of the number of those that have started and not ended, by sweeping over the instants."""
    total = number = last = 0
    for at, change in sorted([(int(t), 1) for t in starts] + [(int(t), -1) for t in ends]):
        total += number * (at - last)
        number, last = number + change, at
    return total


@for_every_policy(100)
def test_every_request_passes_through_once_in_causal_order(scenario: Scenario) -> None:
    result, over = scenario.run(), scenario.overheads
    assert result.arrival.tolist() == list(scenario.arrivals)
    assert np.all(result.queueing >= over.request_path)
    assert np.all(result.first_token > result.scheduled + over.response_path)
    assert np.all(result.finished >= result.first_token)
    assert np.array_equal(result.response, result.queueing + result.service)
    assert np.array_equal(result.ttft, result.first_token - result.arrival)
    single = np.array(scenario.outputs) == 1
    if not result.with_batch:
        assert np.array_equal(result.first_token - result.first_delivery == result.finished - result.delivery, single)
    else:
        assert np.array_equal(result.first_token, result.finished)


@for_every_policy(100)
def test_little(scenario: Scenario) -> None:
    """L = lambda W on a finite path: areas under counts are sums of times (Little, Operations Research 9, 1961)."""
    result = scenario.run()
    assert area(result.arrival, result.scheduled) == result.queueing.sum()
    assert area(result.arrival, result.finished) == result.response.sum()
    seconds, waiting = result.waiting()
    at = np.rint(seconds / PS).astype(np.int64)
    assert np.dot(waiting[:-1], np.diff(at)) == result.queueing.sum()
    assert waiting[-1] == 0
    assert np.all(waiting >= 0)
    summary = figures(result)
    span_s = (result.finished.max() - result.arrival[0]) * PS
    assert summary["waiting"]["mean"] * span_s == pytest.approx(result.queueing.sum() * PS)
    assert summary["waiting"]["max"] == waiting.max()


@for_every_policy(100)
def test_tokens_rows_and_busy_time_are_conserved(scenario: Scenario) -> None:
    result = scenario.run()
    steps, durations, ends = result.steps(), result.durations(), result.step_ends
    starts = ends - durations
    assert np.all(durations >= 1)
    assert np.all(starts[1:] >= ends[:-1])  # one replica: steps never overlap
    assert steps["new_tokens"].sum() == sum(scenario.prompts)
    assert steps["decode_rows"].sum() == sum(scenario.outputs) - len(scenario.outputs)
    leaps = result.leaps
    assert np.array_equal(leaps["total"], np.add.reduceat(durations, np.cumsum(leaps["steps"]) - leaps["steps"]))
    span = int(result.finished.max() - result.arrival[0])
    busy = int(durations[starts >= result.arrival[0]].sum())
    summary = figures(result)
    assert summary["utilisation"] == pytest.approx(busy / span)
    assert 0 < summary["utilisation"] <= 1
    assert summary["requests"] == len(scenario.arrivals)
    assert summary["throughput_rps"] == pytest.approx(len(scenario.arrivals) / (span * PS))
    size = steps["batch_size"]
    assert summary["batch_size"]["mean_per_step"] == pytest.approx(size.mean())
    assert summary["batch_size"]["mean_per_request"] == pytest.approx((size**2).sum() / size.sum())


@for_every_policy(100)
def test_first_come_first_served(scenario: Scenario) -> None:
    """All four shipped policies admit in order of arrival, and prefill in order too (answers of a larger step take
    longer to be there)."""
    result = scenario.run()
    assert np.all(np.diff(result.scheduled) >= 0)
    assert np.all(np.diff(result.first_token - result.first_delivery) >= 0)
    if isinstance(scenario.policy, NoBatching):
        assert np.all(result.scheduled[1:] + result.delivery[:-1] >= result.finished[:-1])


def earliest_start(scenario: Scenario, head: int, free: int) -> int:
    """The first instant, from ``free`` on, at which the policy's rule lets a server with nothing to do start."""
    seen = [a + scenario.overheads.request_path for a in scenario.arrivals]
    policy, count = scenario.policy, len(seen)

    def nth(n: int) -> int:
        return seen[head + n - 1] if head + n <= count else NEVER

    if isinstance(policy, NoBatching | Continuous):
        return max(free, nth(1))
    if isinstance(policy, Static):
        return max(free, min(nth(policy.batch), seen[-1]))
    assert isinstance(policy, Dynamic)
    full = nth(policy.min_batch or policy.max_batch or NEVER)
    if policy.max_wait_s == float("inf"):
        return max(free, min(full, seen[-1]))
    due = nth(1) + round(policy.max_wait_s / PS)
    if due > max(free, nth(1)):
        # A timer is asked for, and fires late; whoever arrives meanwhile wakes the server.
        later = [at for at in seen if at >= due]
        due = min([due + scenario.overheads.timer_late, *later])
    return max(free, min(full, due))


@for_every_policy(200)
def test_a_server_idles_exactly_while_its_rule_forbids_a_start(scenario: Scenario) -> None:
    scenario = replace(scenario, overheads=replace(scenario.overheads, wake=0))
    result, over = scenario.run(), scenario.overheads
    starts = result.step_ends - result.durations()
    steps = result.steps()
    busy_rows = free = head = 0
    for start, end, held, size in zip(
        starts.tolist(), result.step_ends.tolist(), steps["held_rows"], steps["batch_size"], strict=True
    ):
        here = int(np.searchsorted(result.scheduled, start, "right"))
        if busy_rows:
            assert start == free
        else:
            assert start == earliest_start(scenario, head, free)
            batch = here - head
        head = here
        done = (result.finished - result.delivery <= end)[:head].all()
        busy_rows = 0 if done else size
        free = end
        if done and not isinstance(scenario.policy, Continuous):
            assert held < size
            free += over.handover + over.handover_per_request * batch


@for_every_policy(100, RUN_TO_COMPLETION)
def test_batches_are_as_large_as_their_rule_says(scenario: Scenario) -> None:
    policy = scenario.policy
    result = scenario.run()
    seen = result.arrival + scenario.overheads.request_path
    at, batches = np.unique(result.scheduled, return_counts=True)
    head = 0
    for start, batch in zip(at.tolist(), batches.tolist(), strict=True):
        waiting = int(np.searchsorted(seen, start, "right")) - head
        most = 1 if isinstance(policy, NoBatching) else policy.batch if isinstance(policy, Static) else policy.max_batch
        assert batch == min(waiting, most or waiting)
        head += batch


@for_every_policy(100, ITERATION_LEVEL)
def test_seats_and_budgets_are_kept(scenario: Scenario) -> None:
    policy = scenario.policy
    assert isinstance(policy, Continuous)
    steps = scenario.run().steps()
    assert steps["batch_size"].max() <= policy.max_seqs
    if policy.max_tokens is not None:
        assert (steps["decode_rows"] + steps["new_tokens"]).max() <= policy.max_tokens


@for_every_policy(60)
def test_leaps_expand_to_the_steps_that_were_run(scenario: Scenario) -> None:
    """Also with the noises of a profile, which depend on the shape of the step and on the steps before."""
    if isinstance(scenario.cost, Measured):
        scenario = replace(scenario, noise=(EmpiricalNoise(), ServingNoise())[scenario.seed % 2])
    leaping, stepping = scenario.run(), scenario.run(longest_leap=1)
    assert same(leaping, stepping)
    assert np.all(stepping.leaps["steps"] == 1)
    assert np.array_equal(stepping.durations(), stepping.leaps["total"])
    assert np.array_equal(leaping.durations(), stepping.leaps["total"])
    for name, column in leaping.steps().items():
        assert np.array_equal(column, stepping.steps()[name]), name
    assert figures(leaping) == figures(stepping)


@for_every_policy(60)
def test_gaps_between_tokens(scenario: Scenario) -> None:
    """ITL by brute force: the step ends at which each request emits, one by one."""
    result = scenario.run()
    found = figures(result)["itl_s"]
    if result.with_batch or max(scenario.outputs) == 1:
        assert found is None
        return
    ends = result.step_ends
    gaps: list[int] = []
    first_ends, last_ends = result.first_token - result.first_delivery, result.finished - result.delivery
    for first, last in zip(first_ends, last_ends, strict=True):
        emitted = ends[(ends >= first) & (ends <= last)]
        gaps += np.diff(emitted).tolist()
    assert len(gaps) == sum(scenario.outputs) - len(scenario.outputs)
    cuts = np.quantile(gaps, [0.5, 0.9, 0.95, 0.99], method="inverted_cdf") * PS
    expected = {"mean": np.mean(gaps) * PS, "max": max(gaps) * PS}
    expected |= dict(zip(("p50", "p90", "p95", "p99"), cuts, strict=True))
    assert found == pytest.approx(expected)


@for_every_policy(60)
def test_a_seed_makes_a_run_reproducible(scenario: Scenario) -> None:
    assert same(scenario.run(), scenario.run())


def test_another_seed_makes_another_run() -> None:
    @settings(max_examples=30)
    @given(scenarios("none"))
    def differs(scenario: Scenario) -> None:
        noisy = replace(scenario, noise=ExponentialNoise(), cost=Affine(base_s=1e-3))
        assert not same(noisy.run(), replace(noisy, seed=scenario.seed + 1).run())

    differs()


@for_every_policy(100)
def test_the_future_changes_nothing(scenario: Scenario) -> None:
    """Leave out the last request: whatever had left before another one arrived is as it was."""
    assume(len(scenario.arrivals) > 1)
    fewer = replace(
        scenario, arrivals=scenario.arrivals[:-1], prompts=scenario.prompts[:-1], outputs=scenario.outputs[:-1]
    )
    whole, part = scenario.run(), fewer.run()
    # Without its last request the source closes earlier, and is known to be closed from then on.
    closes = fewer.arrivals[-1] + scenario.overheads.request_path
    before = whole.finished[:-1] - whole.delivery[:-1] < closes
    assert np.array_equal(whole.finished[:-1][before], part.finished[before])
    assert np.array_equal(whole.scheduled[:-1][before], part.scheduled[before])


@for_every_policy(60)
def test_only_differences_of_time_matter(scenario: Scenario) -> None:
    shift = 7 * 10**9
    # What it takes to wake for the first one, and to start it, depends on how long ago the beginning was.
    scenario = replace(scenario, overheads=replace(scenario.overheads, wake=3, start=5))
    # Who comes at 0 finds a server that has not waited, and need not wake.
    later, now = (
        replace(scenario, arrivals=tuple(a + begin for a in scenario.arrivals)).run() for begin in (1 + shift, 1)
    )
    assert all(np.array_equal(getattr(now, name) + shift, getattr(later, name)) for name in COLUMNS)


@for_every_policy(60)
def test_figures_leave_out_the_warm_up(scenario: Scenario) -> None:
    count = len(scenario.arrivals)
    warmup = count // 2
    result, whole = scenario.run(warmup=warmup), scenario.run()
    assert same(result, whole)
    summary = figures(result)
    assert summary["requests"] == count - warmup
    assert summary["queueing_s"]["mean"] == pytest.approx(whole.queueing[warmup:].mean() * PS)
    assert summary["response_s"]["max"] == pytest.approx(whole.response[warmup:].max() * PS)


def test_more_seats_are_no_reason_to_forget_anybody() -> None:
    """The seats of an idle policy change nothing: with room for all, continuous batching admits at once."""

    @settings(max_examples=60)
    @given(scenarios("continuous"), st.integers(40, 100))
    def law(scenario: Scenario, seats: int) -> None:
        result = replace(scenario, policy=Continuous(seats)).run()
        starts = result.step_ends - result.durations()
        seen = result.arrival + scenario.overheads.request_path
        busy = np.searchsorted(starts, seen)
        assert np.array_equal(result.scheduled, starts[busy])

    law()
