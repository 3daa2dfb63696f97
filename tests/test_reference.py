"""The reference simulator against small examples worked out by hand.

``DIGITS`` prices a step so that its parts can be read off: 1000 + 100 a row + 10 a computed token + 1 a cached token.
``TEN`` makes every step last 10 ticks, where only the order of things matters.
"""

from __future__ import annotations

from reference import (
    Affine,
    Alone,
    ClosedLoop,
    Continuous,
    Dynamic,
    Outcome,
    Overheads,
    Request,
    Static,
    StepRecord,
    StepShape,
    Times,
    simulate,
)

DIGITS = Affine(base=1000, per_row=100, per_new_token=10, per_context_token=1)
TEN = Affine(base=10)


def single_pass(*arrivals: int) -> list[Request]:
    """Requests of one pass each, numbered in this order."""
    return [Request(id, arrival, prompt=1, output=1) for id, arrival in enumerate(arrivals)]


def starts(outcome: Outcome) -> list[int]:
    """When each request was first scheduled, by id."""
    return [outcome.requests[id].scheduled for id in sorted(outcome.requests)]


def arrivals(outcome: Outcome) -> list[int]:
    """When each request was sent, by id."""
    return [outcome.arrivals[id] for id in sorted(outcome.arrivals)]


def ends(outcome: Outcome) -> list[int]:
    """When each step ended."""
    return [step.end for step in outcome.steps]


def test_nobody_comes() -> None:
    for policy in (Alone(), Static(2, "batch"), Dynamic(2, 5, None, "batch"), Continuous(2, None)):
        assert simulate([], policy, TEN) == Outcome({}, [])


def test_affine_counts_held_rows_everywhere_and_prompt_tokens_one_by_one() -> None:
    # rows 2 + 3 + 4 = 9; computed 2 + 3 + 50 = 55; cached 20 + 30 + 7 = 57
    shape = StepShape(2, 20, 3, 30, 4, 50, 7, widest=20, longest=15)
    assert DIGITS(shape) == 1000 + 900 + 550 + 57


def test_alone_one_request_after_the_other_and_the_last_token_is_never_fed_back() -> None:
    # request 0, prompt 3, 3 tokens: prefill 1000 + 100 + 30 = 1130        -> 1130, first token
    #                                decode, 3 cached: 1000 + 100 + 10 + 3 -> 2243
    #                                decode, 4 cached: 1114                -> 3357, last token
    # request 1, prompt 2, 1 token, came at 5: prefill 1120                -> 4477
    outcome = simulate([Request(0, 0, 3, 3), Request(1, 5, 2, 1)], Alone(), DIGITS)
    assert outcome.requests == {0: Times(0, 1130, 3357), 1: Times(3357, 4477, 4477)}
    assert outcome.steps == [
        StepRecord(0, 1130, StepShape(prefill_rows=1, new_tokens=3, widest=3)),
        StepRecord(1130, 2243, StepShape(decode_rows=1, decode_context=3, longest=3)),
        StepRecord(2243, 3357, StepShape(decode_rows=1, decode_context=4, longest=4)),
        StepRecord(3357, 4477, StepShape(prefill_rows=1, new_tokens=2, widest=2)),
    ]


HELD = [Request(0, 0, prompt=5, output=1), Request(1, 7, prompt=2, output=3)]
# Both start at 7, when the second comes. Prefill of 2 rows and 7 tokens: 1000 + 200 + 70 = 1270 -> 1277.
# Request 0 is done and held: 2 rows, 2 computed; cached 2 decoding and 5 held: 1227 -> 2504.
# Both contexts have grown by one: cached 3 and 6: 1229 -> 3733.


def test_static_holds_finished_rows_until_the_batch_ends() -> None:
    outcome = simulate(HELD, Static(2, "request"), DIGITS)
    assert outcome.steps == [
        StepRecord(7, 1277, StepShape(prefill_rows=2, new_tokens=7, widest=5)),
        StepRecord(1277, 2504, StepShape(decode_rows=1, decode_context=2, held_rows=1, held_context=5, longest=5)),
        StepRecord(2504, 3733, StepShape(decode_rows=1, decode_context=3, held_rows=1, held_context=6, longest=6)),
    ]
    assert outcome.requests == {0: Times(7, 1277, 1277), 1: Times(7, 1277, 3733)}


