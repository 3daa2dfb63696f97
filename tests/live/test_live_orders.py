"""Orders of the queue, live: what a request says of itself reaches the policy, and who is next starts first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from liveruns import COST, Again, Strict, assert_answered, workload

from simqueue import Memory, System, Workload, WorkloadSpec, make_workload
from simqueue.errors import ConfigError
from simqueue.live.journal import Planned, Submitted, replay
from simqueue.live.serve import RunError, Served, core_of, serve
from simqueue.live.worker import GRID
from simqueue.order import Edf, Fcfs, LeastLaxity, OracleSjf, Order, Priority, Sjf, Srpt, Vtc
from simqueue.policy import Orca, Sglang, Vllm
from simqueue.policy import Srpt as SrptPolicy
from simqueue.units import INT64_MAX
from simqueue.workload import Fixed, Users

pytestmark = pytest.mark.usefixtures("nothing_stays")
POLICY = Vllm(64, 4)
AGING_S, TOKEN_S = 0.004, 5e-4
Key = Callable[[Submitted], int]


def due(entry: Submitted, token_s: float = 0.0) -> int:
    """When it has to start, at so many seconds a prompt token, for its first token to be there in time."""
    if entry.known.ttft_slo == INT64_MAX:
        return INT64_MAX
    return entry.arrival + entry.known.ttft_slo - entry.prompt * GRID.ticks(token_s)


KEYS: list[tuple[Order, Key]] = [
    (Sjf(), lambda entry: entry.known.predicted_output or 0),
    (OracleSjf(), lambda entry: entry.output),
    # Nobody is preempted where memory never fills.
    (Srpt(), lambda entry: entry.known.predicted_output or 0),
    (Priority(), lambda entry: entry.known.priority),
    (Priority(AGING_S), lambda entry: entry.arrival + entry.known.priority * GRID.ticks(AGING_S)),
    (Edf(), due),
    (LeastLaxity(TOKEN_S), lambda entry: due(entry, TOKEN_S)),
]


def asked(requests: int = 60) -> Workload:
    """Three clients with promises of their own, in a rush and then one by one."""
    plain, rng = workload(requests), np.random.default_rng(3)
    columns = {
        "priority": rng.integers(-2, 3, requests),
        "client": rng.choice(np.array(["a", "b", "c"], object), requests),
        "ttft_slo_s": rng.choice([0.001, 0.01, 0.1, np.inf], requests),
        "predicted_output_tokens": rng.integers(1, 12, requests),
        "max_output_tokens": plain.output_tokens + rng.integers(0, 3, requests),
    }
    return Workload.from_columns(plain.arrival_s, plain.prompt_tokens, plain.output_tokens, **columns)


def live(work: Workload, system: System, clients: str = "thread") -> Served:
    run = serve(work, system, Again(COST), clients=clients)
    assert_answered(run, work)
    assert replay(run.journal, system.policy, GRID, core_of(system)) == []
    return run


def started_before(run: Served, key: Key) -> list[tuple[int, int]]:
    """Pairs of requests that waited at one decision, of which the first started and the second was to be first."""
    asked_for: list[Submitted] = []
    waiting: dict[int, tuple[int, int]] = {}
    wrong = []
    for entry in run.journal:
        if isinstance(entry, Submitted):
            waiting[len(asked_for)] = key(entry), len(asked_for)
            asked_for.append(entry)
        elif isinstance(entry, Planned):
            started = [(waiting.pop(i), i) for i, _ in entry.prefill if i in waiting]
            wrong += [(i, other) for mine, i in started for other, theirs in waiting.items() if theirs < mine]
    return wrong


@pytest.mark.parametrize(("order", "key"), KEYS, ids=lambda part: repr(part) if isinstance(part, Order) else "")
def test_who_is_to_be_first_starts_first(order: Order, key: Key) -> None:
    run = live(asked(), System(POLICY, COST, order=order))
    assert started_before(run, key) == []


def test_the_most_urgent_start_first_under_the_policy_of_that_name() -> None:
    run = live(asked(), System(Vllm(64, 4, policy="priority"), COST))
    assert started_before(run, lambda entry: entry.known.priority) == []


@pytest.fixture(scope="module")
def first_come() -> Served:
    """No order but the queue's."""
    return live(asked(), System(POLICY, COST))


@pytest.mark.parametrize(("order", "key"), KEYS, ids=lambda part: repr(part) if isinstance(part, Order) else "")
def test_the_law_can_fail(order: Order, key: Key, first_come: Served) -> None:
    assert started_before(first_come, key)


