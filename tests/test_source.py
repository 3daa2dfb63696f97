"""When requests come: columns as they are, users and sessions that wait for their answers."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simqueue.record import NEVER, Requests
from simqueue.source import Columns, Sessions, Users

INSTANTS = st.lists(st.integers(0, 200), max_size=80).map(sorted)


@given(INSTANTS, INSTANTS)
def test_columns_come_as_they_are(arrival: list[int], asked: list[int]) -> None:
    source = Columns([*arrival, NEVER])
    for now in asked:
        tail = source.take(now)
        assert tail == bisect_right(arrival, now)
        assert source.next == [*arrival, NEVER][tail]
        source.hear(0, now)


def users(think: list[int], people: int, **paths: int) -> tuple[Users, list[int]]:
    arrival = [-1] * len(think)
    return Users(arrival, think, people, **paths), arrival


def test_users_think_ask_hear_and_think_again() -> None:
    source, arrival = users([7, 3, 10, 0], 2)
    assert source.next == 3
    assert source.take(2) == 0
    assert source.take(3) == 1
    assert source.next == 7
    assert source.take(100) == 2
    assert (arrival, source.asked) == ([3, 7, -1, -1], [1, 0])
    # Both wait: nobody comes before somebody has been answered.
    assert source.next == NEVER
    source.hear(1, 20)
    assert source.next == 30
    source.hear(0, 25)
    assert source.next == 25
    assert source.take(40) == 4
    assert (arrival, source.asked) == ([3, 7, 25, 30], [1, 0, 1, 0])
    # All has been asked.
    source.hear(2, 50)
    assert (source.next, source.take(1000)) == (NEVER, 4)


def test_users_at_one_instant_come_in_the_order_in_which_they_began_to_think() -> None:
    source, _ = users([5] * 6, 3)
    source.take(5)
    for request in (2, 0, 1):
        source.hear(request, 9)
    source.take(9 + 5)
    assert source.asked == [0, 1, 2, 2, 0, 1]


def test_who_comes_anyway_comes_before_whom_an_answer_brings_at_that_instant() -> None:
    source, _ = users([0, 10, 0], 2)
    source.take(9)
    source.hear(0, 10)
    source.take(10)
    assert source.asked == [0, 1, 0]


def test_both_ways_count() -> None:
    source, arrival = users([10, 10], 1, there=3, back=4)
    assert source.next == 13
    source.take(13)
    source.hear(0, 20)
    assert source.next == 20 + 4 + 10 + 3
    source.take(37)
    assert arrival == [13, 37]


def test_think_times_start_over() -> None:
    source, arrival = users([0, 50, 60], 2)
    source.take(0)
    source.hear(0, 1)  # the third think: until 61
    source.take(50)
    source.hear(1, 52)  # the first again: at once
    assert source.take(61) == 3
    assert (arrival, source.asked) == ([0, 50, 52], [0, 1, 1])


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40), st.integers(1, 6), st.data())
def test_nobody_asks_twice_at_once(think: list[int], people: int, data: st.DataObject) -> None:
    people = min(people, len(think))
    source, arrival = users(think, people)
    now, waiting, tail = 0, [], 0
    while tail < len(think):
        now = max(now, source.next) if source.next != NEVER and not waiting else now + data.draw(st.integers(0, 9))
        came = source.take(now)
        assert all(at <= now for at in arrival[:came])
        waiting += range(tail, came)
        tail = came
        assert len({source.asked[request] for request in waiting}) == len(waiting) <= people
        answered = [request for request in waiting if data.draw(st.booleans())]
        for request in answered:
            source.hear(request, now)
            waiting.remove(request)
    assert arrival == sorted(arrival)


def test_turns_wait_for_answers_and_bring_what_is_theirs() -> None:
    """Two sessions: rows 0, 2, 3 and rows 1, 4. The second one's second turn overtakes two of the first one's."""
    arrival, prompt, output = (np.array(column) for column in ([5, 6, 9, 9, 9], [1, 2, 3, 4, 5], [9, 8, 7, 6, 5]))
    requests = Requests(
        arrival, prompt, output, None, [90, 80, 70, 60, 50], traits={"client": ["a", "b", "c", "d", "e"]}
    )
    source = Sessions(requests, [2, 4, 3, -1, -1], [0, 0, 10, 2, 1], there=1, back=3)
    assert (source.next, source.take(4), source.take(6)) == (5, 0, 2)
    # Both wait.
    assert source.next == NEVER
    source.hear(1, 20)
    source.hear(0, 20)
    assert source.next == 20 + 3 + 1 + 1
    assert source.take(30) == 3
    assert source.next == 20 + 3 + 10 + 1
    source.hear(2, 31)
    assert source.take(40) == 4
    source.hear(3, 41)
    assert (source.take(47), source.next) == (5, NEVER)
    source.hear(4, 50)
    assert source.next == NEVER
    assert source.rows == [0, 1, 4, 2, 3]
    assert requests.arrival == [5, 6, 25, 34, 47, NEVER]
    assert (requests.prompt, requests.output) == ([1, 2, 5, 3, 4], [9, 8, 5, 7, 6])
    assert requests.predicted_output == [90, 80, 50, 70, 60]
    assert requests.traits["client"] == ["a", "b", "e", "c", "d"]


def test_at_one_instant_first_turns_come_first_and_then_who_began_to_think_first() -> None:
    requests = Requests(np.array([0, 0, 0, 1, 9]), *np.ones((2, 5), np.int64))
    source = Sessions(requests, [2, 3, -1, -1, -1], [0, 0, 5, 6, 0])
    source.take(0)
    source.hear(1, 3)
    source.hear(0, 4)
    assert source.take(9) == 5
    assert source.rows == [0, 1, 4, 3, 2]
