"""Where one more run lies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from simqueue.comparison import Row
from simqueue.measured.vllm_bench import TOOL

METRIC = TOOL.metrics[0]


def test_one_more_draw_lies_in_the_range_in_95_of_100_cases() -> None:
    rng = np.random.default_rng(1)
    draws = np.exp(rng.normal(-2.0, 0.4, (4000, 7)))
    outside = [bool(Row(METRIC, "p99", tuple(row[:6]), row[6]).outside) for row in draws]
    assert np.mean(outside) == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 4000))


def test_the_range_is_that_of_students_t() -> None:
    predicted = (1.0, 2.0, 4.0)
    logs = np.log(predicted)
    half = stats.t.ppf(0.975, 2) * logs.std(ddof=1) * np.sqrt(4 / 3)
    row = Row(METRIC, "mean", predicted, 1.0)
    assert row.range == pytest.approx((2 * np.exp(-half), 2 * np.exp(half)))
    assert row.expected == pytest.approx(7 / 3)
    assert row.error == pytest.approx(7 / 3 - 1)


def test_what_cannot_be_said_is_not() -> None:
    assert Row(METRIC, "mean", (1.0,), 2.0).range is None
    assert Row(METRIC, "mean", (1.0,), 2.0).outside is None
    missing = Row(METRIC, "mean", (), 2.0)
    assert (missing.expected, missing.error, missing.range) == (None, None, None)


def test_runs_that_are_all_alike_are_a_point() -> None:
    assert Row(METRIC, "mean", (3.0, 3.0, 3.0), 3.0 * (1 + 1e-12)).outside is False
    assert Row(METRIC, "mean", (3.0, 3.0, 3.0), 3.001).outside is True