@pytest.mark.parametrize("clients", ["thread", "process"])
def test_what_a_request_says_of_itself_arrives(clients: str) -> None:
    work = asked(20)
    run = live(work, System(POLICY, COST), clients)
    known = [entry.known for entry in run.journal if isinstance(entry, Submitted)]
    extra = work.extra
    assert [each.priority for each in known] == extra["priority"].tolist()
    assert [each.client for each in known] == extra["client"].tolist()
    assert [each.max_output for each in known] == extra["max_output_tokens"].tolist()
    assert [each.predicted_output for each in known] == extra["predicted_output_tokens"].tolist()
    promised = [np.inf if each.ttft_slo == INT64_MAX else each.ttft_slo / GRID.ticks_per_s for each in known]
    assert promised == extra["ttft_slo_s"].tolist()
    assert run.result is not None
    assert run.result.summary()["goodput_rps"] > 0


@pytest.mark.parametrize("order", [order for order, _ in KEYS] + [Vtc()], ids=repr)
def test_every_plan_is_made_again_where_memory_is_short(order: Order) -> None:
    work = asked(40)
    at_once = Workload.of(work.columns | {"arrival_s": np.zeros(40)}, work.meta)
    run = live(at_once, System(POLICY, COST, order=order, memory=Memory(4, 20)))
    assert run.result is not None
    assert run.result.summary()["preemptions"] > 0


def apart(run: Served) -> int:
    """How many more requests of the one client than of the other had started, at most, while both had some waiting."""
    came: list[str] = []
    waiting: set[int] = set()
    started = {"heavy": 0, "light": 0}
    most = 0
    for entry in run.journal:
        if isinstance(entry, Submitted):
            waiting.add(len(came))
            came.append(entry.known.client)
        elif isinstance(entry, Planned):
            for request, _ in entry.prefill:
                if request in waiting:
                    waiting.remove(request)
                    started[came[request]] += 1
            if {came[i] for i in waiting} == set(started):
                most = max(most, abs(started["heavy"] - started["light"]))
    return most


@pytest.mark.parametrize("order", [Vtc(), Fcfs()], ids=repr)
def test_a_heavy_client_does_not_keep_a_light_one_waiting(order: Order) -> None:
    """All as long. Of four that run nothing may be counted yet, so that nobody is more than five ahead; who comes first
    takes all seats first."""
    client = np.array(["heavy"] * 30 + ["light"] * 10, object)
    work = Workload.from_columns(np.zeros(40), np.full(40, 6), np.full(40, 5), client=client)
    run = live(work, System(POLICY, COST, order=order))
    assert (apart(run) <= 5) == (order == Vtc())


def test_users_bring_what_the_rows_say_that_they_take() -> None:
    spec = WorkloadSpec(
        requests=60,
        arrivals=Users(6, 0.0),
        prompt_tokens=Fixed(value=5),
        output_tokens=Fixed(value=4),
        max_output_tokens=8,
        prediction=1.0,
    )
    run = live(make_workload(spec, 2), System(Vllm(64, 2), COST, order=Sjf()))
    assert started_before(run, lambda entry: entry.known.predicted_output or 0) == []


# What is refused before anything runs.


@pytest.mark.parametrize(
    ("system", "match"),
    [
        (System(POLICY, COST, order=Priority()), "order priority: the workload has no column priority"),
        (System(POLICY, COST, order=Edf()), "order edf: the workload has no column ttft_slo_s"),
        (System(POLICY, COST, order=Vtc()), "order vtc: the workload has no column client"),
        (System(POLICY, COST, order=Sjf()), "order sjf: the workload has no column predicted_output_tokens"),
        (System(Sglang(4, 64), COST, order=Sjf()), "order: the policy does not start whom it finds at the head"),
        (System(Orca(4), COST, memory=Memory(4, 24)), "it reserves blocks for the maximum output of a request"),
    ],
)
def test_what_the_workload_does_not_say_is_refused(system: System, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        serve(workload(3), system, Strict(COST), clients="thread")


def test_a_policy_that_finds_no_predictions_ends_the_run_with_what_it_says() -> None:
    system = System(SrptPolicy(4, "swap"), COST)
    with pytest.raises(RunError, match="policy srpt: the workload has no column predicted_output_tokens"):
        serve(workload(3), system, Strict(COST), clients="thread")
