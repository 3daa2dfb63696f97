"""What serving costs beside the steps, out of the records of a simulated server whose costs are known."""

from __future__ import annotations

import numpy as np
import pytest
from test_serving import TRUE, TRUE_WAKE_S, found, recorded

from calibration.paths import paths_of, start_row_of
from calibration.records import Records
from simqueue.wake import pairs


def test_paths_of_a_simulated_server() -> None:
    paths, true = found(recorded(60.0)).paths, TRUE.paths
    # A miss costs a step of a millisecond or two: with 4,000 of 8,000 requests known to about 10 us.
    assert paths.request_path_s == pytest.approx(true.request_path_s, abs=4e-5)
    # Of some 100 starts, 40 timers and 100 batches, each as uncertain as a step, 3 % of 2 ms or, of many rows, more.
    for _, wake_s in pairs(paths.wake_s):
        # Some 15 to 30 starts each.
        assert paths.request_path_s + wake_s == pytest.approx(true.request_path_s + TRUE_WAKE_S, abs=8e-5)
    assert paths.request_path_s + paths.timer_late_s == pytest.approx(true.request_path_s + true.timer_late_s, abs=6e-5)
    at_50 = paths.handover_s + 50 * paths.handover_per_request_s
    assert at_50 == pytest.approx(true.handover_s + 50 * true.handover_per_request_s, abs=3e-4)
    assert paths.response_path_s == pytest.approx(true.response_path_s)
    assert paths.response_per_row_s == pytest.approx(true.response_per_row_s)


def made(kind: str, seconds: list[float], **columns: list[int]) -> Records:
    count = len(seconds)
    plain = {name: np.zeros(count, np.int64) for name in ("run", "stage", "rows", "longest", "prefill_rows")}
    plain |= {name: np.zeros(count, np.int64) for name in ("widest", "context", "ended", "waited_ns")}
    given = {name: np.array(column) for name, column in columns.items()}
    return Records(**{**plain, **given}, kind=np.full(count, kind), seconds=np.array(seconds))


def test_what_comes_out_negative_is_0() -> None:
    early = Records.joined([made("idle", [0.5] * 5), made("batch", [0.5] * 5, ended=[1, 2, 3, 4, 5])])
    paths = paths_of(early, np.ones(10), Records.joined([early, made("queued", [-0.1] * 5)]))
    assert (paths.request_path_s, paths.wake_s, paths.handover_s, paths.handover_per_request_s) == (0, 0, 0, 0)


def test_without_busy_arrivals_the_way_is_that_to_a_free_replica() -> None:
    idle = made("idle", [1.25] * 9 + [1.5])
    paths = paths_of(idle, np.ones(10), idle)
    assert paths.request_path_s == pytest.approx(0.25)  # the one that is far off is left out
    assert (paths.wake_s, paths.timer_late_s, paths.response_path_s) == (0, 0, 0)


def test_what_a_start_takes_for_each_row_is_told_from_the_kind_of_start_and_the_batch_before() -> None:
    rng = np.random.default_rng(3)
    rows, ended = rng.integers(1, 65, 200), rng.integers(1, 65, 200)
    late = [1e-3 + 5e-6 * e + 2e-6 * r for e, r in zip(ended.tolist(), rows.tolist(), strict=True)]
    batch = made("batch", late, prefill_rows=rows.tolist(), ended=ended.tolist())
    idle = made("idle", [3e-3] * 50, prefill_rows=[1] * 50)
    both = Records.joined([batch, idle])
    assert start_row_of(both, both.seconds) == pytest.approx(2e-6, rel=1e-3)
    assert start_row_of(idle, idle.seconds) == 0
