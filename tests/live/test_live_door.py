"""Who is turned away and who gives up, live: everybody hears of it, and the plans are made again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from liveruns import COST, POLICIES, Again, Strict, whole, workload

from simqueue import Affine, Continuous, Memory, Result, Static, System, Workload, WorkloadSpec, make_workload
from simqueue.live.journal import Cancelled, Completed, Entry, Planned, Rejected, Submitted, replay
from simqueue.live.serve import Served, core_of, serve
from simqueue.live.streams import GAVE_UP
from simqueue.live.worker import GRID
from simqueue.policy import BatchingPolicy, Triton, Vllm
from simqueue.policy.triton_queue import QueuePolicy
from simqueue.system import Admission
from simqueue.workload import Fixed, Users

pytestmark = pytest.mark.usefixtures("nothing_stays")
SLOW = Affine(base_s=2e-3)
FULL = "the server is full"


def live(work: Workload, system: System, clients: str = "thread") -> Served:
    paged = getattr(system.policy, "paged", False)
    executor = (Again if paged else Strict)(system.cost)
    run = serve(work, system, executor, clients=clients)
    assert executor.empty
    assert sum(run.outcomes.values()) == len(work)
    assert replay(run.journal, system.policy, GRID, core_of(system)) == []
    return run


def rush(requests: int) -> Workload:
    """Half of them at once, the others one by one."""
    work = workload(requests)
    arrival = np.where(np.arange(requests) < requests // 2, 0.0, work.arrival_s)
    return Workload.of(work.columns | {"arrival_s": arrival}, work.meta)


def assert_told(run: Served, work: Workload, full: str = FULL) -> None:
    """Whoever is not answered hears why, and nobody else; the result has all of them."""
    assert run.outcomes["failed"] == run.outcomes["cancelled"] == 0
    assert Counter(run.failed.values()) == +Counter(
        {full: run.outcomes["rejected"], GAVE_UP: run.outcomes["abandoned"]}
    )
    for row, (answer, tokens) in enumerate(zip(run.answers, whole(work), strict=True)):
        assert answer == ([] if row in run.failed else tokens)
    result = run.result
    assert result is not None
    assert result.fates is not None
    assert len(result.arrival) == len(work)
    assert result.fates.counts(0) == run.outcomes == result.summary()["outcomes"]
    assert result.summary()["requests"] == run.outcomes["completed"]
    assert (result.arrival <= result.scheduled).all()
    assert (result.scheduled <= result.first_token).all()
    assert (result.first_token <= result.finished).all()


def queue_lengths(journal: Sequence[Entry]) -> list[tuple[int, bool]]:
    """How many everybody found waiting, and whether that turned it away."""
    waiting: set[int] = set()
    found: list[tuple[int, bool]] = []
    for entry in journal:
        match entry:
            case Submitted():
                found.append((len(waiting), False))
                waiting.add(len(found) - 1)
            case Rejected():
                found[-1] = found[-1][0], True
                waiting.remove(entry.request)
            case Cancelled():
                waiting.discard(entry.request)
            case Planned():
                waiting.difference_update(i for i, _ in entry.prefill)
    return found


LIMITED: dict[str, BatchingPolicy] = {
    **{name: POLICIES[name] for name in ("none", "static, batch", "dynamic that waits", "continuous", "chunked")},
    "vllm": Vllm(64, 4),
}


@pytest.mark.parametrize("kind", LIMITED)
def test_who_finds_a_full_queue_is_turned_away_and_nobody_else(kind: str) -> None:
    work = rush(90)
    run = live(work, System(LIMITED[kind], COST, admission=Admission(max_queue=3)))
    assert_told(run, work)
    found = queue_lengths(run.journal)
    assert [rejected for _, rejected in found] == [waiting >= 3 for waiting, _ in found]
    assert run.outcomes["rejected"] == sum(rejected for _, rejected in found) > 0


def test_who_would_wait_too_long_is_turned_away_and_nobody_else() -> None:
    work = rush(90)
    run = live(work, System(POLICIES["continuous"], SLOW, admission=Admission(max_predicted_ttft_s=0.003)), "process")
    assert_told(run, work)
    arrival: list[int] = []
    waiting: list[int] = []
    for entry in run.journal:
        match entry:
            case Submitted():
                longest = entry.arrival - arrival[waiting[0]] if waiting else 0
                waiting.append(len(arrival))
                arrival.append(entry.arrival)
                full = longest > GRID.ticks(0.003)
                assert (run.failed.get(len(arrival) - 1) == FULL) == full
            case Rejected():
                waiting.remove(entry.request)
            case Planned():
                waiting = [i for i in waiting if i not in dict(entry.prefill)]
    assert run.outcomes["rejected"] > 0


def patient(output: Sequence[int], patience_s: Sequence[float]) -> Workload:
    """All at once."""
    count = len(output)
    return Workload.from_columns(np.zeros(count), np.full(count, 3), output, patience_s=np.array(patience_s, float))


def assert_gave_up(run: Served, work: Workload, rows: set[int]) -> Result:
    """These, at their instants, and told so on the wire, not before."""
    assert_told(run, work)
    assert {row for row, why in run.failed.items() if why == GAVE_UP} == rows
    result = run.result
    assert result is not None
    patience = GRID.column(work.extra["patience_s"][sorted(rows)])
    assert result.response[sorted(rows)].tolist() == patience.tolist()
    heard = [entry for entry in run.journal if isinstance(entry, Cancelled)]
    assert {entry.request for entry in heard} == rows
    for entry in heard:
        assert entry.now >= result.finished[entry.request]
    return result


@pytest.mark.parametrize("clients", ["thread", "process"])
def test_who_waits_too_long_gives_up(clients: str) -> None:
    """One seat: the first one, who has its token in time, takes an eighth of a second."""
    work = patient([60, 3, 3, 3], [0.06, 0.02, np.inf, 0.03])
    result = assert_gave_up(live(work, System(Continuous(1), SLOW), clients), work, {1, 3})
    # Never scheduled, until then it waited.
    assert (result.scheduled[[1, 3]] == result.finished[[1, 3]]).all()


@pytest.mark.parametrize("policy", [Vllm(2, 2), Continuous(2, 2)], ids=repr)
def test_a_prompt_that_is_half_computed_is_given_up(policy: BatchingPolicy) -> None:
    """A hundred tokens in steps of two, of 2 ms each: the first token would be there after 100 ms."""
    work = Workload.from_columns([0.0, 0.0], [100, 3], [3, 3], patience_s=[0.05, np.inf])
    assert_gave_up(live(work, System(policy, SLOW)), work, {0})


def test_a_batch_whose_answers_leave_together_has_answered_nobody() -> None:
    work = patient([40, 40, 40, 4], [0.02, np.inf, 0.03, np.inf])
    run = live(work, System(Static(4), SLOW))
    assert_gave_up(run, work, {0, 2})
    # The batch went on for the others, and their rows were in it.
    ends = [entry for entry in run.journal if isinstance(entry, Completed)]
    assert sum(len(entry.ends) for entry in ends) == 40


def test_a_batch_of_those_who_gave_up_ends() -> None:
    work = patient([90] * 4 + [2] * 4, [0.01] * 4 + [np.inf] * 4)
    run = live(work, System(Static(4), SLOW))
    assert_gave_up(run, work, {0, 1, 2, 3})
    steps = sum(len(entry.ends) for entry in run.journal if isinstance(entry, Completed))
    assert steps < 90


def test_users_who_give_up_or_are_turned_away_come_again() -> None:
    spec = WorkloadSpec(
        requests=60,
        arrivals=Users(5, 0.001),
        prompt_tokens=Fixed(value=3),
        output_tokens=Fixed(value=4),
        patience_s=0.009,
    )
    work = make_workload(spec, 4)
    run = live(work, System(Continuous(1), SLOW, admission=Admission(max_queue=3)))
    assert_told(run, work)
    assert run.outcomes["abandoned"] > 0
    assert run.outcomes["rejected"] > 0
    assert run.result is not None
    assert (np.diff(run.result.arrival) >= 0).all()


@pytest.mark.parametrize(
    "queue", [QueuePolicy(max_queue_size=3), QueuePolicy(default_timeout_microseconds=2000)], ids=["size", "timeout"]
)
def test_whom_a_policy_turns_away_hears_of_it(queue: QueuePolicy) -> None:
    work = rush(90)
    run = live(work, System(Triton(4, default_queue_policy=queue), COST))
    assert_told(run, work, "the policy has turned it away")
    assert run.outcomes["rejected"] > 0


def test_who_gives_up_while_preempted_or_computed_again_leaves_nothing() -> None:
    """Memory for one of them at a time, and a little more: cancelled wherever they are."""
    work = workload(60)
    columns = {"patience_s": np.where(np.arange(60) % 3, 0.004, np.inf)}
    impatient = Workload.of({**work.columns, **columns}, work.meta)
    run = live(impatient, System(Vllm(64, 8), COST, memory=Memory(4, 14)))
    assert_told(run, impatient)
    assert run.outcomes["abandoned"] > 0
