"""Any tool's requests as CSV, one a row: ``arrival_s``, ``prompt_tokens``, ``output_tokens``, ``response_s`` and, where
answers are streamed, ``ttft_s``; further columns are ignored. All in seconds, arrivals since any instant. The names
are those of simqueue's own tables, and so are the definitions (docs/design.md). A request without a ``response_s``
(an empty cell) has failed.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping

import numpy as np

from simqueue.errors import WorkloadError
from simqueue.measured import seen as of
from simqueue.measured.report import MOST_SECONDS, MOST_TOKENS, Report, refuse_nothing
from simqueue.measured.seen import Seen
from simqueue.measured.tool import REQUESTS_PER_S, SECONDS, Metric, Tool, inverted
from simqueue.metrics import Sample

REQUIRED = ("arrival_s", "prompt_tokens", "output_tokens", "response_s")
_TTFT = "ttft_s"
_TOKENS = REQUIRED[1:3]


def _requests(seen: Seen) -> Sample:
    return of.rate(len(seen.arrival_s), seen.end_s - seen.first_s)


TOOL = Tool(
    "CSV of requests",
    (
        Metric("ttft_s", "TTFT", SECONDS, "first token - arrival", of.ttft),
        Metric("tpot_s", "TPOT", SECONDS, "(finished - first token) / (output tokens - 1), by request", of.tpot),
        Metric("response_s", "response", SECONDS, "finished - arrival", of.response),
        Metric(
            "throughput_rps",
            "requests/s",
            REQUESTS_PER_S,
            "completed / time from the first arrival to the last answer",
            _requests,
            True,
        ),
    ),
    inverted,
    "the inverted empirical distribution",
)


def is_table(names: Iterable[str]) -> bool:
    """Whether a file with these columns is one."""
    return set(REQUIRED) <= set(names)


def table(where: str, text: str) -> Report:
    """What the file says. Raises WorkloadError with the line, the column and the value."""
    reader = csv.DictReader(text.splitlines())
    names = [*REQUIRED, *([_TTFT] if _TTFT in (reader.fieldnames or ()) else [])]
    rows, failed = [], 0
    for row in reader:
        if row["response_s"] != "":
            rows.append([_number(f"{where}, line {reader.line_num}", row, name) for name in names])
        else:
            failed += 1
    refuse_nothing(where, len(rows), failed)
    arrival_s, prompts, outputs, response_s, *ttft = np.array(rows).T
    seen = Seen.of(arrival_s - arrival_s.min(), response_s, prompts, outputs, *ttft)
    return Report.of_requests(TOOL, seen, failed, where)


def _number(line: str, row: Mapping[str, str | None], name: str) -> float:
    text = row[name]
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not 0 <= value <= MOST_SECONDS or (name in _TOKENS and not (1 <= value <= MOST_TOKENS and value == int(value))):
        what = (
            f"a whole number of tokens from 1 to {MOST_TOKENS}" if name in _TOKENS else "finite seconds, not negative"
        )
        raise WorkloadError(f"{line}, column {name}: {text!r} cannot be used; give {what}")
    return value
