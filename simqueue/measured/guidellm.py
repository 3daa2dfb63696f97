"""GuideLLM's ``benchmarks.json``.

The format is that of `GenerativeBenchmarksReport` (src/guidellm/benchmark/schemas/generative/report.py and metrics.py
of github.com/vllm-project/guidellm; read against 0.5 and what followed until 0.8): under ``benchmarks`` one object a
run, such as one for each rate of a sweep. Reports of before have no ``scheduler_metrics``, and another TPOT; they are
refused. src/guidellm/schemas/request_stats.py and statistics.py define the metrics: over the requests that succeeded
and lie in the measured stretch, which leaves out ``--warmup`` and ``--cooldown`` where these are asked for; each is
first computed by request and then weighed. TPOT has the first token in it, ITL has not. Requests, and tokens, per
second are rates over stretches of time whose mean is the number over the time. Percentiles are those of the inverted
distribution. The file calls the 0.1th percentile p001.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from simqueue.measured import seen as of
from simqueue.measured.report import Count, Length, Offered, Report, column, converted, refuse_nothing, told
from simqueue.measured.seen import Seen
from simqueue.measured.tool import MEAN, REQUESTS_PER_S, SECONDS, TOKENS_PER_S, Figure, Metric, Tool, inverted
from simqueue.metrics import Sample


def _tpot(seen: Seen) -> Sample:
    return Sample(seen.response_s / seen.output_tokens, seen.output_tokens)


def _itl(seen: Seen) -> Sample | None:
    by_request = of.tpot(seen)
    gaps = seen.output_tokens - 1
    return by_request and Sample(by_request.values, gaps[gaps > 0])


def _requests(seen: Seen) -> Sample:
    return of.rate(len(seen.arrival_s), seen.end_s - seen.first_s)


def _output(seen: Seen) -> Sample | None:
    if seen.ttft_s is None:
        return None
    return of.rate(seen.all_output_tokens, seen.end_s - float((seen.arrival_s + seen.ttft_s).min()))


TOOL = Tool(
    "GuideLLM",
    (
        Metric("time_to_first_token_ms", "TTFT", SECONDS, "first token - sent", of.ttft),
        Metric(
            "time_per_output_token_ms",
            "TPOT",
            SECONDS,
            "(last token - sent) / output tokens: the first token counts; by request, weighed by output tokens",
            _tpot,
        ),
        Metric(
            "inter_token_latency_ms",
            "ITL",
            SECONDS,
            "(last token - first token) / (output tokens - 1) by request, weighed by output tokens - 1",
            _itl,
        ),
        Metric("request_latency", "latency", SECONDS, "end of the answer - sent", of.response),
        Metric(
            "requests_per_second",
            "requests/s",
            REQUESTS_PER_S,
            "completed / time from the first request to the end of the last answer",
            _requests,
            True,
        ),
        Metric(
            "output_tokens_per_second",
            "output tokens/s",
            TOKENS_PER_S,
            "output tokens / time from the first token of all to the last",
            _output,
            True,
        ),
    ),
    inverted,
    "the least value up to which lies that share of all weight",
)


class _Distribution(msgspec.Struct):
    mean: float
    percentiles: dict[str, float]


class _ByStatus(msgspec.Struct):
    successful: _Distribution | None = None


class _Totals(msgspec.Struct):
    successful: Count
    errored: Count
    incomplete: Count


class _Metrics(msgspec.Struct):
    request_totals: _Totals
    prompt_token_count: _ByStatus
    output_token_count: _ByStatus
    time_to_first_token_ms: _ByStatus
    time_per_output_token_ms: _ByStatus
    inter_token_latency_ms: _ByStatus
    request_latency: _ByStatus
    requests_per_second: _ByStatus
    output_tokens_per_second: _ByStatus


class _Strategy(msgspec.Struct):
    type_: str
    rate: float | None = None
    streams: int | None = None


class _Config(msgspec.Struct):
    strategy: _Strategy


class _Named(msgspec.Struct):
    config: _Config


class _Request(msgspec.Struct):
    request_start_time: float | None = None
    request_latency: float | None = None
    prompt_tokens: Length | None = None
    output_tokens: Length | None = None
    time_to_first_token_ms: float | None = None


class _Requests(msgspec.Struct):
    successful: list[_Request] = []


class _Benchmark(msgspec.Struct):
    config: _Config
    scheduler_metrics: dict[str, Any]
    metrics: _Metrics
    requests: _Requests = msgspec.field(default_factory=_Requests)
    warmup_duration: float = 0.0
    cooldown_duration: float = 0.0


def is_result(document: Mapping[str, Any]) -> bool:
    """Whether it is one of this tool."""
    return isinstance(document.get("benchmarks"), list)


def runs(document: Mapping[str, Any]) -> list[Any]:
    """The runs in a file."""
    return list(document["benchmarks"])


def called(run: Any) -> str:
    """A run in a word or two."""
    try:
        strategy = msgspec.convert(run, _Named).config.strategy
    except msgspec.ValidationError:
        return "damaged"
    number = strategy.rate or strategy.streams
    return strategy.type_ if number is None else f"{strategy.type_} {number:.4g}"


def report(where: str, run: Any) -> Report:
    """What one run of the file says. Raises WorkloadError."""
    found = converted(where, TOOL.name, run, _Benchmark)
    totals = found.metrics.request_totals
    failed = totals.errored + totals.incomplete
    refuse_nothing(where, totals.successful, failed)
    figures, lost = told(_figures(found.metrics))
    requests, seen = totals.successful + failed, _seen(where, found)
    offered = _offered(requests, found) if seen is None else Offered.of(requests, seen)
    return Report(TOOL, figures, totals.successful, failed, offered, seen, (*_notes(found), *lost))


def _figures(metrics: _Metrics) -> dict[Figure, float | None]:
    figures: dict[Figure, float | None] = {}
    for metric in TOOL.metrics:
        found = getattr(metrics, metric.key).successful
        scale = 1e-3 if metric.key.endswith("_ms") else 1.0
        for figure in metric.usual if found else ():
            value = found.mean if figure.statistic == MEAN else found.percentiles.get(figure.statistic)
            figures[figure] = None if value is None else value * scale
    return figures


def _offered(requests: int, found: _Benchmark) -> Offered:
    lengths = (found.metrics.prompt_token_count.successful, found.metrics.output_token_count.successful)
    means = (each.mean if each and each.mean else None for each in lengths)
    return Offered(requests, found.config.strategy.rate, *means)


def _seen(where: str, found: _Benchmark) -> Seen | None:
    """All requests that succeeded, unless the file has a sample of them only, or does not say enough of them."""
    rows = found.requests.successful
    wanted = ("request_start_time", "request_latency", "prompt_tokens", "output_tokens")
    if len(rows) < found.metrics.request_totals.successful or any(
        not getattr(row, name) for row in rows for name in wanted
    ):
        return None
    start_s, response_s, prompts, outputs = (
        column(where, name, [getattr(row, name) for row in rows]) for name in wanted
    )
    first: list[Any] = [row.time_to_first_token_ms for row in rows]
    ttft_s = None if None in first else column(where, "time_to_first_token_ms", first) / 1000
    return Seen.of(start_s - start_s.min(), response_s, prompts, outputs, ttft_s)


def _notes(found: _Benchmark) -> tuple[str, ...]:
    if not (found.warmup_duration > 0 or found.cooldown_duration > 0):
        return ()
    return (
        f"measured without the first {found.warmup_duration:.4g} s and the last {found.cooldown_duration:.4g} s "
        "(warmup, cooldown); the prediction is of all requests",
    )
