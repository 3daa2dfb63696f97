"""The scheduling core that a system's policy and memory ask for."""

from __future__ import annotations

from operator import add

from simqueue.cost.profile import Measured
from simqueue.engine import Engine
from simqueue.errors import ConfigError
from simqueue.kv import ENDLESS, Blocks, PrefixCache, Unlimited
from simqueue.order import Fcfs, Order
from simqueue.paged import PagedEngine
from simqueue.policy.base import BatchingPolicy
from simqueue.profile import Model
from simqueue.record import Requests
from simqueue.system import System
from simqueue.units import Grid

Core = Engine | PagedEngine
"""What a driver drives."""

_GIB = 2**30
_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}


def core(
    system: System, requests: Requests, grid: Grid, *, hash_tokens: int | None = None, track_extremes: bool
) -> Core:
    """A fresh core for one replica; ``hash_tokens``: tokens in the units that ``requests.hashes`` are of.

    Raises:
        ConfigError: the policy and the memory do not go together, the memory holds no block, or the workload lacks what
            the order goes by.
    """
    longest = longest_context(system)
    needs_most = getattr(system.policy, "reserve", "computed").startswith("max")
    if is_paged(system) and needs_most and not longest and requests.max_output is None:
        raise ConfigError(
            "policy: it reserves blocks for the maximum output of a request, which the workload does not say: give "
            "workload.max_output_tokens, or system.max_context_tokens"
        )
    if requests.adopted and not (is_paged(system) and getattr(system.policy, "mixes", True)):
        raise ConfigError(
            "policy: requests come with their caches, and it cannot let them decode at once: take one that counts "
            "blocks and prefills and decodes in the same step (vllm, sarathi, orca, tensorrt-llm)"
        )
    cache = blocks(system, hash_tokens)
    return _core(system.policy, requests, grid, cache, longest or ENDLESS, system.order, track_extremes=track_extremes)


def unlimited(policy: BatchingPolicy, requests: Requests, grid: Grid) -> Core:
    """A fresh core for a policy alone, whose memory never fills."""
    return _core(policy, requests, grid, Unlimited(), ENDLESS, Fcfs(), track_extremes=True)


def _core(
    policy: BatchingPolicy,
    requests: Requests,
    grid: Grid,
    cache: Blocks,
    longest: int,
    order: Order,
    *,
    track_extremes: bool,
) -> Core:
    if not getattr(policy, "paged", False):
        return Engine(policy, requests, grid, track_extremes=track_extremes)
    return PagedEngine(policy, requests, grid, cache, longest=longest, track_extremes=track_extremes, order=order)


def is_paged(system: System) -> bool:
    """Whether its core counts blocks. Raises ConfigError if the policy cannot work with the memory."""
    paged = bool(getattr(system.policy, "paged", False))
    if system.memory is not None and not paged:
        raise ConfigError(
            "memory: the policy does not look at it: take one that does (vllm, sarathi, orca, sglang, tgi, "
            "tensorrt-llm, fastserve, srpt), or leave memory out"
        )
    if system.memory is not None and system.memory.prefix_caching and not getattr(system.policy, "prefixes", False):
        raise ConfigError(
            "memory: prefix_caching = true, but what the policy models has no prefix cache: take one that has (vllm, "
            "sglang, tensorrt-llm), or leave prefix_caching out"
        )
    return paged


def turns_away(policy: BatchingPolicy) -> bool:
    """Whether the policy may turn requests away."""
    return bool(getattr(policy, "turns_away", False))


def may_turn_away(system: System) -> bool:
    """Whether the server may: for want of memory, by its admission or by its policy. Raises ConfigError: see
    `is_paged`."""
    return is_paged(system) or system.admission is not None or turns_away(system.policy)


def memory_remedy(system: System, requests: Requests) -> str:
    """What to change where no request ever fits the memory: perhaps only the most that it may come to does not."""
    memory, longest = blocks(system, None), longest_context(system) or 0
    fits = memory.of(min(map(add, requests.prompt, requests.output))) <= memory.total
    if fits and requests.max_output is not None:
        return "give more blocks, or a lower workload.max_output_tokens"
    if fits and memory.of(longest) > memory.total:
        return (
            f"give workload.max_output_tokens, without which the policy makes room for the whole context of {longest} "
            "tokens, or more blocks"
        )
    return "give more blocks"


def check_order(system: System) -> None:
    """Refuse an order that the policy would not follow. Raises ConfigError."""
    if not isinstance(system.order, Fcfs) and not getattr(system.policy, "ordered", False):
        raise ConfigError(
            "order: the policy does not start whom it finds at the head of the queue: take one that does (vllm with "
            'policy = "fcfs", sarathi, orca, tgi), or leave order out'
        )


def longest_context(system: System) -> int | None:
    """Prompt and output of a request together at most, if that is known."""
    if system.max_context_tokens is not None or not isinstance(system.cost, Measured) or system.cost.extrapolate:
        return system.max_context_tokens
    return system.cost.profile.model.max_context


def blocks(system: System, hash_tokens: int | None) -> Blocks:
    """The empty cache. Raises ConfigError."""
    memory = system.memory
    if memory is None:
        return Unlimited()
    total = memory.num_blocks or _fitting(system)
    if not memory.prefix_caching or hash_tokens is None:
        return Blocks(memory.block_size, total)
    if hash_tokens % memory.block_size:
        raise ConfigError(
            f"memory: block_size = {memory.block_size} does not divide the {hash_tokens} tokens of the blocks that the "
            "workload has hash_ids of: take one that does"
        )
    return PrefixCache(memory.block_size, total, hash_tokens // memory.block_size)


def block_bytes(system: System) -> float:
    """Bytes of a block. Raises ConfigError without a profile."""
    assert system.memory is not None
    return token_bytes(system) * system.memory.block_size


def token_bytes(system: System) -> float:
    """Bytes of a token's keys and values in every layer. Raises ConfigError if nobody says so."""
    if system.memory is not None and system.memory.kv_bytes_per_token is not None:
        return system.memory.kv_bytes_per_token
    model = _model(system)
    return 2 * model.layers * (model.kv_hidden or model.hidden) * _bytes(model)


def _fitting(system: System) -> int:
    """As vLLM sizes its cache: what its share of the GPU's memory holds beside the weights."""
    memory, model = system.memory, _model(system)
    assert memory is not None
    assert memory.gpu_memory_gib is not None
    room = memory.gpu_memory_gib * memory.gpu_memory_utilization * _GIB - model.parameters * _bytes(model)
    block = block_bytes(system)
    if room < block:
        raise ConfigError(
            f"memory: gpu_memory_gib = {memory.gpu_memory_gib} holds no block beside the weights of {model.name}: "
            "give more, or num_blocks"
        )
    return int(room // block)


def _model(system: System) -> Model:
    if not isinstance(system.cost, Measured):
        raise ConfigError(
            "memory: bytes of blocks follow from a profile's model, and the cost is none: give num_blocks"
        )
    return system.cost.profile.model


def _bytes(model: Model) -> int:
    if model.dtype not in _BYTES:
        raise ConfigError(f"memory: the profile's dtype is {model.dtype}, whose size is not known: give num_blocks")
    return _BYTES[model.dtype]
