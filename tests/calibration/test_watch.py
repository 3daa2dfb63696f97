"""What a live run, with clients in real time, shows of its steps."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.records import Records
from calibration.watch import _begun_with, watched
from simqueue import Affine, Continuous, Dynamic, System, Workload, simulate
from simqueue.live.serve import serve
from simqueue.live.sleep import SleepExecutor
from simqueue.policy import BatchingPolicy

# Slow enough for a client that is late.
STEP_S = 10e-3
COST = Affine(base_s=STEP_S)


def live(policy: BatchingPolicy, arrivals: list[float], outputs: list[int]) -> Records:
    workload = Workload.from_columns(arrivals, [5] * len(arrivals), outputs)
    served = serve(workload, System(policy, COST), SleepExecutor(COST), clients="thread")
    return watched(served, policy, [0.0, 0.5], 7)


def test_steps_starts_and_answers_of_continuous_batching() -> None:
    records = live(Continuous(4), [0.0, 0.2, 0.21, 0.6], [4, 20, 3, 2])
    steps, idle, answers = records.of("step"), records.of("idle"), records.of("answer")
    # The very first start follows nothing. 0: 3 more steps; 1: 19 more, 2 joins; 3: 1 more.
    assert len(idle) == 2
    assert len(steps) == 3 + 19 + 1
    assert set(records.run) == {7}
    assert idle.stage.tolist() == [0, 1]
    assert np.all(idle.seconds > 0)
    # Free since 0.04, and since 0.4.
    assert idle.since_ns / 1e9 == pytest.approx([0.16, 0.2], abs=0.05)
    begun = records.of("start")
    assert begun.prefill_rows.tolist() == [1, 1]
    assert np.all(begun.seconds > 0.9 * STEP_S)
    # Since 0 began, and since 2 did.
    assert begun.since_ns / 1e9 == pytest.approx([0.2, 0.39], abs=0.05)
    # One begins when the other was over, even where that was told late.
    assert np.median(steps.seconds) == pytest.approx(STEP_S, rel=0.02)
    assert np.all(steps.seconds > 0)
    assert steps.prefill_rows.sum() == 1
    assert steps.rows.max() == 2
    assert len(answers) == 8
    assert np.all(answers.seconds > 0)
    queued = records.of("queued")
    assert len(queued) == 1
    assert abs(queued.seconds[0]) < 15 * STEP_S


def test_batches_and_timers() -> None:
    # 0 waits for company in vain, 1 and 2 fill a batch while it runs; 3 comes to a free replica and waits, too.
    records = live(Dynamic(2, 0.05, release="request"), [0.0, 0.1, 0.11, 0.6], [20, 2, 4, 2])
    assert len(records.of("idle")) == 0
    handover = records.of("handover")
    assert handover.ended.tolist() == [1]
    assert 0 < handover.seconds[0] < STEP_S
    timer = records.of("timer")
    assert len(timer) == 1
    assert 0 < timer.seconds[0] < 10 * STEP_S
    assert records.of("start").prefill_rows.tolist() == [2, 1]
    assert len(records.of("step")) == 19 + 3 + 1


def test_a_request_that_a_busy_replica_missed_counts_no_start() -> None:
    records = live(Continuous(1), [0.0, 0.001], [2, 2])
    assert records.of("queued").seconds == pytest.approx([])  # no seat was free
    assert (len(records.of("step")), len(records.of("start"))) == (2, 1)


def test_who_began_when_is_what_a_look_at_everybody_finds() -> None:
    arrivals = np.random.default_rng(3).uniform(0, 20, 400)
    result = simulate(Workload.from_columns(np.sort(arrivals), [5] * 400, [3] * 400), System(Continuous(3), COST))
    shuffled = np.random.default_rng(4).permutation(np.concatenate([result.leaps["start"], [-1, 10**15]]))
    for at, came in zip(shuffled, _begun_with(result, shuffled), strict=True):
        assert came.tolist() == result.arrival[result.scheduled == at].tolist()
