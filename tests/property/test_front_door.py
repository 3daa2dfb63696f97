"""Clients who give up and servers that turn away: equal to a slow reference, leaping is stepping, nobody is lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import reference
from closed_loops import closed_scenarios
from hypothesis import given, settings
from hypothesis import strategies as st
from leaps import alike, answered
from msgspec.structs import replace
from reference import StepShape
from scenarios import POLICIES, PS, loads, scenarios
from short_memory import KINDS, scenes
from test_laws import area

from simqueue import (
    Admission,
    Affine,
    Continuous,
    Dynamic,
    Overheads,
    Result,
    SimqueueError,
    System,
    Workload,
    simulate,
)
from simqueue.cost.base import UNLIMITED
from simqueue.fates import OUTCOMES
from simqueue.policy import BatchingPolicy

Mode = Literal["continuous", "batch", "request"]
EXAMPLES = settings.default.max_examples // 8


# The slow reference: every arrival and every giving up is an event at its own instant.


@dataclass
class Slow:
    """One server with ``seats``: continuous batching, or whatever waits to completion, with answers that leave with the
    batch or one by one. Ticks; patience and limits None where there are none."""

    arrival: tuple[int, ...]
    prompt: tuple[int, ...]
    output: tuple[int, ...]
    patience: list[int | None]
    seats: int
    mode: Mode
    price: reference.Affine
    max_queue: int | None
    max_age: int | None
    queue: list[int] = field(default_factory=list)
    gone: list[tuple[int, int]] = field(default_factory=list)
    fates: dict[int, tuple[str, int, int, int]] = field(default_factory=dict)

    def run(self) -> list[tuple[str, int, int, int]]:
        """``(outcome, scheduled, first token, finished)`` by request."""
        comes = [(at, 0, i) for i, at in enumerate(self.arrival)]
        leaves = [(self.arrival[i] + p, 1, i) for i, p in enumerate(self.patience) if p is not None]
        self.calendar = sorted(comes + leaves)
        now = 0
        while self.calendar or self.queue:
            self.happen(now)
            if self.queue:
                now = self.continuous(now) if self.mode == "continuous" else self.batch(now)
            elif self.calendar:
                now = self.calendar[0][0]
        return [self.fates[i] for i in range(len(self.arrival))]

    def happen(self, until: int) -> None:
        while self.calendar and self.calendar[0][0] <= until:
            at, gives_up, i = self.calendar.pop(0)
            if gives_up:
                if i in self.queue:
                    self.queue.remove(i)
                    self.fates[i] = ("abandoned", at, at, at)
                else:
                    self.gone.append((at, i))
            elif self.full(at):
                self.fates[i] = ("rejected", at, at, at)
            else:
                self.queue.append(i)

    def full(self, at: int) -> bool:
        age = at - self.arrival[self.queue[0]] if self.queue else 0
        many = self.max_queue is not None and len(self.queue) >= self.max_queue
        return many or (self.max_age is not None and age > self.max_age)

    def continuous(self, now: int) -> int:
        """Until nobody runs or waits: joins and leaves at every step."""
        running: dict[int, int] = {}
        begun: dict[int, tuple[int, int]] = {}
        while running or self.queue:
            new, self.queue = self.queue[: self.seats - len(running)], self.queue[self.seats - len(running) :]
            context = sum(self.prompt[i] + done - 1 for i, done in running.items())
            tokens = sum(self.prompt[i] for i in new)
            shape = StepShape(len(running), context, prefill_rows=len(new), new_tokens=tokens)
            end = now + self.price(shape)
            begun |= dict.fromkeys(new, (now, end))
            running = {i: done + 1 for i, done in (running | dict.fromkeys(new, 0)).items()}
            for i in [i for i, done in running.items() if done == self.output[i]]:
                self.fates[i] = ("completed", *begun[i], end)
                del running[i]
            now = end
            self.happen(now)
        return now

    def batch(self, now: int) -> int:
        """To its end; rows of those who give up go on with it, and end it if nobody else has tokens to come."""
        rows, self.queue = self.queue[: self.seats], self.queue[self.seats :]
        here, start, first_token, done = rows.copy(), now, now, 0
        while here and (not done or done < max(self.output[i] for i in here)):
            shape = (
                StepShape(len(rows), sum(self.prompt[i] + done - 1 for i in rows))
                if done
                else StepShape(prefill_rows=len(rows), new_tokens=sum(self.prompt[i] for i in rows))
            )
            now += self.price(shape)
            done += 1
            first_token = now if done == 1 else first_token
            if self.mode == "request":
                for i in [i for i in here if self.output[i] == done]:
                    self.fates[i] = ("completed", start, first_token, now)
            self.gone = []
            self.happen(now)
            # Whoever gives up in the last step is answered with it.
            for at, i in self.gone if self.mode == "batch" else ():
                if i in here and done < max(self.output[j] for j in here):
                    here.remove(i)
                    self.fates[i] = ("abandoned", start, at, at)
        if self.mode == "batch":
            self.fates |= dict.fromkeys(here, ("completed", start, now, now))
        return now


_POLICIES: dict[Mode, Any] = {
    "continuous": Continuous,
    "batch": lambda seats: Dynamic(max_batch=seats),
    "request": lambda seats: Dynamic(max_batch=seats, release="request"),
}
_COSTS = st.sampled_from([(10, 0, 0, 0), (5, 1, 2, 1), (1, 3, 0, 2), (7, 0, 5, 0)])
_PATIENCE = st.sampled_from(
    [st.none() | st.integers(1, 40), st.integers(1, 3), st.integers(1, 300), st.sampled_from([10, 20, 30])]
)
_MAX_QUEUE = st.none() | st.integers(1, 5)
_MAX_AGE = st.none() | st.sampled_from([0, 10, 37])


def seconds(ticks: int | None) -> float:
    return np.inf if ticks is None else ticks * PS


def admission(max_queue: int | None, max_age: int | None) -> Admission | None:
    if max_queue is None and max_age is None:
        return None
    return Admission(max_queue, None if max_age is None else max_age * PS)


@pytest.mark.parametrize("mode", _POLICIES)
def test_equals_a_reference_in_which_everything_happens_at_its_own_instant(mode: Mode) -> None:
    @settings(max_examples=EXAMPLES)
    @given(loads(), st.data())
    def equal(load: Any, data: st.DataObject) -> None:
        arrival, prompt, output = load
        patience = data.draw(st.lists(data.draw(_PATIENCE), min_size=len(arrival), max_size=len(arrival)))
        seats, ticks = data.draw(st.integers(1, 5)), data.draw(_COSTS)
        max_queue, max_age = data.draw(_MAX_QUEUE), data.draw(_MAX_AGE)
        slow = Slow(arrival, prompt, output, patience, seats, mode, reference.Affine(*ticks), max_queue, max_age)
        expected = slow.run()
        workload = Workload.from_columns(
            [a * PS for a in arrival], prompt, output, patience_s=np.array([seconds(p) for p in patience])
        )
        policy: BatchingPolicy = _POLICIES[mode](seats)
        system = System(policy, Affine(*(t * PS for t in ticks)), admission=admission(max_queue, max_age))
        for longest_leap in (UNLIMITED, 1, 3):
            result = answered(workload, system, longest_leap=longest_leap)
            if result is None:
                assert "completed" not in {outcome for outcome, *_ in expected}
                return
            assert result.fates is not None
            columns = (result.fates.names(), result.scheduled, result.first_token, result.finished)
            assert list(zip(*(c.tolist() for c in columns), strict=True)) == expected

    equal()


def followed(workload: Workload, system: System, seed: int) -> Result | None:
    """Leaping is stepping, and everybody has one outcome; returns the result."""
    if result := alike(workload, system, seed):
        assert result.fates is not None
        assert sum(result.fates.counts(0).values()) == len(workload)
    return result


def with_patience(workload: Workload, data: st.DataObject, scale: float) -> Workload:
    some = st.sampled_from([0.1, 1.0, 3.0, 10.0, np.inf])
    patience = np.array([data.draw(some) for _ in range(len(workload))]) * scale
    return Workload.of(workload.columns | {"patience_s": patience}, workload.meta)


def laws(result: Result, system: System) -> None:
    fates = result.fates
    assert fates is not None
    patience_s = result.workload.extra["patience_s"]
    gone = fates.outcome == OUTCOMES.index("abandoned")
    path = result.grid.ticks(system.overheads.request_path_s)
    leaves = np.maximum(np.rint(np.where(gone, patience_s, 0) * result.grid.ticks_per_s).astype(np.int64), path)
    assert np.array_equal(result.response[gone], leaves[gone])
    assert np.array_equal(result.response, result.queueing + result.service)
    # Little: areas under counts are sums of times, of all requests.
    assert area(result.arrival, result.finished) == result.response.sum()
    assert area(result.arrival, result.scheduled) == result.queueing.sum()
    held = result.steps()
    assert (held["decode_rows"] >= 0).all()
    assert (held["held_rows"] >= 0).all()


@pytest.mark.parametrize("kind", POLICIES)
def test_leaping_is_stepping(kind: str) -> None:
    @settings(max_examples=EXAMPLES)
    @given(scenarios(kind), st.data())
    def law(scenario: Any, data: st.DataObject) -> None:
        system = replace(scenario.system, admission=admission(data.draw(_MAX_QUEUE), data.draw(_MAX_AGE)))
        workload = with_patience(scenario.workload, data, data.draw(st.sampled_from([10 * PS, 100 * PS, 1e-3])))
        if result := followed(workload, system, scenario.seed):
            laws(result, system)

    law()


@pytest.mark.parametrize("kind", POLICIES)
def test_users_who_give_up_ask_again(kind: str) -> None:
    @settings(max_examples=EXAMPLES)
    @given(closed_scenarios(kind), st.data())
    def law(scenario: Any, data: st.DataObject) -> None:
        system = replace(scenario.system, admission=admission(data.draw(_MAX_QUEUE), None))
        workload = with_patience(scenario.workload, data, data.draw(st.sampled_from([10 * PS, 100 * PS, 1e-3])))
        if result := followed(workload, system, scenario.seed):
            assert (np.diff(result.arrival) >= 0).all()
            laws(result, system)

    law()


@pytest.mark.parametrize("kind", KINDS)
def test_leaping_is_stepping_where_memory_is_short(kind: str) -> None:
    @settings(max_examples=EXAMPLES)
    @given(scenes(kind), st.data())
    def law(scene: Any, data: st.DataObject) -> None:
        limits = admission(data.draw(_MAX_QUEUE), None) or Admission(max_predicted_ttft_s=0.01)
        system = replace(scene.system, admission=limits)
        workload = with_patience(scene.workload, data, data.draw(st.sampled_from([1e-3, 1e-2])))
        if result := followed(workload, system, scene.seed):
            laws(result, system)

    law()


def test_an_answer_that_has_left_counts_and_whoever_gives_up_knows_at_once(tmp_path: Path) -> None:
    """One at a time, a second each: the second one leaves the queue at 0.9 s; the third one's token leaves at 2 s, and
    is there at 2.5 s, after the client's patience has ended, which is no giving up."""
    workload = Workload.from_columns(
        [0.0, 0.0, 0.0], [1, 1, 1], [1, 1, 1], patience_s=[np.inf, 0.9, 2.2], ttft_slo_s=[2.0, 2.0, 2.0]
    )
    system = System(Continuous(1), Affine(base_s=1.0), overheads=Overheads(response_path_s=0.5))
    result = simulate(workload, system)
    assert result.requests()["outcome"].tolist() == ["completed", "abandoned", "completed"]
    assert result.requests()["response_s"].tolist() == [1.5, 0.9, 2.5]
    summary = result.summary()
    assert summary["outcomes"]["abandoned"] == 1
    assert summary["throughput_rps"] == 2 / 2.5
    assert summary["goodput_rps"] == 1 / 2.5
    result.save(tmp_path / "out")
    again = Result.load(tmp_path / "out")
    assert again.summary() == summary
    assert again.requests()["outcome"].tolist() == ["completed", "abandoned", "completed"]


