"""Conversations, live: each turn comes a think after the answer before, and begins with what was said and answered."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from liveruns import COST, Strict

from simqueue import Continuous, Dynamic, System, WorkloadSpec, make_workload
from simqueue.live.journal import Closed, Opened, Planned, replay
from simqueue.live.serve import serve
from simqueue.live.sleep import token
from simqueue.live.worker import GRID
from simqueue.plan import Wait
from simqueue.policy import Static
from simqueue.system import Admission
from simqueue.workload import Geometric, GeometricCount, Sessions, Workload

pytestmark = pytest.mark.usefixtures("nothing_stays")


def talks(requests: int = 60, **further: Any) -> Workload:
    """Of five turns or so, some of which are under way at the start."""
    spec = WorkloadSpec(
        requests=requests,
        arrivals=Sessions(400.0, GeometricCount(5.0), 0.003, 8),
        prompt_tokens=Geometric(mean=5),
        output_tokens=Geometric(mean=4),
        **further,
    )
    return make_workload(spec, 2)


def turns(workload: Workload) -> list[list[int]]:
    """The rows of each session, in the order of its turns."""
    session, turn = workload.extra["session"], workload.extra["turn"]
    return [sorted(np.flatnonzero(session == each), key=turn.__getitem__) for each in np.unique(session)]


@pytest.mark.parametrize("clients", ["thread", "process"])
def test_turns_come_a_think_after_their_answers_and_begin_with_them(clients: str) -> None:
    work, executor = talks(), Strict(COST)
    run = serve(work, System(Continuous(4), COST), executor, clients=clients)
    assert +Counter(run.outcomes) == {"completed": len(work)}
    assert not replay(run.journal, Continuous(4), GRID)
    result = run.result
    assert result is not None
    met = result.workload
    assert met.sessions
    assert (np.diff(result.arrival) >= 0).all()
    followed = 0
    for rows in turns(met):
        for row, after in pairwise(rows):
            think = GRID.column(np.rint(met.extra["think_s"][after] * 1e9) / 1e9)
            assert result.arrival[after] - result.finished[row] == think
            answer = [token(row, at) for at in range(met.output_tokens[row])]
            said = executor.begun[row] + answer
            assert executor.begun[after][: len(said)] == said
            assert len(executor.begun[after]) == met.prompt_tokens[after] > len(said)
            followed += 1
    assert followed > 30
    # The rows are those that were asked for, in the order in which they came.
    both = [sorted(zip(w.extra["session"], w.extra["turn"], w.prompt_tokens, strict=True)) for w in (work, met)]
    assert both[0] == both[1]
    assert [len(answer) for answer in run.answers] == work.output_tokens.tolist()


@pytest.mark.parametrize("policy", [Static(8), Static(6, "request"), Dynamic(8, float("inf"))], ids=repr)
def test_nobody_waits_for_company_that_cannot_come(policy: Any) -> None:
    """More than there are sessions under way at most: whoever waits starts when all others think of nothing, and not
    while somebody does."""
    work = talks()
    run = serve(work, System(policy, COST), Strict(COST), clients="thread")
    assert +Counter(run.outcomes) == {"completed": len(work)}
    assert not replay(run.journal, policy, GRID)
    assert any(isinstance(entry, Closed) for entry in run.journal)
    assert any(isinstance(entry, Opened) for entry in run.journal)
    assert any(isinstance(entry, Planned) and isinstance(entry.answer, Wait) for entry in run.journal)


def test_whoever_is_turned_away_or_gives_up_goes_on_with_the_next_turn() -> None:
    work = talks(patience_s=0.002)
    executor = Strict(COST)
    run = serve(work, System(Continuous(1), COST, admission=Admission(max_queue=2)), executor, clients="thread")
    assert not replay(run.journal, Continuous(1), GRID)
    assert sum(run.outcomes.values()) == len(work)
    assert run.outcomes["rejected"] + run.outcomes["abandoned"] > 0
    assert run.outcomes["failed"] == run.outcomes["cancelled"] == 0
    assert executor.empty