def test_release_by_batch_lets_every_token_out_at_the_end() -> None:
    for policy in (Static(2, "batch"), Dynamic(2, None, None, "batch")):
        outcome = simulate(HELD, policy, DIGITS)
        assert outcome.requests == {0: Times(7, 3733, 3733), 1: Times(7, 3733, 3733)}
        assert outcome.steps == simulate(HELD, Static(2, "request"), DIGITS).steps


def test_held_rows_delay_the_next_batch() -> None:
    # The second batch waits for the last row of the first: one pass and two more, 30 ticks, then 10 more.
    requests = [Request(0, 0, 1, 1), Request(1, 0, 1, 3), Request(2, 5, 1, 1), Request(3, 5, 1, 1)]
    outcome = simulate(requests, Static(2, "request"), TEN)
    assert [outcome.requests[id].finished for id in range(4)] == [10, 30, 40, 40]


def test_static_waits_for_exactly_batch_then_starts_what_is_left_when_the_source_closes() -> None:
    # Pairs at 1 and, when free, at 11; the fifth came last and waits for nobody.
    assert starts(simulate(single_pass(0, 1, 2, 3, 4), Static(2, "batch"), TEN)) == [1, 1, 11, 11, 21]
    # The first two make a pair; the third, being the last, starts the moment it comes.
    assert starts(simulate(single_pass(0, 1, 50), Static(2, "batch"), TEN)) == [1, 1, 50]
    # A third that is not the last waits for the fourth.
    assert starts(simulate(single_pass(0, 1, 20, 50), Static(2, "batch"), TEN)) == [1, 1, 50, 50]
    # Too few for ever: all of them at the instant of the last arrival, ties at that instant included.
    assert starts(simulate(single_pass(0, 1, 9, 9), Static(5, "batch"), TEN)) == [9, 9, 9, 9]
    # The source closes (at 5) while the server is busy (until 11); five are left and go by twos.
    assert starts(simulate(single_pass(0, 1, 2, 3, 4, 5, 5), Static(2, "batch"), TEN)) == [1, 1, 11, 11, 21, 21, 31]


def test_arrivals_at_a_step_end_are_seen_by_the_decision_there_in_order_of_id() -> None:
    # 0 runs from 0 to 10. At 10 three come at once, handed over in disorder: 1 and 2 go, 3 follows.
    requests = single_pass(0, 10, 10, 10)
    for policy in (Dynamic(2, 0, None, "batch"), Continuous(2, None)):
        assert starts(simulate(requests[::-1], policy, TEN)) == [0, 10, 10, 20]
    assert starts(simulate(requests[::-1], Alone(), TEN)) == [0, 10, 20, 30]


def test_dynamic_without_a_wait_starts_whatever_is_there() -> None:
    # 0 alone; 1 to 3 came meanwhile: no limit takes them all, a limit of 2 takes 1 and 2.
    requests = single_pass(0, 1, 2, 3)
    assert starts(simulate(requests, Dynamic(None, 0, None, "batch"), TEN)) == [0, 10, 10, 10]
    assert starts(simulate(requests, Dynamic(2, 0, None, "batch"), TEN)) == [0, 10, 10, 20]


def test_dynamic_deadline_comes_after_the_arrivals_of_its_instant_and_outlives_the_source() -> None:
    # 0 is due at 10 and takes 1 along, which comes at 10. 2 comes last, at 11, is alone at 20 and still waits to 21.
    assert starts(simulate(single_pass(0, 10, 11), Dynamic(4, 10, None, "batch"), TEN)) == [10, 10, 21]
    # The wait runs while the server is busy: 0 and 1 fill a batch and run from 0 to 40, and 2, from 20, is overdue by
    # then. 3, from 78, is not at 80, and starts when its 15 ticks are out.
    assert starts(simulate(single_pass(0, 0, 20, 78), Dynamic(2, 15, None, "batch"), Affine(base=40))) == [0, 0, 40, 93]


def test_dynamic_starts_early_when_min_batch_are_there() -> None:
    # 2 of at most 4 suffice: 0 and 1 at 4. 2, from 12, is alone until its wait ends at 22.
    assert starts(simulate(single_pass(0, 4, 12), Dynamic(4, 10, 2, "batch"), TEN)) == [4, 4, 22]
    # No limit and no min_batch: only the wait starts anything; 0 is due at 10 and takes 1 along.
    assert starts(simulate(single_pass(0, 4, 12), Dynamic(None, 10, None, "batch"), TEN)) == [10, 10, 22]
    # No limit, but a min_batch of 2.
    assert starts(simulate(single_pass(0, 4, 12), Dynamic(None, 10, 2, "batch"), TEN)) == [4, 4, 22]


