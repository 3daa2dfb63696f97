"""The conformance suite: what ships passes it, so does a policy of one's own that keeps the contract, and no other."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np
import pytest

import simqueue
from simqueue.conformance import check_policy
from simqueue.errors import InvariantError
from simqueue.plan import Step, Wait
from simqueue.policy import (
    BatchingPolicy,
    BentoML,
    Clipper,
    Continuous,
    Dynamic,
    FasterTransformer,
    FastServe,
    LitServe,
    Mosec,
    NoBatching,
    Orca,
    RayServe,
    Sarathi,
    Sglang,
    Srpt,
    Static,
    TensorrtLlm,
    Tgi,
    Triton,
    View,
    Vllm,
)
from simqueue.policy.triton_queue import QueuePolicy
from simqueue.units import Grid

SHIPPED = [
    NoBatching(),
    *(Static(batch, release) for batch in (1, 3, 40) for release in ("batch", "request")),
    Dynamic(),
    Dynamic(8, release="request"),
    Dynamic(8, 0.05),
    Dynamic(8, 0.001, 3, "request"),
    Dynamic(None, inf, 4),
    Dynamic(5, inf, release="request"),
    Dynamic(None, 2.0),
    *(Continuous(seats, tokens) for seats in (1, 4, 64) for tokens in (None, 64, 100)),
    Continuous(8, 8),
    Triton(8),
    Triton(8, (2, 4), 5_000, race_probability=0.5),
    Triton(4, (2,), 8_000, priority_levels=2, default_priority_level=1),
    Triton(4, default_queue_policy=QueuePolicy(max_queue_size=3)),
    Triton(4, (), 9_000, default_queue_policy=QueuePolicy("DELAY", 4_000)),
    Triton(4, (4,), 9_000, default_queue_policy=QueuePolicy("REJECT", 12_000, max_queue_size=9)),
    Mosec(4, 3.0),
    LitServe(4, 0.004),
    RayServe(4, 0.003),
    BentoML(4),
    Clipper(0.02, 2, batch_wait_timeout_s=0.003),
    FasterTransformer(4),
    *(
        Vllm(tokens, seats, policy)
        for tokens, seats in ((8, 8), (64, 4), (2048, 128))
        for policy in ("fcfs", "priority")
    ),
    Vllm(20, 5, long_prefill_token_threshold=6, scheduler_reserve_full_isl=False, watermark=0.1),
    *(Sarathi(seats, chunk) for seats, chunk in ((4, 4), (8, 32), (128, 512))),
    *(Orca(seats) for seats in (1, 4, 64)),
    *(Sglang(seats, chunk) for seats, chunk in ((4, 8), (64, 8192), (8, None))),
    *(Sglang(8, schedule_policy=order) for order in ("lpm", "lof", "shortest-prefill-first")),
    *(Tgi(ratio, tokens) for ratio, tokens in ((0.3, 20), (1.2, 3), (0.0, 0))),
    *(
        TensorrtLlm(rule, seats, 256, chunks)
        for rule in ("GUARANTEED_NO_EVICT", "MAX_UTILIZATION", "STATIC_BATCH")
        for seats in (4, 64)
        for chunks in (False, True)
    ),
    *(
        FastServe(seats, quantum, levels, 8, keep)
        for seats, quantum, levels, keep in (
            (1, 1, 1, "keep"),
            (2, 1, 8, "swap"),
            (2, 2, 3, "keep"),
            (64, 4, 3, "swap"),
        )
    ),
    *(Srpt(seats, keep) for seats in (1, 3, 64) for keep in ("keep", "swap")),
]


@pytest.mark.parametrize("policy", SHIPPED, ids=repr)
def test_shipped_policies_conform(policy: BatchingPolicy) -> None:
    check_policy(policy)


# Policies of one's own.

Decide = Callable[[View], Step | Wait]


@dataclass(frozen=True)
class Rule:
    """A policy without memory, from a function."""

    decide: Decide
    release: str = "request"
    iteration_level: bool = True

    def decider(self, grid: Grid) -> Rule:
        return self


@dataclass(frozen=True)
class ShortestPromptFirst:
    """Continuous batching that admits the shortest waiting prompt first."""

    max_seqs: int

    def decider(self, grid: Grid) -> ShortestPromptFirst:
        return self

    def decide(self, view: View) -> Step | Wait:
        seats = self.max_seqs - view.running
        if not view.waiting or not seats:
            return Step() if view.running else Wait()
        shortest = sorted(view.queue(), key=view.prompt_tokens)[:seats]
        return Step(prefill=tuple((i, view.prompt_tokens(i)) for i in shortest))


@dataclass(frozen=True)
class PrefillFirstByHalves:
    """Prefills every prompt in two halves, decodes only then, and admits from the tail of the queue."""

    def decider(self, grid: Grid) -> PrefillFirstByHalves:
        return self

    def decide(self, view: View) -> Step | Wait:
        for request, left in view.prefilling.items():
            return Step(prefill=((request, left),), lasts="step")
        *_, last = [None, *view.queue()]
        if last is not None and view.running < 5:
            return Step(prefill=((last, (view.prompt_tokens(last) + 1) // 2),), lasts="step")
        return Step() if view.running else Wait()


@dataclass
class Alternating:
    """Its deciders remember: batches to completion, of one request and of two in turn, looked for every 10 ms."""

    iteration_level = False

    @dataclass
    class Memory:
        period: int
        batch: int = 1

        def decide(self, view: View) -> Step | Wait:
            if not view.waiting:
                return Wait(view.now + self.period)
            size, self.batch = min(self.batch, view.waiting), 3 - self.batch
            return Step(size, lasts="batch")

    def decider(self, grid: Grid) -> Memory:
        return self.Memory(grid.ticks(0.01))


@dataclass(frozen=True)
class Mixing:
    """Chunks for long prompts, whole short ones from the head of the queue, and single batches when nothing runs."""

    def decider(self, grid: Grid) -> Mixing:
        return self

    def decide(self, view: View) -> Step | Wait:
        if view.prefilling:
            return Step(prefill=tuple((i, min(7, left)) for i, left in view.prefilling.items()), lasts="step")
        if not view.waiting or view.running >= 6:
            return Step() if view.running else Wait()
        if view.waiting == 1 and not view.running:
            return Step(1, lasts="batch")
        longest = max(view.queue(), key=view.prompt_tokens)
        if view.prompt_tokens(longest) > 7:
            return Step(prefill=((longest, 7),), lasts="step")
        return Step(1, lasts="step")


GOOD = [ShortestPromptFirst(1), ShortestPromptFirst(4), PrefillFirstByHalves(), Alternating(), Mixing()]


@pytest.mark.parametrize("policy", GOOD, ids=repr)
def test_a_policy_of_ones_own_conforms(policy: BatchingPolicy) -> None:
    check_policy(policy)


def test_shortest_prompt_first_overtakes() -> None:
    workload = simqueue.Workload.from_columns([0.0, 0.0, 0.0, 0.0], [9, 1, 5, 3], [2, 2, 2, 2])
    system = simqueue.System(ShortestPromptFirst(1), simqueue.Affine(base_s=1.0))
    result = simqueue.simulate(workload, system)
    assert np.argsort(result.scheduled).tolist() == [1, 3, 2, 0]
    assert result.summary()["service_s"] == {"mean": 2, "p50": 2, "p90": 2, "p95": 2, "p99": 2, "max": 2}


@pytest.mark.parametrize("policy", GOOD, ids=repr)
def test_laws_hold_for_a_policy_of_ones_own(policy: BatchingPolicy) -> None:
    rng = np.random.default_rng(5)
    workload = simqueue.Workload.from_columns(
        np.cumsum(rng.exponential(0.02, 200)), rng.integers(1, 30, 200), rng.integers(1, 9, 200)
    )
    system = simqueue.System(policy, simqueue.Affine(0.001, 0.0001, 0.00002, 1e-6), simqueue.ExponentialNoise())
    result = simqueue.simulate(workload, system)
    steps = result.steps()
    assert steps["new_tokens"].sum() == workload.prompt_tokens.sum()
    assert steps["decode_rows"].sum() == workload.output_tokens.sum() - 200
    assert np.all(np.diff(result.step_ends) >= result.durations()[1:])
    one_by_one = simqueue.simulate(workload, system, longest_leap=1)
    assert np.array_equal(result.finished, one_by_one.finished)
    for name, column in steps.items():
        assert np.array_equal(column, one_by_one.steps()[name]), name


# Policies that break the contract.


@dataclass
class Shares:
    """All its deciders are the same object, which remembers."""

    batch: int = 1

    def decider(self, grid: Grid) -> Shares:
        self.batch = 1
        return self

    def decide(self, view: View) -> Step | Wait:
        if not view.waiting:
            return Wait()
        size, self.batch = min(self.batch, view.waiting), 3 - self.batch
        return Step(size, lasts="batch")


@dataclass
class Leaks:
    """Remembers in the policy from run to run."""

    asked: list[int] = field(default_factory=list)

    def decider(self, grid: Grid) -> Leaks:
        return self

    def decide(self, view: View) -> Step | Wait:
        self.asked.append(view.now)
        return Step(min(view.waiting, 1 + len(self.asked) % 3), lasts="batch") if view.waiting else Wait()


@dataclass(frozen=True)
class CountsSteps:
    """Promises to go on decoding, but admits at every third decision only."""

    class Memory:
        asked = 0

        def decide(self, view: View) -> Step | Wait:
            self.asked += 1
            if view.waiting and (self.asked % 3 == 0 or not view.running):
                return Step(1)
            return Step() if view.running else Wait()

    def decider(self, grid: Grid) -> Memory:
        return self.Memory()


_DICE = random.Random(7)


def chance(view: View) -> Step | Wait:
    return Step(_DICE.randint(1, view.waiting), lasts="batch") if view.waiting else Wait()


def one(view: View, **how: Any) -> Step | Wait:
    """Admit one by one, as the keywords say."""
    return Step(1, **how) if view.waiting else Step() if view.running else Wait()


def peeks(view: View) -> Step | Wait:
    requests = view._requests  # type: ignore[attr-defined]
    shortest = min(view.queue(), key=requests.output.__getitem__, default=None)
    return Wait() if shortest is None else Step(prefill=((shortest, view.prompt_tokens(shortest)),))


def writes(view: View) -> Step | Wait:
    view.waiting = 0  # type: ignore[misc]
    return Wait()


def writes_deeply(view: View) -> Step | Wait:
    view.prefilling.clear()  # type: ignore[attr-defined]
    return Wait()


class Later(Wait, frozen=True):  # type: ignore[misc]
    """What drivers would not know for a `Wait`."""


def first(view: View, tokens: float, **how: Any) -> Step | Wait:
    """Prefill so many tokens of the first in the queue."""
    request = next(view.queue(), None)
    return Wait() if request is None else Step(prefill=((request, tokens),), **how)  # type: ignore[arg-type]


BAD: dict[str, tuple[Any, str]] = {
    "waits for ever": (Rule(lambda view: Wait()), "waits for ever with 1 requests waiting"),
    "waits again and again": (Rule(lambda view: Wait(view.now + 1)), "after 100000 decisions there are still requests"),
    "waits in the past": (Rule(lambda view: Wait(view.now)), "waits until tick 0 at tick 0"),
    "waits until half a tick": (Rule(lambda view: Wait(view.now + 0.5)), "no later whole tick"),  # type: ignore[arg-type]
    "waits while others run": (
        Rule(lambda view: Step(1) if view.waiting and not view.running else Wait()),
        "waits while 1 sequences could run",
    ),
    "answers nothing": (Rule(lambda view: None), "None, which is neither a Step nor a Wait"),  # type: ignore[arg-type,return-value]
    "answers a kind of Wait": (Rule(lambda view: Later()), r"Later\(.*\), which is neither a Step nor a Wait"),
    "admits too many": (Rule(lambda view: Step(2)), "admits 2 of 1 waiting"),
    "admits fewer than none": (Rule(lambda view: Step(-1)), "admits -1 of 1 waiting"),
    "admits half a request": (Rule(lambda view: Step(0.5)), "numbers that are not whole"),  # type: ignore[arg-type]
    "starts an empty step": (Rule(lambda view: Step()), "a step with nothing in it"),
    "starts an empty batch": (Rule(lambda view: Step(0, lasts="batch")), "admits 0 of 1 waiting"),
    "starts a batch beside others": (
        Rule(lambda view: one(view, lasts="batch" if view.running else "step")),
        "starts a batch to completion while 1 sequences run",
    ),
    "picks a batch": (Rule(lambda view: first(view, 1, lasts="batch")), "takes whole prompts"),
    "admits and picks": (
        Rule(lambda view: Step(1, prefill=((0, 1),)) if view.waiting else Wait()),
        "goes without admit",
    ),
    "prefills a stranger": (Rule(lambda view: Step(prefill=((7, 1),))), "request 7, which is not waiting"),
    "prefills somebody gone": (
        Rule(lambda view: Step(prefill=((0, 1),)) if view.waiting or view.closed else Wait()),
        "request 0, which is not waiting",
    ),
    "prefills one twice": (
        Rule(lambda view: Step(prefill=((0, 1), (0, 1))) if view.waiting else Wait()),
        "names each request once",
    ),
    "prefills nothing": (Rule(lambda view: first(view, 0)), "prefills 0 tokens of request 0, which has 1 left"),
    "prefills too much": (Rule(lambda view: first(view, 2)), "prefills 2 tokens of request 0, which has 1 left"),
    "prefills half a token": (Rule(lambda view: first(view, 0.5)), "numbers that are not whole"),
    "lasts as nobody knows": (Rule(lambda view: one(view, lasts="for ever")), "whose lasts is none of"),
    "is decided by chance": (Rule(chance), "share state, or are not deterministic|decides otherwise than it promised"),
    "shares a decider with memory": (Shares(), "share state, or are not deterministic"),
    "remembers in the policy": (Leaks(), "share state, or are not deterministic"),
    "promises too much": (CountsSteps(), "decides otherwise than it promised"),
    "looks at output lengths": (Rule(peeks), "reads view._requests, which is no part of"),
    "fails": (Rule(lambda view: 1 / 0), "raises ZeroDivisionError"),  # type: ignore[arg-type,return-value]
    "sets the view": (Rule(writes), "sets view.waiting"),
    "changes what it sees": (Rule(writes_deeply), "raises AttributeError.*clear"),
    "releases with a batch that is none": (Rule(one, release="batch"), "batches run to completion"),
    "denies that requests join": (Rule(one, iteration_level=False), "batches run to completion"),
    "releases nobody knows when": (Rule(one, release="later"), "release = 'later' is neither"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_policy_that_breaks_the_contract_is_refused(name: str) -> None:
    policy, why = BAD[name]
    with pytest.raises(InvariantError, match=why) as refusal:
        check_policy(policy)
    message = str(refusal.value)
    assert message.startswith(type(policy).__name__)
    assert "\n" not in message


def test_output_lengths_found_by_a_detour_are_noticed() -> None:
    def sneaks(view: View) -> Step | Wait:
        if not view.waiting or view.running:
            return Step() if view.running else Wait()
        output = view._view._requests.output  # type: ignore[attr-defined]
        shortest = min(view.queue(), key=output.__getitem__)
        return Step(prefill=((shortest, view.prompt_tokens(shortest)),))

    with pytest.raises(InvariantError, match="depends on output lengths that nobody knows yet"):
        check_policy(Rule(sneaks))


def test_the_engine_itself_refuses_in_a_run() -> None:
    """The same clear line for whoever never ran the suite."""
    workload = simqueue.Workload.from_columns([0.0], [3], [2])
    with pytest.raises(InvariantError, match="the policy waits for ever with 1 requests waiting and none to come"):
        simqueue.simulate(workload, simqueue.System(Rule(lambda view: Wait()), simqueue.Affine(1.0)))
