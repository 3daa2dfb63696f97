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
    arrivals = [0, 5, 5, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7]
    assert batches(triton(), arrivals) == [(4, 1), (14, 4), (24, 4), (34, 4)]


def test_triton_merges_overdue_payloads_that_fit() -> None:
    # 5 and 6 are a preferred size; with 7, beyond all of these, they are frozen at 8, which is closed by itself at 12.
    # At 14 both payloads wait, the second overdue.
    assert batches(triton(2, most=8), [0, 5, 6, 7, 8]) == [(4, 1), (14, 4)]
    assert batches(triton(2, most=3), [0, 5, 6, 7, 8]) == [(4, 1), (14, 3), (24, 1)]


def test_triton_without_a_race_or_with_one_every_time() -> None:
    # At 14 the payload of 5 waits, and 10 is queued: the race takes it along.
    assert batches(triton(race=1.0), [0, 5, 10, 11]) == [(4, 1), (14, 3)]


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
