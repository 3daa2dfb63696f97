"""The pretended device: whose tokens a step gives, and that it takes the time it says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simqueue import Affine
from simqueue.cost.noise import LognormalNoise, NoisyCost, Spread
from simqueue.live.executor import now_ns
from simqueue.live.sleep import VOCABULARY, SleepExecutor, token
from simqueue.plan import Work
from simqueue.units import Grid

QUICK = Affine(base_s=1e-9)
DECODE = Work(decode_rows=1)


def step(executor: SleepExecutor, chunks: Sequence[tuple[int, int]] = (), work: Work = DECODE) -> dict[int, int]:
    """One step; who emitted what."""
    executor.launch(chunks, work)
    (emitted,) = executor.collect(lambda: False)
    assert len(emitted.requests) == len(emitted.tokens)
    return dict(zip(emitted.requests, emitted.tokens, strict=True))


def test_tokens_are_told_apart() -> None:
    many = range(300)
    assert len({token(request, 0) for request in many}) == len(many)
    assert len({token(0, position) for position in many}) == len(many)
    assert all(0 <= token(request * 1000, request) < VOCABULARY for request in many)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 6)), min_size=1, max_size=8), st.randoms())
def test_who_has_a_whole_prompt_emits_a_token_a_step(requests, random) -> None:
    """Prompts come in chunks, requests end at any time and others begin; against a count of one's own."""
    executor = SleepExecutor(QUICK, max_rows=len(requests))
    left = {}
    emitted: dict[int, list[int]] = {}
    todo = list(range(len(requests)))
    while todo or left:
        if todo and random.random() < 0.5:
            request = todo.pop()
            executor.begin(request, np.zeros(requests[request][0], np.int64))
            left[request], emitted[request] = requests[request][0], []
        chunks = [(i, random.randint(1, n)) for i, n in left.items() if n and random.random() < 0.7]
        for i, n in chunks:
            left[i] -= n
        for i, new in step(executor, chunks).items():
            assert left[i] == 0
            emitted[i].append(new)
        done = [i for i in left if len(emitted[i]) == requests[i][1]]
        executor.end(done)
        for i in done:
            del left[i]
    assert [emitted[i] for i in range(len(requests))] == [
        [token(i, at) for at in range(output)] for i, (_, output) in enumerate(requests)
    ]


def test_a_step_is_never_over_early() -> None:
    cost = Affine(base_s=2e-4, per_row_s=1e-5, per_new_token_s=1e-6)
    executor = SleepExecutor(cost)
    executor.begin(7, np.zeros(50, np.int64))
    for work in (Work(prefill_rows=1, new_tokens=50, widest=50), *[Work(decode_rows=rows) for rows in (1, 8, 60)]):
        begin = now_ns()
        executor.launch([(7, 50)] if work.prefill_rows else [], work)
        (emitted,) = executor.collect(lambda: False)
        assert begin + cost.on(Grid()).step(work) // 1000 <= emitted.end_ns <= now_ns()


def test_noise_is_drawn_from_the_seed() -> None:
    cost, noise = Affine(base_s=1e-4), Spread(LognormalNoise(cv=0.5).draw)
    executor = SleepExecutor(cost, noise, seed=5)
    expected = NoisyCost(cost.on(Grid()), noise, np.random.SeedSequence(5))
    durations = [expected.step(DECODE) // 1000 for _ in range(20)]
    assert len(set(durations)) == 20
    executor.begin(0, np.zeros(1, np.int64))
    for duration in durations:
        begin = now_ns()
        executor.launch([], DECODE)
        assert begin + duration <= executor.collect(lambda: False)[0].end_ns


def test_it_says_that_nothing_runs() -> None:
    assert SleepExecutor(QUICK).describe() == {"runner": "sleep", "model": "none", "gpu": "none"}


def test_a_step_that_had_begun_with_who_went_away_shortens_nobody_s() -> None:
    """The device has been free since, for longer than a step."""
    executor = SleepExecutor(Affine(base_s=0.005))
    executor.begin(0, np.zeros(1, np.int64))
    executor.launch([(0, 1)], DECODE)
    executor.ahead(())
    [first] = executor.collect(lambda: False)
    executor.end([0])
    executor.begin(1, np.zeros(1, np.int64))
    while now_ns() < first.end_ns + 6_000_000:
        pass
    begin = now_ns()
    executor.launch([(1, 1)], DECODE)
    [second] = executor.collect(lambda: False)
    assert second.end_ns - begin >= 5_000_000