def test_dynamic_with_an_infinite_wait_is_general_bulk_service() -> None:
    # (a, b) = (2, 3). Two start at 3. At 13 four wait and three go. At 23 one is left: not enough, until 30.
    bulk = Dynamic(3, None, 2, "batch")
    assert starts(simulate(single_pass(0, 3, 4, 5, 6, 7, 30), bulk, TEN)) == [3, 3, 13, 13, 13, 30, 30]
    # Without the last one the source closed at 7, and the one that is left starts as soon as the server is free.
    assert starts(simulate(single_pass(0, 3, 4, 5, 6, 7), bulk, TEN)) == [3, 3, 13, 13, 13, 23]
    # Neither a limit nor a deadline: everybody at the close.
    assert starts(simulate(single_pass(0, 5, 9), Dynamic(None, None, None, "batch"), TEN)) == [9, 9, 9]


def test_continuous_joins_and_leaves_at_every_step() -> None:
    # Two seats. 0 (prompt 3, 2 tokens) at 0, 1 (prompt 2, 3 tokens) at 500, 2 (prompt 1, 1 token) at 600.
    # 0 prefills: 1130 -> 1130. 0 decodes on 3 cached, 1 prefills 2: 1000 + 200 + 30 + 3 = 1233 -> 2363; 0 leaves.
    # 1 decodes on 2 cached, 2 prefills 1: 1000 + 200 + 20 + 2 = 1222 -> 3585; 2 leaves. 1 on 3: 1113 -> 4698.
    requests = [Request(0, 0, 3, 2), Request(1, 500, 2, 3), Request(2, 600, 1, 1)]
    outcome = simulate(requests, Continuous(2, None), DIGITS)
    assert outcome.requests == {0: Times(0, 1130, 2363), 1: Times(1130, 2363, 4698), 2: Times(2363, 3585, 3585)}
    assert [step.shape for step in outcome.steps] == [
        StepShape(prefill_rows=1, new_tokens=3, widest=3),
        StepShape(1, 3, prefill_rows=1, new_tokens=2, widest=2, longest=3),
        StepShape(1, 2, prefill_rows=1, new_tokens=1, widest=1, longest=2),
        StepShape(1, 3, longest=3),
    ]
    assert ends(outcome) == [1130, 2363, 3585, 4698]


def test_continuous_takes_an_arrival_at_the_step_boundary_and_not_one_a_tick_later() -> None:
    # 0 prefills until 1130 and decodes on 3 cached. 1 joins that step, or finds it running (1113) until 2243.
    for arrival, start in ((1130, 1130), (1131, 2243)):
        outcome = simulate([Request(0, 0, 3, 2), Request(1, arrival, 1, 1)], Continuous(8, None), DIGITS)
        assert outcome.requests[1].scheduled == start


def test_continuous_cuts_prompts_to_what_is_left_of_the_budget() -> None:
    # Budget 4, seats 3, all there at 0: 0 (prompt 6, 2 tokens), 1 (prompt 5, 1 token), 2 (prompt 1, 1 token).
    # 0 gets 4 of its 6: 1140 -> 1140, no token. It gets the other 2, and 1 gets 2 of its 5:
    # 1000 + 200 + 40 + 4 cached = 1244 -> 2384, first token of 0. 0 decodes on 6, 1 gets its last 3 on 2:
    # 1000 + 200 + 40 + 8 = 1248 -> 3632, both leave. Only now is there a token for 2: 1110 -> 4742.
    requests = [Request(0, 0, 6, 2), Request(1, 0, 5, 1), Request(2, 0, 1, 1)]
    outcome = simulate(requests, Continuous(3, 4), DIGITS)
    assert outcome.requests == {0: Times(0, 2384, 3632), 1: Times(1140, 3632, 3632), 2: Times(3632, 4742, 4742)}
    assert [step.shape for step in outcome.steps] == [
        StepShape(prefill_rows=1, new_tokens=4, widest=4),
        StepShape(prefill_rows=2, new_tokens=4, prefill_context=4, widest=2),
        StepShape(1, 6, prefill_rows=1, new_tokens=3, prefill_context=2, widest=3, longest=6),
        StepShape(prefill_rows=1, new_tokens=1, widest=1),
    ]


