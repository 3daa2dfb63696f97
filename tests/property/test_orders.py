"""Orders of the queue: leaping is stepping under each, and their lines are what sorting would make of them."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from leaps import alike
from short_memory import Scene, scenes

from simqueue import Workload
from simqueue.order import Edf, LeastLaxity, OracleSjf, Order, Priority, Sjf, Srpt, Vtc
from simqueue.order.ranked import Ranked
from simqueue.policy import Vllm
from simqueue.system import Admission

ORDERS: list[Order] = [
    Sjf(),
    OracleSjf(),
    Srpt(),
    Priority(),
    Priority(aging_s=0.01),
    Edf(),
    LeastLaxity(prompt_token_s=1e-3),
    Vtc(),
]
POLICIES = ("vllm", "sarathi", "orca", "tgi")


@st.composite
def ordered(draw: st.DrawFn, order: Order) -> Scene:
    """Two or three clients with promises of their own."""
    scene = draw(scenes(draw(st.sampled_from(POLICIES))))
    count = len(scene.workload)
    extra = {
        "client": np.array([draw(st.sampled_from("abc")) for _ in range(count)], object),
        "ttft_slo_s": np.array([draw(st.sampled_from([0.001, 0.01, 0.1, np.inf])) for _ in range(count)]),
    }
    if draw(st.booleans()):
        extra["patience_s"] = np.array([draw(st.sampled_from([0.004, 0.02, np.inf])) for _ in range(count)])
    admission = Admission(max_queue=3) if draw(st.booleans()) else None
    policy: Any = scene.system.policy
    if isinstance(policy, Vllm):
        policy = msgspec.structs.replace(policy, policy="fcfs")
    workload = Workload.of(scene.workload.columns | extra, scene.workload.meta)
    return Scene(
        workload, msgspec.structs.replace(scene.system, policy=policy, order=order, admission=admission), scene.seed
    )


@pytest.mark.parametrize("order", ORDERS, ids=repr)
def test_leaping_is_stepping(order: Order) -> None:
    @settings(max_examples=settings.default.max_examples // 4)
    @given(ordered(order))
    def law(scene: Scene) -> None:
        alike(scene.workload, scene.system, scene.seed)

    law()


@given(st.lists(st.tuples(st.sampled_from(["join", "take", "look"]), st.integers(0, 9), st.integers(0, 3))))
def test_a_line_is_what_sorting_makes_of_it(moves: list[tuple[str, int, int]]) -> None:
    keys: dict[int, int] = {}
    line = Ranked(lambda i: (keys[i],))
    for move, request, number in moves:
        if move == "join" and request not in keys:
            keys[request] = number
            line.join(request)
        elif move == "take" and request in keys:
            line.take(request)
            del keys[request]
        elif move == "look":
            # Two look at once, and neither as far as the other.
            one, other = iter(line), iter(line)
            expected = sorted(keys, key=lambda i: (keys[i], i))
            assert [i for i, _ in zip(one, range(number), strict=False)] == expected[:number]
            assert [*other] == expected
        assert len(line) == len(keys)
    assert [*line] == sorted(keys, key=lambda i: (keys[i], i))
