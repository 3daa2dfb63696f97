"""What a search finds, against closed forms and against every point run long."""

from __future__ import annotations

import math
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import pairwise
from multiprocessing import get_context

import pytest
from questions import Ask

from simqueue.errors import ConfigError
from simqueue.optimise.answer import Answer, answer_of
from simqueue.optimise.front import best, front, latency, score
from simqueue.optimise.question import Question
from simqueue.optimise.race import BATCH, LONGEST, Race
from simqueue.optimise.search import Worth
from simqueue.optimise.trial import Task, Trial, tried
from simqueue.theory import MM1

# Arrivals dealt at random are Poisson at every replica.
MM1S = """
[cluster]
replicas = 4
router = { kind = "random" }
"""
EXPONENTIAL = ("system.noise={kind='exponential'}",)


def found(question: Question) -> tuple[Race, Answer]:
    race = question.race()
    question.run(race, 1)
    return race, answer_of(race)


def every_point(question: Question, length: int = 1) -> list[Trial]:
    """All of them, with fresh seeds."""
    tasks = (
        Task(number, point, question.table, question.path, question.goal, length, fresh=True)
        for number, point in enumerate(question.space.each())
    )
    return [one for task in tasks if isinstance(one := tried(task), Trial)]


def test_the_fewest_replicas_that_keep_a_limit(ask: Ask) -> None:
    question = ask(
        MM1S,
        vary=["cluster.replicas=2..4"],
        slo=["response_s.mean <= 2.1"],
        overrides=[*EXPONENTIAL, "workload.arrivals.rate=1.2"],
    )
    _, answer = found(question)
    fewest = next(n for n in range(2, 5) if MM1(1.2 / n, 1.0).mean_response_s <= 2.1)
    assert answer.confirmed
    assert answer.chosen is not None
    assert answer.chosen.point.named == {"cluster.replicas": fewest}
    assert answer.chosen.figures["per_replica_rps"].value == pytest.approx(1.2 / fewest, rel=0.06)
    # More replicas are less for each, beyond doubt, and lower times: that is the front.
    assert [gap.told for gap in answer.gaps] == [True] * len(answer.gaps)
    assert [trial.point.named["cluster.replicas"] for trial in answer.front] == list(range(fewest, 5))
    assert all(latency(question.goal, a) > latency(question.goal, b) for a, b in pairwise(answer.front))


def test_the_highest_rate_that_keeps_a_limit(ask: Ask) -> None:
    # 1 / (1 - rate) is at most 4 up to 0.75.
    question = ask(vary=["rate=0.1..0.99"], slo=["response_s.mean <= 4"], trials=BATCH + 4, overrides=EXPONENTIAL)
    race, answer = found(question)
    assert answer.chosen is not None
    assert 0.5 < answer.chosen.figures["per_replica_rps"].value < 0.77
    assert answer.chosen.rate == pytest.approx(answer.chosen.point.of("rate"), rel=1e-12)
    assert answer.chosen.load == pytest.approx(answer.chosen.rate, rel=0.1)
    assert answer.chosen.fresh
    # Few points are worth long runs.
    lengths = [trial.length for trial in race.searched]
    assert 0 < lengths.count(LONGEST) < len(lengths) / 2


def test_load_is_the_rate_over_what_each_can_do(ask: Ask) -> None:
    question = ask(vary=["load=0.2..0.21", "system.cost.base_s=[1.0, 2.0]"], slo=["response_s.mean <= 9"], trials=2)
    race, _ = found(question)
    for trial in race.searched:
        base_s = trial.point.named["system.cost.base_s"]
        assert trial.rate == pytest.approx(trial.point.named["load"] / base_s, rel=1e-6)


