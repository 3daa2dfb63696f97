"""How many more runs there are to be, and how long, against the laws of their intervals."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simqueue.analysis import effort
from simqueue.analysis.effort import Further, further
from simqueue.analysis.replicated import Part, Precision, Replicated
from simqueue.analysis.server import AnyResult
from simqueue.analysis.warmup import Warmup
from simqueue.metrics import Sample

REQUESTS = 2_000
PLENTY = 10**9


def looked_at(narrower: float, runs: int = 10, load: float = 0.0) -> Replicated:
    """Runs whose p99 is known ``1 / narrower`` as well as is asked, and that are long enough for loads up to 0.97."""
    rng, parts = np.random.default_rng(3), []
    for _ in range(runs):
        times = Sample(rng.standard_exponential(REQUESTS))
        known = {"requests": REQUESTS, "offered_rps": load, "saturation_rps": 1.0}
        summary = {**known, "queueing_s": times.stats(), "response_s": times.stats()}
        parts.append(Part(summary, {"queueing_s": times, "response_s": times}, times.values))
    settled = Warmup(0, found=True)
    plain = Replicated(cast(AnyResult, None), parts, runs, settled, parts[0].response_s)
    asked = Precision(plain.relative("response_s.p99") / narrower, ("response_s.p99",), 10**6)
    return Replicated(plain.first, parts, runs, settled, plain.series, asked)


def test_nothing_more_where_it_is_as_near_as_asked() -> None:
    assert further(looked_at(0.999), REQUESTS, PLENTY, any_length=True) is None
    assert further(looked_at(1.001), REQUESTS, PLENTY, any_length=True) is not None


def test_to_some_more_requests_some_more_runs() -> None:
    """A width goes down with the root of their number, and by a tenth since Student's t is of more runs than 10."""
    assert further(looked_at(1.01), REQUESTS, PLENTY, any_length=True) == Further(2, REQUESTS)
    found = further(looked_at(1.5), REQUESTS, PLENTY, any_length=True)
    assert found is not None
    assert found.requests == REQUESTS
    assert 10 + found.runs == pytest.approx(10 * (1.5 / 0.95 * 2.04 / 2.26) ** 2, abs=1.5)


def test_to_many_times_as_many_fewer_that_are_longer() -> None:
    far = looked_at(10)
    # Eight times as many at once, since it is not known well by how much it is too wide.
    assert further(far, REQUESTS, PLENTY, any_length=True) == Further(32, 8 * 10 * REQUESTS // 32)
    assert further(far, REQUESTS, PLENTY, any_length=False) == Further(70, REQUESTS)
    assert further(looked_at(10, runs=100), REQUESTS, PLENTY, any_length=True) == Further(32, 50_000)
    assert further(looked_at(10, runs=250), REQUESTS, PLENTY, any_length=True) == Further(80, 50_000)
    assert further(looked_at(10, runs=350), REQUESTS, PLENTY, any_length=True) == Further(100, 56_000)


def test_what_is_too_short_is_mended_by_longer_runs_alone() -> None:
    short = looked_at(0.5, runs=1_000, load=0.97)
    assert short.too_short
    assert further(short, REQUESTS, PLENTY, any_length=True) == Further(32, 4 * 1_000 * REQUESTS // 32)
    assert further(short, REQUESTS, PLENTY, any_length=False) is None


@settings(max_examples=30)
@given(st.integers(0, 200), st.booleans(), st.sampled_from([0.5, 1.2, 1.9, 3.0, 20.0]))
def test_never_more_than_may_be(left: int, any_length: bool, narrower: float) -> None:
    found = further(LOOKS[narrower], REQUESTS, left * REQUESTS, any_length=any_length)
    if narrower < 1 or not left:
        assert found is None
    else:
        assert found is not None
        assert found.runs >= 1
        assert found.requests >= REQUESTS
        assert found.runs * found.requests <= left * REQUESTS
        assert any_length or found.requests == REQUESTS


LOOKS = {narrower: looked_at(narrower) for narrower in (0.5, 1.2, 1.9, 3.0, 20.0)}


@pytest.mark.parametrize("relative", [0.08, 0.2, 1.5, math.inf])
@pytest.mark.parametrize("widening", [1.0, 1.3, 4.0])
def test_so_much_longer_they_are_as_narrow_as_wanted(relative: float, widening: float) -> None:
    """The half-width ``w h / (1 - h)`` of runs ``f`` times as long, by the laws that `_factor` inverts."""
    aim = 0.06
    factor = effort._factor(relative, widening, aim)
    assert 1 <= factor <= effort._MOST
    half = 1.0 if math.isinf(relative) else (relative / widening) / (1 + relative / widening)
    half /= math.sqrt(factor)
    reached = (1 + (widening - 1) / factor) * half / (1 - half)
    # To the step of the bisection; or as much longer as runs ever get at once, which is not enough.
    assert reached == pytest.approx(aim, rel=0.02) or (factor == effort._MOST and reached > aim)


def test_without_widening_it_is_the_square_for_narrow_intervals() -> None:
    assert effort._factor(0.02, 1.0, 0.01) == pytest.approx(4.0, rel=0.03)
