"""``vllm bench serve --save-result``, with and without ``--save-detailed``.

The format is that of vllm/benchmarks/serve.py (github.com/vllm-project/vllm, as of 2026): one JSON object, or with
``--append-result`` several. Summaries are in milliseconds, lists of single requests in seconds. `calculate_metrics`
there defines the metrics: percentiles are those of ``numpy.percentile``, over completed requests. TTFT, TPOT and ITL
have means, medians and, unless ``--metric-percentiles`` asks for others, the p99; E2EL is there if
``--percentile-metrics`` names it. What a detailed file does not say is computed from its lists in the same way.

A failed request has 0 output tokens in the lists. Chunks are taken for tokens, as vLLM does in ITL. ``start_times``,
without which nothing can be replayed, are written since January 2026 (vllm-project/vllm pull request 32667).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from simqueue.errors import WorkloadError
from simqueue.measured import seen as of
from simqueue.measured.report import Count, Length, Offered, Report, Seconds, column, converted, refuse_nothing, told
from simqueue.measured.seen import Seen
from simqueue.measured.tool import MEAN, MEDIAN, REQUESTS_PER_S, SECONDS, TOKENS_PER_S, Figure, Metric, Tool, linear
from simqueue.metrics import Sample

_STATISTIC = re.compile(r"(mean|median|p\d{1,2}(?:\.\d+)?|p100)_(ttft|tpot|itl|e2el)_ms")
_DURATION = "duration, from the start of the run to the last answer"
_LISTS = ("start_times", "ttfts", "itls", "input_lens", "output_lens")
_THROUGHPUTS = ("request_throughput", "output_throughput", "total_token_throughput")


def _requests(seen: Seen) -> Sample:
    return of.rate(len(seen.arrival_s), seen.end_s)


def _output(seen: Seen) -> Sample:
    return of.rate(seen.all_output_tokens, seen.end_s)


def _tokens(seen: Seen) -> Sample:
    return of.rate(seen.all_output_tokens + int(seen.prompt_tokens.sum()), seen.end_s)


TOOL = Tool(
    "vllm bench serve",
    (
        Metric("ttft", "TTFT", SECONDS, "first token - sent", of.ttft),
        Metric("tpot", "TPOT", SECONDS, "(last token - first token) / (output tokens - 1), by request", of.tpot),
        Metric("itl", "ITL", SECONDS, "every gap between two chunks, of all requests together", of.gaps),
        Metric("e2el", "E2EL", SECONDS, "last token - sent", of.response),
        Metric("request_throughput", "requests/s", REQUESTS_PER_S, f"completed / {_DURATION}", _requests, True),
        Metric("output_throughput", "output tokens/s", TOKENS_PER_S, f"output tokens / {_DURATION}", _output, True),
        Metric("total_token_throughput", "all tokens/s", TOKENS_PER_S, f"all tokens / {_DURATION}", _tokens, True),
    ),
    linear,
    "linear between two ranks (numpy.percentile)",
)


class _Result(msgspec.Struct):
    duration: Seconds
    completed: Count
    total_input_tokens: Count
    total_output_tokens: Count
    num_prompts: Count
    failed: Count | None = None
    request_rate: float | str | None = None
    max_concurrency: int | None = None
    input_lens: list[Length] | None = None
    output_lens: list[Length] | None = None
    ttfts: list[float] | None = None
    itls: list[list[float]] | None = None
    start_times: list[float] | None = None


def is_result(document: Mapping[str, Any]) -> bool:
    """Whether it is one of this tool."""
    return {"tokenizer_id", "num_prompts", "completed", "request_throughput"} <= document.keys()


def report(where: str, document: Mapping[str, Any]) -> Report:
    """What the file says. Raises WorkloadError."""
    result = converted(where, TOOL.name, document, _Result)
    failed = max(0, result.num_prompts - result.completed) if result.failed is None else result.failed
    refuse_nothing(where, result.completed, failed)
    seen = _seen(where, result)
    computed = {} if seen is None else {figure: TOOL.value(seen, figure) for figure in TOOL.usual}
    figures, lost = told({**computed, **_figures(where, document)})
    return Report(
        TOOL, figures, result.completed, failed, _offered(result, failed, seen), seen, (*_notes(result), *lost)
    )


def _figures(where: str, document: Mapping[str, Any]) -> dict[Figure, float | None]:
    numbers = {key: document[key] for key in _THROUGHPUTS if key in document}
    numbers |= {key: value for key, value in document.items() if _STATISTIC.fullmatch(key)}
    values = converted(where, TOOL.name, numbers, dict[str, float | None])
    scales = {key: 1.0 if key in _THROUGHPUTS else 1e-3 for key in values}
    return {_figure(key): None if value is None else value * scales[key] for key, value in values.items()}


def _figure(key: str) -> Figure:
    if match := _STATISTIC.fullmatch(key):
        return Figure(match[2], MEDIAN if match[1] == "median" else match[1])
    return Figure(key, MEAN)


def _seen(where: str, result: _Result) -> Seen | None:
    lists: dict[str, Any] = {name: getattr(result, name) for name in _LISTS}
    if None in lists.values():
        return None
    sizes = {name: len(values) for name, values in lists.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise WorkloadError(f"{where}: lists of requests differ in length ({listed}); give the file as it was written")
    done = [row for row, tokens in enumerate(lists["output_lens"]) if tokens]
    refuse_nothing(where, len(done), len(lists["output_lens"]) - len(done))
    columns = {name: column(where, name, [lists[name][row] for row in done]) for name in _LISTS if name != "itls"}
    gaps = [column(where, "itls", lists["itls"][row]) for row in done]
    response_s = columns["ttfts"] + np.array([gap.sum() for gap in gaps])
    # The first request is sent a gap after the start of the run.
    since_s = columns["start_times"] - columns["start_times"].min()
    lead_s = max(0.0, result.duration - float((since_s + response_s).max()))
    arrival_s, lengths = since_s + lead_s, (columns["input_lens"], columns["output_lens"])
    return Seen.of(arrival_s, response_s, *lengths, columns["ttfts"], Sample(np.concatenate(gaps)))


def _offered(result: _Result, failed: int, seen: Seen | None) -> Offered:
    requests, rate = result.completed + failed, result.request_rate
    if seen is not None:
        return Offered.of(requests, seen)
    stated = float(rate) if isinstance(rate, int | float) and math.isfinite(rate) else None
    means = (total / result.completed for total in (result.total_input_tokens, result.total_output_tokens))
    return Offered(requests, stated, *means)


def _notes(result: _Result) -> tuple[str, ...]:
    if result.max_concurrency is None:
        return ()
    return (
        f"the tool kept at most {result.max_concurrency} requests under way (max_concurrency): arrivals of kind "
        f'"users" do that, with users = {result.max_concurrency} and no think time',
    )