def test_where_the_rate_is_given_the_least_latency_decides(ask: Ask) -> None:
    # A batch waits for company, but a larger one takes hardly longer.
    question = ask(
        vary=["system.policy=[{kind='static', batch='1..7', release='request'}]"],
        slo=["utilisation <= 0.9"],
        overrides=["system.cost.per_row_s=0.05", "workload.arrivals.rate=1.5"],
    )
    _, answer = found(question)
    all_of_them = [one for one in every_point(question) if one.keeps(question.goal.limits)]
    assert answer.chosen is not None
    assert answer.chosen.point == best(question.goal, all_of_them).point
    assert latency(question.goal, answer.chosen) == pytest.approx(
        min(latency(question.goal, one) for one in all_of_them), rel=0.05
    )


def test_goodput_decides_where_requests_are_promised_something(ask: Ask) -> None:
    overrides = ["workload.ttft_slo_s=4.0", "workload.arrivals.rate=1.2", "system.cost.per_row_s=0.02"]
    vary = ["system.policy=[{kind='static', batch='1..6', release='request'}]", "rate=[1.2]"]
    question = ask(vary=vary[:1], overrides=overrides)
    _, answer = found(question)
    brute = best(question.goal, every_point(question))
    assert answer.chosen is not None
    assert score(question.goal, answer.chosen) == pytest.approx(score(question.goal, brute), abs=0.03)
    assert answer.chosen.figures["per_replica_rps"].value < 1.2
    with pytest.raises(ConfigError, match="is no range"):
        ask(vary=vary, overrides=overrides)


def test_a_sampler_comes_near_the_best_of_all_points(ask: Ask) -> None:
    table = """
[optimise]
load = "0.1..0.95"
"system.policy" = [{ kind = "none" }, { kind = "static", batch = "1..30", release = "request" }]
"""
    question = ask(table, slo=["response_s.p95 <= 6"], trials=3 * BATCH, overrides=["system.cost.per_row_s=0.1"])
    assert question.space.size == math.inf
    _, answer = found(question)
    # Alone a request takes 1.1, so that at most 0.9 are served in a second; in batches of b it is b / (1 + 0.1 b).
    assert answer.chosen is not None
    assert answer.chosen.point.named["system.policy"] == "static"
    assert answer.chosen.figures["per_replica_rps"].value > 1.5


def test_the_same_numbers_in_other_processes(ask: Ask) -> None:
    question = ask(vary=["system.cost.base_s=[0.1, 0.2, 0.3]"], slo=["response_s.mean <= 3"], overrides=EXPONENTIAL)
    races = [question.race() for _ in range(2)]
    # Forked ones begin at once, and know of shorter runs too.
    with ProcessPoolExecutor(2, get_context("fork")) as races[1].processes:
        for race in races:
            race.look()
            race.settle()
    assert races[0].found == races[1].found
    assert races[0].finalists == races[1].finalists
    assert races[0].finalists


def test_a_seed_asks_for_the_same_points(ask: Ask) -> None:
    question = ask(vary=["rate=0.1..0.9", "system.cost.base_s=0.1..1.0"], slo=["response_s.mean <= 3"], trials=99)
    asked = []
    for _ in range(2):
        search, points = question.race().search, list[str]()
        for batch in range(4):
            points += [point.key for point in search.ask(BATCH)]
            search.tell([Worth(batch, i, 0.0) for i in range(BATCH)])
        asked.append(points)
    assert asked[0] == asked[1]
    assert len(set(asked[0])) == 4 * BATCH


def test_a_point_that_is_asked_for_again_is_not_run_again(ask: Ask) -> None:
    question = ask(
        vary=["system.cost.base_s=[0.1, 0.2]", "system.noise.cv=[0.1, 0.2]"],
        overrides=["system.noise.kind='lognormal'"],
    )
    race = question.race()
    points = race.search.ask(2)
    race._run_all(points)
    spent = race.spent
    race._run_all(points)
    assert race.spent == spent
    assert len(race.found) == 2


def test_points_that_cannot_be_run_are_told_and_counted(ask: Ask) -> None:
    # A memory of 0 blocks is none.
    question = ask(
        vary=["system.memory.num_blocks=0..2"], overrides=["system.policy={kind='vllm'}", "workload.arrivals.rate=0.5"]
    )
    race, answer = found(question)
    assert [failure.point.named for failure in race.failures] == [{"system.memory.num_blocks": 0}]
    assert "num_blocks = 0 must be at least 1" in race.failures[0].reason
    assert answer.chosen is not None


