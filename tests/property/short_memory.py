"""Random small scenes in which memory is short more often than not, of every policy that looks at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from simqueue import Affine, ErlangNoise, Memory, System, Workload
from simqueue.policy import FastServe, Orca, Sarathi, Sglang, Srpt, TensorrtLlm, Tgi, Vllm

Policies = Callable[[st.DrawFn, int], Any]


def vllm(draw: st.DrawFn, seats: int) -> Any:
    budget = seats + draw(st.sampled_from([0, 5, 50, 2000]))
    threshold = draw(st.sampled_from([0, 3]))
    by = draw(st.sampled_from(["fcfs", "priority"]))
    return Vllm(budget, seats, by, threshold, draw(st.booleans()), draw(st.sampled_from([0.0, 0.1])))


def sarathi(draw: st.DrawFn, seats: int) -> Any:
    return Sarathi(seats, seats + draw(st.sampled_from([0, 5, 50])), draw(st.sampled_from([0.0, 0.01, 0.1])))


def orca(draw: st.DrawFn, seats: int) -> Any:
    return Orca(seats)


def sglang(draw: st.DrawFn, seats: int) -> Any:
    order = draw(st.sampled_from(["fcfs", "lpm", "lof", "shortest-prefill-first"]))
    chunk = draw(st.sampled_from([None, 16, 8192]))
    return Sglang(seats, chunk, 16384, order, draw(st.sampled_from([0.0, 0.3, 1.0])))


def tgi(draw: st.DrawFn, seats: int) -> Any:
    return Tgi(draw(st.sampled_from([0.0, 0.3, 1.2])), draw(st.sampled_from([0, 2, 20])), 64, seats)


def tensorrt_llm(draw: st.DrawFn, seats: int) -> Any:
    rule = draw(st.sampled_from(["GUARANTEED_NO_EVICT", "MAX_UTILIZATION", "STATIC_BATCH"]))
    return TensorrtLlm(rule, seats, draw(st.sampled_from([120, 8192])), draw(st.booleans()))


def fastserve(draw: st.DrawFn, seats: int) -> Any:
    return FastServe(seats, draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.sampled_from([1, 8, 99])), "keep")


def srpt(draw: st.DrawFn, seats: int) -> Any:
    return Srpt(seats, "keep")


KINDS: dict[str, Policies] = {
    "vllm": vllm,
    "sarathi": sarathi,
    "orca": orca,
    "sglang": sglang,
    "tgi": tgi,
    "tensorrt-llm": tensorrt_llm,
    "fastserve": fastserve,
    "srpt": srpt,
}


@dataclass(frozen=True)
class Scene:
    """A workload, and a system that is short of memory more often than not."""

    workload: Workload
    system: System
    seed: int


@st.composite
def scenes(draw: st.DrawFn, kind: str) -> Scene:
    """Prompts of few tokens, so that whole and partial blocks are both frequent."""
    count = draw(st.integers(1, 20))
    gap = draw(st.sampled_from([0.0, 0.002, 0.02, 0.3]))
    arrival = np.cumsum([draw(st.floats(0, gap)) for _ in range(count)])
    lengths = st.integers(1, draw(st.sampled_from([2, 9, 50])))
    prompt, output = ([draw(lengths) for _ in range(count)] for _ in range(2))
    size = draw(st.sampled_from([1, 2, 4, 16]))
    extra: dict[str, Any] = {
        "max_output_tokens": [o + draw(st.integers(0, 3)) for o in output],
        "predicted_output_tokens": [max(1, o + draw(st.integers(-3, 3))) for o in output],
        "priority": [draw(st.integers(0, 2)) for _ in range(count)],
    }
    policy = KINDS[kind](draw, draw(st.integers(1, 8)))
    prefixes = getattr(policy, "prefixes", False) and draw(st.booleans())
    meta: dict[str, Any] = {}
    if prefixes:
        # Units of two blocks, of three conversations.
        units = 2 * size
        whose = [draw(st.integers(0, 2)) for _ in range(count)]
        full = [(p + o - 1) // units for p, o in zip(prompt, output, strict=True)]
        ids = (" ".join(str(100 * w + k) for k in range(n)) for w, n in zip(whose, full, strict=True))
        extra["hash_ids"] = np.array(list(ids), object)
        meta["hash_block_tokens"] = units
    columns = {"arrival_s": arrival, "prompt_tokens": np.array(prompt), "output_tokens": np.array(output)}
    workload = Workload.of(columns | {k: np.asarray(v) for k, v in extra.items()}, meta)
    most = max(-(-(p + o) // size) for p, o in zip(prompt, output, strict=True))
    blocks = draw(st.integers(max(2, most - 1), 3 * most + 4))
    cost = Affine(base_s=1e-3, per_row_s=1e-5, per_new_token_s=1e-5, per_context_token_s=1e-7)
    noise = {"noise": ErlangNoise(3)} if draw(st.booleans()) else {}
    memory = Memory(block_size=size, num_blocks=blocks, prefix_caching=prefixes)
    return Scene(workload, System(policy, cost, memory=memory, **noise), draw(st.integers(0, 99)))
