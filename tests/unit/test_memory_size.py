"""How many bytes a token's keys and values have, and how many blocks of them a GPU holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from simqueue import Affine, Measured, Memory, System, Workload, simulate
from simqueue.errors import ConfigError
from simqueue.policy import BatchingPolicy, FastServe, Orca, Sglang, TensorrtLlm, Tgi, Vllm
from simqueue.profile import save_profile
from simqueue.replica import blocks, token_bytes

COST = Measured(name="gpt2-h200-bf16-graph")


def system(cost: Any, **memory: Any) -> System:
    return System(Vllm(), cost, memory=Memory(**memory))


def test_of_gpt2_in_bfloat16() -> None:
    assert token_bytes(System(Vllm(), COST)) == 2 * 12 * 768 * 2
    room = 10 * 2**30 * 0.9 - COST.profile.model.parameters * 2
    assert blocks(system(COST, gpu_memory_gib=10.0), None).total == room // (16 * 2 * 12 * 768 * 2)


def test_heads_that_share_keys_need_less(tmp_path: Path) -> None:
    model = msgspec.structs.replace(COST.profile.model, kv_hidden=768 // 4)
    path = tmp_path / "shared.json"
    save_profile(msgspec.structs.replace(COST.profile, model=model), path)
    assert token_bytes(System(Vllm(), Measured(path=str(path)))) == 2 * 12 * 192 * 2


def test_what_is_given_counts() -> None:
    assert token_bytes(system(Affine(1e-3), num_blocks=10, kv_bytes_per_token=131072.0)) == 131072
    few = blocks(system(COST, gpu_memory_gib=10.0, kv_bytes_per_token=368640.0), None).total
    assert few == blocks(system(COST, gpu_memory_gib=10.0), None).total // 10


@pytest.mark.parametrize("key", ["gpu_memory_gib", "kv_bytes_per_token", "swap_gib_per_s"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_sizes_are_positive(key: str, value: float) -> None:
    others = {} if key == "gpu_memory_gib" else {"num_blocks": 4}
    with pytest.raises(ConfigError, match=f"memory: {key} = "):
        Memory(**others, **{key: value})


@pytest.mark.parametrize("policy", [Orca(max_bs=8), Tgi(), FastServe(), Sglang(), TensorrtLlm()], ids=repr)
def test_where_only_the_most_that_requests_may_come_to_does_not_fit_the_remedy_is_to_say_less(
    policy: BatchingPolicy,
) -> None:
    """A model of unlimited context, and 800 tokens of memory for requests of 12."""

    def remedy(tokens: int = 10, **known: list[int]) -> str:
        served = System(policy, Affine(1e-3), memory=Memory(num_blocks=50), max_context_tokens=2**31 - 1)
        with pytest.raises(ConfigError) as caught:
            simulate(Workload.from_columns([0, 1], [tokens] * 2, [2, 2], **known), served)
        return str(caught.value).removeprefix("memory: none of 2 requests ever fits it: give ")

    assert remedy().startswith("workload.max_output_tokens, without which the policy makes room for the whole context ")
    assert remedy(max_output_tokens=[1000, 1000]) == "more blocks, or a lower workload.max_output_tokens"
    assert remedy(1000) == "more blocks"
