"""What each tool would have written of a run is what `compare` predicts of that run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from written import (
    Answer,
    aiperf,
    aiperf_csv,
    aiperf_records,
    guidellm,
    guidellm_report,
    lines,
    requests_csv,
    vllm_bench,
)

from simqueue.comparison import compare
from simqueue.config import Scenario
from simqueue.measured.read import read_report
from simqueue.measured.tool import Figure, inverted, linear
from simqueue.metrics import Sample
from simqueue.workload import Trace, TraceWarning, WorkloadSpec, make_workload

POISSON = {"type_": "poisson", "rate": 25.0}
WRITERS: dict[str, Callable[[list[Answer]], str]] = {
    "vllm bench serve": lambda run: json.dumps(vllm_bench(run, 25.0, detailed=False)),
    "vllm bench serve --save-detailed": lambda run: json.dumps(vllm_bench(run, "inf", detailed=True)),
    "guidellm": lambda run: json.dumps(guidellm_report(guidellm(run, POISSON))),
    "aiperf": lambda run: json.dumps(aiperf(run), indent=2),
    "aiperf jsonl": lambda run: lines(aiperf_records(run)),
    "csv": requests_csv,
}
# Wall clocks have seconds since 1970 in a double: a quarter of a microsecond.
CLOCK = 1e-6


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_a_run_is_predicted_without_error(
    writer: Callable[[list[Answer]], str], scenario: Scenario, run: list[Answer], file: Path
) -> None:
    file.write_text(writer(run))
    report = read_report(file)
    found = compare(scenario.workload, scenario.system, report, seed=7, replications=1)
    assert report.completed == len(run)
    assert {row.metric.key for row in found.rows} == {metric.key for metric in report.tool.metrics}
    assert found.differences == []
    for row in found.rows:
        assert row.error == pytest.approx(0, abs=1e-9), (row.metric.key, row.statistic)


def test_the_csv_of_aiperf_is_rounded(scenario: Scenario, run: list[Answer], file: Path) -> None:
    file.write_text(aiperf_csv(aiperf(run)))
    report = read_report(file)
    found = compare(scenario.workload, scenario.system, report, seed=7, replications=1)
    assert len(found.rows) == 3 * 5 + 2
    for row in found.rows:
        scale = 1e-3 if row.metric.unit == "s" else 1
        assert abs(row.predicted[0] - row.measured) <= 0.005 * scale * (1 + 1e-9)
    assert "rounded" in report.notes[0]


DETAILED = ("vllm bench serve --save-detailed", "guidellm", "aiperf jsonl", "csv")


@pytest.mark.parametrize("name", DETAILED)
def test_measured_requests_are_replayed(name: str, scenario: Scenario, run: list[Answer], file: Path) -> None:
    file.write_text(WRITERS[name](run))
    report, spec = read_report(file), WorkloadSpec(arrivals=Trace(str(file)))
    workload = make_workload(spec, 0)
    assert workload.output_tokens.tolist() == [len(each.tokens) for each in run]
    assert np.diff(workload.arrival_s) == pytest.approx(np.diff([each.sent for each in run]), abs=CLOCK)
    found = compare(spec, scenario.system, report)
    # GuideLLM's TTFT is from a start that is rounded; nothing else happens to a trace.
    assert max(abs(row.error or 0) for row in found.rows) < 1e-4
    assert found.replications == 1


def test_failed_requests_are_counted_apart(run: list[Answer], file: Path) -> None:
    file.write_text(json.dumps(vllm_bench(run, 25.0, detailed=True, failed=3)))
    report = read_report(file)
    assert (report.completed, report.failed, report.offered.requests) == (len(run), 3, len(run) + 3)
    assert report.seen is not None
    assert len(report.seen.arrival_s) == len(run)
    with pytest.warns(TraceWarning, match="3 of 153 requests failed"):
        assert len(make_workload(WorkloadSpec(arrivals=Trace(str(file), format="results")), 0)) == len(run)


def test_only_the_profiling_phase_of_aiperf_counts(run: list[Answer], file: Path) -> None:
    rows = aiperf_records(run)
    rows[0]["metadata"]["benchmark_phase"] = "warmup"
    rows[1] |= {"metrics": {"error_isl": {"value": 5, "unit": "tokens"}}, "error": {"code": 499}}
    file.write_text(lines(rows))
    report = read_report(file)
    assert (report.completed, report.failed) == (len(run) - 2, 1)


# Two requests: 3 tokens at 1, 2 and 4 s after sending, and 1 token after 2 s; the second is sent a second later.
TWO = [Answer(0.5, [1.5, 2.5, 4.5], 10), Answer(1.5, [3.5], 30)]
BY_HAND = {
    "vllm bench serve --save-detailed": {
        ("ttft", "mean"): 1.5,
        ("ttft", "p90"): 1.9,  # between 1 and 2
        ("tpot", "mean"): 1.5,  # (4 - 1) / 2, and none of a single token
        ("itl", "mean"): 1.5,
        ("itl", "p99"): 1.99,
        ("e2el", "mean"): 3.0,
        ("request_throughput", "mean"): 2 / 4.5,  # since the run began
        ("output_throughput", "mean"): 4 / 4.5,
        ("total_token_throughput", "mean"): 44 / 4.5,
    },
    "guidellm": {
        ("time_to_first_token_ms", "p90"): 2.0,  # one that occurs
        ("time_per_output_token_ms", "mean"): (3 * 4 / 3 + 1 * 2) / 4,  # with the first token, by tokens
        ("inter_token_latency_ms", "mean"): 1.5,
        ("requests_per_second", "mean"): 2 / 4.0,  # since the first request
        ("output_tokens_per_second", "mean"): 4 / 3.0,  # since the first token
    },
    "aiperf": {
        ("inter_token_latency", "mean"): 1.5,
        ("inter_token_latency", "p99"): 1.5,  # one request has it
        ("inter_chunk_latency", "p99"): 1.99,
        ("output_token_throughput_per_user", "mean"): 1 / 1.5,
        ("request_throughput", "mean"): 2 / 4.0,
    },
    "csv": {("response_s", "p90"): 4.0, ("tpot_s", "mean"): 1.5, ("throughput_rps", "mean"): 0.5},
}


@pytest.mark.parametrize("name", BY_HAND)
def test_two_requests_by_hand(name: str, file: Path) -> None:
    file.write_text(WRITERS[name](TWO))
    figures = read_report(file).figures
    for figure, value in BY_HAND[name].items():
        assert figures[Figure(*figure)] == pytest.approx(value, rel=1e-6), figure


VALUES = arrays(np.float64, st.integers(1, 30), elements=st.integers(0, 9).map(float))


@given(VALUES, st.data(), st.floats(0, 1))
def test_weighed_percentiles_are_those_of_repeated_values(
    values: np.ndarray, data: st.DataObject, share: float
) -> None:
    weights = data.draw(arrays(np.int64, len(values), elements=st.integers(0, 4)).filter(np.any))
    repeated = np.repeat(values, weights)
    assert linear(Sample(values, weights), share) == pytest.approx(np.quantile(repeated, share), abs=1e-12)
    found = inverted(Sample(values, weights), share)
    below, up_to = (repeated < found).mean(), (repeated <= found).mean()
    assert below <= share + 1e-12
    assert up_to >= share - 1e-12
