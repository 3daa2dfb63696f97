"""What serving costs beside the steps, out of the records of a simulated server whose costs are known."""

from __future__ import annotations

import numpy as np
import pytest
from test_serving import TRUE, TRUE_WAKE_S, assert_starts, found, recorded

from calibration.paths import paths_of, starts_of
from calibration.records import Records
from simqueue.lag import pairs


def test_paths_of_a_simulated_server() -> None:
    paths, true = found(recorded(60.0)).paths, TRUE.paths
    # A miss costs a step of a millisecond or two: with 4,400 requests known to about 17 us (10 seeds), and on average
    # 26 us short, since who misses more than one step is left out.
    assert paths.request_path_s == pytest.approx(true.request_path_s - 26e-6, abs=6e-5)
    # Of some 100 starts, 40 timers and 100 batches, each as uncertain as a step, 3 % of 2 ms or, of many rows, more.
    for _, wake_s in pairs(paths.wake_s):
        # Some 15 to 30 starts each.
        assert paths.request_path_s + wake_s == pytest.approx(true.request_path_s + TRUE_WAKE_S, abs=8e-5)
    assert paths.request_path_s + paths.timer_late_s == pytest.approx(true.request_path_s + true.timer_late_s, abs=6e-5)
    at_50 = paths.handover_s + 50 * paths.handover_per_request_s
    assert at_50 == pytest.approx(true.handover_s + 50 * true.handover_per_request_s, abs=3e-4)
    assert_starts(found(recorded(60.0)), 6e-5)
    assert paths.response_path_s == pytest.approx(true.response_path_s)
    assert paths.response_per_row_s == pytest.approx(true.response_per_row_s)


def made(kind: str, seconds: list[float], **columns: list[int]) -> Records:
    count = len(seconds)
    plain = {name: np.zeros(count, np.int64) for name in ("run", "stage", "rows", "longest", "prefill_rows")}
    plain |= {name: np.zeros(count, np.int64) for name in ("widest", "context", "ended", "since_ns")}
    given = {name: np.array(column) for name, column in columns.items()}
    return Records(**{**plain, **given}, kind=np.full(count, kind), seconds=np.array(seconds))


def test_what_comes_out_negative_is_0() -> None:
    early = Records.joined([made("idle", [0.01] * 5), made("queued", [0.02] * 5), made("timer", [0.01] * 5)])
    paths = paths_of(early, 0.0)
    assert (paths.request_path_s, paths.wake_s, paths.timer_late_s) == (0.02, 0, 0)
    assert paths_of(made("queued", [-0.1] * 5), 0.0).request_path_s == 0
    assert starts_of(made("start", [0.5] * 5, prefill_rows=[1, 2, 3, 4, 5]), np.full(5, -0.1)) == (0, 0)


def test_without_busy_arrivals_the_way_is_that_to_a_free_replica() -> None:
    paths = paths_of(made("idle", [0.25] * 9 + [0.5]), 0.0)
    assert paths.request_path_s == pytest.approx(0.25)  # the one that is far off is left out
    assert (paths.wake_s, paths.timer_late_s, paths.response_path_s) == (0, 0, 0)


def test_what_a_start_takes_for_each_row_is_told_from_how_long_ago_the_last_one_was() -> None:
    rng = np.random.default_rng(3)
    rows, since_ns = rng.integers(1, 65, 200).tolist(), rng.choice([10**6, 10**9], 200).tolist()
    late = np.array([(1e-4 if ns < 10**7 else 3e-4) + 2e-6 * n for n, ns in zip(rows, since_ns, strict=True)])
    lag, per_row = starts_of(made("start", [1.0] * 200, prefill_rows=rows, since_ns=since_ns), late)
    assert per_row == pytest.approx(2e-6, rel=1e-3)
    assert isinstance(lag, tuple)
    assert lag[0] == pytest.approx((1e-3, 1e-4), rel=1e-3)
    assert lag[-1] == pytest.approx((1.0, 3e-4), rel=1e-3)


def test_what_starts_of_one_row_take_is_all_by_the_time_since() -> None:
    alone = made("start", [3e-3] * 14, prefill_rows=[1] * 14)
    assert starts_of(alone, np.full(14, 1e-4)) == (1e-4, 0)
    assert starts_of(alone.where(np.zeros(14, bool)), np.zeros(0)) == (0, 0)