def test_if_none_can_be_run_the_reason_is_told(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    question = ask(vary=["system.cost.base_s=1..2.0"], trials=2, latency="tpot_s.p99")
    with pytest.raises(ConfigError, match=r"none of 2 points can be run: these runs have no tpot_s\.p99"):
        question.run(question.race(), 1)


def test_if_no_point_keeps_the_limits_the_nearest_is_told(ask: Ask) -> None:
    question = ask(vary=["system.cost.base_s=[0.3, 0.1, 0.2]"], slo=["response_s.mean <= 0.05"])
    _, answer = found(question)
    assert answer.chosen is None
    assert answer.front == ()
    assert answer.nearest is not None
    assert answer.nearest.point.named == {"system.cost.base_s": 0.1}


def test_what_an_interrupted_search_has_found_is_there(ask: Ask) -> None:
    question = ask(vary=["system.cost.base_s=0.1..0.3"], trials=40, slo=["response_s.mean <= 0.5"])

    def interrupt(race: Race) -> None:
        if len(race.found) > BATCH + 2:
            raise KeyboardInterrupt

    race = question.race(interrupt)
    with pytest.raises(KeyboardInterrupt):
        question.run(race, 1)
    answer = answer_of(race)
    assert not answer.confirmed
    assert answer.chosen is not None
    assert answer.gaps == ()
    assert BATCH < len(race.searched) < 40


def test_an_interrupted_end_has_an_answer(ask: Ask) -> None:
    question = ask(vary=["system.cost.base_s=[0.2, 0.3]"], slo=["response_s.mean <= 0.35"])

    def interrupt(race: Race) -> None:
        if race.finalists:
            raise KeyboardInterrupt

    race = question.race(interrupt)
    with pytest.raises(KeyboardInterrupt):
        question.run(race, 1)
    answer = answer_of(race)
    assert len(race.finalists) == 1
    assert not race.ended
    assert answer.chosen is not None


def test_a_limit_that_only_luck_keeps_is_not_kept(ask: Ask) -> None:
    # Of 4 points that are all the same but for their seeds' luck none has this mean: 1 / (1 - 0.8) = 5.
    question = ask(
        vary=["system.cost.base_s=0.999..1.001"],
        trials=4,
        slo=["response_s.mean <= 4.8"],
        max_requests=20_000,
        overrides=[*EXPONENTIAL, "workload.arrivals.rate=0.8"],
    )
    assert found(question)[1].chosen is None


def test_the_front_is_that_of_its_definition(ask: Ask) -> None:
    question = ask(vary=["system.cost.base_s=0.1..0.3"], slo=["response_s.mean <= 5"])
    goal = question.goal
    task = Task(0, question.space.point(_Low()), question.table, question.path, goal)
    model = tried(task)
    assert isinstance(model, Trial)
    places = [(1.0, 1.0), (2.0, 2.0), (1.5, 2.5), (2.0, 3.0), (0.5, 0.5), (3.0, 9.0), (1.0, 1.0)]
    trials = [
        replace(
            model,
            number=number,
            figures={
                **model.figures,
                "per_replica_rps": model.figures["per_replica_rps"]._replace(value=objective),
                "response_s.p99": model.figures["response_s.p99"]._replace(value=seconds),
            },
        )
        for number, (objective, seconds) in enumerate(places)
    ]
    assert [trial.number for trial in front(goal, trials)] == [5, 1, 0, 4]
    assert best(goal, trials).number == 5
    # What is the same to 1 % is decided by latency.
    assert best(replace(goal, precision=0.5), trials).number == 1


class _Low:
    def number(self, name: str, of: object) -> float:
        return 0.2

    def word(self, name: str, words: object) -> str:
        raise AssertionError(name)