def test_a_user_who_gives_up_thinks_at_once() -> None:
    """The other one is answered from 0 to 1 s; the way back of an answer is not that of giving up at 0.4 s."""
    extra = {"think_s": np.array([0.0, 0.0, 0.25]), "patience_s": np.array([np.inf, 0.4, np.inf])}
    workload = Workload(np.zeros(3), np.ones(3), np.ones(3), extra, {"users": 2})
    result = simulate(workload, System(Continuous(1), Affine(base_s=1.0), overheads=Overheads(response_path_s=0.5)))
    assert result.grid.seconds(result.arrival).tolist() == [0.0, 0.0, 0.65]
    assert result.requests()["response_s"].tolist() == [1.5, 0.4, 1.85]


def test_whoever_gives_up_holds_a_row_until_the_batch_ends() -> None:
    """A second a step. The first one's client leaves in the fifth, after which nobody has tokens to come: the batch
    ends there with the other one's answer, and the hand-over begins."""
    workload = Workload.from_columns(
        [0.0, 0.0, 0.0], [1, 1, 1], [10, 2, 1], patience_s=[4.5, np.inf, np.inf], ttft_slo_s=[1.0, 5.0, 5.0]
    )
    over = Overheads(handover_s=1.0, handover_per_request_s=0.25)
    result = simulate(workload, System(Dynamic(2), Affine(base_s=1.0), overheads=over))
    table, steps = result.requests(), result.steps()
    assert table["response_s"].tolist() == [4.5, 5.0, 7.5]
    assert table["queueing_s"].tolist() == [0.0, 0.0, 6.5]
    assert steps["decode_rows"].tolist() == [0, 2, 1, 1, 1, 0]
    assert steps["held_rows"].tolist() == [0, 0, 1, 1, 1, 0]
    assert result.summary()["goodput_rps"] == 1 / 7.5


