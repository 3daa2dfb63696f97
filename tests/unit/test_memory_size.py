"""How many bytes a token's keys and values have, and how many blocks of them a GPU holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from simqueue import Affine, Measured, Memory, System
from simqueue.errors import ConfigError
from simqueue.policy import Vllm
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
