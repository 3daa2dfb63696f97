"""Objectives: per replica that was paid for, and what a million tokens cost."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from questions import Ask

from simqueue.optimise.front import difference, gap, may_be_better
from simqueue.optimise.goal import COST, PER_REPLICA, Goal
from simqueue.optimise.trial import Task, Trial, case_of, scenario_of, tried

SCALED = """
[cluster]
replicas = 3
router = { kind = "least-requests" }
autoscaling = { by = "queue", target = 2, every_s = 5.0 }
"""


def one(ask: Ask, more: str = "", length: int = 0, **options: object) -> tuple[Trial, Goal]:
    """The first point of a question."""
    question = ask(more, vary=["system.cost.base_s=[0.5, 0.6]"], **options)
    point = next(question.space.each())
    trial = tried(Task(0, point, question.table, question.path, question.goal, length))
    assert isinstance(trial, Trial)
    return trial, question.goal


def test_a_million_tokens_cost_what_the_gpus_of_their_hours_cost(ask: Ask) -> None:
    trial, goal = one(
        ask, price=3.6, gpus=2, overrides=["workload.output_tokens.value=5", "workload.arrivals.rate=0.2"]
    )
    rps = trial.figures[PER_REPLICA].value
    # Every answer has 5 tokens; the replica has 2 GPUs, of 3.6 an hour each: 0.002 a second.
    assert trial.figures[COST].value == pytest.approx(2 * 0.001 / (5 * rps) * 1e6, rel=0.02)
    assert goal.score(1.0) > goal.score(2.0)


def test_goodput_is_of_those_that_met_their_limits(ask: Ask) -> None:
    trial, _ = one(ask, overrides=["workload.ttft_slo_s=0.5", "workload.arrivals.rate=1.0"])
    # Whoever finds somebody there waits, and half of the time somebody is there.
    assert trial.figures[PER_REPLICA].value == pytest.approx(0.5, rel=0.15)


def test_what_is_served_is_what_comes_however_long_the_last_answers_take(ask: Ask) -> None:
    # An answer takes 3 s, in which 5 more come.
    words = ["workload.arrivals={kind='constant', rate=1.8}", "system.policy={kind='continuous', max_seqs=8}"]
    trial, _ = one(ask, overrides=[*words, "workload.output_tokens.value=6"])
    assert trial.figures[PER_REPLICA].value == pytest.approx(1.8, rel=1e-9)


def test_late_tokens_are_paid_for_and_not_counted(ask: Ask) -> None:
    words = ["workload.arrivals.rate=1.0"]
    all_of_them, _ = one(ask, length=2, price=1.0, overrides=words)
    in_time, _ = one(ask, length=2, price=1.0, overrides=[*words, "workload.ttft_slo_s=0.5"])
    shares = in_time.figures[PER_REPLICA].value / all_of_them.figures[PER_REPLICA].value
    assert in_time.figures[COST].value == pytest.approx(all_of_them.figures[COST].value / shares, rel=0.03)


def test_replicas_that_come_and_go_count_for_as_long_as_they_are_there(ask: Ask) -> None:
    trial, _ = one(ask, SCALED, overrides=["workload.arrivals.rate=2.0"])
    assert 1 < trial.replicas < 3
    assert trial.figures[PER_REPLICA].value == pytest.approx(2.0 / trial.replicas, rel=0.1)


def test_paired_differences_are_those_of_their_definition(ask: Ask) -> None:
    trial, goal = one(ask, overrides=["workload.arrivals.rate=0.5"])
    runs = trial.by_run[PER_REPLICA]
    faster = _with(trial, PER_REPLICA, [1.1 * run for run in runs[:-1]] + [1.2 * runs[-1]])
    found = difference(PER_REPLICA, trial, faster)
    assert found.value == pytest.approx(0.12)
    # Four of 0.1 and one of 0.2: the standard error of their mean is 0.02, and Student's t 2.776.
    assert found.half_width == pytest.approx(2.776 * 0.02, rel=1e-3)
    assert may_be_better(goal, faster, trial)
    assert not may_be_better(goal, _with(trial, PER_REPLICA, [0.9 * run for run in runs]), trial)
    same = gap(goal, trial, trial)
    assert same.figure == goal.latency
    assert not same.told


def test_a_price_turns_better_around(ask: Ask) -> None:
    trial, goal = one(ask, price=1.0, overrides=["workload.arrivals.rate=0.5"])
    dear = _with(trial, COST, [1.3 * run for run in trial.by_run[COST]])
    assert not may_be_better(goal, dear, trial)
    assert may_be_better(goal, trial, dear)


def test_nothing_is_worth_less_than_nothing() -> None:
    goal = Goal((), "response_s.p99", price=1.0)
    assert goal.score(math.inf) < goal.score(1e9) < goal.score(1.0)


def test_a_point_is_at_the_rate_that_it_says(ask: Ask) -> None:
    arrivals = "workload.arrivals={kind='mmpp', rates=[2.0, 0.0], mean_stay_s=[3.0, 3.0]}"
    question = ask(vary=["rate=0.25..0.26"], slo=["response_s.mean <= 900"], overrides=[arrivals])
    [low, _] = next(question.space.corners())
    trial = tried(Task(0, low, question.table, question.path, question.goal))
    assert isinstance(trial, Trial)
    assert trial.rate == pytest.approx(0.25)
    assert case_of(scenario_of(low, question.table, question.path)).spec.mean_rate == pytest.approx(1.0)


def _with(trial: Trial, figure: str, runs: list[float]) -> Trial:
    return replace(trial, by_run={**trial.by_run, figure: tuple(runs)})
