"""Conversations of several turns: when they come, what is said in them, and which blocks of it are shared."""

from __future__ import annotations

import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simqueue
from simqueue.errors import WorkloadError
from simqueue.workload import (
    ClientClass,
    Count,
    ExponentialThink,
    Fixed,
    Geometric,
    GeometricCount,
    LognormalThink,
    Sessions,
    Think,
    Workload,
    WorkloadSpec,
    make_workload,
)

CHATS = Sessions(2.0, GeometricCount(4.0), ExponentialThink(3.0), 40)
THINKS: list[float | Think] = [0, 2.0, ExponentialThink(2.0), LognormalThink(2.0, 1.5)]
TURNS: list[Count] = [1, 4, GeometricCount(3.0)]


def spec(arrivals: Sessions = CHATS, requests: int = 300, **further: Any) -> WorkloadSpec:
    lengths = {"prompt_tokens": Geometric(mean=20), "output_tokens": Geometric(mean=12)}
    return WorkloadSpec(requests=requests, arrivals=arrivals, **lengths | further)


def made(arrivals: Sessions = CHATS, requests: int = 300, seed: int = 3, **further: Any) -> Workload:
    return make_workload(spec(arrivals, requests, **further), seed)


def sessions(workload: Workload) -> list[list[int]]:
    """The rows of each session, in the order of their turns, which is the order of the rows."""
    session, turn = workload.extra["session"], workload.extra["turn"]
    found = [np.flatnonzero(session == each).tolist() for each in np.unique(session)]
    assert all(turn[after] == turn[row] + 1 for rows in found for row, after in pairwise(rows))
    return found


def ids(workload: Workload, row: int) -> list[int]:
    return [int(each) for each in workload.extra["hash_ids"][row].split()]


@settings(max_examples=20)
@given(st.integers(0, 2**63 - 1), st.sampled_from(TURNS), st.sampled_from(THINKS))
def test_a_prompt_is_all_that_was_said_before(seed: int, turns: Count, think_s: float | Think) -> None:
    workload = made(Sessions(2.0, turns, think_s, 40), seed=seed)
    arrival_s, think = workload.arrival_s, workload.extra["think_s"]
    prompts, outputs = workload.prompt_tokens, workload.output_tokens
    assert len(workload) == 300
    for rows in sessions(workload):
        assert prompts[rows[0]] > 40
        assert think[rows[0]] == 0
        for row, after in pairwise(rows):
            assert prompts[after] > prompts[row] + outputs[row]
            assert arrival_s[after] == pytest.approx(arrival_s[row] + think[after], abs=1e-9)


