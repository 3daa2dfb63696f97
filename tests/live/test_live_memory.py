"""Policies that look at memory, live: the same engine as simulated, nobody's tokens lost by preemption."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from liveruns import COST, Again, assert_answered, workload

from simqueue import Memory, System, Workload
from simqueue.errors import ConfigError
from simqueue.live.journal import replay
from simqueue.live.serve import Served, core_of, serve
from simqueue.live.worker import GRID
from simqueue.policy import Orca, Sarathi, Sglang, TensorrtLlm, Tgi, Vllm

pytestmark = pytest.mark.usefixtures("nothing_stays")
POLICIES = {
    "vllm": Vllm(64, 8),
    "sarathi": Sarathi(8, 32, 0.0),
    "orca": Orca(8),
    "sglang": Sglang(8, 32, schedule_conservativeness=0.0),
    "tgi": Tgi(max_batch_size=8),
    "tensorrt-llm": TensorrtLlm(max_batch_size=8, enable_chunked_context=True),
}


def live(work: Workload, system: System) -> Served:
    executor = Again(COST)
    run = serve(work, system, executor, clients="thread")
    assert executor.empty
    return run


def asked(requests: int) -> Workload:
    """With the most that each asks for, and room for nobody longer than 52 tokens."""
    plain = workload(requests)
    most = plain.output_tokens + np.arange(requests) % 3
    return Workload.from_columns(plain.arrival_s, plain.prompt_tokens, plain.output_tokens, max_output_tokens=most)


@pytest.mark.parametrize("kind", POLICIES)
def test_everybody_is_answered_once_and_every_plan_is_made_again(kind: str) -> None:
    work = asked(90)
    system = System(POLICIES[kind], COST, memory=Memory(4, 24))
    run = live(work, system)
    assert_answered(run, work)
    assert replay(run.journal, system.policy, GRID, core_of(system)) == []
    assert run.result is not None
    summary = run.result.summary()
    if kind in ("vllm", "sarathi", "sglang"):
        assert summary["preemptions"] > 0
        assert run.result.fates is not None
        assert (run.result.fates.spells[:, 3] <= run.result.finished[run.result.fates.spells[:, 0]]).all()
    # The gaps of an answer add up to the time between its first and its last token.
    result = run.result
    streams = result.finished - result.delivery - result.first_token + result.first_delivery
    gaps = int((work.output_tokens - 1).sum())
    assert summary["itl_s"]["mean"] * gaps == pytest.approx(float(streams.sum()) / GRID.ticks_per_s)


def test_who_never_fits_hears_so() -> None:
    work = Workload.from_columns([0.0, 0.0, 0.001], [30, 200, 30], [5, 5, 5])
    run = live(work, System(POLICIES["vllm"], COST, memory=Memory(4, 24)))
    assert +Counter(run.outcomes) == {"completed": 2, "rejected": 1}
    assert list(run.failed.values()) == ["it can never fit the key/value cache"]


def test_nobody_brings_a_cache() -> None:
    work = asked(3)
    adopted = Workload.of(work.columns, work.meta | {"adopted": True})
    with pytest.raises(ConfigError, match="cannot bring the cache of their prompts to an executor: run them simulated"):
        live(adopted, System(POLICIES["vllm"], COST))


def test_no_executor_has_a_prefix_cache() -> None:
    system = System(POLICIES["vllm"], COST, memory=Memory(4, 24, prefix_caching=True))
    with pytest.raises(ConfigError, match="no executor has a prefix cache: leave it out"):
        live(asked(3), system)
