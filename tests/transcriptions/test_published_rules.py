"""Each policy makes the very plans, step by step, that a transcription of the published rule makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transcriptions import faster_transformer, orca, sarathi, sglang, tensorrt_llm, tgi, vllm_v1
from transcriptions.common import Memory, Req, StepPlan

from simqueue import Affine, System, Workload, simulate
from simqueue.cost.linear import LinearCost
from simqueue.kv import ENDLESS, Blocks, PrefixCache, Unlimited
from simqueue.paged import PagedEngine
from simqueue.plan import Step
from simqueue.policy import FasterTransformer, Orca, Sarathi, Sglang, TensorrtLlm, Tgi, Vllm
from simqueue.record import Requests
from simqueue.sim.driver import drive
from simqueue.source import Columns
from simqueue.units import Grid

GRID = Grid()
COST = LinearCost(700, 30, 11, 2)


def price(decode_rows: int, context: int, prefill_rows: int, new_tokens: int, prefill_context: int) -> int:
    """The same cost, for the transcriptions."""
    return 700 + 30 * (decode_rows + prefill_rows) + 11 * (decode_rows + new_tokens) + 2 * (context + prefill_context)


class Noted:
    """A policy whose every decision is noted, beside who had a seat."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy
        self.paged = True
        for name in ("reserve", "preemption", "headroom", "fits"):
            if hasattr(policy, name):
                setattr(self, name, getattr(policy, name))
        self.steps: list[tuple[int, dict[int, int], tuple[int, ...]]] = []

    def decider(self, grid: Grid) -> Noted:
        self.rule = self.policy.decider(grid)
        return self

    def decide(self, view: Any) -> Any:
        seats, partly = list(view.seats), set(view.prefilling)
        decision = self.rule.decide(view)
        if isinstance(decision, Step):
            # Whole prompts off the head of the queue are listed as what they are.
            named = dict(decision.prefill)
            queue = view.queue()
            named |= {i: view.backlog(i) for i, _ in zip(queue, range(decision.admit), strict=False)}
            tokens = {}
            for i in seats:
                if i in named:
                    tokens[i] = named[i]
                elif i not in partly and i not in (*decision.preempt, *decision.skip) and decision.decode:
                    tokens[i] = 1
            self.steps.append((view.now, tokens | named, decision.preempt))
        return decision


def plans(
    policy: Any, requests: Sequence[Req], memory: Memory | None, hashes: Mapping[int, Sequence[int]] | None = None
) -> list[StepPlan]:
    """What the engine runs, one step at a time; with a prefix cache if there are ``hashes`` of blocks of prompts."""
    noted = Noted(policy)
    columns = (np.array([getattr(r, key) for r in requests], np.int64) for key in ("arrival", "prompt", "output"))
    most = [r.max_output for r in requests]
    rows = Requests(
        *columns,
        None if None in most else most,
        hashes=None if hashes is None else [hashes[r.id] for r in requests],
        traits={"priority": [r.priority for r in requests]},
    )
    blocks = Unlimited() if memory is None else Blocks(memory.block_size, memory.num_blocks)
    if memory and hashes is not None:
        blocks = PrefixCache(memory.block_size, memory.num_blocks, unit=1)
    engine = PagedEngine(noted, rows, GRID, blocks, longest=ENDLESS, track_extremes=True)
    leaps = drive(engine, rows, Columns(rows.arrival), COST, longest_leap=1).columns()
    ends = (leaps["start"] + leaps["total"]).tolist()
    return [StepPlan(start, end, *step) for (start, *step), end in zip(noted.steps, ends, strict=True)]


