"""The transcriptions themselves: plans worked out by hand from the published rules, and laws that no plan may break.

In the plans by hand a step takes one tick, so that step number and time are the same thing.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transcriptions import faster_transformer, orca, sarathi, sglang, tensorrt_llm, tgi, vllm_v1
from transcriptions.common import Memory, Req, StepPlan


def one_tick(*_shape: int) -> int:
    return 1


def affine(decode_rows: int, context: int, prefill_rows: int, new_tokens: int, prefill_context: int) -> int:
    return 100 + 10 * decode_rows + context + 20 * prefill_rows + 5 * new_tokens + prefill_context


def plans(*steps: dict[int, int] | tuple[dict[int, int], tuple[int, ...]]) -> list[StepPlan]:
    """Steps of one tick from 0 on; with who was preempted where somebody was."""
    pairs = [step if isinstance(step, tuple) else (step, ()) for step in steps]
    return [StepPlan(i, i + 1, tokens, preempted) for i, (tokens, preempted) in enumerate(pairs)]


# --- the world -----------------------------------------------------------------------------------------------------


def test_a_request_is_seen_at_the_first_decision_at_or_after_its_arrival() -> None:
    requests = [Req(0, arrival=5, prompt=2, output=2), Req(1, arrival=6, prompt=3, output=1)]
    steps = orca.run_paper(requests, price=one_tick, max_bs=4)
    assert steps == [StepPlan(5, 6, {0: 2}), StepPlan(6, 7, {0: 1, 1: 3})]


def test_the_price_sees_what_is_in_the_cache_before_the_step() -> None:
    shapes = []

    def price(*shape: int) -> int:
        shapes.append(shape)
        return 1

    vllm_v1.run([Req(0, 0, prompt=5, output=3), Req(1, 0, prompt=2, output=1)], price=price, max_num_batched_tokens=4)
    # Decoding rows, their context, prefilling rows, their new tokens, their context.
    assert shapes == [(0, 0, 1, 4, 0), (0, 0, 2, 3, 4), (1, 5, 0, 0, 0), (1, 6, 0, 0, 0)]


def test_plans_that_schedule_in_another_order_are_other_plans() -> None:
    assert StepPlan(0, 1, {0: 1, 1: 1}) != StepPlan(0, 1, {1: 1, 0: 1})


# --- vLLM ----------------------------------------------------------------------------------------------------------


def test_vllm_cuts_prompts_to_the_budget_that_running_requests_leave() -> None:
    requests = [Req(0, 0, prompt=6, output=2), Req(1, 0, prompt=3, output=2)]
    steps = vllm_v1.run(requests, price=one_tick, max_num_batched_tokens=4)
    assert steps == plans({0: 4}, {0: 2, 1: 2}, {0: 1, 1: 1}, {1: 1})


def test_vllm_serves_a_half_computed_prompt_before_a_younger_decode() -> None:
    requests = [Req(0, 0, prompt=7, output=1), Req(1, 0, prompt=1, output=3)]
    steps = vllm_v1.run(requests, price=one_tick, max_num_batched_tokens=4, long_prefill_token_threshold=3)
    assert steps == plans({0: 3, 1: 1}, {0: 3, 1: 1}, {0: 1, 1: 1})


def test_vllm_preempts_the_last_and_admits_nobody_in_that_step() -> None:
    requests = [Req(0, 0, prompt=3, output=4), Req(1, 0, prompt=2, output=3), Req(2, 2, prompt=1, output=1)]
    steps = vllm_v1.run(requests, price=one_tick, memory=Memory(block_size=2, num_blocks=4))
    # Step 2: request 0 needs a third block, request 1 gives both of its; the block left would do for request 2.
    # Step 3: request 1 is first in the line, needs two blocks for 4 tokens, and blocks request 2.
    assert steps == plans({0: 3, 1: 2}, {0: 1, 1: 1}, ({0: 1}, (1,)), {0: 1}, {1: 4, 2: 1})


def test_vllm_blocks_the_line_behind_a_head_that_does_not_fit() -> None:
    requests = [Req(0, 0, prompt=3, output=2), Req(1, 0, prompt=5, output=1), Req(2, 0, prompt=1, output=1)]
    steps = vllm_v1.run(requests, price=one_tick, memory=Memory(block_size=1, num_blocks=6))
    assert steps == plans({0: 3}, {0: 1}, {1: 5, 2: 1})


def test_vllm_looks_at_the_first_chunk_only_when_told_so() -> None:
    requests = [Req(0, 0, prompt=3, output=2), Req(1, 0, prompt=5, output=1)]
    memory = Memory(block_size=1, num_blocks=6)
    loose = vllm_v1.run(
        requests, price=one_tick, memory=memory, max_num_batched_tokens=5, scheduler_reserve_full_isl=False
    )
    # Step 1: request 0 takes the last block but none is left for the second chunk of request 1, which gives up its two.
    assert loose == plans({0: 3, 1: 2}, ({0: 1}, (1,)), {1: 5})


def test_vllm_keeps_the_watermark_free_unless_nobody_runs() -> None:
    requests = [Req(0, 0, prompt=13, output=1), Req(1, 0, prompt=9, output=2), Req(2, 0, prompt=4, output=1)]
    steps = vllm_v1.run(requests, price=one_tick, memory=Memory(block_size=1, num_blocks=14, watermark=0.15))
    # Two blocks are to be free after an admission: not after that of request 0 in step 0, but after that of request 2.
    assert steps == plans({0: 13}, {1: 9}, {1: 1}, {2: 4})


def test_vllm_long_prefill_threshold_is_not_for_the_only_request() -> None:
    requests = [Req(0, 0, prompt=8, output=1), Req(1, 0, prompt=2, output=1)]
    steps = vllm_v1.run(requests, price=one_tick, max_num_batched_tokens=10, long_prefill_token_threshold=3)
    assert steps == plans({0: 3, 1: 2}, {0: 5})


def test_vllm_by_priority_takes_back_what_a_victim_was_given_in_the_same_step() -> None:
    requests = [Req(0, 0, prompt=2, output=4, priority=1), Req(1, 1, prompt=4, output=2, priority=0)]
    steps = vllm_v1.run(requests, price=one_tick, memory=Memory(block_size=2, num_blocks=4), policy="priority")
    assert steps == plans({0: 2}, {0: 1, 1: 4}, ({1: 1}, (0,)), {0: 4}, {0: 1})


def test_vllm_by_priority_goes_on_behind_one_that_preempted_itself() -> None:
    requests = [Req(0, 0, prompt=2, output=4, priority=1), Req(1, 1, prompt=3, output=3, priority=0)]
    steps = vllm_v1.run(requests, price=one_tick, memory=Memory(block_size=1, num_blocks=6), policy="priority")
    assert steps == plans({0: 2}, {0: 1, 1: 3}, ({1: 1}, (0,)), {1: 1}, {0: 4}, {0: 1})


def test_vllm_by_priority_admits_the_most_urgent_first() -> None:
    requests = [Req(0, 0, prompt=2, output=1, priority=2), Req(1, 0, prompt=2, output=1, priority=1)]
    assert vllm_v1.run(requests, price=one_tick, max_num_seqs=1, policy="priority") == plans({1: 2}, {0: 2})


def test_vllm_computes_a_known_prefix_once_but_always_a_token() -> None:
    requests = [Req(0, 0, prompt=5, output=1), Req(1, 1, prompt=5, output=1), Req(2, 2, prompt=4, output=1)]
    hashes = dict.fromkeys(range(3), ("first", "second"))
    steps = vllm_v1.run(requests, price=one_tick, memory=Memory(block_size=2, num_blocks=9), hashes=hashes)
    assert steps == plans({0: 5}, {1: 1}, {2: 2})


def test_vllm_knows_a_prefix_in_the_step_that_computes_it() -> None:
    requests = [Req(0, 0, prompt=5, output=1), Req(1, 0, prompt=5, output=1)]
    hashes = {0: ("first", "second"), 1: ("first", "third")}
    steps = vllm_v1.run(requests, price=one_tick, memory=Memory(block_size=2, num_blocks=6), hashes=hashes)
    assert steps == plans({0: 5, 1: 3})


def test_vllm_forgets_the_end_of_the_oldest_prefix_first() -> None:
    requests = [Req(0, 0, prompt=2, output=1), Req(1, 1, prompt=3, output=1), Req(2, 2, prompt=3, output=1)]
    hashes = {0: "ab", 1: "cde", 2: "abz"}
    steps = vllm_v1.run(requests, price=one_tick, memory=Memory(block_size=1, num_blocks=4), hashes=hashes)
    # Step 1 takes the two blocks that nobody has used, and then that of "b".
    assert steps == plans({0: 2}, {1: 3}, {2: 2})


def test_vllm_finds_what_a_preempted_request_has_left_behind() -> None:
    requests = [Req(0, 0, prompt=3, output=4), Req(1, 0, prompt=4, output=2)]
    steps = vllm_v1.run(requests, price=one_tick, memory=Memory(block_size=2, num_blocks=4), hashes={})
    # Step 1: request 1 needs a third block and gives up its two. Step 2: request 0 takes the second of those.
    # Step 4: the first is still known, and two of five tokens are not computed anew.
    assert steps == plans({0: 3, 1: 4}, ({0: 1}, (1,)), {0: 1}, {0: 1}, {1: 3})


# --- Sarathi -------------------------------------------------------------------------------------------------------


def test_sarathi_chunks_count_the_decodes() -> None:
    requests = [Req(0, 0, prompt=6, output=3), Req(1, 0, prompt=5, output=1)]
    steps = sarathi.run(requests, price=one_tick, max_num_seqs=4, chunk_size=4)
    assert steps == plans({0: 4}, {0: 2, 1: 2}, {0: 1, 1: 3}, {0: 1})


def test_sarathi_takes_the_blocks_of_the_whole_prompt_with_its_first_chunk() -> None:
    requests = [Req(0, 0, prompt=4, output=1), Req(1, 0, prompt=4, output=1)]
    steps = sarathi.run(requests, price=one_tick, max_num_seqs=4, chunk_size=5, memory=Memory(1, 7))
    # Step 0: three of seven blocks are free, and a chunk of one token would need one.
    assert steps == plans({0: 4}, {1: 4})


def test_sarathi_preempts_the_youngest_and_admits_nobody_before_it() -> None:
    requests = [Req(0, 0, prompt=3, output=4), Req(1, 0, prompt=3, output=3), Req(2, 2, prompt=1, output=1)]
    steps = sarathi.run(requests, price=one_tick, memory=Memory(block_size=2, num_blocks=5))
    assert steps == plans({0: 3, 1: 3}, {0: 1, 1: 1}, ({0: 1}, (1,)), {0: 1}, {1: 5, 2: 1})


def test_sarathi_preempts_for_a_free_block_that_nobody_needs() -> None:
    requests = [Req(0, 0, prompt=3, output=2), Req(1, 0, prompt=3, output=2)]
    steps = sarathi.run(requests, price=one_tick, memory=Memory(block_size=2, num_blocks=4))
    # Step 1: the third token of request 0 has room in its second block, but no block is free.
    assert steps == plans({0: 3, 1: 3}, ({0: 1}, (1,)), {1: 4})


def test_sarathi_may_readmit_a_half_computed_prompt_in_the_step_that_preempted_it() -> None:
    requests = [Req(0, 0, prompt=3, output=3), Req(1, 0, prompt=4, output=1)]
    memory = Memory(block_size=2, num_blocks=4)
    steps = sarathi.run(requests, price=one_tick, memory=memory, max_num_seqs=4, chunk_size=4)
    assert steps == plans({0: 3, 1: 1}, ({0: 1, 1: 3}, (1,)), ({0: 1}, (1,)), {1: 4})


def test_sarathi_blocks_the_line_behind_a_head_that_does_not_fit() -> None:
    requests = [Req(0, 0, prompt=3, output=2), Req(1, 0, prompt=5, output=1), Req(2, 0, prompt=1, output=1)]
    steps = sarathi.run(requests, price=one_tick, memory=Memory(block_size=1, num_blocks=7))
    assert steps == plans({0: 3}, {0: 1}, {1: 5, 2: 1})


def test_sarathi_keeps_the_watermark_free_even_when_nobody_runs() -> None:
    requests = [Req(0, 0, prompt=8, output=1), Req(1, 0, prompt=7, output=1)]
    steps = sarathi.run(requests, price=one_tick, memory=Memory(block_size=1, num_blocks=10, watermark=0.2))
    assert steps == plans({1: 7})


def test_sarathi_refuses_more_sequences_than_tokens() -> None:
    with pytest.raises(ValueError, match="max_num_seqs 5 is more than chunk_size 4"):
        sarathi.run([], price=one_tick, max_num_seqs=5, chunk_size=4)


# --- Orca and FasterTransformer --------------------------------------------------------------------------------------


def test_orca_reserves_everything_and_blocks_the_line() -> None:
    requests = [Req(0, 0, prompt=3, output=2), Req(1, 0, prompt=4, output=2), Req(2, 0, prompt=1, output=1)]
    steps = orca.run_paper(requests, price=one_tick, max_bs=4, memory=Memory(block_size=1, num_blocks=10))
    assert steps == plans({0: 3}, {0: 1}, {1: 4, 2: 1}, {1: 1})


def test_orca_reserves_what_a_request_may_emit_not_what_it_will() -> None:
    requests = [Req(0, 0, prompt=3, output=1, max_output=4), Req(1, 0, prompt=3, output=1, max_output=8)]
    requests.append(Req(2, 0, prompt=3, output=1, max_output=1))
    steps = orca.run_paper(requests, price=one_tick, max_bs=4, memory=Memory(block_size=1, num_blocks=10))
    # Request 1 may need 11 slots of 10. Step 0: 7 slots are reserved, request 2 needs 4.
    assert steps == plans({0: 3}, {2: 3})


def test_orca_takes_at_most_so_many_at_once() -> None:
    requests = [Req(0, 0, prompt=9, output=2), Req(1, 0, prompt=1, output=1), Req(2, 0, prompt=1, output=1)]
    assert orca.run_paper(requests, price=one_tick, max_bs=2) == plans({0: 9, 1: 1}, {0: 1, 2: 1})


def test_orca_of_sarathi_serve_reserves_the_longest_request_for_everybody() -> None:
    requests = [Req(i, 0, prompt=1, output=2) for i in range(3)]
    steps = orca.run(requests, price=one_tick, max_model_len=8, memory=Memory(block_size=4, num_blocks=5))
    assert steps == plans({0: 1, 1: 1}, {0: 1, 1: 1}, {2: 1}, {2: 1})


def test_faster_transformer_lets_nobody_join_before_the_batch_has_ended() -> None:
    requests = [Req(0, 0, prompt=3, output=1), Req(1, 0, prompt=2, output=3), Req(2, 0, prompt=1, output=1)]
    steps = faster_transformer.run(requests, price=one_tick, max_model_len=8, max_num_seqs=2)
    assert steps == plans({0: 3, 1: 2}, {1: 1}, {1: 1}, {2: 1})


# --- SGLang ----------------------------------------------------------------------------------------------------------


def test_sglang_decodes_nobody_in_a_prefill() -> None:
    requests = [Req(0, 0, prompt=3, output=3), Req(1, 1, prompt=2, output=1)]
    steps = sglang.run(requests, price=one_tick, max_running_requests=4)
    assert steps == plans({0: 3}, {1: 2}, {0: 1}, {0: 1})


def test_sglang_cuts_one_prompt_at_a_time() -> None:
    requests = [Req(0, 0, prompt=6, output=1), Req(1, 0, prompt=3, output=1), Req(2, 0, prompt=1, output=1)]
    steps = sglang.run(requests, price=one_tick, max_running_requests=4, chunked_prefill_size=4)
    assert steps == plans({0: 4}, {0: 2, 1: 2}, {1: 1, 2: 1})


def test_sglang_reserves_what_the_first_answer_may_need_and_blocks_the_line() -> None:
    requests = [Req(0, 0, prompt=4, output=2, max_output=10), Req(1, 0, prompt=5, output=1, max_output=6)]
    requests.append(Req(2, 0, prompt=1, output=1))
    steps = sglang.run(requests, price=one_tick, max_running_requests=4, memory=Memory(block_size=1, num_blocks=20))
    # Step 0: of 20 tokens 4 + 10 and one for the rounding are promised; request 1 asks for 5 + 6 + 1.
    # Step 1: the batch is full until somebody leaves.
    assert steps == plans({0: 4}, {0: 1}, {1: 5, 2: 1})


def test_sglang_retracts_the_longest_prompt_of_equals_to_the_end_of_the_line() -> None:
    requests = [Req(0, 0, prompt=3, output=6), Req(1, 1, prompt=4, output=6), Req(2, 6, prompt=2, output=1)]
    memory = Memory(block_size=1, num_blocks=15)
    steps = sglang.run(requests, price=one_tick, max_running_requests=4, memory=memory, schedule_conservativeness=0.1)
    both = {0: 1, 1: 1}
    # Step 1: request 0 is expected to emit 0.07 * 5 more tokens, and 4 + 6 + 1 < 12 - 0.35.
    # Step 6: 7 + 8 tokens are cached. Step 7: request 2 came first, and 9 + 1 + 1 is not below the 11 that are left.
    assert steps == plans({0: 3}, {1: 4}, both, both, both, both, ({0: 1}, (1,)), {2: 2}, {1: 9})


def test_sglang_longest_output_first() -> None:
    requests = [Req(0, 0, prompt=2, output=1, max_output=2), Req(1, 0, prompt=2, output=1, max_output=5)]
    assert sglang.run(requests, price=one_tick, max_running_requests=1, schedule_policy="lof") == plans({1: 2}, {0: 2})


# --- TGI -------------------------------------------------------------------------------------------------------------


def test_tgi_decodes_everybody_after_a_prefill() -> None:
    requests = [Req(0, 0, prompt=3, output=4), Req(1, 1, prompt=2, output=2), Req(2, 2, prompt=1, output=1)]
    steps = tgi.run(requests, price=one_tick)
    assert steps == plans({0: 3}, {1: 2}, {0: 1, 1: 1}, {2: 1}, {0: 1}, {0: 1})


def test_tgi_lets_too_few_wait_for_so_many_tokens() -> None:
    requests = [Req(0, 0, prompt=1, output=5), Req(1, 0, prompt=1, output=5), Req(2, 1, prompt=2, output=2)]
    steps = tgi.run(requests, price=one_tick, waiting_served_ratio=1.2, max_waiting_tokens=3)
    both = {0: 1, 1: 1}
    assert steps == plans(both, both, both, {2: 2}, {0: 1, 1: 1, 2: 1}, both)


def test_tgi_reserves_everything_and_blocks_the_line() -> None:
    requests = [Req(0, 0, prompt=3, output=2, max_output=4), Req(1, 0, prompt=2, output=1, max_output=2)]
    requests.append(Req(2, 0, prompt=1, output=1))
    steps = tgi.run(requests, price=one_tick, memory=Memory(block_size=1, num_blocks=10))
    # Step 0: 3 + 4 + 2 + 2 tokens are more than 10. Step 1: six blocks are held, and 2 + 2 tokens fit, but no more.
    assert steps == plans({0: 3}, {1: 2}, {0: 1}, {2: 1})


# --- TensorRT-LLM ----------------------------------------------------------------------------------------------------


def test_tensorrt_llm_no_evict_keeps_what_those_who_run_may_need() -> None:
    requests = [Req(0, 0, prompt=3, output=2), Req(1, 0, prompt=3, output=2), Req(2, 0, prompt=1, output=1)]
    steps = tensorrt_llm.run(requests, price=one_tick, memory=Memory(block_size=2, num_blocks=5))
    assert steps == plans({0: 3}, {0: 1}, {1: 3, 2: 1}, {1: 1})


def test_tensorrt_llm_max_utilization_pauses_the_last_started() -> None:
    requests = [Req(0, 0, prompt=3, output=4), Req(1, 0, prompt=3, output=3), Req(2, 2, prompt=1, output=1)]
    memory = Memory(block_size=2, num_blocks=5)
    steps = tensorrt_llm.run(requests, price=one_tick, memory=memory, capacity_scheduler_policy="MAX_UTILIZATION")
    # Step 2: behind the paused one nobody is looked at. Step 3: it needs three blocks of two, and blocks request 2.
    assert steps == plans({0: 3, 1: 3}, {0: 1, 1: 1}, ({0: 1}, (1,)), {0: 1}, {1: 5, 2: 1})


def test_tensorrt_llm_static_batch_admits_when_nobody_generates() -> None:
    requests = [Req(0, 0, prompt=2, output=3), Req(1, 1, prompt=2, output=1)]
    steps = tensorrt_llm.run(requests, price=one_tick, capacity_scheduler_policy="STATIC_BATCH")
    assert steps == plans({0: 2}, {0: 1}, {0: 1}, {1: 2})


def test_tensorrt_llm_stops_at_the_first_prompt_beyond_the_token_limit() -> None:
    requests = [Req(0, 0, prompt=3, output=1), Req(1, 0, prompt=3, output=1), Req(2, 0, prompt=1, output=1)]
    assert tensorrt_llm.run(requests, price=one_tick, max_num_tokens=5) == plans({0: 3}, {1: 3, 2: 1})


def test_tensorrt_llm_cuts_prompts_to_whole_blocks() -> None:
    requests = [Req(0, 0, prompt=4, output=2), Req(1, 0, prompt=6, output=1)]
    memory = Memory(block_size=2, num_blocks=50)
    steps = tensorrt_llm.run(requests, price=one_tick, memory=memory, max_num_tokens=5, enable_chunked_context=True)
    assert steps == plans({0: 4}, {0: 1, 1: 4}, {1: 2})


# --- laws ----------------------------------------------------------------------------------------------------------

Run = Callable[[list[Req]], list[StepPlan]]
MEMORY = Memory(block_size=4, num_blocks=24, watermark=0.1)
BUDGET, SEATS = 16, 6
SYSTEMS: dict[str, Run] = {
    "vllm": lambda r: vllm_v1.run(
        r,
        price=affine,
        memory=MEMORY,
        max_num_batched_tokens=BUDGET,
        max_num_seqs=SEATS,
        long_prefill_token_threshold=9,
    ),
    "vllm first chunk": lambda r: vllm_v1.run(
        r,
        price=affine,
        memory=MEMORY,
        max_num_batched_tokens=BUDGET,
        max_num_seqs=SEATS,
        scheduler_reserve_full_isl=False,
    ),
    "vllm priority": lambda r: vllm_v1.run(
        r, price=affine, memory=MEMORY, max_num_batched_tokens=BUDGET, max_num_seqs=SEATS, policy="priority"
    ),
    "sarathi": lambda r: sarathi.run(r, price=affine, memory=MEMORY, chunk_size=BUDGET, max_num_seqs=SEATS),
    "orca": lambda r: orca.run(r, price=affine, memory=MEMORY, max_model_len=48, max_num_seqs=SEATS),
    "orca paper": lambda r: orca.run_paper(r, price=affine, memory=MEMORY, max_bs=SEATS),
    "sglang": lambda r: sglang.run(
        r, price=affine, memory=MEMORY, max_running_requests=SEATS, chunked_prefill_size=BUDGET
    ),
    "tgi": lambda r: tgi.run(r, price=affine, memory=MEMORY, max_batch_size=SEATS, max_batch_prefill_tokens=40),
    "tensorrt-llm no evict": lambda r: tensorrt_llm.run(r, price=affine, memory=MEMORY, max_batch_size=SEATS),
    "tensorrt-llm max utilization": lambda r: tensorrt_llm.run(
        r,
        price=affine,
        memory=MEMORY,
        capacity_scheduler_policy="MAX_UTILIZATION",
        max_batch_size=SEATS,
        max_num_tokens=BUDGET,
        enable_chunked_context=True,
    ),
    "tensorrt-llm static": lambda r: tensorrt_llm.run(
        r, price=affine, memory=MEMORY, capacity_scheduler_policy="STATIC_BATCH", max_batch_size=SEATS
    ),
    "faster transformer": lambda r: faster_transformer.run(
        r, price=affine, memory=MEMORY, max_model_len=48, max_num_seqs=SEATS
    ),
}
CHUNKED = {name for name in SYSTEMS if name.startswith(("vllm", "sarathi")) or name.endswith("max utilization")}
RESERVING = SYSTEMS.keys() - CHUNKED - {"sglang"}


@st.composite
def workloads(draw: st.DrawFn) -> list[Req]:
    """Up to a dozen requests that fit every system, many at once, with priorities."""
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, 600), st.integers(1, 28), st.integers(1, 16), st.integers(0, 2)),
            min_size=1,
            max_size=12,
        )
    )
    return [
        Req(i, arrival, prompt, output, priority=priority)
        for i, (arrival, prompt, output, priority) in enumerate(sorted(rows))
    ]


@pytest.mark.parametrize("name", SYSTEMS)
@settings(max_examples=40)
@given(requests=workloads())
def test_everybody_is_served_once_in_order_and_within_memory(name: str, requests: list[Req]) -> None:
    """Goes through the plans with a ledger of its own: what is cached, what is emitted, what a step may do."""
    cached, emitted = dict.fromkeys(range(len(requests)), 0), dict.fromkeys(range(len(requests)), 0)
    ended = 0
    for step in SYSTEMS[name](requests):
        assert step.tokens
        assert step.start >= ended
        ended = step.end
        for victim in step.preempted:
            assert cached[victim] > 0
            cached[victim] = 0
        for i, count in step.tokens.items():
            known = requests[i].prompt + emitted[i]
            assert requests[i].arrival <= step.start
            assert 1 <= count <= known - cached[i]
            cached[i] += count
        assert sum(MEMORY.blocks(tokens) for tokens in cached.values()) <= MEMORY.num_blocks
        assert sum(tokens > 0 for tokens in cached.values()) <= SEATS
        if name in CHUNKED:
            assert sum(step.tokens.values()) <= BUDGET
        for i in step.tokens:
            emitted[i] += cached[i] == requests[i].prompt + emitted[i]
            if emitted[i] == requests[i].output:
                cached[i] = 0
    assert all(emitted[r.id] == r.output for r in requests)


@pytest.mark.parametrize("name", sorted(RESERVING))
@settings(max_examples=40)
@given(requests=workloads())
def test_full_reservation_never_preempts_nor_cuts(name: str, requests: list[Req]) -> None:
    steps = SYSTEMS[name](requests)
    assert not any(step.preempted for step in steps)
    assert all(count in (1, requests[i].prompt) for step in steps for i, count in step.tokens.items())


# TensorRT-LLM cuts a prompt to whole blocks, and gives what is then left of the step to a shorter one behind it.
FIRST_COME_FIRST_SERVED = SYSTEMS.keys() - {"vllm priority", "tensorrt-llm max utilization"}


@pytest.mark.parametrize("name", sorted(FIRST_COME_FIRST_SERVED))
@settings(max_examples=40)
@given(requests=workloads())
def test_first_come_is_first_scheduled(name: str, requests: list[Req]) -> None:
    order = list(dict.fromkeys(i for step in SYSTEMS[name](requests) for i in step.tokens))
    assert order == sorted(order)


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_can_never_fit_appears_nowhere(name: str) -> None:
    requests = [Req(0, 0, prompt=90, output=7), Req(1, 0, prompt=2, output=2)]
    assert {i for step in SYSTEMS[name](requests) for i in step.tokens} == {1}
