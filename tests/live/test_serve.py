"""Live runs under every policy: everybody gets their tokens, the laws hold, and the engine is the simulator's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from liveruns import (
    COST,
    POLICIES,
    Strict,
    Whole,
    assert_all_work_done,
    assert_answered,
    assert_laws,
    live,
    whole,
    workload,
)

from simqueue import Affine, Continuous, Dynamic, Result, Static, System, Workload, WorkloadSpec, make_workload
from simqueue.errors import ConfigError, WorkloadError
from simqueue.live.connection import Connection
from simqueue.live.journal import Cancelled, Completed, Entry, Planned, Submitted, replay
from simqueue.live.serve import random_prompts, serve
from simqueue.live.sleep import SleepExecutor
from simqueue.live.wire import Answer
from simqueue.live.worker import GRID
from simqueue.plan import Step, Wait
from simqueue.policy import BatchingPolicy, View
from simqueue.record import Known
from simqueue.units import Grid
from simqueue.workload import ExponentialThink, Fixed, Geometric, Uniform, Users

pytestmark = pytest.mark.usefixtures("nothing_stays")
WHERE = ("thread", "process")


@pytest.mark.parametrize("clients", WHERE)
@pytest.mark.parametrize("kind", POLICIES)
def test_everybody_is_answered_once_and_the_laws_hold(kind: str, clients: str) -> None:
    work, policy = workload(90), POLICIES[kind]
    run = live(work, policy, clients)
    assert_answered(run, work)
    assert_laws(run, policy)
    assert run.result is not None
    assert_all_work_done(run.result, work, policy)


@pytest.mark.parametrize("clients", WHERE)
@pytest.mark.parametrize("kind", POLICIES)
def test_who_leaves_is_cancelled_and_nobody_else(kind: str, clients: str) -> None:
    work, policy = workload(90, seed=1), POLICIES[kind]
    rng = np.random.default_rng(2)
    leaves = {int(row): int(rng.integers(0, 6)) for row in rng.choice(len(work), 50, replace=False)}
    run = live(work, policy, clients, leaves=leaves)
    assert not run.failed
    assert sum(run.outcomes.values()) == len(work)
    assert run.outcomes["failed"] == 0
    assert run.outcomes["cancelled"] == sum(isinstance(entry, Cancelled) for entry in run.journal)
    # Whoever left may have had everything on the way already.
    assert 0 < run.outcomes["cancelled"] <= len(leaves)
    for row, (answer, tokens) in enumerate(zip(run.answers, whole(work), strict=True)):
        read = min(leaves.get(row, len(tokens)), len(tokens))
        if getattr(policy, "release", "request") == "batch" and read:
            read = len(tokens)
        assert answer == tokens[:read]
    assert_laws(run, policy)


@pytest.mark.parametrize("clients", WHERE)
@pytest.mark.parametrize("kind", POLICIES)
def test_users_wait_for_their_answers(kind: str, clients: str) -> None:
    policy, users = POLICIES[kind], 7
    spec = WorkloadSpec(
        requests=80,
        arrivals=Users(users, ExponentialThink(mean=0.001)),
        prompt_tokens=Uniform(low=1, high=30),
        output_tokens=Geometric(mean=4),
    )
    work = make_workload(spec, 3)
    run = live(work, policy, clients)
    assert_answered(run, work)
    assert_laws(run, policy)
    result = run.result
    assert result is not None
    for at in result.arrival:
        assert np.sum(result.arrival <= at) - np.sum(result.finished <= at) <= users
    assert result.workload.closed_loop


def test_users_who_leave_come_again() -> None:
    spec = WorkloadSpec(
        requests=80, arrivals=Users(5, 0.0005), prompt_tokens=Fixed(value=5), output_tokens=Fixed(value=8)
    )
    leaves = {row: row % 4 for row in range(0, 80, 2)}
    run = live(make_workload(spec, 4), Continuous(4), leaves=leaves)
    assert not run.failed
    assert run.outcomes["completed"] + run.outcomes["cancelled"] == 80
    assert run.outcomes["cancelled"] > 0
    assert_laws(run, Continuous(4))


def test_answers_on_their_way_may_bring_somebody() -> None:
    """Six users and batches of four: after each, two wait and four are about to think, so no batch is ever smaller."""
    spec = WorkloadSpec(
        requests=80, arrivals=Users(6, 0.0005), prompt_tokens=Fixed(value=3), output_tokens=Fixed(value=2)
    )
    work = make_workload(spec, 5)
    run = live(work, Static(4))
    assert_answered(run, work)
    assert run.result is not None
    assert_all_work_done(run.result, work, Static(4))


@pytest.mark.parametrize("kind", ["static, batch", "chunked"])
def test_saved_and_loaded_it_is_the_same(kind: str, tmp_path: Path) -> None:
    result = live(workload(60), POLICIES[kind]).result
    assert result is not None
    result.save(tmp_path / "run")
    again = Result.load(tmp_path / "run")
    for name in ("arrival", "scheduled", "first_token", "finished", "first_delivery", "delivery", "step_ends"):
        assert np.array_equal(getattr(again, name), getattr(result, name))
    assert again.leaps.keys() == result.leaps.keys()
    assert all(np.array_equal(again.leaps[name], column) for name, column in result.leaps.items())
    assert np.array_equal(again.durations(), result.durations())
    assert all(np.array_equal(again.workload.columns[name], column) for name, column in result.workload.columns.items())
    assert again.provenance == result.provenance
    assert again.provenance["live"]["executor"]["runner"] == "sleep"
    assert again.with_batch == result.with_batch
    np.testing.assert_equal(again.summary(), result.summary())


def test_the_warmup_is_left_out() -> None:
    work = workload(40)
    system = System(Continuous(8), COST)
    run = serve(work, system, SleepExecutor(COST), clients="thread", warmup=15)
    assert run.result is not None
    assert run.result.warmup == 15
    assert run.result.summary()["requests"] == 25
    assert run.outcomes["completed"] == 40


def test_the_warmup_is_of_those_who_came_first_whoever_left() -> None:
    run = serve(
        workload(40), System(Continuous(8), COST), SleepExecutor(COST), clients="thread", warmup=15, leaves={3: 0, 9: 0}
    )
    assert +Counter(run.outcomes) == {"completed": 38, "cancelled": 2}
    assert run.result is not None
    assert run.result.summary()["requests"] == 25


def test_prompts_of_ones_own_arrive_as_they_are() -> None:
    work, policy = workload(30), Continuous(8, 16)
    prompts = random_prompts(work, 1000, 9)
    executor = Strict(COST)
    run = serve(work, System(policy, COST), executor, clients="process", prompts=prompts)
    assert run.outcomes["completed"] == 30
    assert [executor.begun[i] for i in range(30)] == [prompt.tolist() for prompt in prompts]


@pytest.mark.parametrize("kind", ["none", "static, batch", "static, request", "dynamic that waits"])
def test_calls_that_run_whole_batches(kind: str) -> None:
    """Answers leave with the call, whatever the policy says; times are those of its steps."""
    work, policy = workload(60), POLICIES[kind]
    run = live(work, policy, executor=Whole(COST))
    assert_answered(run, work)
    assert_laws(run, policy)
    assert run.result is not None
    assert run.result.with_batch
    assert (run.result.leaps["steps"] == 1).all()
    assert run.result.leaps["new_tokens"].sum() == work.prompt_tokens.sum()


# The proof can fail.


@dataclass(frozen=True)
class Moody:
    """Continuous batching with seats drawn from what all of its deciders share: none is fresh."""

    draws: Random

    def decider(self, grid: Grid) -> Moody:
        return self

    def decide(self, view: View) -> Step | Wait:
        seats = self.draws.randint(1, 6) - view.running
        if view.waiting and seats > 0:
            return Step(min(view.waiting, seats))
        return Step() if view.running else Wait()


def test_a_policy_that_remembers_other_runs_plans_otherwise() -> None:
    work, policy = workload(90), Moody(Random(0))
    run = live(work, policy)
    assert run.outcomes["completed"] == len(work)
    assert _differs(run.journal, policy)


@pytest.mark.parametrize("other", [Continuous(7), Continuous(8, 16), Static(4, "request"), Dynamic(8)], ids=repr)
def test_another_policy_plans_otherwise(other: BatchingPolicy) -> None:
    run = live(workload(90), Continuous(8))
    assert not _differs(run.journal, Continuous(8))
    assert _differs(run.journal, other)


def test_every_call_counts() -> None:
    """Without any one of the cancellations, or a request, the plans are others."""
    leaves = dict.fromkeys(range(0, 90, 3), 1)
    run = live(workload(90), Continuous(8), leaves=leaves)
    cancelled = [at for at, entry in enumerate(run.journal) if isinstance(entry, Cancelled)]
    assert cancelled
    for at in [*cancelled, next(at for at, entry in enumerate(run.journal) if isinstance(entry, Submitted))]:
        assert _differs(run.journal[:at] + run.journal[at + 1 :], Continuous(8))


def test_when_it_was_asked_counts() -> None:
    """One who waits for company is waited with no longer than that."""
    policy, came = Dynamic(8, 0.003), Submitted(0, 5, 4, Known())
    due = GRID.ticks(0.003)
    assert not _differs([came, Planned(due - 1, Wait(due), ())], policy)
    assert _differs([came, Planned(due, Wait(due), ())], policy)


def test_what_cannot_be_planned_again_differs() -> None:
    run = live(workload(90), Continuous(8))
    middle = len(run.journal) // 2
    before, after = run.journal[:middle], run.journal[middle:]
    nothing = Completed(())
    differing = replay([*before, nothing, *after], Continuous(8), GRID)
    assert differing == [(entry, None) for entry in after if isinstance(entry, Planned)]


def _differs(journal: Sequence[Entry], policy: BatchingPolicy) -> bool:
    return bool(replay(journal, policy, GRID))


# What is refused before anything runs.


def test_a_request_that_does_not_fit_is_named() -> None:
    work = Workload.from_columns([0, 0, 0], [5, 60, 5], [4, 5, 4])
    with pytest.raises(WorkloadError, match=r"request 1 .* 60 prompt \+ 5 output tokens, more than the context of 64"):
        live(work, Continuous(8), executor=Strict(COST, window=64))


@pytest.mark.parametrize("warmup", [3, 4])
def test_a_warmup_of_everybody_is_refused(warmup: int) -> None:
    with pytest.raises(ConfigError, match=rf"warmup = {warmup} leaves none of 3 requests: lower it"):
        serve(workload(3), System(Continuous(8), COST), SleepExecutor(COST), clients="thread", warmup=warmup)


@pytest.mark.parametrize(
    ("prompts", "match"),
    [
        ([[1] * 5], "1 prompts for 2 requests"),
        ([[1] * 5, [1] * 4], "row 1: its prompt has 4 tokens, and the workload says 3"),
        ([[1] * 5, [1, -1, 2]], "row 1: .*not within 0 and 50256"),
        ([[1] * 4 + [50_257], [1] * 3], "row 0: .*not within 0 and 50256"),
    ],
)
def test_prompts_that_do_not_go_with_the_workload_are_refused(prompts: list[list[int]], match: str) -> None:
    work = Workload.from_columns([0, 0], [5, 3], [1, 1])
    arrays = [np.array(prompt) for prompt in prompts]
    with pytest.raises(WorkloadError, match=match):
        serve(work, System(Continuous(8), COST), SleepExecutor(COST), prompts=arrays)


def test_whole_batches_only_are_refused_to_policies_that_join() -> None:
    with pytest.raises(ConfigError, match="the sleep executor runs whole batches"):
        live(workload(3), Continuous(8), executor=Whole(COST))


@pytest.mark.parametrize(
    ("policy", "key"), [(Continuous(9), "max_seqs"), (Static(9), "batch"), (Dynamic(9), "max_batch")]
)
def test_policies_of_more_requests_than_rows_are_refused(policy: BatchingPolicy, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"system\.policy\.{key} = 9 .*live\.max_rows = 8"):
        live(workload(3), policy, executor=Strict(COST, max_rows=8))


def test_a_policy_without_a_limit_is_not() -> None:
    assert_answered(live(workload(3), Dynamic(), executor=Strict(COST, max_rows=8)), workload(3))


def test_clients_live_in_a_process_or_in_a_thread() -> None:
    with pytest.raises(ConfigError, match="clients"):
        live(workload(3), Continuous(8), clients="elsewhere")


def test_a_steps_tokens_leave_before_the_next_step_is_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else their way would depend on what comes next."""
    events: list[str] = []
    launch, send = SleepExecutor.launch, Connection.send

    def launched(self: SleepExecutor, *work: Any) -> None:
        events.append("launch")
        launch(self, *work)

    def sent(self: Connection, message: Any) -> None:
        events.extend(["token"] if isinstance(message, Answer) else [])
        send(self, message)

    monkeypatch.setattr(SleepExecutor, "launch", launched)
    monkeypatch.setattr(Connection, "send", sent)
    cost = Affine(base_s=2e-3)
    workload = Workload.from_columns([0.0, 0.003], [5, 5], [6, 3])
    serve(workload, System(Continuous(4), cost), SleepExecutor(cost), clients="thread")
    assert events == ["launch", "token"] * (len(events) // 2)
    assert len(events) >= 2 * 6
