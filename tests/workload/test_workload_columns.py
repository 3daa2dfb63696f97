"""What else is known of requests: the most they ask for, predictions, patience, promises; and traces at another
speed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from simqueue import Affine, Memory, System, simulate
from simqueue.errors import WorkloadError
from simqueue.order import Edf, Sjf
from simqueue.policy import Orca, Srpt, Tgi
from simqueue.workload import (
    Arrivals,
    Batches,
    Empirical,
    ExponentialThink,
    Fixed,
    FixedThink,
    Geometric,
    LognormalThink,
    Poisson,
    Sessions,
    Trace,
    Users,
    Workload,
    WorkloadSpec,
    make_workload,
)

COST = Affine(base_s=0.001)
GIVEN = {"max_output_tokens": 30, "prediction": 0.5, "patience_s": ExponentialThink(2.0), "ttft_slo_s": 1}


def made(seed: int = 3, requests: int = 500, **further: Any) -> Workload:
    parts = {"arrivals": Poisson(2.0), "prompt_tokens": Geometric(mean=9), "output_tokens": Geometric(mean=20)}
    return make_workload(WorkloadSpec(requests=requests, **parts | further), seed)


@given(st.integers(0, 2**63 - 1))
def test_each_column_has_a_stream_of_its_own(seed: int) -> None:
    plain, full = made(seed), made(seed, **GIVEN)
    assert np.array_equal(full.arrival_s, plain.arrival_s)
    assert np.array_equal(full.prompt_tokens, plain.prompt_tokens)
    assert np.array_equal(full.output_tokens, np.minimum(plain.output_tokens, 30))
    assert full.meta["output_clipped_share"] == np.mean(plain.output_tokens > 30) > 0
    for key in GIVEN:
        alone = made(seed, **{"max_output_tokens": 30, key: GIVEN[key]})
        assert alone.extra.keys() <= full.extra.keys()
        assert all(np.array_equal(column, full.extra[name]) for name, column in alone.extra.items())
        longer = made(seed, requests=600, **GIVEN)
        assert all(np.array_equal(longer.extra[name][:500], column) for name, column in full.extra.items())


def test_the_most_they_ask_for() -> None:
    workload = made(max_output_tokens=30)
    assert workload.extra["max_output_tokens"].tolist() == [30] * 500
    assert workload.extra["max_output_tokens"].dtype == np.int64
    assert workload.output_tokens.max() == 30
    # A limit of the lengths counts as well.
    both = made(max_output_tokens=30, output_tokens=Geometric(mean=20, max=25))
    assert both.output_tokens.max() == 25
    assert both.extra["max_output_tokens"].max() == 30


@pytest.mark.statistical
def test_predictions_err_by_a_lognormal_factor_of_mean_1() -> None:
    exact = made(prediction=0.0)
    assert np.array_equal(exact.extra["predicted_output_tokens"], exact.output_tokens)
    # Of outputs so long rounding does not show.
    long = made(requests=20_000, prediction=0.8, output_tokens=Fixed(value=10**6))
    ratio = long.extra["predicted_output_tokens"] / 10**6
    variance = math.log1p(0.64)
    law = stats.lognorm(math.sqrt(variance), scale=math.exp(-variance / 2))
    assert law.mean() == pytest.approx(1.0)
    assert law.std() == pytest.approx(0.8)
    assert stats.kstest(ratio, law.cdf).pvalue > 1e-3
    assert made(prediction=3.0, output_tokens=Fixed(value=1)).extra["predicted_output_tokens"].min() == 1


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("patience_s", "law"),
    [
        (ExponentialThink(2.5), stats.expon(scale=2.5)),
        (LognormalThink(2.5, 0.8), stats.lognorm(math.sqrt(math.log1p(0.64)), scale=2.5 / math.sqrt(1.64))),
    ],
    ids=["exponential", "lognormal"],
)
def test_patience_has_its_whole_law(patience_s: Any, law: Any) -> None:
    column = made(requests=20_000, patience_s=patience_s).extra["patience_s"]
    assert column.dtype == np.float64
    assert stats.kstest(column, law.cdf).pvalue > 1e-3


@pytest.mark.parametrize("patience_s", [3, 3.0, FixedThink(3.0)])
def test_a_number_is_the_patience_of_all(patience_s: Any) -> None:
    assert made(patience_s=patience_s).extra["patience_s"].tolist() == [3.0] * 500


def test_promises_are_those_of_all() -> None:
    workload = made(ttft_slo_s=1, tpot_slo_s=0.05)
    assert {name: {*column} for name, column in workload.extra.items()} == {"ttft_slo_s": {1.0}, "tpot_slo_s": {0.05}}
    assert workload.extra["ttft_slo_s"].dtype == np.float64
    assert made(tpot_slo_s=2.0).extra.keys() == {"tpot_slo_s"}


@pytest.mark.parametrize("arrivals", [Users(4, 1.0), Sessions(1.0, 4, 1.0), Batches(Poisson(1.0), 3)], ids=repr)
def test_all_kinds_of_arrivals_have_them_too(arrivals: Arrivals) -> None:
    known = made(arrivals=arrivals, **GIVEN).extra.keys() - made(arrivals=arrivals).extra.keys()
    assert known == {"max_output_tokens", "predicted_output_tokens", "patience_s", "ttft_slo_s"}


def recorded(folder: Path, format: str) -> Trace:
    """A trace of 40 requests with outputs of 10, 20, ..., 400 tokens."""
    rows = [(i, 7, 10 * (i + 1)) for i in range(40)]
    texts = {
        "csv": ("arrival_s,prompt_tokens,output_tokens", "{},{},{}"),
        "azure": ("TIMESTAMP,ContextTokens,GeneratedTokens", "2023-11-16 18:17:{:02}.0000000,{},{}"),
        "burstgpt": ("Timestamp,Model,Request tokens,Response tokens", "{},gpt,{},{}"),
        "mooncake": ("", '{{"timestamp": {}e3, "input_length": {}, "output_length": {}, "hash_ids": [1]}}'),
    }
    header, line = texts[format]
    path = folder / f"{format}.txt"
    path.write_text("\n".join([header, *(line.format(*row) for row in rows)]).lstrip())
    return Trace(str(path))


def of_trace(trace: Trace, requests: int | None = None, seed: int = 3, **further: Any) -> Workload:
    return make_workload(WorkloadSpec(requests=requests, arrivals=trace, **further), seed)


@pytest.mark.parametrize("format", ["csv", "azure", "burstgpt", "mooncake"])
def test_a_trace_of_any_format_has_them_too(tmp_path: Path, format: str) -> None:
    trace = recorded(tmp_path, format)
    plain, full = of_trace(trace), of_trace(trace, **GIVEN, tpot_slo_s=0.1)
    assert np.array_equal(full.arrival_s, plain.arrival_s)
    assert np.array_equal(full.prompt_tokens, plain.prompt_tokens)
    assert full.output_tokens.tolist() == [10, 20, *[30] * 38]
    assert (plain.meta["output_clipped_share"], full.meta["output_clipped_share"]) == (0, 37 / 40)
    assert all(np.array_equal(full.extra[name], column) for name, column in plain.extra.items())
    # What is known is drawn as for generated requests with these outputs.
    drawn = made(requests=40, output_tokens=Empirical(values=(30,)), **GIVEN, tpot_slo_s=0.1).extra
    assert full.extra.keys() == plain.extra.keys() | drawn.keys()
    for name in drawn.keys() - {"predicted_output_tokens"}:
        assert np.array_equal(full.extra[name], drawn[name])
    assert np.array_equal(full.extra["predicted_output_tokens"][2:], drawn["predicted_output_tokens"][2:])
    first = of_trace(trace, 10, **GIVEN, tpot_slo_s=0.1)
    assert first == full.head(10)
    assert first.meta["output_clipped_share"] == 7 / 10


def test_a_trace_of_servegen_has_them_too(tmp_path: Path) -> None:
    (tmp_path / "chunk-4-trace.csv").write_text("0,1.0,1,Gamma,1.0,1.0\n")
    dataset = '{"0": {"input_tokens": "{50: 1.0}", "output_tokens": "{10: 0.5, 60: 0.5}"}}'
    (tmp_path / "chunk-4-dataset.json").write_text(dataset)
    plain, full = of_trace(Trace(str(tmp_path)), 100), of_trace(Trace(str(tmp_path)), 100, **GIVEN)
    assert np.array_equal(full.output_tokens, np.minimum(plain.output_tokens, 30))
    assert full.extra.keys() - plain.extra.keys() == {
        *("max_output_tokens", "predicted_output_tokens", "patience_s", "ttft_slo_s")
    }


def test_what_a_trace_knows_itself_is_not_said_again(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    made(**GIVEN).save(path)
    for key, column in {**{key: key for key in GIVEN}, "prediction": "predicted_output_tokens"}.items():
        with pytest.raises(
            WorkloadError, match=rf"workload: {key} given beside .*t\.csv, which has a column {column}; r"
        ):
            of_trace(Trace(str(path)), **{key: GIVEN[key]})
    assert of_trace(Trace(str(path)), tpot_slo_s=1.0).extra.keys() == made(**GIVEN, tpot_slo_s=1.0).extra.keys()


@pytest.mark.parametrize(
    "system",
    [
        *(System(Orca(max_bs=8), COST, memory=Memory(16, 40), order=order) for order in (Edf(), Sjf())),
        System(Tgi(), COST, memory=Memory(16, 40)),
        System(Srpt(max_batch_size=8), COST, memory=Memory(16, 40)),
    ],
    ids=lambda system: f"{type(system.policy).__name__}-{type(system.order).__name__}",
)
def test_what_goes_by_them_serves_a_trace(tmp_path: Path, system: System) -> None:
    """Memory for 640 tokens of a model of unlimited context."""
    summary = simulate(of_trace(recorded(tmp_path, "azure"), **GIVEN), system).summary()
    assert summary["outcomes"]["completed"] == 40
    assert 0 < summary["goodput_rps"] <= summary["throughput_rps"]


@pytest.mark.parametrize("speed", [2.0, 0.25])
def test_a_trace_at_another_speed(tmp_path: Path, speed: float) -> None:
    path = tmp_path / "t.csv"
    made().save(path)
    trace = make_workload(WorkloadSpec(arrivals=Trace(str(path))), 0)
    faster = make_workload(WorkloadSpec(arrivals=Trace(str(path), speed=speed)), 0)
    assert np.array_equal(faster.arrival_s * speed, trace.arrival_s)
    assert np.array_equal(faster.output_tokens, trace.output_tokens)
    assert faster.rate == pytest.approx(speed * trace.rate)
    assert (trace.meta["stretch"], faster.meta["stretch"]) == (1.0, 1 / speed)
    assert faster.meta["spec"]["arrivals"]["speed"] == speed
    # At a rate it does not matter how fast it was.
    np.testing.assert_allclose(faster.at_rate(5.0).arrival_s, trace.at_rate(5.0).arrival_s, rtol=1e-12)
    assert faster.at_rate(5.0).meta["stretch"] == pytest.approx(trace.at_rate(5.0).meta["stretch"])


def test_columns_of_ones_own_are_checked() -> None:
    ones = [1, 1]
    mine = Workload.from_columns(
        [0, 1], ones, ones, patience_s=[1, 2], priority=[3.0, -1.0], ttft_slo_s=[0.5, math.inf]
    )
    assert mine.extra["patience_s"].dtype == mine.extra["ttft_slo_s"].dtype == np.float64
    assert mine.extra["priority"].tolist() == [3, -1]
    for name, values, message in (
        ("patience_s", [1.0, 0.0], "patience_s of request 1 .* is 0.0; give seconds above 0"),
        ("tpot_slo_s", [math.nan, 1.0], "tpot_slo_s of request 0 .* is nan"),
        ("priority", [1.0, 0.5], "priority of request 1 .* is 0.5; give a whole number"),
        ("priority", ["high", "low"], "column priority holds values of type"),
    ):
        with pytest.raises(WorkloadError, match=message):
            Workload.from_columns([0, 1], ones, ones, **{name: values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("further", "message"),
    [
        ({"max_output_tokens": 0}, "workload: max_output_tokens = 0 is not a whole number from 1"),
        ({"max_output_tokens": 2.0}, r"workload: max_output_tokens = 2\.0 is not a whole number"),
        (
            {"max_output_tokens": 5, "output_tokens": Geometric(mean=9, min=6)},
            "max_output_tokens = 5 is below the min = 6 of output_tokens; raise it, or lower the min",
        ),
        ({"prediction": -0.5}, r"workload: prediction = -0\.5 is not a number from 0"),
        ({"prediction": True}, "workload: prediction = True"),
        ({"patience_s": 0}, "workload: patience_s = 0 is not a positive, finite number"),
        ({"patience_s": FixedThink(0.0)}, r"workload: patience_s = 0\.0 is not a positive"),
        ({"patience_s": "long"}, "workload: patience_s = 'long'"),
        ({"patience_s": math.inf}, "workload: patience_s = inf"),
        ({"ttft_slo_s": 0}, "workload: ttft_slo_s = 0 is not a positive, finite number"),
        ({"tpot_slo_s": "fast"}, "workload: tpot_slo_s = 'fast' is not a positive"),
        (
            {"arrivals": Trace("a.csv"), "prompt_tokens": None, "prediction": 0.5},
            "workload: output_tokens given beside a trace",
        ),
    ],
)
def test_what_cannot_be_is_refused(further: dict[str, Any], message: str) -> None:
    with pytest.raises(WorkloadError, match=message):
        made(**further)


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan, True])
def test_a_speed_is_positive(speed: float) -> None:
    with pytest.raises(WorkloadError, match=r"trace arrivals: speed = .* is not a positive"):
        Trace("a.csv", speed=speed)
