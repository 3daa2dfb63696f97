"""AIPerf's ``profile_export_aiperf.json`` and ``.csv``, and ``profile_export.jsonl`` with requests one by one.

The formats are those of github.com/ai-dynamo/aiperf (docs/reference/json-export-schema.md, schema 1.0 to 1.5, and
docs/tutorials/working-with-profile-exports.md; 0.8): in the JSON file a block of statistics for each metric, in the
unit that it names; in the CSV file the same rounded to two digits. docs/metrics-reference.md defines the metrics, over
valid requests of the profiling phase. ITL is a mean by request, so that its percentiles are of requests, not of gaps;
those are called ICL (inter chunk latency). Where the server says how many tokens the first chunk had
(``--per-chunk-usage``) ITL is by these. Percentiles are linear between two ranks; those of ICL are estimated with a
t-digest in newer versions, to about 0.1 %. From the JSONL file all figures are computed here, in the same way.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
import numpy as np

from simqueue.errors import WorkloadError
from simqueue.measured import seen as of
from simqueue.measured.report import MOST_TOKENS, Offered, Report, column, converted, refuse_nothing, told
from simqueue.measured.seen import Seen
from simqueue.measured.tool import MEAN, REQUESTS_PER_S, SECONDS, TOKENS_PER_S, Figure, Metric, Tool, linear
from simqueue.metrics import Sample

_DURATION = "time from the first request to the last answer"
_UNITS = {
    SECONDS: {"s": 1.0, "sec": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9},
    REQUESTS_PER_S: {"requests/sec": 1.0, "req/sec": 1.0},
    TOKENS_PER_S: {"tokens/sec": 1.0, "tokens/sec/user": 1.0},
}


def _requests(seen: Seen) -> Sample:
    return of.rate(len(seen.arrival_s), seen.end_s - seen.first_s)


def _output(seen: Seen) -> Sample:
    return of.rate(seen.all_output_tokens, seen.end_s - seen.first_s)


def _per_user(seen: Seen) -> Sample | None:
    gaps = of.tpot(seen)
    return gaps and Sample(1 / gaps.values[gaps.values > 0])


TOOL = Tool(
    "AIPerf",
    (
        Metric("time_to_first_token", "TTFT", SECONDS, "first content - sent", of.ttft),
        Metric("inter_token_latency", "ITL", SECONDS, "(latency - TTFT) / (output tokens - 1), by request", of.tpot),
        Metric("inter_chunk_latency", "ICL", SECONDS, "every gap between two chunks, of all requests", of.gaps),
        Metric("request_latency", "latency", SECONDS, "last content - sent", of.response),
        Metric("output_token_throughput_per_user", "tokens/s/user", TOKENS_PER_S, "1 / ITL, by request", _per_user),
        Metric("request_throughput", "requests/s", REQUESTS_PER_S, f"completed / {_DURATION}", _requests, True),
        Metric(
            "output_token_throughput", "output tokens/s", TOKENS_PER_S, f"output tokens / {_DURATION}", _output, True
        ),
    ),
    linear,
    "linear between two ranks",
)
_COUNTS = ("request_count", "error_request_count", "input_sequence_length", "output_sequence_length")
_TITLES = {
    "time to first token": "time_to_first_token",
    "inter token latency": "inter_token_latency",
    "inter chunk latency": "inter_chunk_latency",
    "request latency": "request_latency",
    "output token throughput per user": "output_token_throughput_per_user",
    "request throughput": "request_throughput",
    "output token throughput": "output_token_throughput",
    "request count": "request_count",
    "error request count": "error_request_count",
    "input sequence length": "input_sequence_length",
    "output sequence length": "output_sequence_length",
}


class _Block(msgspec.Struct):
    avg: float | None = None
    unit: str | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None


def is_result(document: Mapping[str, Any]) -> bool:
    """Whether it is a summary of this tool."""
    blocks = ("request_latency", "request_throughput")
    return "aiperf_version" in document or all(isinstance(document.get(key), dict) for key in blocks)


def is_table(names: Iterable[str]) -> bool:
    """Whether these are the first columns of a CSV summary of this tool."""
    return {"Metric", "avg"} <= set(names)


def is_record(document: Mapping[str, Any]) -> bool:
    """Whether it is a line of the JSONL file."""
    return {"metadata", "metrics"} <= document.keys()


def report(where: str, document: Mapping[str, Any]) -> Report:
    """What the summary says. Raises WorkloadError."""
    keys = (*(metric.key for metric in TOOL.metrics), *_COUNTS)
    found = {key: converted(where, TOOL.name, document[key], _Block) for key in keys if key in document}
    completed, failed, prompts, outputs = (found[key].avg if key in found else None for key in _COUNTS)
    completed, failed = (int(count) if count and math.isfinite(count) else 0 for count in (completed, failed))
    refuse_nothing(where, completed, failed)
    figures: dict[Figure, float | None] = {}
    for metric in TOOL.metrics:
        if metric.key in found:
            figures |= _figures(where, metric, found[metric.key])
    kept, lost = told(figures)
    return Report(TOOL, kept, completed, failed, Offered(completed + failed, None, prompts, outputs), notes=lost)


def _figures(where: str, metric: Metric, block: _Block) -> dict[Figure, float | None]:
    scale = _scale(where, metric.key, metric.unit, block.unit)
    values = {
        figure: block.avg if figure.statistic == MEAN else getattr(block, figure.statistic) for figure in metric.usual
    }
    return {figure: None if value is None else value * scale for figure, value in values.items()}


def _scale(where: str, key: str, unit: str, given: str | None) -> float:
    """What a value in the unit of the file is to be multiplied by."""
    known = _UNITS[unit]
    if given not in known:
        raise WorkloadError(
            f"{where}: {key} has the unit {given!r}; give the file as it was written: {', '.join(known)}"
        )
    return known[given]


def table(where: str, text: str) -> Report:
    """What the CSV summary says. Raises WorkloadError."""
    document: dict[str, dict[str, Any]] = {}
    names: list[str] = []
    for row in csv.reader(text.splitlines()):
        if row and row[0] == "Metric":
            names = ["avg" if name == "Value" else name for name in row[1:]]
        elif row and names:
            title, _, unit = row[0].partition(" (")
            if key := _TITLES.get(title.strip().lower()):
                cells = {name: _number(where, title, cell) for name, cell in zip(names, row[1:], strict=False) if cell}
                document[key] = {**cells, "unit": unit.rstrip(")")}
    found = report(where, document)
    return Report(TOOL, found.figures, found.completed, found.failed, found.offered, notes=(*found.notes, _ROUNDED))


_ROUNDED = "figures of a CSV file are rounded to two digits after the point; the JSON file has all of them"


def _number(where: str, title: str, cell: str) -> float:
    try:
        return float(cell.replace(",", ""))
    except ValueError:
        raise WorkloadError(f"{where}: {title} = {cell!r} is no number; give the file as it was written") from None


class _Value(msgspec.Struct):
    value: float
    unit: str


class _Length(msgspec.Struct):
    value: Annotated[float, msgspec.Meta(ge=0, le=MOST_TOKENS)]


class _Values(msgspec.Struct):
    value: list[float]
    unit: str


class _Measured(msgspec.Struct):
    request_latency: _Value
    input_sequence_length: _Length
    output_sequence_length: _Length
    time_to_first_token: _Value | None = None
    inter_chunk_latency: _Values | None = None


class _About(msgspec.Struct):
    request_start_ns: int
    benchmark_phase: str = "profiling"
    was_cancelled: bool = False


def records(where: str, rows: Iterable[Mapping[str, Any]]) -> Report:
    """What the JSONL file says of single requests. Raises WorkloadError."""
    starts, measured, failed = [], [], 0
    for number, row in enumerate(rows, 1):
        line = f"{where}, line {number}"
        about = converted(line, TOOL.name, row.get("metadata"), _About)
        if about.benchmark_phase != "profiling":
            continue
        if row.get("error") is not None or about.was_cancelled:
            failed += 1
            continue
        starts.append(about.request_start_ns)
        measured.append(converted(line, TOOL.name, row.get("metrics"), _Measured))
    refuse_nothing(where, len(starts), failed)
    return Report.of_requests(TOOL, _seen(where, starts, measured), failed, where)


def _seen(where: str, starts: list[int], rows: list[_Measured]) -> Seen:
    def seconds(key: str) -> Any:
        blocks = [getattr(row, key) for row in rows]
        if None in blocks:
            return None
        return column(where, key, [one.value * _scale(where, key, SECONDS, one.unit) for one in blocks])

    first_ns = min(starts)
    since_s = np.array([(start - first_ns) / 1e9 for start in starts])
    prompts, outputs = (
        column(where, key, [getattr(row, key).value for row in rows])
        for key in ("input_sequence_length", "output_sequence_length")
    )
    response_s, ttft_s = seconds("request_latency"), seconds("time_to_first_token")
    return Seen.of(since_s, response_s, prompts, outputs, ttft_s, _gaps(where, rows))


def _gaps(where: str, rows: list[_Measured]) -> Sample | None:
    key = "inter_chunk_latency"
    blocks = [row.inter_chunk_latency for row in rows if row.inter_chunk_latency is not None]
    if not blocks:
        return None
    gaps = [np.array(one.value) * _scale(where, key, SECONDS, one.unit) for one in blocks]
    return Sample(column(where, key, np.concatenate(gaps)))
