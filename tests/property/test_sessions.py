"""Conversations: the package equals the reference, and what holds on every path."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenarios import POLICIES
from talks import TalkScenario, talk_scenarios
from test_equality import requests_of, steps_of
from test_laws import area, same

import simqueue
from simqueue.cost.base import UNLIMITED


def some(kind: str, examples: int) -> Any:
    """Try a law on that many scenarios."""

    def decorate(law: Any) -> Any:
        return settings(max_examples=examples * settings.default.max_examples // 100)(
            given(talk_scenarios(kind), st.integers(2, 7))(law)
        )

    return decorate


@pytest.mark.parametrize("kind", POLICIES)
def test_engine_equals_reference_however_long_it_leaps(kind: str) -> None:
    @some(kind, 30)
    def equal(scenario: TalkScenario, some: int) -> None:
        outcome = scenario.run_slowly()
        times = [outcome.requests[i] for i in range(len(outcome.requests))]
        steps = [
            (s.start, s.end, s.shape.decode_rows, s.shape.held_rows, s.shape.prefill_rows, s.shape.new_tokens)
            for s in outcome.steps
        ]
        for longest_leap in (UNLIMITED, 1, some):
            result = scenario.run(longest_leap=longest_leap)
            assert result.arrival.tolist() == [outcome.arrivals[i] for i in range(len(times))]
            assert requests_of(result) == [(t.scheduled, t.first_token, t.finished) for t in times]
            assert steps_of(result) == steps

    equal()


@pytest.mark.parametrize("kind", ["none", "continuous"])
def test_laws(kind: str) -> None:
    @some(kind, 15)
    def hold(scenario: TalkScenario, _: int) -> None:
        result = scenario.run()
        made, grid = result.workload, result.grid
        assert np.all(np.diff(result.arrival) >= 0)
        assert area(result.arrival, result.finished) == result.response.sum()
        think = grid.column(made.extra["think_s"])
        for number, each in enumerate(scenario.conversations):
            rows = np.flatnonzero(made.extra["session"] == number)
            assert made.extra["turn"][rows].tolist() == list(range(len(each.turns)))
            assert result.arrival[rows[0]] == each.start
            assert made.output_tokens[rows].tolist() == [turn.answer for turn in each.turns]
            for row, after in pairwise(rows):
                over = scenario.overheads
                if not over.response_per_row:  # an answer of a large step may be overtaken by its own earlier tokens
                    assert result.arrival[after] == result.finished[row] + think[after]
                new = each.turns[made.extra["turn"][after]].said
                assert made.prompt_tokens[after] == made.prompt_tokens[row] + made.output_tokens[row] + new

    hold()


@pytest.mark.parametrize("kind", POLICIES)
def test_sessions_run_anew_whatever_they_ran_before(kind: str) -> None:
    @some(kind, 8)
    def anew(scenario: TalkScenario, _: int) -> None:
        result = scenario.run()
        assert same(simqueue.simulate(result.workload, scenario.system, seed=scenario.seed), result)

    anew()
