"""Orders of the queue by hand-made examples, closed forms and published bounds; and who refuses them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from simqueue import Affine, Continuous, Memory, Result, System, Workload, simulate
from simqueue.config import scenario_from
from simqueue.cost.linear import LinearCost
from simqueue.errors import ConfigError
from simqueue.kv import Blocks
from simqueue.order import Edf, Fcfs, LeastLaxity, OracleSjf, Order, Priority, Sjf, Srpt, Vtc
from simqueue.order.vtc import INPUT_WEIGHT, OUTPUT_WEIGHT, Counters
from simqueue.paged import PagedEngine
from simqueue.policy import Orca, Sarathi, Sglang, TensorrtLlm, Tgi, Vllm
from simqueue.record import Requests
from simqueue.sim.driver import drive
from simqueue.source import Columns
from simqueue.theory.priority import PriorityMG1
from simqueue.theory.shortest_job import ShortestJobFirst
from simqueue.units import Grid

# A second a token, so that a prompt of n tokens whose answer is one token is served for n seconds.
TOKENS = Affine(base_s=0.0, per_row_s=0.0, per_new_token_s=1.0)


def one_by_one(order: Order, arrival_s: Any, prompt: Any, output: Any | None = None, **extra: Any) -> Result:
    """A server of one seat."""
    output = np.ones(len(prompt), int) if output is None else output
    work = Workload.from_columns(arrival_s, prompt, output, **extra)
    return simulate(work, System(Orca(1), TOKENS, max_context_tokens=1000, order=order))


def served(result: Result) -> list[int]:
    """Ids in the order in which they started."""
    return np.argsort(result.scheduled, kind="stable").tolist()


# By hand. The first one runs while the others come.


def test_shortest_job_first_goes_by_prediction() -> None:
    knows = {"predicted_output_tokens": [1, 30, 20, 20, 10]}
    columns = ([0.0, 1, 2, 3, 4], [9, 2, 2, 2, 2], [1, 1, 2, 3, 4])
    assert served(one_by_one(Sjf(), *columns, **knows)) == [0, 4, 2, 3, 1]
    assert served(one_by_one(Srpt(), *columns, **knows)) == [0, 4, 2, 3, 1]
    assert served(one_by_one(OracleSjf(), *columns)) == [0, 1, 2, 3, 4]
    assert served(one_by_one(Fcfs(), *columns, **knows)) == [0, 1, 2, 3, 4]


def test_priority_and_its_aging() -> None:
    columns = ([0.0, 1, 2, 8], [9, 2, 2, 2])
    levels = {"priority": [0, 2, 1, 0]}
    assert served(one_by_one(Priority(), *columns, **levels)) == [0, 3, 2, 1]
    # A level for every 2 s: 1 + 4, 2 + 2 and 8 + 0.
    assert served(one_by_one(Priority(aging_s=2.0), *columns, **levels)) == [0, 2, 1, 3]
    # A level for every 5 s: 1 + 10, 2 + 5, 8.
    assert served(one_by_one(Priority(aging_s=5.0), *columns, **levels)) == [0, 2, 3, 1]


def test_deadlines_and_laxity() -> None:
    columns = ([0.0, 1, 2, 3, 4], [9, 8, 1, 2, 2])
    due = {"ttft_slo_s": [1.0, 19.0, 16.0, np.inf, 15.0]}
    # Due at 20, 18, never and 19.
    assert served(one_by_one(Edf(), *columns, **due)) == [0, 2, 4, 1, 3]
    # With a second a prompt token they have to start at 12, 17, whenever and 17.
    assert served(one_by_one(LeastLaxity(prompt_token_s=1.0), *columns, **due)) == [0, 1, 2, 4, 3]


def test_who_was_preempted_stands_by_the_rule_of_the_order() -> None:
    """Of two that decode the second is preempted when memory is short, and comes back before or behind a third."""
    work = {
        "arrival_s": [0.0, 0.0, 0.5],
        "prompt_tokens": [4, 4, 4],
        "output_tokens": [9, 9, 9],
        "predicted_output_tokens": [9, 9, 6],
    }
    cost = Affine(base_s=1.0)
    seated: dict[str, list[int]] = {}
    for order in (Fcfs(), Sjf(), Srpt()):
        result = simulate(
            Workload.of({k: np.array(v) for k, v in work.items()}, {}),
            System(Vllm(8, 8), cost, memory=Memory(block_size=4, num_blocks=4), order=order),
        )
        assert result.fates is not None
        assert result.fates.preemptions.tolist()[1] == 1
        [(_, lost, back, _)] = [row for row in result.fates.spells.tolist() if row[0] == 1]
        seated[type(order).__name__] = [lost, back, int(result.scheduled[2])]
    assert seated["Fcfs"][1] < seated["Fcfs"][2]
    # The third is the shorter one, for it is predicted to take 6 tokens, and the second 9.
    assert seated["Sjf"][1] > seated["Sjf"][2]
    # Of the 9 it has emitted 5: 4 are left.
    assert seated["Srpt"][1] < seated["Srpt"][2]


def test_clients_take_turns() -> None:
    """Prompts of a count 3, those of b 1; each answer counts 2."""
    columns = ([0.0] * 8, [3, 3, 3, 3, 1, 1, 1, 1])
    clients = {"client": ["a"] * 4 + ["b"] * 4}
    # Counters after each start: a 3 + 2; b 1 + 2, 6; a 10; b 9, 12; a 15; ...
    assert served(one_by_one(Vtc(), *columns, **clients)) == [0, 4, 5, 1, 6, 7, 2, 3]


def test_who_comes_back_has_saved_nothing() -> None:
    """b comes when a has been served for long: it is lifted to the counter of a, and does not take all the turns."""
    columns = ([0.0] * 9 + [11.0] * 6, [2] * 15)
    clients = {"client": ["a"] * 9 + ["b"] * 6}
    order = served(one_by_one(Vtc(), *columns, **clients))
    # Six of a have started by then (at 0, 2, ..., 10).
    assert order[:6] == [0, 1, 2, 3, 4, 5]
    assert [i >= 9 for i in order[6:12]] in ([True, False] * 3, [False, True] * 3)


def test_who_comes_to_an_empty_queue_is_lifted_to_who_left_it_last() -> None:
    columns = ([0.0, 0.0, 0.0, 5.0, 5.0, 5.5, 5.5], [2, 2, 2, 2, 2, 2, 2])
    clients = {"client": ["a", "a", "a", "b", "b", "a", "a"]}
    # a's counter is 10 when its third starts at 4; b begins at what a had then, and a has 2 more by its last token.
    assert served(one_by_one(Vtc(), *columns, **clients)) == [0, 1, 2, 3, 5, 4, 6]


def test_what_was_served_is_counted_once() -> None:
    """Some are preempted and computed again; nobody is lifted, for all are there from the start."""
    rng = np.random.default_rng(3)
    prompt, output = rng.integers(1, 9, (2, 40))
    requests = Requests(np.zeros(40, int), prompt, output, traits={"client": ["a", "b"] * 20})
    grid = Grid()
    engine = PagedEngine(Vllm(99, 9), requests, grid, Blocks(2, 14), longest=99, track_extremes=True, order=Vtc())
    drive(engine, requests, Columns(requests.arrival), LinearCost(100, 0, 0, 0))
    assert requests.preemptions.total() > 5
    counters = engine._line
    assert isinstance(counters, Counters)
    for k, client in enumerate("ab"):
        assert counters.count[client] == INPUT_WEIGHT * prompt[k::2].sum() + OUTPUT_WEIGHT * output[k::2].sum()


def test_between_events_a_line_stands_as_it_is() -> None:
    """Request 3 of a is next and does not fit. From the third step on b has had less than a, whose two decode, and
    request 4 of b would fit; but nobody has come or gone, and a leap would not ask."""
    columns = ([0.0] * 5, [1, 6, 1, 30, 3], [10, 10, 10, 1, 1])
    work = Workload.from_columns(*columns, client=["a", "b", "a", "a", "b"], max_output_tokens=columns[2])
    system = System(Orca(9), Affine(1.0), memory=Memory(block_size=1, num_blocks=45), order=Vtc())
    for longest_leap in (1, 99):
        result = simulate(work, system, longest_leap=longest_leap)
        assert result.grid.seconds(result.scheduled).tolist() == [0, 0, 0, 10, 10]


# Closed forms and bounds.


def replicated(measure: Any, exact: Any, replications: int = 6) -> None:
    """The mean over replications is within four standard errors of what theory says, and these are small."""
    found = np.array([measure(np.random.default_rng(seed)) for seed in range(replications)])
    mean, error = found.mean(axis=0), found.std(axis=0, ddof=1) / np.sqrt(replications)
    assert (error < 0.08 * np.asarray(exact)).all(), error / exact
    assert (np.abs(mean - exact) < 4 * error).all(), (mean, exact, error)


def queueing_s(result: Result) -> NDArray[np.float64]:
    return result.grid.seconds(result.queueing)


def test_priorities_as_cobham_says() -> None:
    rates = [0.1, 0.15]
    sizes = [np.array([1, 3]), np.array([2, 4])]
    exact = PriorityMG1(rates, [float(s.mean()) for s in sizes], [float(s.std() / s.mean()) for s in sizes])

    def measure(rng: np.random.Generator) -> NDArray[np.float64]:
        count = 4000
        whose = (rng.random(count) < rates[1] / sum(rates)).astype(int)
        prompt = np.where(whose == 0, *(rng.choice(s, count) for s in sizes))
        arrival_s = np.cumsum(rng.exponential(1 / sum(rates), count))
        result = one_by_one(Priority(), arrival_s, prompt, priority=whose)
        return np.array([queueing_s(result)[whose == k][500:].mean() for k in (0, 1)])

    replicated(measure, exact.class_queueing_s)


def test_shortest_job_first_as_phipps_says() -> None:
    """Of one token each; the prediction stands for how long it takes, which is its prompt."""
    size, rate = np.array([1, 2, 6]), 0.28
    exact = ShortestJobFirst(rate, size.tolist(), [0.5, 0.25, 0.25])

    def measure(rng: np.random.Generator) -> NDArray[np.float64]:
        prompt = rng.choice(size, 4000, p=[0.5, 0.25, 0.25])
        arrival_s = np.cumsum(rng.exponential(1 / rate, 4000))
        result = one_by_one(Sjf(), arrival_s, prompt, predicted_output_tokens=prompt)
        return np.array([queueing_s(result)[prompt == s][100:].mean() for s in size])

    replicated(measure, exact.queueing_by_service_s)


@pytest.mark.parametrize("seats", [1, 4, 16])
def test_shares_of_backlogged_clients_differ_by_no_more_than_the_bound(seats: int) -> None:
    """Theorem 4.4 of the paper: at most 2 max(wp L, wq M), with L the longest prompt and M the tokens that memory
    holds. First come first served knows no bound."""
    rng = np.random.default_rng(seats)
    heavy, light, most = 150, 400, 90
    prompt = np.concatenate([rng.integers(20, 41, heavy), rng.integers(1, 9, light)])
    output = np.concatenate([rng.integers(20, 41, heavy), rng.integers(1, 21, light)])
    client = np.array(["heavy"] * heavy + ["light"] * light)
    memory = Memory(block_size=1, num_blocks=most * seats)
    bound = 2 * max(INPUT_WEIGHT * prompt.max(), OUTPUT_WEIGHT * most * seats)
    apart: dict[str, int] = {}
    for order in (Fcfs(), Vtc()):
        work = Workload.from_columns(np.zeros(len(prompt)), prompt, output, client=client, max_output_tokens=output)
        system = System(Orca(seats), Affine(1.0, 0.1, 0.01), memory=memory, order=order)
        apart[type(order).__name__] = widest_gap(simulate(work, system), client == "heavy")
    assert apart["Vtc"] <= bound
    assert apart["Fcfs"] > bound


def widest_gap(result: Result, heavy: NDArray[np.bool_]) -> int:
    """The most that the two were served apart while both had somebody waiting, in weighted tokens."""
    work, ends = result.workload, result.step_ends
    both = ends[ends <= min(result.scheduled[heavy].max(), result.scheduled[~heavy].max())]
    service = np.zeros((2, len(both)), int)
    for i, whose in enumerate(heavy.tolist()):
        first, last = (int(np.searchsorted(both, at)) for at in (result.first_token[i], result.finished[i]))
        service[int(whose), first:] += INPUT_WEIGHT * int(work.prompt_tokens[i])
        tokens = np.clip(np.arange(len(both)) - first + 1, 0, last - first + 1)
        service[int(whose)] += OUTPUT_WEIGHT * tokens
    return int(np.abs(service[0] - service[1]).max())


def test_orders_look_at_no_true_output_length() -> None:
    """But for the oracle: with other outputs, who starts first among those who wait from the start is the same."""
    columns = {
        "arrival_s": np.zeros(12),
        "prompt_tokens": np.arange(12) % 5 + 1,
        "predicted_output_tokens": np.arange(12) * 7 % 11 + 1,
        "priority": np.arange(12) * 5 % 3,
        "ttft_slo_s": np.arange(12) * 5 % 7 + 1.0,
        "client": np.array(["a", "b", "c"] * 4),
    }
    for order in (Sjf(), Srpt(), Priority(), Edf(), LeastLaxity(prompt_token_s=0.1), OracleSjf()):
        one, other = (
            served(
                simulate(
                    Workload.of(columns | {"output_tokens": output}, {}),
                    System(Orca(1), TOKENS, max_context_tokens=99, order=order),
                )
            )
            for output in (np.arange(12) + 1, np.arange(12)[::-1] + 1)
        )
        assert (one == other) is not isinstance(order, OracleSjf), order


# Who refuses what.


@pytest.mark.parametrize(
    "policy", [Continuous(4), Sglang(), TensorrtLlm(), Vllm(policy="priority")], ids=lambda p: type(p).__name__
)
def test_policies_with_a_queue_of_their_own_refuse_an_order(policy: Any) -> None:
    work = Workload.from_columns([0.0], [1], [1])
    with pytest.raises(ConfigError, match=r"^order: the policy does not start whom it finds at the head .*: take one"):
        simulate(work, System(policy, Affine(1.0), order=OracleSjf()))
    simulate(work, System(policy, Affine(1.0), max_context_tokens=99, order=Fcfs()))


@pytest.mark.parametrize("policy", [Vllm(), Sarathi(), Tgi(), Orca(4)], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize(
    ("order", "column"),
    [
        (Sjf(), "predicted_output_tokens"),
        (Srpt(), "predicted_output_tokens"),
        (Priority(), "priority"),
        (Edf(), "ttft_slo_s"),
        (LeastLaxity(prompt_token_s=1.0), "ttft_slo_s"),
        (Vtc(), "client"),
    ],
    ids=repr,
)
def test_what_an_order_goes_by_must_be_there(policy: Any, order: Order, column: str) -> None:
    work = Workload.from_columns([0.0], [1], [1])
    with pytest.raises(ConfigError, match=f"the workload has no column {column}: give "):
        simulate(work, System(policy, Affine(1.0), max_context_tokens=99, order=order))


def test_knobs() -> None:
    with pytest.raises(ConfigError, match=r"order priority: aging_s = 0\.0 must be a positive, finite number"):
        Priority(aging_s=0.0)
    with pytest.raises(ConfigError, match=r"order least-laxity: prompt_token_s = -1\.0 must be a positive"):
        LeastLaxity(prompt_token_s=-1.0)


def test_in_a_scenario() -> None:
    table = {
        "workload": {
            "requests": 9,
            "arrivals": {"kind": "poisson", "rate": 1.0},
            "prompt_tokens": {"kind": "fixed", "value": 9},
            "output_tokens": {"kind": "fixed", "value": 9},
        },
        "system": {
            "policy": {"kind": "vllm"},
            "cost": {"kind": "affine", "base_s": 1.0},
            "order": {"kind": "priority", "aging_s": 3.0},
        },
    }
    assert scenario_from(table, "scenario.toml").system.order == Priority(aging_s=3.0)
    table["system"]["order"] = {"kind": "sfj"}
    with pytest.raises(ConfigError, match=r"system\.order: unknown kind 'sfj'; did you mean 'sjf'\?"):
        scenario_from(table, "scenario.toml")
    table["system"] |= {"order": {"kind": "sjf"}, "policy": {"kind": "continuous", "max_seqs": 4}}
    with pytest.raises(ConfigError, match=r"system: order: the policy does not start whom it finds at the head"):
        scenario_from(table, "scenario.toml")