@settings(max_examples=20)
@given(st.integers(0, 2**63 - 1), st.sampled_from([0, 15, 16, 40]))
def test_blocks_of_a_session_are_its_own_but_for_the_shared_ones(seed: int, shared: int) -> None:
    workload = made(Sessions(2.0, GeometricCount(4.0), 1.0, shared), seed=seed)
    assert workload.meta["hash_block_tokens"] == 16
    common, owner = list(range(shared // 16)), dict[int, int]()
    for rows in sessions(workload):
        for row in rows:
            assert len(ids(workload, row)) == (workload.prompt_tokens[row] + workload.output_tokens[row]) // 16
            assert ids(workload, row)[: len(common)] == common
        for row, after in pairwise(rows):
            assert ids(workload, after)[: len(ids(workload, row))] == ids(workload, row)
        own = ids(workload, rows[-1])[len(common) :]
        assert len({*own, *common}) == len(own) + len(common)
        assert all(owner.setdefault(block, rows[0]) == rows[0] for block in own)
    assert not owner.keys() & {*common}


@settings(max_examples=20)
@given(st.integers(0, 2**63 - 1), st.sampled_from(TURNS), st.sampled_from(THINKS), st.integers(1, 200))
def test_more_requests_change_no_earlier_one(seed: int, turns: Count, think_s: float | Think, count: int) -> None:
    arrivals = Sessions(2.0, turns, think_s, 40)
    further = {"prediction": 0.5, "patience_s": ExponentialThink(1.0), "max_output_tokens": 20}
    few, more = (made(arrivals, requests, seed, **further) for requests in (count, count + 100))
    told = ("arrival_s", "prompt_tokens", "output_tokens", "turn", "predicted_output_tokens", "patience_s")
    for name in told:
        # Thinks add up in another order of sessions, which shows in the last digits.
        np.testing.assert_allclose(more.columns[name][:count], few.columns[name], rtol=1e-9)
    assert few.output_tokens.max() <= 20


@given(st.integers(0, 2**63 - 1), st.floats(0.2, 5))
@settings(max_examples=20)
def test_at_another_rate_more_sessions_start_and_more_are_under_way(seed: int, factor: float) -> None:
    workload = made(seed=seed)
    faster = workload.at_rate(8 * factor)
    assert faster == made(CHATS.scaled(factor), seed=seed)
    assert faster.rate == 8 * factor
    assert faster.meta["spec"]["arrivals"]["rate"] == 2 * factor
    cut = workload.fit_context(200, "drop")
    again = cut.at_rate(cut.rate * factor)
    assert again.rate == cut.rate * factor
    assert (again.prompt_tokens + again.output_tokens).max() <= 200
    assert len(workload.head(50).at_rate(3.0)) == 50


def test_a_conversation_ends_where_the_context_does() -> None:
    workload = made()
    assert workload.overlong == "drop"
    cut = workload.fit_context(200, workload.overlong)
    over = workload.prompt_tokens + workload.output_tokens > 200
    assert 0 < cut.meta["dropped"] == over.sum()
    assert cut.rate == pytest.approx(8.0 * np.mean(~over))
    for rows in sessions(workload):
        fits = (~over[rows]).tolist()
        assert fits == sorted(fits, reverse=True)
    with pytest.raises(WorkloadError, match="'clip' would cut what sessions have said; 'drop' ends them there"):
        workload.fit_context(200, "clip")
    system = simqueue.System(simqueue.NoBatching(), simqueue.Affine(base_s=0.001), max_context_tokens=200)
    assert len(simqueue.simulate(workload, system).workload) == len(cut)


def test_files_and_pickles_keep_them_and_csv_is_refused(tmp_path: Path) -> None:
    workload = made(max_output_tokens=20, prediction=1.0)
    workload.save(tmp_path / "w.parquet")
    for same in (Workload.load(tmp_path / "w.parquet"), pickle.loads(pickle.dumps(workload))):
        assert same == workload
        assert same.meta == workload.meta
        assert same.sessions
        assert not same.closed_loop
    assert repr(workload) == "<Workload of 300 requests at 8/s in sessions>"
    assert workload.head(20).sessions
    assert msgspec.convert(workload.meta["spec"], WorkloadSpec) == spec(max_output_tokens=20, prediction=1.0)
    with pytest.raises(WorkloadError, match=r"CSV cannot say that users wait for their answers; save as \.parquet"):
        workload.save(tmp_path / "w.csv")


def test_a_run_has_the_rows_in_the_order_in_which_they_came() -> None:
    """A turn that waits long for its answer is overtaken by those of other sessions."""
    workload = made(patience_s=ExponentialThink(9.0))
    system = simqueue.System(simqueue.NoBatching(), simqueue.Affine(base_s=0.02))
    result = simqueue.simulate(workload, system)
    came = result.workload
    assert np.array_equal(came.arrival_s, result.grid.seconds(result.arrival))
    key = {
        (s, t): row for row, (s, t) in enumerate(zip(workload.extra["session"], workload.extra["turn"], strict=True))
    }
    order = [key[pair] for pair in zip(came.extra["session"], came.extra["turn"], strict=True)]
    assert order != sorted(order) == list(range(300))
    for name, column in workload.columns.items():
        if name != "arrival_s":
            assert np.array_equal(came.columns[name], column[order])
    assert came.rate == workload.rate == 8.0
    assert result.unstable == (result.saturation_rps() <= 8.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sessions(0.0, 3), r"sessions arrivals: rate = 0\.0 is not a positive"),
        (lambda: Sessions(1.0, 0), "sessions arrivals: turns = 0 is not a whole number from 1"),
        (lambda: Sessions(1.0, 2.5), r"sessions arrivals: turns = 2\.5 is not a whole number"),  # type: ignore[arg-type]
        (lambda: Sessions(1.0, 3, -1.0), r"sessions arrivals: think_s = -1\.0 is not a number from 0"),
        (
            lambda: Sessions(1.0, 3, 1.0, -1),
            "sessions arrivals: shared_prefix_tokens = -1 is not a whole number from 0",
        ),
        (
            lambda: made(Sessions(1e6, 1000, 1e9)),
            r"sessions under way = \d+ would take about .* GB of memory and",
        ),
        (
            lambda: ClientClass(name="x", arrivals=CHATS, prompt_tokens=Fixed(value=1), output_tokens=Fixed(value=1)),
            "class x: arrivals of kind 'sessions' cannot be one class of several",
        ),
    ],
)
def test_what_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        make()
