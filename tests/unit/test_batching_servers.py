"""The rules of real batching servers, one by one. Every batch takes 10 ms, whatever is in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simqueue as sq
from simqueue.errors import ConfigError
from simqueue.policy import (
    BatchingPolicy,
    BentoML,
    Clipper,
    Dynamic,
    FasterTransformer,
    LitServe,
    Mosec,
    RayServe,
    Triton,
)
from simqueue.policy.triton_queue import QueuePolicy

MS = 1e-3
COST = sq.Affine(base_s=10 * MS)


def batches(policy: BatchingPolicy, arrivals_ms: list[float], cost: sq.Affine = COST) -> list[tuple[float, int]]:
    """When each batch started, in ms, and of how many."""
    result = served(policy, arrivals_ms, cost)
    starts, sizes = np.unique(result.scheduled, return_counts=True)
    at_ms = (result.grid.seconds(starts) / MS).round(6).tolist()
    return list(zip(at_ms, sizes.tolist(), strict=True))


def served(policy: BatchingPolicy, arrivals_ms: list[float], cost: sq.Affine = COST) -> sq.Result:
    ones = [1] * len(arrivals_ms)
    workload = sq.Workload.from_columns([at * MS for at in arrivals_ms], ones, ones)
    return sq.simulate(workload, sq.System(policy, cost))


def test_mosec_counts_from_when_a_free_worker_takes_the_first() -> None:
    policy = Mosec(max_batch_size=3, max_wait_time=4.0)
    # Taken at 0, started at 4 with 1; 5 comes while that runs, is taken at 14, and 15 joins it by 18.
    assert batches(policy, [0, 1, 5, 15]) == [(4, 2), (18, 2)]
    # A full batch starts at once.
    assert batches(policy, [0, 1, 2, 20]) == [(2, 3), (24, 1)]


def test_mosec_takes_the_servers_wait_where_it_has_none() -> None:
    assert batches(Mosec(max_batch_size=3, wait=2.0), [0, 1]) == [(2, 2)]
    assert batches(Mosec(max_batch_size=3, wait=0.0), [0, 1, 2]) == [(0, 1), (10, 2)]


def test_litserve_opens_one_window_after_another() -> None:
    policy = LitServe(max_batch_size=3, batch_timeout=4e-3)
    # 5 comes in the window from 4 to 8; 9 waits, the worker is back at 18, and a whole window passes.
    assert batches(policy, [5, 9]) == [(8, 1), (22, 1)]
    # The third fills a batch before its window ends.
    assert batches(policy, [1, 2, 3]) == [(3, 3)]
    # Free since 14 the windows are [14, 18), [18, 22), ...
    assert batches(policy, [1, 19]) == [(4, 1), (22, 1)]


def test_ray_serve_forms_batches_while_others_run() -> None:
    policy = RayServe(max_batch_size=3, batch_wait_timeout_s=4e-3)
    # 0 and 1 by 4; 5 alone by 9, 10 alone by 14: neither is added to, though both wait until 14.
    assert batches(policy, [0, 1, 5, 10]) == [(4, 2), (14, 1), (24, 1)]
    # Full at 2, the next is taken at 3.
    assert batches(policy, [0, 1, 2, 3]) == [(2, 3), (12, 1)]
    assert batches(RayServe(3, 0.0), [0, 1, 2]) == [(0, 1), (10, 1), (20, 1)]


def test_bentoml_waits_no_longer_than_its_requests_have() -> None:
    policy = BentoML(max_batch_size=3)
    # At first nobody is waited for.
    assert batches(policy, [0, 1, 2, 3, 4]) == [(0, 1), (10, 3), (20, 1)]
    # The first of these waited 0, 9, 9 and 9 s: W is 6.75 s then, the slope 0, and a lone one waits for 0.95 W, until
    # the next look.
    slow = sq.Affine(base_s=10.0)
    found = batches(policy, [0, 1000, 11_000, 21_000, 100_000], slow)
    assert found[:4] == [(0, 1), (10_000, 1), (20_000, 1), (30_000, 1)]
    assert found[4][0] == pytest.approx(100_000 + 0.95 * 6750, abs=2.1)


def test_clipper_finds_the_largest_batch_that_is_quick_enough() -> None:
    # 10 ms and 1 a request; at most 14.5: up to 5 at once is too much, and 0.9 * 5 is 4 again.
    slow = sq.Affine(base_s=10 * MS, per_row_s=1 * MS)
    sizes = [size for _, size in batches(Clipper(14.5 * MS), [0.0] * 40, slow)]
    assert sizes == [1, 2, 3, 4, 5, 4, 5, 4, 5, 4, 3]
    # A batch that is not full leaves the size as it is.
    assert [
        size for _, size in batches(Clipper(50 * MS, 3), [0, 1, 2, 100, 200, 200, 200, 200, 200, 200, 200, 200], slow)
    ] == [*(1, 2, 1, 4, 4)]
    # 1, 2 and then 3, which wait for a third until 100 + 7.
    delayed = Clipper(50 * MS, batch_wait_timeout_s=7 * MS)
    assert batches(delayed, [0, 0, 0, 100, 101]) == [(0, 1), (10, 2), (107, 2)]


def test_fastertransformer_runs_a_batch_until_its_last_has_finished() -> None:
    workload = sq.Workload.from_columns([0.0, 0.0, 0.0, 0.001], [1] * 4, [1, 5, 2, 1])
    result = sq.simulate(workload, sq.System(FasterTransformer(2), COST))
    # Two at once of 1 and 5 steps, then of 2 and 1.
    assert (result.grid.seconds(result.finished) / MS).round(3).tolist() == [50, 50, 70, 70]
    assert result.first_token.tolist() == result.finished.tolist()


def triton(*preferred: int, delay: float = 4.0, most: int = 4, race: float = 0.0) -> Triton:
    return Triton(most, preferred, round(delay * 1e3), race_probability=race)


def test_triton_sends_a_preferred_size_at_once_and_others_after_the_delay() -> None:
    assert batches(triton(2, 4), [0, 1, 2]) == [(1, 2), (11, 1)]
    assert batches(triton(), [0, 1, 2]) == [(4, 3)]
    assert batches(triton(), [0, 1, 2, 3]) == [(3, 4)]


def test_triton_closes_a_payload_while_the_model_is_busy_and_tops_it_up_only_to_a_preferred_size() -> None:
    # The first starts at 4. 5 is closed at 9, and nobody looks until four more are queued, as many as were wanted.
    assert batches(triton(), [0, 5, 10, 11, 12]) == [(4, 1), (14, 1), (24, 3)]
    # Then it is topped up to a preferred size. The fifth is too late.
    assert batches(triton(), [0, 5, 10, 11, 12, 13]) == [(4, 1), (14, 4), (24, 1)]


def test_triton_has_room_for_two_payloads_and_stands_still_then() -> None:
    arrivals: list[float] = [0, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7]
    assert batches(triton(), arrivals) == [(4, 1), (14, 4), (24, 4), (34, 4)]


def test_triton_merges_overdue_payloads_that_fit() -> None:
    # 5 and 6 are a preferred size; with 7, beyond all of these, they are frozen at 8, which is closed by itself at 12.
    # At 14 both payloads wait, the second overdue.
    assert batches(triton(2, most=8), [0, 5, 6, 7, 8]) == [(4, 1), (14, 4)]
    assert batches(triton(2, most=3), [0, 5, 6, 7, 8]) == [(4, 1), (14, 3), (24, 1)]


def test_triton_without_a_race_or_with_one_every_time() -> None:
    # At 14 the payload of 5 waits, and 10 is queued: the race takes it along.
    assert batches(triton(race=1.0), [0, 5, 10, 11]) == [(4, 1), (14, 3)]


def fates(policy: Triton, arrivals_ms: list[float], **columns: list[float]) -> list[str]:
    """Of each request when it started, or that it was rejected and when; ms."""
    ones, extra = [1] * len(arrivals_ms), {name: np.array(column) for name, column in columns.items()}
    workload = sq.Workload.from_columns([at * MS for at in arrivals_ms], ones, ones, **extra)
    result = sq.simulate(workload, sq.System(policy, COST))
    names = result.fates.names() if result.fates else ["completed"] * len(ones)
    at_ms = (result.grid.seconds(result.scheduled) / MS).round(6)
    return [f"{at:g}" if name == "completed" else f"{name} {at:g}" for at, name in zip(at_ms, names, strict=True)]


def queued(most: int = 1, delay: float = 0.0, **policy: object) -> Triton:
    return Triton(most, (), round(delay * 1e3), default_queue_policy=QueuePolicy(**policy))  # type: ignore[arg-type]


def test_triton_takes_the_most_urgent_level_first_and_puts_those_without_one_in_the_default() -> None:
    policy = Triton(2, priority_levels=3, default_priority_level=2)
    # 0 is no level, and neither is 4.
    assert fates(policy, [0, 1, 2, 3, 4, 5], priority=[3, 3, 0, 1, 4, 1]) == ["0", "30", "20", "10", "20", "10"]


def test_triton_forms_nothing_ahead_where_its_queue_has_levels_or_policies() -> None:
    # 5 would be closed at 9, and start alone at 14: here it takes along who is there then.
    arrivals: list[float] = [0, 5, 10, 11, 12]
    assert batches(triton(), arrivals) == [(4, 1), (14, 1), (24, 3)]
    levels = Triton(4, (), 4000, priority_levels=1, default_priority_level=1)
    assert batches(levels, arrivals) == batches(queued(4, 4.0, max_queue_size=9), arrivals) == [(4, 1), (14, 4)]


def test_triton_refuses_whom_the_queue_has_no_room_for_as_they_come() -> None:
    # Those in a batch take up no room, and those who come together find it before anybody leaves it.
    assert fates(queued(max_queue_size=2), [0, 1, 2, 3, 12]) == ["0", "10", "20", "rejected 3", "30"]
    assert fates(queued(max_queue_size=2), [0, 0, 0]) == ["0", "10", "rejected 0"]


def test_triton_gives_each_level_its_own_policy() -> None:
    policy = Triton(
        1,
        priority_levels=2,
        default_priority_level=2,
        default_queue_policy=QueuePolicy(max_queue_size=1),
        priority_queue_policy={1: QueuePolicy(max_queue_size=2)},
    )
    found = fates(policy, [0, 1, 2, 3, 4, 5], priority=[1, 2, 2, 1, 1, 1])
    assert found == ["0", "30", "rejected 2", "10", "20", "rejected 5"]


def test_triton_rejects_the_timed_out_when_it_comes_to_them() -> None:
    # 1 times out at 6, and is rejected when the batcher looks, at 10; then 6 is taken.
    assert fates(queued(default_timeout_microseconds=5000), [0, 1, 6, 30]) == ["0", "rejected 10", "10", "30"]
    # Whoever is behind a full batch and the next one is not looked at: 2 is, right behind, and 3 when that is over.
    once = queued(default_timeout_microseconds=9000, allow_timeout_override=True)
    slos = [np.inf, np.inf, 0.004, np.inf, 0.004]
    assert fates(once, [0, 1.5, 2, 2.5, 3], ttft_slo_s=slos) == ["0", "10", "rejected 10", "rejected 20", "rejected 20"]


def test_triton_wakes_up_for_a_timeout_while_it_waits_for_company() -> None:
    policy = queued(4, 20, default_timeout_microseconds=8000)
    # It finds 0 timed out at 8, and 5 at 13, and tells each when it wakes up next; 7 leaves nobody to wake up for.
    assert fates(policy, [0, 5, 7, 30, 31, 32, 33]) == ["rejected 13", "rejected 15", "rejected 15", *["33"] * 4]


def test_triton_puts_the_delayed_behind_the_others_of_their_level() -> None:
    policy = queued(timeout_action="DELAY", default_timeout_microseconds=5000)
    # 1 has timed out by 10, 6 has not; then 15 goes first too, and 1 when nobody else is there.
    assert fates(policy, [0, 1, 6, 16]) == ["0", "30", "10", "20"]


def test_the_delayed_take_up_room_in_tritons_queue() -> None:
    policy = queued(timeout_action="DELAY", default_timeout_microseconds=2000, max_queue_size=2)
    assert fates(policy, [0, 1, 2, 12, 13]) == ["0", "10", "20", "30", "rejected 13"]


def test_triton_lets_requests_shorten_their_timeouts_only() -> None:
    slos = [np.inf, 0.005, np.inf, 0.100]
    policy = queued(4, default_timeout_microseconds=20_000, allow_timeout_override=True)
    assert fates(policy, [0, 1, 2, 3], ttft_slo_s=slos) == ["0", "rejected 10", "10", "10"]
    deaf = queued(4, default_timeout_microseconds=20_000)
    assert fates(deaf, [0, 1, 2, 3], ttft_slo_s=slos) == ["0", "10", "10", "10"]
    without = queued(4, allow_timeout_override=True)
    assert fates(without, [0, 1, 2, 3], ttft_slo_s=slos) == ["0", "10", "10", "10"]


def test_triton_rejects_every_half_second_while_it_has_nobody_to_give_a_batch_to() -> None:
    # Blocked since 500, when it found 100 queued, which times out at 300 and is told at 1000.
    workload = sq.Workload.from_columns([0.0, 0.1, 0.9], [1] * 3, [1] * 3)
    policy = queued(default_timeout_microseconds=200_000)
    result = sq.simulate(workload, sq.System(policy, sq.Affine(base_s=1.05)))
    assert result.grid.seconds(result.scheduled).round(6).tolist() == [0, 1.0, 1.05]


def test_the_saturation_throughput_of_triton_turns_nobody_away() -> None:
    ones = [1] * 200
    workload = sq.Workload.from_columns(np.arange(200) * 0.02, ones, ones)
    policy = queued(4, default_timeout_microseconds=5000, max_queue_size=3)
    assert sq.saturation_rps(workload, sq.System(policy, COST)) == pytest.approx(
        sq.saturation_rps(workload, sq.System(Dynamic(4), COST))
    )


def test_users_whom_triton_turns_away_hear_of_it_at_once_and_go_on() -> None:
    # All come at 1, and there is room for one; at 2 there is room for one more, and the third asks every ms.
    count = 40
    thinks = {"think_s": np.full(count, 1 * MS)}
    none = np.zeros(count)
    workload = sq.Workload(none, np.ones(count, int), np.ones(count, int), thinks, {"users": 3})
    result = sq.simulate(workload, sq.System(queued(max_queue_size=1), COST))
    assert result.fates is not None
    names, seconds = result.fates.names(), result.grid.seconds
    at_ms = (seconds(result.arrival) / MS).round(6)
    assert at_ms[:17].tolist() == [1, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 12, 13]
    assert set(names) == {"completed", "rejected"}
    assert np.all(result.finished[names == "rejected"] == result.arrival[names == "rejected"])


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=40),
    st.integers(1, 9),
    st.sampled_from([0.0, 0.056, 1.0]),
)
def test_triton_without_a_delay_is_a_free_server_that_takes_what_waits(gaps: list[int], most: int, race: float) -> None:
    arrivals = [float(at) for at in np.cumsum(gaps)]
    policy = Triton(most, race_probability=race)
    assert batches(policy, arrivals) == batches(Dynamic(most), arrivals)


@pytest.mark.parametrize(
    "policy",
    [Mosec(4, 3000.0), LitServe(4, 3.0), RayServe(4, 3.0), BentoML(4), triton(), triton(2, 3, delay=9)],
    ids=repr,
)
@settings(max_examples=40)
@given(gaps=st.lists(st.integers(0, 12), min_size=1, max_size=40))
def test_nobody_is_lost_or_overtaken(policy: BatchingPolicy, gaps: list[int]) -> None:
    arrivals = [float(at) for at in np.cumsum(gaps)]
    result = served(policy, arrivals)
    assert np.all(np.diff(result.scheduled) >= 0)
    assert np.all(result.scheduled >= result.arrival)
    assert max(size for _, size in batches(policy, arrivals)) <= 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Triton(4, (8,)), "preferred_batch_size has 8, which is not within 1 and max_batch_size = 4"),
        (lambda: Triton(4, race_probability=2.0), r"race_probability = 2\.0 must be within 0 and 1"),
        (lambda: Triton(4, priority_levels=2), "default_priority_level = 0 is not within 1 and priority_levels = 2: "),
        (lambda: Triton(4, default_priority_level=1), "default_priority_level = 1 is not within 0 and priority_level"),
        (lambda: Triton(4, priority_queue_policy={1: QueuePolicy()}), "priority_queue_policy has level 1, which is"),
        (lambda: queued(max_queue_size=-1), "default_queue_policy: max_queue_size = -1 must be at least 0"),
        (lambda: queued(default_timeout_microseconds=-5), "default_timeout_microseconds = -5 must be at least 0"),
        (lambda: Mosec(0), "max_batch_size = 0"),
        (lambda: Mosec(2, -1.0), r"max_wait_time = -1\.0"),
        (lambda: LitServe(2, float("nan")), "batch_timeout = nan"),
        (lambda: RayServe(2, -0.5), r"batch_wait_timeout_s = -0\.5"),
        (lambda: BentoML(0), "max_batch_size = 0"),
        (lambda: Clipper(0.0), r"latency_objective_s = 0\.0"),
        (lambda: Clipper(1.0, backoff=1.0), r"backoff = 1\.0 must be between 0 and 1"),
        (lambda: FasterTransformer(0), "max_batch_size = 0"),
    ],
)
def test_what_cannot_be_is_refused(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()  # type: ignore[operator]
