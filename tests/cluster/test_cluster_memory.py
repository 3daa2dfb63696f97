"""Replicas with limited key/value memory: preempted, rejected and failed requests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from short_memory import KINDS, scenes

from simqueue import Affine, LognormalNoise, Memory, System, Workload, simulate
from simqueue.cluster.cluster import Cluster
from simqueue.cluster.failures import Failures
from simqueue.cluster.least_kv_use import LeastKvUse
from simqueue.cluster.least_tokens import LeastTokens
from simqueue.cluster.prefix_affinity import PrefixAffinity
from simqueue.cluster.simulate import simulate_cluster
from simqueue.cost.base import UNLIMITED
from simqueue.errors import ConfigError
from simqueue.policy import Vllm

MEMORY = Memory(block_size=4, num_blocks=24, prefix_caching=True)
COST = Affine(base_s=1.0, per_new_token_s=0.01, per_context_token_s=0.001)
SYSTEM = System(Vllm(max_num_seqs=8, max_num_batched_tokens=16), COST, LognormalNoise(0.2), memory=MEMORY)


def workload() -> Workload:
    """Some requests are too long for the memory; their prompts begin alike."""
    rng = np.random.default_rng(7)
    count = 300
    prompt, output = rng.integers(4, 24, count), rng.integers(1, 20, count)
    prompt[::50] = 120
    blocks = [" ".join(str(100 * (row % 5) + unit) for unit in range(-(-p // 4))) for row, p in enumerate(prompt)]
    columns = {
        "arrival_s": np.cumsum(rng.exponential(2.0, count)),
        "prompt_tokens": prompt,
        "output_tokens": output,
        "hash_ids": np.array(blocks, object),
    }
    return Workload.of(columns, {"hash_block_tokens": 4})


def test_a_cluster_of_one_is_simulate_with_every_fate() -> None:
    made = workload()
    alone = simulate(made, SYSTEM, seed=3)
    result = simulate_cluster(made, Cluster.of(1, SYSTEM, LeastTokens()), seed=3)
    [share] = result.shares
    assert alone.fates is not None
    assert share.result.fates is not None
    assert alone.fates.preemptions.sum() > 0
    assert alone.fates.cached_tokens.sum() > 0
    for name in ("outcome", "preemptions", "recomputed_tokens", "cached_tokens"):
        assert getattr(share.result.fates, name).tolist() == getattr(alone.fates, name).tolist(), name
    for name in ("scheduled", "first_token", "finished"):
        assert getattr(result, name).tolist() == getattr(alone, name).tolist(), name
    mine, other = result.summary(), alone.summary()
    for name in ("requests", "response_s", "tpot_s", "itl_s", "batch_size", "utilisation", "prefix_hit_rate"):
        assert mine[name] == pytest.approx(other[name]), name
    assert mine["outcomes"] == other["outcomes"]
    assert other["outcomes"]["rejected"] == 6


@pytest.mark.parametrize("then", ["retried", "resumed"])
def test_leaping_is_stepping_with_failures(then: str) -> None:
    made = workload()
    failures = Failures(then, mean_up_s=60.0, mean_down_s=10.0)  # type: ignore[arg-type]
    cluster = Cluster.of(2, SYSTEM, PrefixAffinity(max_ahead=4), failures)
    leaping, stepping = (simulate_cluster(made, cluster, seed=1, longest_leap=most) for most in (UNLIMITED, 1))
    assert leaping.sent.max() > 1
    for name in ("scheduled", "first_token", "finished", "replica", "sent", "completed"):
        assert getattr(leaping, name).tolist() == getattr(stepping, name).tolist(), name
    assert leaping.completed.sum() == 294
    for share in leaping.shares:
        planned = (made.prompt_tokens + made.output_tokens)[share.rows]
        assert (share.result.workload.prompt_tokens + share.result.workload.output_tokens).tolist() == planned.tolist()


@settings(max_examples=30)
@given(
    st.sampled_from(sorted(KINDS)).flatmap(scenes), st.integers(0, 9), st.sampled_from([0.0, 1e-3]), st.integers(2, 7)
)
def test_leaping_is_stepping_where_the_router_looks_at_memory(scene: Any, more: int, age_s: float, some: int) -> None:
    memory = scene.system.memory
    larger = replace(scene.system, memory=replace(memory, num_blocks=memory.num_blocks + more))
    cluster = Cluster((scene.system, larger), LeastKvUse(age_s))

    def run(most: int) -> list[list[int]] | None:
        try:
            result = simulate_cluster(scene.workload, cluster, seed=scene.seed, longest_leap=most)
        except ConfigError:
            return None  # Nobody was answered.
        return [getattr(result, name).tolist() for name in ("scheduled", "first_token", "finished", "replica")]

    assert run(UNLIMITED) == run(some) == run(1)


def test_the_least_use_of_memory_by_hand() -> None:
    """A pass a second; blocks of 4 tokens. The first prompt takes 5 of 10 blocks, the second 5 of 20. The third comes
    when both have been seen to be in use: to the second; so do the fourth and the fifth, since nothing has been seen of
    that yet, and the sixth, as 8 of 20 are in use now. The seventh comes when the first has left."""
    small, large = (
        System(Vllm(max_num_seqs=8), Affine(base_s=1.0), memory=Memory(block_size=4, num_blocks=blocks))
        for blocks in (10, 20)
    )
    arrival_s, prompt, output = [0.0, 0.0, 0.5, 0.6, 0.7, 1.5, 3.5], [20, 20, 4, 4, 4, 4, 4], [3, 9, 9, 9, 9, 9, 1]
    workload = Workload.from_columns(arrival_s, prompt, output)
    result = simulate_cluster(workload, Cluster((small, large), LeastKvUse()))
    assert result.replica.tolist() == [0, 1, 1, 1, 1, 1, 0]


def test_a_replica_without_a_limit_is_refused() -> None:
    unlimited = System(Vllm(), Affine(base_s=1.0))
    with pytest.raises(ConfigError, match="least-kv-use looks at memory, and a replica has no limit of it"):
        simulate_cluster(workload(), Cluster((SYSTEM, unlimited), LeastKvUse()))
