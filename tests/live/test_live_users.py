"""Users who wait for their answers, live: they think as long as they are to, and nobody waits for company in vain."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from simqueue import Affine, Continuous, Dynamic, NoBatching, Static, System, WorkloadSpec, make_workload
from simqueue.live.executor import Executor
from simqueue.live.journal import replay
from simqueue.live.serve import Served, serve
from simqueue.live.sleep import SleepExecutor
from simqueue.live.worker import GRID
from simqueue.workload import Fixed, Geometric, Users

THINK_S, REQUESTS, USERS = 0.004, 60, 6
COST = Affine(base_s=0.0015)
POLICIES = [
    NoBatching(),
    Static(2),
    Static(4, "request"),
    # More than can ever be there.
    Static(8),
    Dynamic(8, float("inf")),
    Continuous(4),
    Continuous(8, 12),
]


def served(policy: Any, executor: Executor) -> Served:
    spec = WorkloadSpec(
        requests=REQUESTS,
        arrivals=Users(USERS, THINK_S),
        prompt_tokens=Fixed(value=5),
        output_tokens=Geometric(mean=3),
    )
    return serve(make_workload(spec, 1), System(policy, COST), executor, clients="thread")


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_users_come_one_think_after_their_answers(policy: Any) -> None:
    run = served(policy, SleepExecutor(COST))
    assert +Counter(run.outcomes) == {"completed": REQUESTS}
    result = run.result
    assert result is not None
    arrival, finished = result.arrival, np.sort(result.finished)
    think = GRID.ticks(THINK_S)
    comes = np.sort(np.concatenate((np.zeros(USERS, np.int64), finished))) + think
    assert np.array_equal(np.sort(arrival), comes[:REQUESTS])
    assert max(np.sum(arrival <= at) - np.sum(finished <= at) for at in arrival) <= USERS
    assert result.workload.closed_loop
    assert not result.unstable
    assert not replay(run.journal, policy, GRID)
