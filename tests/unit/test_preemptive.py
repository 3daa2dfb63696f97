"""Policies that take seats away, by hand: who has one when, what becomes of caches, and what moving them costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simqueue import Affine, Measured, Memory, System, Workload, simulate
from simqueue.cost.linear import LinearCost
from simqueue.errors import ConfigError, InvariantError
from simqueue.kv import ENDLESS, Blocks
from simqueue.paged import PagedEngine
from simqueue.plan import Step, Wait
from simqueue.policy import FastServe, Orca, Srpt
from simqueue.record import Requests
from simqueue.sim.driver import Delays, drive
from simqueue.source import Columns
from simqueue.units import Grid

SECOND = Affine(base_s=1.0)


def rows(prompt: list[int], output: list[int], arrival: list[int] | None = None) -> Requests:
    """Predictions are right."""
    columns = [np.array(column, np.int64) for column in (arrival or [0] * len(prompt), prompt, output)]
    return Requests(*columns, max_output=output, predicted_output=output)


def run(policy: Any, requests: Requests, blocks: Blocks, *, move: int = 0, **how: int) -> PagedEngine:
    """Steps of 100 ticks, and ``move`` for each block that goes to the host or comes back."""
    engine = PagedEngine(policy, requests, Grid(), blocks, longest=ENDLESS, track_extremes=True)
    drive(engine, requests, Columns(requests.arrival), LinearCost(100, 0, 0, 0), Delays(move=move), **how)
    return engine


# Shortest remaining.


def test_who_comes_with_less_takes_the_seat() -> None:
    work = Workload.from_columns([0.0, 1.5], [3, 3], [5, 2], predicted_output_tokens=[5, 2])
    result = simulate(work, System(Srpt(1), SECOND, max_context_tokens=99))
    # After 2 s three tokens are left of the first, and two of the second.
    assert result.grid.seconds(result.finished).tolist() == [7, 4]
    assert result.fates is not None
    assert result.grid.seconds(result.fates.spells[:, 1:]).tolist() == [[2, 4, 5]]
    assert result.fates.recomputed_tokens.sum() == 0


def test_who_comes_with_as_much_does_not() -> None:
    work = Workload.from_columns([0.0, 1.5], [3, 3], [5, 3], predicted_output_tokens=[5, 3])
    result = simulate(work, System(Srpt(1), SECOND, max_context_tokens=99))
    assert result.grid.seconds(result.finished).tolist() == [5, 8]


@pytest.mark.parametrize("seats", [1, 4])
def test_shortest_remaining_answers_sooner_than_first_come(seats: int) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        output = rng.geometric(1 / 20, 800)
        work = Workload.from_columns(
            np.cumsum(rng.exponential(24 / seats, 800)), np.ones(800, int), output, predicted_output_tokens=output
        )
        means = [
            simulate(work, System(policy, SECOND, max_context_tokens=1000)).summary()["response_s"]["mean"]
            for policy in (Srpt(seats), Orca(seats))
        ]
        assert means[0] < means[1]


def test_shortest_remaining_needs_predictions() -> None:
    work = Workload.from_columns([0.0], [3], [5])
    with pytest.raises(ConfigError, match=r"policy srpt: the workload has no column predicted_output_tokens: give"):
        simulate(work, System(Srpt(1), SECOND, max_context_tokens=99))


# FastServe.


def test_long_prompts_join_further_down_and_quanta_end() -> None:
    """Quanta of 1, 2 and no end; a step for 8 prompt tokens. Two tokens each."""
    requests = rows([100, 16, 8, 8], [2, 2, 2, 2])
    run(FastServe(1, 1, 3, 8), requests, Blocks(4, 99))
    # Queues: 3; 2; 1, 1. So 2 (one step), 3 (one step), which go down behind 1, whose prompt counts as 2 steps and ends
    # its quantum; then 2, 3, and of the last queue 0 and 1.
    assert requests.first_token == {2: 100, 3: 200, 1: 300, 0: 600}
    assert requests.finished == [700, 800, 400, 500]


def test_first_ones_are_not_interrupted_by_who_comes_to_the_same_queue() -> None:
    requests = rows([8, 8], [3, 3], [0, 150])
    run(FastServe(1, 4, 2, 8), requests, Blocks(4, 99))
    assert requests.finished == [300, 600]
    assert not requests.preemptions


def test_a_better_queue_interrupts() -> None:
    """The second quantum has two steps, of which the first was used when 1 comes."""
    requests = rows([8, 8], [4, 1], [0, 150])
    run(FastServe(1, 1, 3, 8), requests, Blocks(4, 99))
    assert requests.finished == [500, 300]
    assert requests.spells == [(0, 200, 300, 400)]


# What becomes of caches.


def test_a_kept_cache_holds_its_blocks_and_costs_nothing() -> None:
    requests = rows([4, 4], [3, 3])
    engine = run(FastServe(1, 1, 2, 8), requests, Blocks(4, 4), move=7)
    assert requests.finished == [400, 600]
    assert requests.recomputed == {}
    assert engine.free_blocks == 4


def test_where_caches_are_kept_nobody_starts_without_memory_for_all_that_it_may_take() -> None:
    """Each takes two blocks of three: the second waits until the first has left."""
    requests = rows([4, 4], [3, 3])
    run(FastServe(1, 1, 2, 8), requests, Blocks(4, 3))
    assert requests.finished == [300, 600]


def test_nobody_starts_behind_a_prompt_that_does_not_fit() -> None:
    """The first holds two blocks of four, the second takes three, and the third would fit."""
    requests = rows([4, 12, 4], [5, 1, 1])
    run(FastServe(3, 8, 2, 16), requests, Blocks(4, 4))
    assert requests.finished == [500, 600, 600]


def test_what_swapping_costs() -> None:
    """One seat, one block a prompt, a quantum of one step. Before the second step a block goes out, before the third
    one goes out and one comes back, before the fifth one comes back."""
    requests = rows([4, 4], [3, 3])
    engine = run(FastServe(1, 1, 2, 8, "swap"), requests, Blocks(4, 3), move=7)
    assert requests.first_token == {0: 100, 1: 207}
    assert requests.finished == [421, 628]
    assert requests.spells == [(0, 100, 207, 321), (1, 207, 421, 528)]
    assert engine.free_blocks == 3


def test_bandwidth_to_the_host() -> None:
    """The same four moves, of blocks of the profile's model: 2 x 12 layers x 768 numbers of 2 bytes for each token."""
    work = Workload.from_columns([0.0, 0.0], [4, 4], [3, 3])
    cost = Measured(name="gpt2-h200-bf16-graph")
    policy = FastServe(1, 1, 2, 8, "swap")

    def last(gib_per_s: float | None) -> float:
        memory = Memory(block_size=4, num_blocks=3, swap_gib_per_s=gib_per_s)
        result = simulate(work, System(policy, cost, memory=memory))
        return float(result.grid.seconds(result.finished.max()))

    block_s = 4 * 2 * 12 * 768 * 2 / 2**30
    assert last(1.0) - last(0.5) == pytest.approx(-4 * block_s, rel=1e-6)
    with pytest.raises(
        ConfigError, match="memory: the policy swaps, and swap_gib_per_s is missing: give the bandwidth"
    ):
        last(None)


