"""`rank`: everybody meets the same customers, who is out gets no more runs, and the answer says what is so."""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import numpy as np
import pytest

import simqueue as sq
from simqueue import Affine, Competitor, Continuous, ExponentialNoise, NoBatching, Ranking, System, WorkloadSpec, rank
from simqueue.analysis.replications import replicate
from simqueue.errors import ConfigError
from simqueue.ranking import rank as module
from simqueue.ranking.criterion import CRITERIA, Criterion
from simqueue.ranking.pairing import unlike
from simqueue.workload import Fixed, Gamma, Geometric, Poisson

ONE = Fixed(value=1)
SPEC = WorkloadSpec(requests=400, arrivals=Poisson(rate=0.5), prompt_tokens=ONE, output_tokens=Geometric(mean=2))


def queue(name: str, seconds: float, spec: WorkloadSpec = SPEC, seats: int = 1) -> Competitor:
    system = System(policy=Continuous(max_seqs=seats), cost=Affine(base_s=seconds), noise=ExponentialNoise())
    return Competitor(name, spec, system)


THREE = [queue("slow", 0.9), queue("fast", 0.5), queue("alike", 0.5 * 1.0001)]


@pytest.fixture(scope="module")
def found() -> Ranking:
    return rank(THREE, by="response_s.mean", seed=3, replications=4, max_replications=8, warmup=50)


def test_the_best_is_found_and_the_others_are_placed(found: Ranking) -> None:
    assert found.best == "fast"
    assert found.decided
    assert found.selection.open == (1, 2) or found.selection.open == (1,)
    worse = found.worse(0)
    exact = 1 / (1 / 1.8 - 0.5) / (1 / (1 / 1.0 - 0.5)) - 1
    assert 0 < worse.least < worse.value < worse.most
    assert worse.value == pytest.approx(exact, rel=0.6)
    assert found.worse(1).least == found.worse(1).value == 0
    # Near load 0.5 response times grow twice as fast as services.
    assert found.worse(2).value == pytest.approx(2e-4, rel=0.3)


def test_replications_are_those_of_replicate(found: Ranking) -> None:
    for number, each in enumerate(THREE):
        own = replicate(each.spec, each.server, seed=3, replications=4, warmup=50)
        ours = found.contest.runs[number].found(4)
        assert ours.figures == own.figures
        assert ours.interval(("response_s", "p99")) == own.interval(("response_s", "p99"))


def test_all_meet_the_same_customers(found: Ranking) -> None:
    arrivals = [each.first.requests()["arrival_s"] for each in found.contest.runs]
    np.testing.assert_array_equal(arrivals[0], arrivals[1])
    alike = found.difference("response_s.mean", 1, 2)
    assert alike is not None
    assert alike.variance_ratio is not None
    assert alike.variance_ratio > 1000


def test_who_is_out_gets_no_more_runs() -> None:
    told: list[tuple[int, int]] = []
    # Other customers of nearly the same law: there is hardly any difference to be found.
    others = msgspec.structs.replace(SPEC, arrivals=Gamma(rate=0.5, cv=1.01))
    close = [queue("slow", 0.8), queue("fast", 0.3), queue("as fast", 0.3, others)]
    found = rank(
        close,
        by="response_s.mean",
        indifference=1e-6,
        seed=3,
        replications=5,
        max_replications=12,
        warmup=50,
        told=lambda count, left: told.append((count, left)),
    )
    assert told == [(5, 3), (10, 2), (12, 2)]
    assert [len(each.parts) for each in found.contest.runs] == [5, 12, 12]
    assert not found.decided
    assert found.worse(found.selection.best).most > 1e-6
    assert found.difference("response_s.mean", 0, 1) == found.contest.difference(("response_s", "mean"), 0, 1, 5)


def test_more_workers_change_nothing(monkeypatch: pytest.MonkeyPatch, found: Ranking) -> None:
    monkeypatch.setattr(module, "_WORTH_PROCESSES", 1)
    again = rank(THREE, by="response_s.mean", seed=3, replications=4, max_replications=8, warmup=50, workers=2)
    assert again.summary() == found.summary()


