"""Several classes of clients in one workload: the superposition of their requests, each drawn by itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from simqueue.errors import WorkloadError
from simqueue.workload import (
    MMPP,
    Batches,
    ClientClass,
    Constant,
    Fixed,
    Gamma,
    Geometric,
    Open,
    Poisson,
    Trace,
    Users,
    Workload,
    WorkloadSpec,
    make_workload,
)
from simqueue.workload.streams import streams

ON_OFF = MMPP((40.0, 0.0), (1.0, 3.0))


def client(name: str, arrivals: Open | Users | Trace, **further: Any) -> ClientClass:
    return ClientClass(
        name=name,
        arrivals=arrivals,
        **{"prompt_tokens": Geometric(mean=9), "output_tokens": Geometric(mean=5)} | further,
    )


CHAT = client("chat", Poisson(6.0), priority=-1, ttft_slo_s=0.5, patience_s=3)
CODE = client("code", Gamma(3.0, cv=2.0), prompt_tokens=Geometric(mean=90), tpot_slo_s=0.1)
NIGHT = client("night", Batches(ON_OFF, 4), priority=7)
CLASSES = (CHAT, CODE, NIGHT)


def made(*classes: ClientClass, requests: int = 400, seed: int = 3) -> Workload:
    return make_workload(WorkloadSpec(requests=requests, classes=classes), seed)


def of_class(workload: Workload, name: str) -> dict[str, Any]:
    rows = workload.extra["client"] == name
    return {key: column[rows] for key, column in workload.columns.items()}


@settings(max_examples=25)
@given(st.integers(0, 2**63 - 1), st.integers(1, 300))
def test_the_first_requests_of_all_together(seed: int, requests: int) -> None:
    """Against so many of each class that nobody can be missing."""
    workload = made(*CLASSES, requests=requests, seed=seed)
    times = [each.open.times(requests, streams(seed, each.name)) for each in CLASSES]
    place = np.repeat(range(3), requests)
    order = np.argsort(np.concatenate(times), kind="stable")[:requests]
    assert np.array_equal(workload.arrival_s, np.concatenate(times)[order])
    assert workload.extra["client"].tolist() == [CLASSES[i].name for i in place[order]]


def test_a_class_that_is_rare_or_silent_for_long_is_drawn_as_far_as_it_takes() -> None:
    rare, bursts = client("rare", Constant(1e-3)), client("bursts", MMPP((1000.0, 0.0), (0.1, 1000.0)))
    workload = made(client("common", Constant(1.0)), rare, bursts, requests=5000)
    for each in (rare, bursts):
        count = np.sum(workload.extra["client"] == each.name)
        drawn = each.open.times(int(count) + 1, streams(3, each.name))
        assert drawn[-1] >= workload.arrival_s[-1] >= (drawn[-2] if count else 0.0)


def test_each_class_has_its_columns() -> None:
    workload = made(*CLASSES)
    chat, code, night = (of_class(workload, each.name) for each in CLASSES)
    assert {*chat["priority"]} == {-1}
    assert {*code["priority"]} == {0}
    assert {*night["priority"]} == {7}
    assert {*chat["ttft_slo_s"]} == {0.5}
    assert {*chat["tpot_slo_s"], *code["ttft_slo_s"], *night["ttft_slo_s"]} == {math.inf}
    assert {*code["tpot_slo_s"]} == {0.1}
    assert {*chat["patience_s"]} == {3.0}
    assert {*code["patience_s"], *night["patience_s"]} == {math.inf}
    assert workload.extra["priority"].dtype == np.int64
    fast, slow = (client(name, Poisson(1.0), ttft_slo_s=limit) for name, limit in (("fast", 0.5), ("slow", 2)))
    assert {*made(slow, fast).extra["ttft_slo_s"]} == {0.5, 2.0}
    assert code["prompt_tokens"].mean() > 3 * chat["prompt_tokens"].mean()


@given(st.integers(0, 2**63 - 1))
def test_another_class_changes_no_draw(seed: int) -> None:
    few, more = made(CODE, seed=seed), made(NIGHT, CODE, CHAT, seed=seed)
    alone, beside = of_class(few, "code"), of_class(more, "code")
    count = len(beside["arrival_s"])
    for name in ("arrival_s", "prompt_tokens", "output_tokens"):
        assert np.array_equal(alone[name][:count], beside[name])


@pytest.mark.statistical
def test_poisson_classes_are_poisson_together_and_mix_by_their_rates() -> None:
    """Superposition: Cinlar, Introduction to Stochastic Processes, chapter 4, section 4."""
    rates = {"a": 1.0, "b": 5.0, "c": 14.0}
    workload = made(*(client(name, Poisson(rate)) for name, rate in rates.items()), requests=20_000)
    assert workload.rate == 20.0
    gaps = np.diff(workload.arrival_s, prepend=0)
    assert stats.kstest(gaps, stats.expon(scale=1 / 20).cdf).pvalue > 1e-3
    counts = [np.sum(workload.extra["client"] == name) for name in rates]
    assert stats.chisquare(counts, [1000, 5000, 14_000]).pvalue > 1e-3


@given(st.integers(0, 2**63 - 1), st.floats(0.1, 10))
def test_at_another_rate_every_class_is_scaled_alike(seed: int, factor: float) -> None:
    classes = CHAT, CODE
    workload = made(*classes, seed=seed)
    faster = workload.at_rate(9 * factor)
    again = made(*(msgspec.structs.replace(each, arrivals=each.open.scaled(factor)) for each in classes), seed=seed)
    assert faster.rate == 9 * factor
    np.testing.assert_allclose(faster.arrival_s, again.arrival_s, rtol=1e-9)
    for name in ("client", "prompt_tokens", "output_tokens", "patience_s"):
        assert np.array_equal(faster.columns[name], again.columns[name])
    np.testing.assert_allclose(faster.at_rate(9.0).arrival_s, workload.arrival_s, rtol=1e-9)


def test_silences_that_are_kept_put_requests_into_another_order(tmp_path: Path) -> None:
    workload = made(*CLASSES).fit_context(150, "drop")
    workload.save(tmp_path / "w.parquet")
    faster = Workload.load(tmp_path / "w.parquet").at_rate(4 * workload.rate)
    assert np.all(np.diff(faster.arrival_s) >= 0)
    assert faster.extra["client"].tolist() != workload.extra["client"].tolist()
    for each in CLASSES:
        before, after = of_class(workload, each.name), of_class(faster, each.name)
        rescaled = each.open.rescale(before["arrival_s"], 4.0, streams(3, each.name))
        np.testing.assert_allclose(after["arrival_s"], rescaled, rtol=1e-9)
        assert np.array_equal(after["output_tokens"], before["output_tokens"])
    assert faster.head(3).at_rate(1.0).rate == 1.0


def test_shares_that_limits_changed_are_those_of_all() -> None:
    cut = client("cut", Constant(1.0), output_tokens=Fixed(value=9), max_output_tokens=5)
    whole = client("whole", Constant(3.0), max_output_tokens=50)
    workload = made(cut, whole)
    assert workload.meta["output_clipped_share"] == pytest.approx(0.25, abs=0.01)
    assert {*of_class(workload, "cut")["output_tokens"]} == {5}
    assert {*of_class(workload, "cut")["max_output_tokens"]} == {5}
    assert {*of_class(workload, "whole")["max_output_tokens"]} == {50}


def test_the_spec_is_in_what_was_made() -> None:
    spec = WorkloadSpec(requests=400, classes=CLASSES)
    workload = make_workload(spec, 3)
    assert msgspec.convert(workload.meta["spec"], WorkloadSpec) == spec
    assert workload == make_workload(spec, 3)
    assert workload.rate == pytest.approx(19.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: made(client("u", Users(4))), "class u: arrivals of kind 'users' cannot be one class of several"),
        (lambda: made(client("t", Trace("a.csv"))), "class t: arrivals of kind 'trace' cannot be one class"),
        (lambda: made(CHAT, CHAT), "workload: 2 classes have the name 'chat'; give each one of its own"),
        (lambda: client("", Poisson(1.0)), "a class has name = ''"),
        (lambda: ClientClass(name="x"), "class x: arrivals and prompt_tokens and output_tokens missing"),
        (lambda: client("x", Poisson(1.0), priority=1.5), "class x: priority = 1.5 is not a whole number"),
        (lambda: client("x", Poisson(1.0), ttft_slo_s=0.0), "class x: ttft_slo_s = 0.0 is not a positive"),
        (lambda: client("x", Poisson(1.0), tpot_slo_s=math.nan), "class x: tpot_slo_s = nan is not a positive"),
        (
            lambda: made(CHAT, client("x", Poisson(1.0), prediction=0.1)),
            "class x has prediction and class chat has not; give it to all or to none",
        ),
        (lambda: WorkloadSpec(classes=CLASSES), "workload: requests missing"),
        (
            lambda: WorkloadSpec(requests=3, classes=CLASSES, arrivals=Poisson(1.0), patience_s=3.0),
            "arrivals and patience_s given beside classes, of which each has its own; remove",
        ),
        (
            lambda: WorkloadSpec(requests=3, classes=CLASSES, ttft_slo_s=3.0),
            "workload: ttft_slo_s given beside classes, of which each has its own; remove",
        ),
    ],
)
def test_what_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        make()