def test_continuous_chunks_give_way_to_decoding_rows() -> None:
    # Budget 3, seats 2: 0 (prompt 1, 4 tokens) decodes with one token a step, 1 (prompt 6) gets the other two.
    # 1000 + 200 + 30 = 1230 -> 1230; cached 1 + 2: 1233 -> 2463; cached 2 + 4: 1236 -> 3699, the only token of 1;
    # 0 alone on 3: 1113 -> 4812.
    outcome = simulate([Request(0, 0, 1, 4), Request(1, 0, 6, 1)], Continuous(2, 3), DIGITS)
    assert ends(outcome) == [1230, 2463, 3699, 4812]
    assert outcome.requests == {0: Times(0, 1230, 4812), 1: Times(0, 3699, 3699)}


def test_paths_and_hand_over() -> None:
    # Seen 3 after arrival, tokens at the client 4 later, hand-over 5 + 2 a request.
    # 0 and 1 are seen at 3, run to 13, at the client at 17; hand-over 5 + 2 * 2 = 9, so free at 22.
    # 2, seen at 4, starts at 22, ends at 32, at the client at 36; hand-over 7, so free at 39.
    # 3 is seen at 33 and 4 at 39, the very instant: both start at 39, end at 49, at the client at 53; free at 58.
    # 5 is seen at 103 by an idle server.
    overheads = Overheads(request_path=3, handover=5, handover_per_request=2, response_path=4)
    requests = single_pass(0, 0, 1, 30, 36, 100)
    outcome = simulate(requests, Dynamic(2, 0, None, "request"), TEN, overheads)
    assert starts(outcome) == [3, 3, 22, 39, 39, 103]
    assert [outcome.requests[id].finished for id in range(6)] == [17, 17, 36, 53, 53, 117]
    assert ends(outcome) == [13, 32, 49, 113]

    # The hand-over delays also who finds nobody waiting: 1, from 11, is seen at 14 and starts at 13 + 7 = 20.
    assert starts(simulate(single_pass(0, 11), Alone(), TEN, overheads)) == [3, 20]
    # The source closes when its last request is seen, at 10, and not when it arrives, at 7.
    assert starts(simulate(single_pass(0, 7), Static(3, "batch"), TEN, overheads)) == [10, 10]

    # A wait of 10 counts from 3, when 0 is seen: 1, seen at 11, finds 0 not yet due.
    assert starts(simulate(single_pass(0, 8), Dynamic(4, 10, None, "batch"), TEN, overheads)) == [13, 13]


def test_hand_over_is_for_whole_batches_only_and_paths_are_for_everybody() -> None:
    # First token at 3 + 10 + 4 = 17, last one step later at 27: the next step begins where the last one ended.
    overheads = Overheads(request_path=3, handover=5, handover_per_request=2, response_path=4)
    for policy in (Continuous(2, None), Alone(), Static(1, "request")):
        assert simulate([Request(0, 0, 1, 2)], policy, TEN, overheads).requests == {0: Times(3, 17, 27)}
    # Continuous goes on with 1 at 13 + 10 = 23 without any hand-over.
    outcome = simulate([Request(0, 0, 1, 2), Request(1, 15, 1, 1)], Continuous(2, None), TEN, overheads)
    assert outcome.requests[1] == Times(23, 37, 37)
    # The answer that leaves with its batch travels, too.
    assert simulate([Request(0, 0, 1, 2)], Static(1, "batch"), TEN, overheads).requests == {0: Times(3, 27, 27)}


def test_tokens_of_a_step_leave_together_and_are_taken_apart_row_by_row() -> None:
    # 0 and 1 start at 0 with 2 rows: first tokens at 10 + 4 + 2 * 3 = 20. 1 goes on alone: last at 20 + 4 + 3 = 27.
    over = Overheads(response_path=4, response_per_row=3)
    requests = [Request(0, 0, 1, 1), Request(1, 0, 1, 2)]
    assert simulate(requests, Continuous(2, None), TEN, over).requests == {0: Times(0, 20, 20), 1: Times(0, 20, 27)}
    # Held rows have tokens, too: both steps have 2 rows.
    assert simulate(requests, Static(2, "request"), TEN, over).requests[1] == Times(0, 20, 30)
    assert simulate(requests, Static(2, "batch"), TEN, over).requests == {0: Times(0, 30, 30), 1: Times(0, 30, 30)}
    # With 50 a row the last token, at 20 + 4 + 50, cannot overtake the first, at 10 + 4 + 100.
    slow = Overheads(response_path=4, response_per_row=50)
    assert simulate(requests, Continuous(2, None), TEN, slow).requests[1] == Times(0, 114, 114)