def test_a_warmup_that_is_found_is_the_same_for_all() -> None:
    spec = msgspec.structs.replace(SPEC, requests=1500)
    two = [queue("a", 0.4, spec), queue("b", 0.6, spec)]
    found = rank(two, seed=1, replications=3, max_replications=3)
    own = [replicate(spec, each.server, seed=1, replications=3).warmup for each in two]
    assert own[0].found
    assert own[1].found
    assert own[0] != own[1]
    assert [each.warmup.requests for each in found.contest.runs] == [max(one.requests for one in own)] * 2


def test_an_unstable_one_is_out_and_said_to_be() -> None:
    found = rank([queue("over", 1.3), queue("under", 0.5)], seed=1, replications=5, warmup=0)
    assert found.best == "under"
    assert found.selection.open == (1,)
    assert [found.unstable(number) for number in (0, 1)] == [True, False]
    assert math.isinf(found.worse(0).value)
    assert found.summary()["competitors"][0]["unstable"]


def test_of_throughput_more_is_better() -> None:
    two = [queue("over", 1.3), queue("under", 0.5)]
    found = rank(two, by="throughput_rps", seed=1, replications=5, max_replications=5, warmup=0)
    assert found.best == "under"
    # 1 / 2.6 in place of 0.5 requests a second.
    assert found.worse(0).value == pytest.approx(1 - 1 / 2.6 / 0.5, abs=0.1)
    assert found.worse(0).most < 1


def test_one_who_is_the_same_is_no_worse() -> None:
    found = rank([queue("a", 0.5), queue("b", 0.5)], seed=1, replications=3)
    assert found.decided
    assert found.selection.most == 0
    assert found.selection.replications == {0: 3, 1: 3}
    assert found.variance_ratio is None


def test_a_single_run_is_in_sections() -> None:
    spec = msgspec.structs.replace(SPEC, requests=3000)
    found = rank([queue("a", 0.3, spec), queue("b", 0.6, spec)], by="response_s.mean", seed=1, replications=1)
    assert found.looks == [1]
    assert found.best == "a"
    assert found.decided
    rows = found.summary()["competitors"]
    assert [(row["replications"], row["sections"]) for row in rows] == [(1, 10), (1, 10)]


def test_what_keeps_them_from_the_same_customers_is_said() -> None:
    other = queue("b", 0.5, msgspec.structs.replace(SPEC, requests=500, prompt_tokens=Fixed(value=2)))
    [said] = unlike([queue("a", 0.5), other, queue("c", 0.9)])
    assert said.startswith("b has other workload.prompt_tokens and workload.requests than a: they do not meet")
    gpt2, small = (
        Competitor(name, SPEC, System(policy=NoBatching(), cost=sq.Measured(name=name)))
        for name in ("gpt2-h200-bf16-graph", "gpt2-h200-bf16-graph-128")
    )
    assert not list(unlike([gpt2, small]))


@pytest.mark.parametrize(
    ("competitors", "how", "said"),
    [
        (THREE[:1], {}, "1 scenarios: give at least two"),
        ([THREE[0], replace(THREE[1], name="slow")], {}, "2 scenarios have the name 'slow'"),
        (THREE, {"by": "respons_s.p99"}, "did you mean 'response_s.p99'"),
        (THREE, {"by": "batch_size.mean_per_step"}, "neither more of it nor less is better"),
        (THREE, {"by": "goodput_rps"}, "give the workload ttft_slo_s"),
        (THREE, {"by": "transfer_s.mean"}, "the runs of slow have no such figure: name another"),
        ([queue("a", 0.05), queue("b", 0.06)], {"by": "queueing_s.p50"}, "it is 0 in a"),
        (THREE, {"indifference": 0.0}, "--indifference 0 is no share"),
        (THREE, {"max_replications": 0}, "max_replications = 0"),
    ],
)
def test_refusals(competitors: list[Competitor], how: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        rank(competitors, replications=2, **how)  # type: ignore[arg-type]


def test_every_criterion_has_words() -> None:
    assert {Criterion(name).words for name in CRITERIA} >= {"p99 of response time", "mean of TTFT", "throughput"}