def test_goodput_is_throughput_where_limits_are_wide() -> None:
    workload = Workload.from_columns([0.0, 0.1], [4, 4], [1, 5], tpot_slo_s=[1e-9, np.inf])
    summary = simulate(workload, System(Continuous(2), Affine(base_s=0.01))).summary()
    assert summary["goodput_rps"] == summary["throughput_rps"]
    # A single token has no TPOT; the other one's is 10 ms.
    tight = Workload.from_columns([0.0, 0.1], [4, 4], [1, 5], tpot_slo_s=[1e-9, 9.9e-3])
    summary = simulate(tight, System(Continuous(2), Affine(base_s=0.01))).summary()
    assert summary["goodput_rps"] == summary["throughput_rps"] / 2


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "give max_queue"),
        ({"max_queue": 0}, "max_queue = 0"),
        ({"max_predicted_ttft_s": -1.0}, "max_predicted_ttft_s = -1.0"),
    ],
)
def test_limits_that_make_no_sense(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(SimqueueError, match=words):
        Admission(**fields)


def test_nobody_answered_is_refused() -> None:
    workload = Workload.from_columns([0.0, 0.0], [1, 1], [1, 1], patience_s=[np.inf, 0.5])
    system = System(Continuous(1), Affine(base_s=1.0))
    with pytest.raises(SimqueueError, match=r"no request was answered \(1 abandoned\)"):
        simulate(workload, system, warmup=1)