def test_a_server_that_waits_takes_a_while_to_see_who_has_come() -> None:
    over = Overheads(request_path=3, wake=4)
    # 0 is there at 3 and starts at 7, with 1, there at 5. 2 is there at 16, while the server works until 17.
    assert starts(simulate(single_pass(0, 2, 13), Continuous(3, None), TEN, over)) == [7, 7, 17]
    # Woken by 0 at 7 it waits on for a second one, there at 8, and looks at 12, when there is a third.
    assert starts(simulate(single_pass(0, 5, 9), Static(2, "batch"), TEN, over)) == [12, 12, 22]
    # The wait of 2, from 3, is over when it wakes. A timer, 0's at 12, wakes it before 1, there at 11, does.
    assert starts(simulate(single_pass(0), Dynamic(4, 2, None, "batch"), TEN, over)) == [7]
    assert starts(simulate(single_pass(0, 8), Dynamic(4, 9, None, "batch"), TEN, over)) == [12, 12]


def test_a_late_timer_is_overtaken_by_whatever_wakes_the_server_first() -> None:
    late, policy = Overheads(timer_late=3), Dynamic(4, 10, None, "batch")
    # Due at 10, fires at 13. 1, from 5, changes nothing; 2 comes at 20, is due at 30, fires at 33.
    assert starts(simulate(single_pass(0, 5, 20), policy, TEN, late)) == [13, 13, 33]
    # 1, at 12, wakes the server, which finds 0 overdue.
    assert starts(simulate(single_pass(0, 12), policy, TEN, late)) == [12, 12]
    # So does 1 at the very due instant; and at the instant of the late timer it is seen first.
    assert starts(simulate(single_pass(0, 10), policy, TEN, late)) == [10, 10]
    assert starts(simulate(single_pass(0, 13), policy, TEN, late)) == [13, 13]
    # A server that gets free finds 1 overdue without any timer: 0 from 13 to 43, 1 came at 14.
    assert starts(simulate(single_pass(0, 14), policy, Affine(base=30), late)) == [13, 43]
    # But it finds 1 one tick short of its due instant, 24, when it gets free at 23: the timer fires at 27.
    assert starts(simulate(single_pass(0, 14), policy, TEN, late)) == [13, 27]
    # Nobody waits 0 ticks for a timer.
    assert starts(simulate(single_pass(0, 3), Dynamic(4, 0, None, "batch"), TEN, late)) == [0, 10]


def test_a_deadline_in_the_hand_over_is_met_at_its_end() -> None:
    # 0 starts at 5 (its wait), ends at 15, free at 35; 1, from 12, was due at 17 and starts at 35.
    outcome = simulate(single_pass(0, 12), Dynamic(2, 5, None, "batch"), TEN, Overheads(handover=20))
    assert starts(outcome) == [5, 35]


def test_a_step_lasts_a_tick_and_noise_follows_the_number_of_the_step() -> None:
    requests = [Request(0, 0, 1, 2), Request(1, 0, 1, 2)]
    assert ends(simulate(requests, Alone(), Affine())) == [1, 2, 3, 4]
    # 10 * 0.5 = 5; 10 * 1.25 = 12.5, rounded up to 13; 0 becomes 1; 20. The numbers go on from batch to batch.
    noise = [0.5, 1.25, 0.0, 2.0]
    assert ends(simulate(requests, Alone(), TEN, noise=noise)) == [5, 18, 19, 39]
    assert ends(simulate(requests, Continuous(1, None), TEN, noise=noise)) == [5, 18, 19, 39]


def test_any_function_of_the_shape_is_a_price() -> None:
    # The widest prompt has 5 tokens: 500; then the longest cache, held or not, has 5 and 6.
    outcome = simulate(HELD, Static(2, "request"), lambda step: 100 * step.widest + step.longest)
    assert ends(outcome) == [7 + 500, 507 + 5, 512 + 6]


