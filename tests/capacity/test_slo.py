"""Limits as they are written: read exactly, or refused in one line that names what would do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simqueue.analysis.figures import FIGURES
from simqueue.analysis.interval import Interval
from simqueue.capacity.slo import Limit, limits_of
from simqueue.errors import ConfigError
from simqueue.metrics import PERCENTILES, Sample
from simqueue.workload import ClientClass, Fixed, Poisson, WorkloadSpec

ONE = Fixed(value=1)
SPEC = WorkloadSpec(requests=10, arrivals=Poisson(rate=1.0), prompt_tokens=ONE, output_tokens=ONE)
CHAT = ClientClass(name="chat.eu", arrivals=Poisson(rate=1.0), prompt_tokens=ONE, output_tokens=ONE)
CLASSES = WorkloadSpec(requests=10, classes=(CHAT,))


@pytest.mark.parametrize(
    ("text", "figure", "at_most", "bound"),
    [
        ("ttft_s.p99 <= 0.2", "ttft_s.p99", True, 0.2),
        ("ttft_s.p99<=200ms", "ttft_s.p99", True, 0.2),
        ("  itl_s.p99  <= 5e3 us ", "itl_s.p99", True, 5e-3),
        ("response_s.p95 <= 1s", "response_s.p95", True, 1.0),
        ("goodput_rps >= 300", "goodput_rps", False, 300.0),
        ("utilisation <= 80%", "utilisation", True, 0.8),
        ("slo_attainment >= 0.99", "slo_attainment", False, 0.99),
        ("waiting.mean <= 3", "waiting.mean", True, 3.0),
    ],
)
def test_what_can_be_read(text: str, figure: str, at_most: bool, bound: float) -> None:
    assert limits_of([text], SPEC) == (Limit(figure, at_most, pytest.approx(bound)),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tftt_s.p99 <= 0.2", "did you mean 'ttft_s.p99'"),
        ("ttft_s.p99.9 <= 0.2", "of ttft_s there are mean, p50, p90, p95, p99"),
        ("ttft_s.max <= 0.2", "of ttft_s there are mean, p50"),
        ("ttft_s.p75 <= 0.2", "of ttft_s there are mean, p50, p90, p95, p99"),
        ("ttft_s <= 0.2", "of ttft_s there are mean, p50, p90, p95, p99"),
        ("latency <= 0.2", "there are throughput_rps,"),
        ("ttft_s.p99 < 0.2", "write FIGURE <= NUMBER"),
        ("ttft_s.p99", "write FIGURE <= NUMBER"),
        ("", "write FIGURE <= NUMBER"),
        ("ttft_s.p99 <= 1e", "'1e' is no number"),
        ("ttft_s.p99 <= 0", "not positive"),
        ("ttft_s.p99 <= -1", "not positive"),
        ("ttft_s.p99 <= 1e999", "not positive and finite"),
        ("ttft_s.p99 <= 5min", "give one of s, ms, us, or none"),
        ("goodput_rps >= 3ms", "give none"),
        ("by_client.chat.ttft_s.p99 <= 1", "the workload has no classes of clients"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        limits_of([text], SPEC)
    assert said in str(refused.value)
    assert "--slo" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_there_is_one_of_each() -> None:
    with pytest.raises(ConfigError, match="--slo is missing"):
        limits_of([], SPEC)
    with pytest.raises(ConfigError, match="has such a limit already"):
        limits_of(["ttft_s.p99 <= 1", "ttft_s.p99 <= 2"], SPEC)


def test_clients_have_figures_of_their_own() -> None:
    texts = ["by_client.chat.eu.ttft_s.p99 <= 1", "by_client.chat.eu.slo_attainment >= 90%"]
    paths = [limit.path for limit in limits_of(texts, CLASSES)]
    assert paths == [("by_client", "chat.eu", "ttft_s", "p99"), ("by_client", "chat.eu", "slo_attainment")]


@given(st.sampled_from(FIGURES), st.floats(1e-9, 1e9), st.booleans())
def test_what_is_written_is_read_again(figure: str, bound: float, at_most: bool) -> None:
    limit = Limit(figure, at_most, float(f"{bound:g}"))
    assert limits_of([str(limit)], SPEC) == (limit,)


@given(st.floats(0, 1e9), st.floats(1e-9, 1e9), st.floats(0, 1e9), st.booleans())
def test_the_worse_end_of_an_interval_decides(value: float, bound: float, half: float, at_most: bool) -> None:
    limit, found = Limit("ttft_s.mean", at_most, bound), Interval(value, half)
    assert limit.worst(found) <= limit.margin(value) <= limit.best(found)
    assert (limit.worst(found) >= 0) == (value + half <= bound if at_most else value - half >= bound)


def test_an_interval_without_an_end_shows_nothing() -> None:
    for half in (math.inf, math.nan):
        for figure in ("ttft_s.p99", "ttft_s.mean"):
            limit = Limit(figure, True, 1.0)
            assert limit.worst(Interval(0.001, half)) < 0 < limit.best(Interval(0.001, half))


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(PERCENTILES), st.booleans())
def test_percentiles_are_told_by_the_odds_of_being_above(share: float, half: float, p: int, at_most: bool) -> None:
    limit, told = Limit(f"ttft_s.p{p}", at_most, 1.0), Interval(share, half)
    assert limit.share == pytest.approx(1 - p / 100)
    assert limit.worst(told) <= limit.margin(share) <= limit.best(told)
    assert (limit.margin(share) >= 0) == (share <= limit.share if at_most else share >= limit.share)
    if 0 < share < 1:
        away = math.log(limit.share / (1 - limit.share)) - math.log(share / (1 - share))
        ends = [(away if at_most else -away) + side * half / share / (1 - share) for side in (-1, 1)]
        assert (limit.worst(told), limit.best(told)) == pytest.approx([min(math.log(20), max(-20, x)) for x in ends])


@given(st.lists(st.integers(0, 20), min_size=1, max_size=300), st.integers(0, 20), st.sampled_from(PERCENTILES))
def test_a_percentile_is_at_most_a_bound_if_no_more_are_above(values: list[int], bound: int, p: int) -> None:
    """By that a limit is told: whole numbers, so that many are equal to it."""
    often = np.arange(1, len(values) + 1)
    for sample in (Sample(np.array(values, float)), Sample(np.array(values, float), often)):
        above, count = sample.above(bound)
        stats = sample.stats()
        assert stats is not None
        assert (stats[f"p{p}"] <= bound) == (100 * above <= (100 - p) * count)
