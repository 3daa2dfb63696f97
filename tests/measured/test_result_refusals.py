"""Result files that cannot be used are refused in one line that names the file, what is wrong and the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from written import Answer, aiperf, aiperf_csv, aiperf_records, guidellm, guidellm_report, lines, vllm_bench

from simqueue.errors import WorkloadError
from simqueue.measured.read import read_report
from simqueue.measured.tool import Figure
from simqueue.workload import Trace, WorkloadSpec, make_workload

RUN = [Answer(0.0, [1.0, 2.0], 5), Answer(0.5, [1.5], 6)]
VLLM, DETAILED = vllm_bench(RUN, 2.0, detailed=False), vllm_bench(RUN, 2.0, detailed=True)
GUIDELLM = guidellm(RUN, {"type_": "constant", "rate": 2.0})
AIPERF = aiperf(RUN)
HEADER = "arrival_s,prompt_tokens,output_tokens,response_s"


def changed(document: dict[str, Any], **values: Any) -> str:
    return json.dumps({**document, **values})


def without(document: dict[str, Any], key: str) -> str:
    return json.dumps({name: value for name, value in document.items() if name != key})


def record(**metrics: Any) -> str:
    [row] = aiperf_records(RUN[:1])
    row["metrics"] |= metrics
    return lines([row])


REFUSED = {
    "empty": ("", "no known tool: nothing found, looked for the JSON of `vllm bench serve"),
    "toml": ("[workload]\nrequests = 3\n", "no known tool: a first line '[workload]'"),
    "another table": ("a,b\n1,2\n", "no known tool"),
    "other columns": ("arrival_s,latency_ms\n1,2\n", "a table without prompt_tokens, output_tokens, response_s"),
    "another object": ('{"a": 1, "b": 2}', "an object with the keys a, b"),
    "half an object": (json.dumps(VLLM)[:200], "is no whole JSON"),
    "deep": ('{"a": ' + "[" * 100_000, "is no whole JSON"),
    "half a line": (lines(aiperf_records(RUN))[:-40], "line 2: is no whole JSON"),
    "nothing completed": (changed(VLLM, completed=0, failed=2), "no request was completed (2 failed)"),
    "a word for a number": (changed(VLLM, mean_ttft_ms="fast"), "not as vllm bench serve writes it"),
    "a missing key": (without(VLLM, "duration"), "missing required field `duration`"),
    "lists that differ": (changed(DETAILED, ttfts=[0.1]), "lists of requests differ in length"),
    "a negative time": (changed(DETAILED, ttfts=[-1.0, 1.0]), "ttfts of request 0 (counted from 0) is -1"),
    "a gap of NaN": (changed(DETAILED, itls=[[float("nan")], []]), "itls of request 0"),
    "all failed": (changed(DETAILED, output_lens=[0, 0]), "no request was completed"),
    "two runs": (f"{json.dumps(VLLM)}\n{json.dumps(VLLM)}\n", "2 runs are in it, of which --run takes one: 1 (2026"),
    "a sweep": (
        json.dumps(guidellm_report(GUIDELLM, GUIDELLM)),
        "2 runs are in it, of which --run takes one: 1 (constant 2), 2 (constant 2)",
    ),
    "no run": (json.dumps(guidellm_report()), "no run is in it"),
    "an old report": (json.dumps({"benchmarks": [without(GUIDELLM, "x")]}), "not as GuideLLM writes it"),
    "no metrics": (
        json.dumps({"benchmarks": [{"config": {"strategy": {"type_": "sweep"}}, "metrics": {}}]}),
        "not as GuideLLM writes it",
    ),
    "another unit": (changed(AIPERF, request_latency={"unit": "hours", "avg": 1.0}), "the unit 'hours'"),
    "no unit": (changed(AIPERF, request_latency={"avg": 1.0}), "the unit None"),
    "no count": (without(AIPERF, "request_count"), "no request was completed"),
    "a cell": (aiperf_csv(AIPERF).replace("Request Count,2.00", "Request Count,two"), "Request Count = 'two' is no"),
    "a record's unit": (record(request_latency={"value": 1, "unit": "min"}), "the unit 'min'"),
    "a record's value": (record(request_latency={"value": "1", "unit": "ms"}), "line 1: not as AIPerf writes it"),
    "a number": (f"{HEADER}\n0,1,2,soon\n", "line 2, column response_s: 'soon' cannot be used"),
    "NaN": (f"{HEADER}\n0,1,2,nan\n", "line 2, column response_s: 'nan'"),
    "half a token": (f"{HEADER}\n0,1.5,2,1\n", "column prompt_tokens: '1.5' cannot be used; give a whole number"),
    "a short row": (f"{HEADER}\n0,1,2,1\n0,1\n", "line 3, column output_tokens: None cannot be used"),
    "an empty cell": (f"{HEADER}\n0,1,2,1\n0,,2,1\n", "line 3, column prompt_tokens: ''"),
    "endless tokens": (f"{HEADER}\n0,1e300,2,1\n", "line 2, column prompt_tokens: '1e300' cannot be used"),
    "an endless cell": ("a" * 200_000, "a table that cannot be read (field larger than field limit"),
    "endless lengths": (changed(DETAILED, output_lens=[2, 10**30]), "not as vllm bench serve writes it"),
    "endless counts": (changed(VLLM, completed=10**400), "Expected `int` <= 9007199254740992 - at `$.completed`"),
    "an endless length": (
        record(output_sequence_length={"value": 10**400, "unit": "tokens"}),
        "line 1: not as AIPerf writes it",
    ),
    "an endless time": (changed(VLLM, mean_ttft_ms=10**400), "not as vllm bench serve writes it"),
    "a count of NaN": (changed(AIPERF, request_count={"avg": float("nan")}), "no request was completed (0 failed)"),
    "nothing of aiperf": (
        json.dumps({"aiperf_version": "0.8.0", "error_request_count": {"unit": "requests", "avg": 3.0}}),
        "no request was completed (3 failed)",
    ),
    "a line of another kind": (lines(aiperf_records(RUN)) + '{"a": 1}\n', "line 3: not as AIPerf writes it"),
    "only failures": (f"{HEADER}\n0,1,2,\n", "no request was completed (1 failed)"),
}


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_unusable_results_are_refused(text: str, said: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(WorkloadError) as refusal:
        read_report(file)
    assert said in str(refusal.value)
    assert str(file) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_is_no_text_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    for name, said in (("bytes", "no UTF-8 text"), ("absent", "No such file"), (".", "Is a directory")):
        with pytest.raises(WorkloadError, match=said):
            read_report(tmp_path / name)


def test_one_of_several_runs_is_taken(file: Path) -> None:
    slow = changed(VLLM, mean_ttft_ms=9000.0)
    file.write_text(f"{json.dumps(VLLM)}\n{slow}\n")
    assert read_report(file, 2).figures[Figure("ttft", "mean")] == 9.0
    with pytest.raises(WorkloadError, match="--run 3, but 2 are in it"):
        read_report(file, 3)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_figures_that_say_nothing_are_left_out_and_named(value: float, file: Path) -> None:
    file.write_text(changed(VLLM, mean_ttft_ms=value))
    report = read_report(file)
    assert Figure("ttft", "mean") not in report.figures
    assert Figure("ttft", "p99") in report.figures
    assert report.notes == (f"left out, since the file has no usable value: mean ttft = {value:g}",)


def test_a_summary_cannot_be_replayed(file: Path) -> None:
    file.write_text(json.dumps(VLLM))
    with pytest.raises(WorkloadError, match="single requests are not in it, only figures of all"):
        make_workload(WorkloadSpec(arrivals=Trace(str(file))), 0)


@pytest.mark.parametrize("sample", [lambda rows: rows[:1], lambda rows: [{**rows[0], "prompt_tokens": None}, rows[1]]])
def test_guidellm_without_all_requests_has_figures_only(sample: Callable[[Any], Any], file: Path) -> None:
    run = {**GUIDELLM, "requests": {"successful": sample(GUIDELLM["requests"]["successful"])}}
    file.write_text(json.dumps(guidellm_report(run)))
    report = read_report(file)
    assert report.seen is None
    assert report.offered.rate_rps == 2.0


def test_warmup_and_concurrency_are_noted(file: Path) -> None:
    file.write_text(json.dumps(guidellm_report({**GUIDELLM, "warmup_duration": 2.5})))
    assert "measured without the first 2.5 s" in read_report(file).notes[0]
    file.write_text(changed(VLLM, max_concurrency=16))
    assert "at most 16 requests under way" in read_report(file).notes[0]