def test_users_ask_again_one_think_after_their_answer() -> None:
    # Users 0 and 1 begin to think at 0, for 0 and 5. 0 is served until 10, thinks 3, asks at 13. 1 is served from 10 to
    # 20 and thinks 20. Request 2, of user 0, is served from 20 to 30; the next think is the first again, 0. That was
    # the fourth request: 1, who would ask at 40, goes home.
    outcome = simulate(ClosedLoop(2, [(1, 1)] * 4, [0, 5, 3, 20]), Alone(), TEN)
    assert arrivals(outcome) == [0, 5, 13, 30]
    assert starts(outcome) == [0, 10, 20, 30]


def test_who_asks_at_an_instant_of_an_answer_asks_before_whom_it_brings() -> None:
    # 1 thinks until 10, when 0 has its answer and does not think: 1 comes first, with three tokens, and then 0.
    outcome = simulate(ClosedLoop(2, [(1, 1), (1, 3), (1, 1)], [0, 10, 0]), Alone(), TEN)
    assert (arrivals(outcome), ends(outcome)) == ([0, 10, 10], [10, 20, 30, 40, 50])
    assert starts(outcome) == [0, 10, 40]


def test_users_at_one_instant_take_the_next_lengths_in_order() -> None:
    # Both hear at 1000 + 200 + 30 = 1230 and think 7: 0 begins first, comes first at 1237 and has the longer prompt.
    outcome = simulate(
        ClosedLoop(2, [(1, 1), (2, 1), (5, 1), (1, 2)], [0, 0, 7, 7]), Dynamic(2, 0, None, "batch"), DIGITS
    )
    assert arrivals(outcome) == [0, 0, 1237, 1237]
    assert [step.shape.new_tokens for step in outcome.steps] == [3, 6, 0]


def test_users_hear_after_both_ways() -> None:
    # Asks at 5, is seen at 8, served until 18, hears at 22, asks at 27, is seen at 30.
    outcome = simulate(ClosedLoop(1, [(1, 1)] * 2, [5, 5]), Alone(), TEN, Overheads(request_path=3, response_path=4))
    assert arrivals(outcome) == [5, 27]
    assert starts(outcome) == [8, 30]
    # The hand-over ends at 38; it is nothing that a user waits for.
    outcome = simulate(ClosedLoop(1, [(1, 1)] * 2, [5, 5]), Alone(), TEN, Overheads(handover=20))
    assert (arrivals(outcome), starts(outcome)) == ([5, 20], [5, 35])


def test_users_hear_when_their_answer_leaves() -> None:
    # 0 is done at 10 and 1 at 30. Let out at once, 0 thinks 7, until 17, and 1 thinks 1, until 31.
    loop = ClosedLoop(2, [(1, 1), (1, 3), (1, 1), (1, 1)], [0, 0, 7, 1])
    outcome = simulate(loop, Static(2, "request"), TEN)
    assert (arrivals(outcome), starts(outcome)) == ([0, 0, 17, 31], [0, 0, 31, 31])
    # Let out with the batch, both hear at 30.
    outcome = simulate(loop, Static(2, "batch"), TEN)
    assert (arrivals(outcome), starts(outcome)) == ([0, 0, 31, 37], [0, 0, 37, 37])
    # Without holding, 0 comes back at 17 while 1 still runs. Both are done at 30: 1, whose request is the older one,
    # thinks 1, and 0 the first think again, which is 0.
    outcome = simulate(loop, Continuous(2, None), TEN)
    assert (arrivals(outcome), starts(outcome)) == ([0, 0, 17, 30], [0, 0, 20, 30])


def test_nobody_waits_for_users_who_wait_themselves() -> None:
    # Two of three for ever: both go at once, and the last one alone.
    endless = Dynamic(3, None, None, "batch")
    for policy in (Static(3, "batch"), endless):
        outcome = simulate(ClosedLoop(2, [(1, 1)] * 5, [0] * 5), policy, TEN)
        assert starts(outcome) == [0, 0, 10, 10, 20]
    # Two of three users at 4; the third waits for those who think until 18, though it is alone from 14 on.
    outcome = simulate(ClosedLoop(3, [(1, 1)] * 5, [4] * 5), Static(2, "batch"), TEN)
    assert (arrivals(outcome), starts(outcome)) == ([4, 4, 4, 18, 18], [4, 4, 18, 18, 28])