def test_a_preempted_request_that_goes_away_gives_its_blocks_back() -> None:
    for preemption, held in (("keep", 2), ("swap", 0)):
        requests = rows([4, 4], [3, 3])
        engine = PagedEngine(
            FastServe(1, 1, 2, 8, preemption),  # type: ignore[arg-type]
            requests,
            Grid(),
            Blocks(4, 6),
            longest=ENDLESS,
            track_extremes=True,
        )
        engine.submit(2)
        for begin in (0, 100):
            engine.plan(begin)
            engine.complete(1, begin + 100, begin + 100)
        assert [*engine.queue()] == [0]
        before = engine.free_blocks
        # On its own two blocks it goes on at once; from the host it needs one for its 4 tokens and one for the next.
        assert engine.needs(0, 1) == 2 - held
        engine.cancel(0, 200)
        assert engine.free_blocks - before == held
        assert engine.waiting == 0
        engine.plan(200)
        engine.complete(2, 300, 400)
        assert requests.finished == [200, 400]
        assert engine.free_blocks == 6


@st.composite
def crowds(draw: st.DrawFn) -> tuple[Any, list[list[int]], int, int]:
    count = draw(st.integers(1, 12))
    columns = [[draw(st.integers(1, 9)) for _ in range(count)] for _ in range(2)]
    columns.append(np.cumsum([draw(st.sampled_from([0, 1, 100, 130, 700])) for _ in range(count)]).tolist())
    keeps = draw(st.sampled_from(["keep", "swap"]))
    seats = draw(st.integers(1, 4))
    policy: Any = Srpt(seats, keeps)
    if draw(st.booleans()):
        policy = FastServe(seats, draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 9)), keeps)
    size = draw(st.integers(1, 5))
    return policy, columns, size, draw(st.integers(-(-18 // size), 40))


@given(crowds())
def test_leaping_is_stepping_and_no_block_is_lost(crowd: tuple[Any, list[list[int]], int, int]) -> None:
    policy, columns, size, blocks = crowd
    leaping, stepping = rows(*columns), rows(*columns)
    engine = run(policy, leaping, Blocks(size, blocks), move=3)
    run(policy, stepping, Blocks(size, blocks), move=3, longest_leap=1)
    assert leaping.finished == stepping.finished
    assert leaping.first_token == stepping.first_token
    assert leaping.spells == stepping.spells
    assert engine.free_blocks == blocks
    assert not engine.running
    assert not leaping.recomputed


def test_who_resumes_decodes() -> None:
    class Wrong:
        paged, preemption = True, "keep"

        def decider(self, grid: Grid) -> Wrong:
            return self

        def decide(self, view: Any) -> Step | Wait:
            if view.waiting == 2:
                return Step(prefill=((0, 4),), lasts="step")
            return Step(prefill=((1, 4),), preempt=(0,)) if view.running and view.waiting == 1 else self.back(view)

        def back(self, view: Any) -> Step | Wait:
            return Step(resume=(0,), decode=False)

    requests = rows([4, 4], [3, 1])
    with pytest.raises(InvariantError, match="who resumes decodes"):
        run(Wrong(), requests, Blocks(4, 9))
