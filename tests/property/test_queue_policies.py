"""Policies that turn requests away: everybody has one fate, and who asks again does so in time."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from leaps import alike, answered

from simqueue import Affine, Overheads, Result, System, Workload
from simqueue.policy import Triton
from simqueue.policy.triton_queue import QueuePolicy

EXAMPLES = settings().max_examples
_QUEUES = st.builds(
    QueuePolicy,
    st.sampled_from(["REJECT", "DELAY"]),
    st.sampled_from([0, 3_000, 15_000, 40_000, 700_000]),
    st.booleans(),
    st.integers(0, 5),
)
_SYSTEMS = st.builds(
    lambda queue, most, preferred, delay, base, over: System(
        Triton(most, (preferred,) if preferred <= most else (), delay, default_queue_policy=queue),
        Affine(base_s=base * 1.003e-3, per_row_s=1.1e-3),
        overheads=over,
    ),
    *(_QUEUES, st.integers(1, 5), st.integers(1, 9), st.sampled_from([0, 8_000, 30_000])),
    st.sampled_from([3, 20, 800]),
    st.builds(Overheads, st.sampled_from([0.0, 0.0007]), response_path_s=st.sampled_from([0.0, 0.0013])),
)


def columns(result: Result) -> list[list[object]]:
    names = result.fates.names().tolist() if result.fates else ["completed"] * len(result.scheduled)
    return [names, *(column.tolist() for column in (result.scheduled, result.first_token, result.finished))]


@settings(max_examples=EXAMPLES)
@given(_SYSTEMS, st.integers(1, 8), st.lists(st.integers(1, 30_000), min_size=10, max_size=40))
def test_users_make_a_run_that_is_the_same_again_with_their_arrivals(
    system: System, users: int, thinks_us: list[int]
) -> None:
    count = len(thinks_us)
    # No two things happen at one instant, which are in another order where everybody is known beforehand.
    think_s = np.array(thinks_us) * 1e-6 + np.sqrt(np.arange(2, count + 2)) * 1e-9
    ones, none = np.ones(count, int), np.zeros(count)
    looped = alike(Workload(none, ones, ones, {"think_s": think_s}, {"users": min(users, count)}), system)
    if looped is None:
        return
    again = answered(Workload.from_columns(looped.workload.arrival_s, ones, ones), system)
    assert again is not None
    assert columns(again) == columns(looped)


@settings(max_examples=EXAMPLES)
@given(
    _SYSTEMS,
    st.lists(
        st.tuples(st.integers(0, 20), st.integers(1, 4), st.sampled_from([np.inf, 0.004, 0.05])),
        min_size=1,
        max_size=40,
    ),
)
def test_everybody_has_one_fate_also_where_clients_give_up(system: System, rows: list[tuple[int, int, float]]) -> None:
    gaps, outputs, patience = zip(*rows, strict=True)
    arrival = np.cumsum(gaps) * 1e-3
    workload = Workload.from_columns(arrival, [1] * len(rows), outputs, patience_s=np.array(patience))
    result = alike(workload, system)
    if result is None:
        return
    assert result.fates is not None
    met = Counter(result.fates.names().tolist())
    assert met.keys() <= {"completed", "rejected", "abandoned"}
    assert met.total() == len(rows)
    rejected = result.fates.names() == "rejected"
    assert np.all(result.scheduled >= result.arrival)
    assert np.all(result.finished >= result.scheduled)
    assert np.all(result.finished[rejected] >= result.arrival[rejected])
    assert np.all(np.bincount(np.unique(result.scheduled[result.fates.completed], return_inverse=True)[1]) <= 5)
