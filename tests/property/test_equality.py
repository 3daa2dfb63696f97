"""The engine equals the reference, request by request and step by step, to the tick; leaping equals stepping."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenarios import POLICIES, Scenario, scenarios

from simqueue import Result
from simqueue.cost.base import UNLIMITED


def requests_of(result: Result) -> list[tuple[int, ...]]:
    """Scheduled, first token and finished of every request."""
    columns = (result.scheduled, result.first_token, result.finished)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def steps_of(result: Result) -> list[tuple[int, ...]]:
    """Start, end, rows that decode, are held and prefill, and prompt tokens of every step."""
    steps, ends = result.steps(), result.step_ends
    rows = [steps[name] for name in ("decode_rows", "held_rows", "prefill_rows", "new_tokens")]
    columns = (ends - result.durations(), ends, *rows)
    assert np.array_equal(steps["batch_size"], rows[0] + rows[1] + rows[2])
    return list(zip(*(column.tolist() for column in columns), strict=True))


def expected(scenario: Scenario) -> tuple[list[Any], list[Any]]:
    """What the reference says of requests and steps."""
    outcome = scenario.run_slowly()
    times = [outcome.requests[i] for i in range(len(scenario.arrivals))]
    steps = [
        (s.start, s.end, s.shape.decode_rows, s.shape.held_rows, s.shape.prefill_rows, s.shape.new_tokens)
        for s in outcome.steps
    ]
    return [(t.scheduled, t.first_token, t.finished) for t in times], steps


@pytest.mark.parametrize("kind", POLICIES)
def test_engine_equals_reference_however_long_it_leaps(kind: str) -> None:
    @settings(max_examples=4 * settings.default.max_examples)
    @given(scenarios(kind), st.integers(2, 7))
    def equal(scenario: Scenario, some: int) -> None:
        requests, steps = expected(scenario)
        for longest_leap in (UNLIMITED, 1, some):
            result = scenario.run(longest_leap=longest_leap)
            assert requests_of(result) == requests
            assert steps_of(result) == steps

    equal()
