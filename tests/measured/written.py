"""Result files as the tools write them, made of a simulation: their own aggregation, transcribed request by request."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simqueue import Result

SCENARIO = """\
[workload]
requests = 150
arrivals = { kind = "poisson", rate = 25.0 }
prompt_tokens = { kind = "lognormal", mean = 60, cv = 0.6 }
output_tokens = { kind = "geometric", mean = 12 }
[system]
policy = { kind = "continuous", max_seqs = 6 }
cost = { kind = "affine", base_s = 0.01, per_row_s = 0.0005, per_new_token_s = 1e-5 }
noise = { kind = "none" }
[run]
seed = 7
replications = 1
"""
EPOCH_S = 1_772_470_696.0
EPOCH_NS = 1_772_470_696 * 10**9


@dataclass(frozen=True)
class Answer:
    """What the client of one request notes down; seconds."""

    sent: float
    tokens: list[float]
    prompt: int

    @property
    def ttft(self) -> float:
        return self.tokens[0] - self.sent

    @property
    def latency(self) -> float:
        return self.tokens[-1] - self.sent

    @property
    def gaps(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.tokens, self.tokens[1:], strict=False)]


def answers(result: Result) -> list[Answer]:
    """Of a run of plain continuous batching, in which whoever runs has a token at every step end; the way to the client
    takes all tokens the same time."""
    ends, unit = result.step_ends, result.grid.ticks_per_s
    found = []
    for arrival, first, last, late, prompt in zip(
        result.arrival, result.first_token, result.finished, result.delivery, result.workload.prompt_tokens, strict=True
    ):
        tokens = ends[(ends >= first - late) & (ends <= last - late)] + late
        found.append(Answer(float(arrival) / unit, [float(token) / unit for token in tokens], int(prompt)))
    assert [len(each.tokens) for each in found] == result.workload.output_tokens.tolist()
    return found


def vllm_bench(run: Sequence[Answer], rate: float | str, detailed: bool, failed: int = 0) -> dict[str, Any]:
    """`calculate_metrics` and `main_async` of vllm/benchmarks/serve.py, with --metric-percentiles 50,90,99."""
    duration = max(each.tokens[-1] for each in run)
    inputs, outputs = [each.prompt for each in run], [len(each.tokens) for each in run]
    tpots = [(each.latency - each.ttft) / (len(each.tokens) - 1) for each in run if len(each.tokens) > 1]
    lists = {
        "ttft": [each.ttft for each in run],
        "tpot": tpots,
        "itl": [gap for each in run for gap in each.gaps],
        "e2el": [each.latency for each in run],
    }
    document: dict[str, Any] = {
        "date": "20260101-120000",
        "backend": "openai",
        "model_id": "gpt2",
        "tokenizer_id": "gpt2",
        "num_prompts": len(run) + failed,
        "request_rate": rate,
        "burstiness": 1.0,
        "max_concurrency": None,
        "duration": duration,
        "completed": len(run),
        "failed": failed,
        "total_input_tokens": sum(inputs),
        "total_output_tokens": sum(outputs),
        "request_throughput": len(run) / duration,
        "request_goodput": None,
        "output_throughput": sum(outputs) / duration,
        "total_token_throughput": (sum(inputs) + sum(outputs)) / duration,
    }
    for name, values in lists.items():
        document[f"mean_{name}_ms"] = float(np.mean(values)) * 1000
        document[f"median_{name}_ms"] = float(np.median(values)) * 1000
        document[f"std_{name}_ms"] = float(np.std(values)) * 1000
        for p in (50, 90, 99):
            document[f"p{p}_{name}_ms"] = float(np.percentile(values, p)) * 1000
    if detailed:
        document |= {
            "input_lens": inputs + [10] * failed,
            "output_lens": outputs + [0] * failed,
            "ttfts": [each.ttft for each in run] + [0.0] * failed,
            "itls": [each.gaps for each in run] + [[]] * failed,
            "start_times": [353_399.0 + each.sent for each in run] + [353_399.0] * failed,
            "generated_texts": ["text"] * len(run) + [""] * failed,
            "errors": [""] * len(run) + ["Service Unavailable"] * failed,
        }
    return document


def guidellm(run: Sequence[Answer], strategy: dict[str, Any]) -> dict[str, Any]:
    """One run of `GenerativeBenchmarksReport`, of GuideLLM 0.5."""
    start, end = min(each.sent for each in run), max(each.tokens[-1] for each in run)
    first = min(each.tokens[0] for each in run)
    outputs = [len(each.tokens) for each in run]
    itls = [1000 * (each.latency - each.ttft) / (len(each.tokens) - 1) if len(each.tokens) > 1 else 0.0 for each in run]
    weighed: dict[str, list[tuple[float, float]]] = {
        "request_latency": [(each.latency, 1) for each in run],
        "prompt_token_count": [(each.prompt, 1) for each in run],
        "output_token_count": [(output, 1) for output in outputs],
        "time_to_first_token_ms": [(1000 * each.ttft, 1) for each in run],
        "time_per_output_token_ms": [(1000 * each.latency / n, n) for each, n in zip(run, outputs, strict=True)],
        "inter_token_latency_ms": [(itl, n - 1) for itl, n in zip(itls, outputs, strict=True)],
    }
    metrics: dict[str, Any] = {name: {"successful": _distribution(values)} for name, values in weighed.items()}
    rates = {"requests_per_second": len(run) / (end - start), "output_tokens_per_second": sum(outputs) / (end - first)}
    for name, rate in rates.items():
        metrics[name] = {"successful": {"mean": rate, "percentiles": {"p50": 0.0}}}
    metrics["request_totals"] = {"successful": len(run), "errored": 0, "incomplete": 0, "total": len(run)}
    return {
        "type_": "generative_benchmark",
        "config": {"strategy": strategy},
        "scheduler_metrics": {"measure_start_time": EPOCH_S + start, "measure_end_time": EPOCH_S + end},
        "metrics": metrics,
        "requests": {
            "successful": [
                {
                    "request_start_time": EPOCH_S + each.sent,
                    "request_latency": each.latency,
                    "prompt_tokens": each.prompt,
                    "output_tokens": len(each.tokens),
                    "time_to_first_token_ms": 1000 * each.ttft,
                }
                for each in run
            ],
            "errored": [],
            "incomplete": [],
        },
        "warmup_duration": 0.0,
        "cooldown_duration": 0.0,
    }


def guidellm_report(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"version": 1, "guidellm_version": "0.5.0"}, "args": {}, "benchmarks": list(runs)}


def _distribution(values: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """`DistributionSummary.from_values` and `from_pdf`."""
    merged: dict[float, float] = {}
    for value, weight in sorted(values):
        merged[value] = merged.get(value, 0.0) + weight
    kept = {value: weight for value, weight in merged.items() if weight > 0}
    total = sum(kept.values())
    pdf = np.array([(value, weight / total) for value, weight in kept.items()])
    cdf = np.cumsum(pdf[:, 1])
    shares = {"p001": 0.001, "p01": 0.01, "p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
    percentiles = {name: float(pdf[np.searchsorted(cdf, share, side="left"), 0]) for name, share in shares.items()}
    mean = float(np.sum(pdf[:, 0] * pdf[:, 1]))
    return {"mean": mean, "median": percentiles["p50"], "count": len(values), "percentiles": percentiles, "pdf": None}


def aiperf(run: Sequence[Answer]) -> dict[str, Any]:
    """`profile_export_aiperf.json`: `metric_result_from_array` and the derived metrics."""
    duration = max(each.tokens[-1] for each in run) - min(each.sent for each in run)
    outputs = [len(each.tokens) for each in run]
    itls = [(each.latency - each.ttft) / (len(each.tokens) - 1) for each in run if len(each.tokens) > 1]
    return {
        "schema_version": "1.3",
        "aiperf_version": "0.8.0",
        "time_to_first_token": _block("ms", [1e3 * each.ttft for each in run]),
        "inter_token_latency": _block("ms", [1e3 * itl for itl in itls]),
        "inter_chunk_latency": _block("ms", [1e3 * gap for each in run for gap in each.gaps]),
        "request_latency": _block("ms", [1e3 * each.latency for each in run]),
        "output_token_throughput_per_user": _block("tokens/sec/user", [1 / itl for itl in itls]),
        "input_sequence_length": _block("tokens", [each.prompt for each in run]),
        "output_sequence_length": _block("tokens", outputs),
        "request_throughput": {"unit": "requests/sec", "avg": len(run) / duration},
        "output_token_throughput": {"unit": "tokens/sec", "avg": sum(outputs) / duration},
        "request_count": {"unit": "requests", "avg": float(len(run))},
        "benchmark_duration": {"unit": "sec", "avg": duration},
        "was_cancelled": False,
        "error_summary": [],
    }


def _block(unit: str, values: Sequence[float]) -> dict[str, Any]:
    """Linear interpolation as AIPerf has it, not by numpy."""
    clean = np.sort(np.array(values, float))
    block: dict[str, Any] = {"unit": unit, "avg": float(clean.sum()) / len(clean), "count": len(clean)}
    for q in (1, 5, 10, 25, 50, 75, 90, 95, 99):
        place = q / 100 * (len(clean) - 1)
        low = int(place)
        high = min(low + 1, len(clean) - 1)
        block[f"p{q}"] = float(clean[low] + (place - low) * (clean[high] - clean[low]))
    return block


def aiperf_csv(document: dict[str, Any]) -> str:
    """`profile_export_aiperf.csv` of the same run: two digits, two sections."""
    titles = {
        "inter_token_latency": "Inter Token Latency (ms)",
        "request_latency": "Request Latency (ms)",
        "time_to_first_token": "Time to First Token (ms)",
        "input_sequence_length": "Input Sequence Length (tokens)",
        "output_sequence_length": "Output Sequence Length (tokens)",
    }
    singles = {
        "output_token_throughput": "Output Token Throughput (tokens/sec)",
        "request_count": "Request Count",
        "request_throughput": "Request Throughput (requests/sec)",
    }
    statistics = ("avg", "p1", "p5", "p10", "p25", "p50", "p75", "p90", "p95", "p99")
    file = io.StringIO()
    table = csv.writer(file)
    table.writerow(["Metric", *statistics])
    for key, title in titles.items():
        table.writerow([title, *(f"{document[key][name]:.2f}" for name in statistics)])
    table.writerow([])
    table.writerow(["Metric", "Value"])
    table.writerows([title, f"{document[key]['avg']:.2f}"] for key, title in singles.items())
    return file.getvalue()


def aiperf_records(run: Sequence[Answer]) -> list[dict[str, Any]]:
    """`profile_export.jsonl`."""
    return [
        {
            "metadata": {
                "session_num": number,
                "request_start_ns": EPOCH_NS + round(each.sent * 1e9),
                "benchmark_phase": "profiling",
                "was_cancelled": False,
            },
            "metrics": {
                "input_sequence_length": {"value": each.prompt, "unit": "tokens"},
                "output_sequence_length": {"value": len(each.tokens), "unit": "tokens"},
                "time_to_first_token": {"value": 1e3 * each.ttft, "unit": "ms"},
                "request_latency": {"value": 1e3 * each.latency, "unit": "ms"},
                **({"inter_chunk_latency": {"value": [1e3 * g for g in each.gaps], "unit": "ms"}} if each.gaps else {}),
            },
            "error": None,
        }
        for number, each in enumerate(run)
    ]


def requests_csv(run: Sequence[Answer]) -> str:
    """A row a request, as anybody could write it."""
    rows = [f"{each.sent!r},{each.prompt},{len(each.tokens)},{each.ttft!r},{each.latency!r}" for each in run]
    return "\n".join(["arrival_s,prompt_tokens,output_tokens,ttft_s,response_s", *rows, ""])


def lines(documents: Sequence[dict[str, Any]]) -> str:
    return "".join(f"{json.dumps(document)}\n" for document in documents)
