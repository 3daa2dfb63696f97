"""Users who wait for their answers: the package equals the reference, and what holds on every path."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from closed_loops import ClosedScenario, closed_scenarios
from hypothesis import given, settings
from hypothesis import strategies as st
from scenarios import POLICIES
from test_equality import requests_of, steps_of
from test_laws import area, same

import simqueue
from simqueue import Result, Workload
from simqueue.cost.base import UNLIMITED


def some(kind: str, examples: int) -> Any:
    """Try a law on that many scenarios."""

    def decorate(law: Any) -> Any:
        return settings(max_examples=examples * settings.default.max_examples // 100)(
            given(closed_scenarios(kind), st.integers(2, 7))(law)
        )

    return decorate


@pytest.mark.parametrize("kind", POLICIES)
def test_engine_equals_reference_however_long_it_leaps(kind: str) -> None:
    @some(kind, 300)
    def equal(scenario: ClosedScenario, some: int) -> None:
        outcome = scenario.run_slowly()
        times = [outcome.requests[i] for i in range(len(scenario.prompts))]
        steps = [
            (s.start, s.end, s.shape.decode_rows, s.shape.held_rows, s.shape.prefill_rows, s.shape.new_tokens)
            for s in outcome.steps
        ]
        for longest_leap in (UNLIMITED, 1, some):
            result = scenario.run(longest_leap=longest_leap)
            assert result.arrival.tolist() == [outcome.arrivals[i] for i in range(len(scenario.prompts))]
            assert requests_of(result) == [(t.scheduled, t.first_token, t.finished) for t in times]
            assert steps_of(result) == steps

    equal()


def thought(scenario: ClosedScenario, result: Result) -> list[tuple[int, int]]:
    """``(end, begin)`` of the think before each request, in order: users begin at 0, and whenever they have heard."""
    begins = [0] * scenario.users + sorted(result.finished.tolist())
    thinks = zip(begins, [*scenario.thinks, *scenario.thinks], strict=False)
    return sorted((begin + think, begin) for begin, think in thinks)[: len(scenario.prompts)]


@pytest.mark.parametrize("kind", POLICIES)
def test_laws(kind: str) -> None:
    @some(kind, 100)
    def hold(scenario: ClosedScenario, _: int) -> None:
        # An answer from a large step could be overtaken by one from the next, smaller one.
        scenario = replace(scenario, overheads=replace(scenario.overheads, response_per_row=0))
        result = scenario.run()
        users, arrival, finished = scenario.users, result.arrival, result.finished
        assert np.all(np.diff(arrival) >= 0)
        assert np.all(result.queueing >= scenario.overheads.request_path)
        # Never more requests in the system than users (who hear before they ask again at the same instant).
        inside = [np.sum(arrival <= at) - np.sum(finished <= at) for at in arrival]
        assert max(inside) <= users
        assert arrival.tolist() == [end for end, _ in thought(scenario, result)]
        # Little: areas under counts are sums of times.
        assert area(arrival, finished) == result.response.sum()
        assert area(arrival, result.scheduled) == result.queueing.sum()
        assert result.steps()["new_tokens"].sum() == sum(scenario.prompts)
        assert result.steps()["decode_rows"].sum() == sum(scenario.outputs) - len(scenario.outputs)
        assert not result.unstable

    hold()


@pytest.mark.parametrize("kind", ["none", "dynamic", "continuous", "chunked"])
def test_what_arrived_replayed_as_an_open_loop_meets_the_same_fate(kind: str) -> None:
    """Under policies that never wait for company: whether any can come is not the same in both."""

    @some(kind, 60)
    def alike(scenario: ClosedScenario, _: int) -> None:
        if kind == "dynamic":
            scenario = replace(scenario, policy=simqueue.Dynamic(4))
        result = scenario.run()
        made = result.workload
        again = Workload.from_columns(made.arrival_s, made.prompt_tokens, made.output_tokens)
        assert same(simqueue.simulate(again, scenario.system, seed=scenario.seed), result)

    alike()


def test_asymptotic_bounds() -> None:
    """Denning and Buzen (1978), "The operational analysis of queueing network models", Computing Surveys 10: with D the
    mean service and Z the mean think time, N users get through at most min(1 / D, N / (D + Z)) requests per second. On
    a finite path: the server serves one at a time, and no user thinks while being served."""

    @some("none", 100)
    def hold(scenario: ClosedScenario, _: int) -> None:
        result = scenario.run()
        end = int(result.finished.max())
        served = int((result.service - result.delivery).sum())
        assert served <= end
        assert served + sum(due - begin for due, begin in thought(scenario, result)) <= scenario.users * end

    hold()


@pytest.mark.parametrize("kind", POLICIES)
def test_a_closed_loop_runs_anew_whatever_it_ran_before(kind: str) -> None:
    @some(kind, 30)
    def anew(scenario: ClosedScenario, _: int) -> None:
        result = scenario.run()
        assert same(simqueue.simulate(result.workload, scenario.system, seed=scenario.seed), result)

    anew()
