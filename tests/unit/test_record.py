"""The columns of a run: leaps as bytes, what follows from them, and what the engine wrote itself."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simqueue.cost.linear import LinearCost
from simqueue.record import NEVER, STEP_FIELDS, Leaps, Requests, leap_row, settle
from simqueue.sim.steps import expand, with_prefill


def requests(count: int) -> Requests:
    ones = np.ones(count, np.int64)
    return Requests(np.arange(count), ones, ones)


def test_arrivals_end_with_never() -> None:
    made = requests(3)
    assert made.arrival == [0, 1, 2, NEVER]
    assert made.count == 3
    assert made.finished == [-1] * 3


@given(st.integers(0, 5000))
def test_leaps_keep_their_order(count: int) -> None:
    leaps = Leaps()
    for n in range(count):
        if n % 1000 == 3:
            leaps.add_chunks((n, 0, 0, 0))
            leaps.add_pause(n)
        leaps.append(leap_row(n, *range(1, len(STEP_FIELDS))))
    columns = leaps.columns()
    assert list(columns) == list(STEP_FIELDS)
    assert columns["start"].tolist() == list(range(count))
    assert columns["longest"].tolist() == [len(STEP_FIELDS) - 1] * count
    assert list(leaps.chunks) == list(leaps.paused) == list(range(3, count, 1000))
    assert all(at == chunk[0] == leaps.paused[at] for at, chunk in leaps.chunks.items())
    assert np.array_equal(leaps.columns()["start"], columns["start"])


def columns(*rows: tuple[int, ...]) -> dict[str, np.ndarray]:
    leaps = Leaps()
    for row in rows:
        leaps.append(leap_row(*row))
    return leaps.columns()


def test_what_the_engine_did_not_write_follows_from_the_leap_that_admitted() -> None:
    #          start, steps, first, total, admitted, rows, context, longest
    table = columns((10, 1, 5, 5, 2, 0, 0, 0), (15, 3, 0, 30, 0, 1, 4, 4), (50, 4, 7, 40, 1, 0, 0, 0))
    made = requests(4)
    # Request 1 was picked by name at tick 20, and the engine wrote when it, and request 0, were done.
    made.scheduled[1], made.first_token[1] = 20, 33
    made.finished[:] = [45, 46, -1, -1]
    scheduled, first_token, finished = settle(made, table, with_batch=False)
    assert scheduled.tolist() == [10, 20, 10, 50]
    assert first_token.tolist() == [15, 33, 15, 57]
    assert finished.tolist() == [45, 46, 15, 90]
    _, first_token, finished = settle(made, table, with_batch=True)
    assert first_token.tolist() == finished.tolist() == [45, 46, 15, 90]


def test_prefills_are_of_the_requests_that_a_leap_admitted_or_of_what_was_named() -> None:
    table = columns(
        (0, 1, 5, 5, 2, 0, 0, 0), (5, 3, 0, 30, 0, 2, 4, 4), (35, 1, 7, 7, 0, 2, 6, 5), (42, 1, 9, 9, 1, 2, 8, 6)
    )
    prompt = np.array([3, 20, 5, 7])
    made = with_prefill(table, {2: (1, 20, 0, 20)}, prompt, {1: 35})
    assert made["prefill_rows"].tolist() == [2, 0, 1, 1]
    assert made["new_tokens"].tolist() == [3 + 5, 0, 20, 7]
    assert made["prefill_context"].tolist() == [0, 0, 0, 0]
    assert made["widest"].tolist() == [5, 0, 20, 7]
    assert "admitted" not in made


def test_leaps_expand_to_steps() -> None:
    cost = LinearCost(100, 10, 1, 1)
    # Two prompts of 3 and 5 tokens beside a row with 7 in its cache, then two steps of the three.
    first = 100 + 10 * 3 + 1 * (1 + 8) + 7
    after = [100 + 11 * 3 + 8 + 8, 100 + 11 * 3 + 8 + 8 + 3]
    leap = (50, 3, first, first + sum(after), 2, 1, 7, 7)
    plain = (900, 2, 0, 111 + 20 + 111 + 21, 0, 1, 20, 20)
    table = with_prefill(columns(leap, plain), {}, np.array([3, 5]), {})
    seed = np.random.SeedSequence(0)
    assert expand(table, cost, None, seed).tolist() == [first, *after, 131, 132]
