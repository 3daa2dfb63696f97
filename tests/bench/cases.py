"""The benchmarked cases: a workload at a share of its policy's saturation, our run of it and the bare loop's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from bare import Batch, Seats, continuous, single_pass

from simqueue import (
    Affine,
    Continuous,
    Dynamic,
    LognormalNoise,
    Measured,
    Memory,
    NoBatching,
    NoNoise,
    Static,
    System,
    Workload,
    WorkloadSpec,
    make_workload,
    saturation_rps,
    simulate,
)
from simqueue.cost.base import UNLIMITED
from simqueue.policy import Sarathi, Sglang, Vllm
from simqueue.workload import Fixed, Geometric, Lengths, Lognormal, Poisson

REQUESTS = 200_000
PROFILE = "gpt2-h200-bf16-graph"
AFFINE = Affine(base_s=0.8e-3, per_row_s=8e-6, per_new_token_s=8e-6, per_context_token_s=2e-9)
COSTS = {"affine": AFFINE, "profile": Measured(name=PROFILE)}
TRACE = Path(__file__).parents[2].parent / "shared" / "traces" / "AzureLLMInferenceTrace_conv.csv.gz"


@dataclass(frozen=True)
class Case:
    """One row of the table. ``least`` is what to reach on a 2-core machine, in requests per second."""

    name: str
    policy: Any
    load: float
    prompt: Lengths
    output: Lengths
    least: int
    bare: Callable[[Workload], object] | None = None
    memory: Memory | None = None


def _bare_single(limit: int) -> Callable[[Workload], object]:
    return lambda w: single_pass(Batch(limit), _ticks(w), w.prompt_tokens.tolist())


def _bare_continuous(seats: int) -> Callable[[Workload], object]:
    return lambda w: continuous(Seats(seats), _ticks(w), w.prompt_tokens.tolist(), w.output_tokens.tolist())


def _ticks(workload: Workload) -> list[int]:
    column: list[int] = np.rint(workload.arrival_s * 1e12).astype(np.int64).tolist()
    return column


ONE = Fixed(value=1)
PROMPT, OUTPUT = Lognormal(mean=60, cv=0.66), Geometric(mean=40)
CASES = [
    Case("no batching, passes of one token, load 0.8", NoBatching(), 0.8, ONE, ONE, 250_000, _bare_single(1)),
    Case("no batching, one pass a prompt, load 0.8", NoBatching(), 0.8, PROMPT, ONE, 250_000, _bare_single(1)),
    Case("dynamic 32, passes of one token, load 0.8", Dynamic(32), 0.8, ONE, ONE, 2_000_000, _bare_single(32)),
    Case("dynamic 32, one pass a prompt, load 0.8", Dynamic(32), 0.8, PROMPT, ONE, 0, _bare_single(32)),
    Case("continuous, 64 seats, load 0.2", Continuous(64), 0.2, PROMPT, OUTPUT, 110_000, _bare_continuous(64)),
    Case("continuous, 64 seats, load 0.5", Continuous(64), 0.5, PROMPT, OUTPUT, 150_000, _bare_continuous(64)),
    Case("continuous, 64 seats, load 0.8", Continuous(64), 0.8, PROMPT, OUTPUT, 220_000, _bare_continuous(64)),
    Case("continuous, 64 seats, 256 tokens a step, load 0.8", Continuous(64, 256), 0.8, PROMPT, OUTPUT, 0),
    Case("static 16, load 0.8", Static(16, release="request"), 0.8, PROMPT, OUTPUT, 0),
]
# The case that others are set beside.
LOOKED = 6
# With blocks of key/value cache, beside that one, on its workload (the prefix cache: four conversations' prompts).
SEATS = Vllm(max_num_batched_tokens=65_536, max_num_seqs=64)
PAGED = [
    Case("vllm, 64 seats, memory without limit", SEATS, 0.8, PROMPT, OUTPUT, 0),
    Case("vllm, 64 seats, blocks enough", SEATS, 0.8, PROMPT, OUTPUT, 0, memory=Memory(num_blocks=4_000)),
    Case("vllm, 64 seats, blocks short", SEATS, 0.8, PROMPT, OUTPUT, 0, memory=Memory(num_blocks=220)),
    Case(
        "vllm, 64 seats, prefix cache",
        *(SEATS, 0.8, PROMPT, OUTPUT, 0),
        memory=Memory(num_blocks=4_000, prefix_caching=True),
    ),
    Case("sarathi, 64 seats, blocks enough", Sarathi(64, 512), 0.8, PROMPT, OUTPUT, 0, memory=Memory(num_blocks=4_000)),
    Case("sglang, 64 seats, blocks enough", Sglang(64), 0.8, PROMPT, OUTPUT, 0, memory=Memory(num_blocks=4_000)),
]
# Its lengths come with the trace.
AZURE = Case("Azure conversation trace, continuous, 256 seats, load 0.5", Continuous(256), 0.5, ONE, ONE, 100_000)


def system(case: Case, cost: str, noise: bool = False) -> System:
    drawn = LognormalNoise(cv=0.1) if noise else NoNoise()
    return System(policy=case.policy, cost=COSTS[cost], noise=drawn, max_context_tokens=1024, memory=case.memory)


@cache
def workload(case_index: int, cost: str, requests: int = REQUESTS) -> Workload:
    """The case's requests, at its load on that cost."""
    case = CASES[case_index]
    arrivals = Poisson(rate=100)
    spec = WorkloadSpec(requests=requests, arrivals=arrivals, prompt_tokens=case.prompt, output_tokens=case.output)
    made = make_workload(spec, seed=1).fit_context(1024, "clip")
    return made.at_rate(case.load * saturation_rps(made, system(case, cost)))


@cache
def hashed(cost: str, requests: int = REQUESTS) -> Workload:
    """The workload of the case looked at, with units of 16 tokens of four conversations."""
    made = workload(LOOKED, cost, requests)
    units = (made.prompt_tokens + made.output_tokens - 1) // 16
    ids = [" ".join(str(1000 * (i % 4) + k) for k in range(n)) for i, n in enumerate(units.tolist())]
    return Workload.of({**made.columns, "hash_ids": np.array(ids, object)}, {**made.meta, "hash_block_tokens": 16})


@cache
def azure(cost: str) -> Workload:
    """The public trace (TIMESTAMP, ContextTokens, GeneratedTokens) cut to 1,024 tokens, at its load on that cost."""
    stamps = np.loadtxt(TRACE, dtype=str, delimiter=",", skiprows=1)
    seconds = (stamps[:, 0].astype("datetime64[ns]") - np.datetime64(stamps[0, 0], "ns")).astype(np.int64) / 1e9
    made = Workload.from_columns(seconds, stamps[:, 1].astype(int), np.maximum(stamps[:, 2].astype(int), 1))
    made = made.fit_context(1024, "clip")
    return made.at_rate(AZURE.load * saturation_rps(made, system(AZURE, cost)))


def ours(
    case: Case, made: Workload, cost: str, *, noise: bool = False, stepping: bool = False, looping: bool = False
) -> object:
    """The whole call, every request's result recorded; ``looping``: with the event loop, needed or not."""
    options = {"longest_leap": 1 if stepping else UNLIMITED - 1} if stepping or looping else {}
    return simulate(made, system(case, cost, noise), **options)