@st.composite
def crowds(draw: st.DrawFn) -> tuple[list[Req], Memory | None]:
    """A few requests, and a memory that holds one of them, some, or all."""
    count = draw(st.integers(1, 14))
    gap = draw(st.sampled_from([0, 300, 3000, 20_000]))
    arrivals = np.cumsum([draw(st.integers(0, gap)) for _ in range(count)]).tolist()
    length = st.integers(1, draw(st.sampled_from([3, 12, 60])))
    requests = []
    for i in range(count):
        output = draw(length)
        most = output + draw(st.integers(0, 5))
        requests.append(Req(i, int(arrivals[i]), draw(length), output, most, draw(st.integers(0, 2))))
    if draw(st.booleans()) and draw(st.booleans()):
        return requests, None
    size = draw(st.sampled_from([1, 2, 4, 16]))
    largest = max(-(-(r.prompt + r.output) // size) for r in requests)
    return requests, Memory(size, draw(st.integers(largest, 3 * largest + 3)))


def same(mine: list[StepPlan], theirs: list[StepPlan], *, ordered: bool = True) -> None:
    for step, (one, other) in enumerate(zip(mine, theirs, strict=False)):
        if not ordered:
            one, other = (StepPlan(p.start, p.end, dict(sorted(p.tokens.items())), p.preempted) for p in (one, other))
        assert one == other, (step, one, other)
    assert len(mine) == len(theirs)


def equal(examples: int, compare: Callable[[tuple[list[Req], Memory | None], st.DataObject], None]) -> None:
    settings(max_examples=examples * settings.default.max_examples // 100)(given(crowds(), st.data())(compare))()


@pytest.mark.parametrize("policy", ["fcfs", "priority"])
def test_vllm(policy: str) -> None:
    def compare(crowd: tuple[list[Req], Memory | None], data: st.DataObject) -> None:
        requests, memory = crowd
        seats = data.draw(st.integers(1, 8))
        knobs = {
            "max_num_seqs": seats,
            "max_num_batched_tokens": seats + data.draw(st.sampled_from([0, 3, 10, 100])),
            "long_prefill_token_threshold": data.draw(st.sampled_from([0, 0, 1, 5])),
            "scheduler_reserve_full_isl": data.draw(st.booleans()),
            "policy": policy,
        }
        same(plans(Vllm(**knobs), requests, memory), vllm_v1.run(requests, price=price, memory=memory, **knobs))

    equal(400, compare)


def test_vllm_with_a_prefix_cache() -> None:
    """One seat, so that nobody starts beside another: what a step computes is found in the next one here, by those who
    are scheduled behind it in the same one there. All else is in it: what is forgotten first, and copies."""

    def compare(crowd: tuple[list[Req], Memory | None], data: st.DataObject) -> None:
        requests, memory = crowd
        if memory is None:
            return
        budget = data.draw(st.sampled_from([1, 7, 100]))
        hashes = {}
        for request in requests:
            whose = data.draw(st.integers(0, 2))
            hashes[request.id] = [100 * whose + k for k in range(request.prompt // memory.block_size)]
        knobs = {"max_num_seqs": 1, "max_num_batched_tokens": budget}
        theirs = vllm_v1.run(requests, price=price, memory=memory, hashes=hashes, **knobs)
        same(plans(Vllm(**knobs), requests, memory, hashes), theirs)

    equal(150, compare)


def test_sarathi() -> None:
    def compare(crowd: tuple[list[Req], Memory | None], data: st.DataObject) -> None:
        requests, memory = crowd
        seats = data.draw(st.integers(1, 8))
        knobs = {"max_num_seqs": seats, "chunk_size": seats + data.draw(st.sampled_from([0, 3, 10, 100]))}
        watermark = data.draw(st.sampled_from([0.0, 0.01, 0.2]))
        if memory:
            memory = Memory(memory.block_size, 1 + int(memory.num_blocks * 1.3), watermark)
        theirs = sarathi.run(requests, price=price, memory=memory, **knobs)
        # Whoever decodes is listed by arrival there, by admission here.
        same(plans(Sarathi(**knobs, watermark=watermark), requests, memory), theirs, ordered=False)

    equal(400, compare)


def test_orca() -> None:
    def compare(crowd: tuple[list[Req], Memory | None], data: st.DataObject) -> None:
        requests, memory = crowd
        seats = data.draw(st.integers(1, 8))
        if memory:
            memory = Memory(memory.block_size, memory.num_blocks + -(-5 // memory.block_size))
        same(plans(Orca(seats), requests, memory), orca.run_paper(requests, price=price, memory=memory, max_bs=seats))

    equal(200, compare)


def larger(memory: Memory | None, tokens: int) -> Memory | None:
    """Room for what a request asks for at most, where it has less."""
    return memory and Memory(memory.block_size, memory.num_blocks + -(-tokens // memory.block_size))


@pytest.mark.parametrize("schedule_policy", ["fcfs", "lof"])
def test_sglang(schedule_policy: str) -> None:
    def compare(crowd: tuple[list[Req], Memory | None], data: st.DataObject) -> None:
        requests, memory = crowd
        memory = larger(memory, 7 + 2 * memory.block_size) if memory else None
        knobs = {
            "max_running_requests": data.draw(st.integers(1, 8)),
            "chunked_prefill_size": data.draw(st.sampled_from([None, 16, 32, 8192])),
            "max_prefill_tokens": data.draw(st.sampled_from([4, 30, 16384])),
            "schedule_policy": schedule_policy,
            "schedule_conservativeness": data.draw(st.sampled_from([0.0, 0.3, 1.0])),
        }
        theirs = sglang.run(requests, price=price, memory=memory, **knobs)
        same(plans(Sglang(**knobs), requests, memory), theirs, ordered=False)

    equal(300, compare)


def test_tgi() -> None:
    def compare(crowd: tuple[list[Req], Memory | None], data: st.DataObject) -> None:
        requests, memory = crowd
        knobs = {
            "waiting_served_ratio": data.draw(st.sampled_from([0.0, 0.3, 1.2])),
            "max_waiting_tokens": data.draw(st.sampled_from([0, 1, 3, 20])),
            "max_batch_prefill_tokens": data.draw(st.sampled_from([60, 100, 4096])),
            "max_batch_size": data.draw(st.sampled_from([None, 1, 4])),
        }
        memory = larger(memory, 7)
        same(plans(Tgi(**knobs), requests, memory), tgi.run(requests, price=price, memory=memory, **knobs))

    equal(300, compare)


@pytest.mark.parametrize("rule", ["GUARANTEED_NO_EVICT", "MAX_UTILIZATION", "STATIC_BATCH"])
def test_tensorrt_llm(rule: str) -> None:
    def compare(crowd: tuple[list[Req], Memory | None], data: st.DataObject) -> None:
        requests, memory = crowd
        knobs = {
            "capacity_scheduler_policy": rule,
            "max_batch_size": data.draw(st.integers(1, 8)),
            "max_num_tokens": data.draw(st.sampled_from([130, 200, 8192])),
            "enable_chunked_context": data.draw(st.booleans()),
        }
        if knobs["enable_chunked_context"]:
            knobs["max_num_tokens"] = data.draw(st.sampled_from([24, 40, 8192]))
        memory = larger(memory, 7)
        theirs = tensorrt_llm.run(requests, price=price, memory=memory, **knobs)
        same(plans(TensorrtLlm(**knobs), requests, memory), theirs, ordered=False)

    equal(300, compare)


def test_fastertransformer() -> None:
    """A step costs the same whoever is in it: rows that have finished are held here, and have left there."""

    def compare(crowd: tuple[list[Req], Memory | None], data: st.DataObject) -> None:
        requests, _ = crowd
        most = data.draw(st.integers(1, 8))
        theirs = faster_transformer.run(requests, price=lambda *_: 700, max_model_len=1024, max_num_seqs=most)
        rows = ([getattr(r, key) for r in requests] for key in ("arrival", "prompt", "output"))
        arrival, prompt, output = rows
        work = Workload.from_columns([at * 1e-12 for at in arrival], prompt, output)
        result = simulate(work, System(FasterTransformer(most), Affine(base_s=7e-10)))
        starts = (result.step_ends - result.durations()).tolist()
        steps = result.steps()
        mine = list(zip(starts, steps["prefill_rows"].tolist(), steps["decode_rows"].tolist(), strict=True))
        begun: set[int] = set()
        for (start, prefills, decodes), plan in zip(mine, theirs, strict=True):
            new = plan.tokens.keys() - begun
            begun |= new
            assert (start, prefills, decodes) == (plan.start, len(new), len(plan.tokens) - len(new))

    equal(100, compare)
