"""`read_report`: which tool wrote a result file, told by its content, and what it says."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from simqueue.errors import WorkloadError
from simqueue.measured import aiperf, guidellm, requests_csv, vllm_bench
from simqueue.measured.report import Report

KNOWN = (
    "the JSON of `vllm bench serve --save-result`, GuideLLM's benchmarks.json, AIPerf's profile_export_aiperf.json, "
    f".csv or profile_export.jsonl, or CSV with the columns {', '.join(requests_csv.REQUIRED)} and perhaps ttft_s"
)


def read_report(path: Path, run: int | None = None) -> Report:
    """What a result file says.

    Args:
        path: the file.
        run: which run of it, counted from 1, where it has several.

    Raises:
        WorkloadError: it cannot be read, no known tool wrote it, it is not whole, or nothing in it was completed.
    """
    where, text = str(path), _text(path)
    if not text.lstrip().startswith("{"):
        try:
            return _of_table(where, text)
        except csv.Error as error:
            raise _unknown(where, f"a table that cannot be read ({error})") from None
    documents = _documents(where, text)
    if aiperf.is_record(documents[0]):
        return aiperf.records(where, documents)
    if vllm_bench.is_result(documents[0]):
        return vllm_bench.report(where, _one(where, documents, run, _date))
    if len(documents) == 1 and guidellm.is_result(documents[0]):
        runs = guidellm.runs(documents[0])
        return guidellm.report(where, _one(where, runs, run, guidellm.called))
    if len(documents) == 1 and aiperf.is_result(documents[0]):
        return aiperf.report(where, documents[0])
    raise _unknown(where, f"an object with the keys {', '.join(list(documents[0])[:8])}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise WorkloadError(f"{path}: cannot be read ({error.strerror}): give the path of a result file") from None
    except UnicodeDecodeError:
        raise _unknown(str(path), "no UTF-8 text") from None


def _documents(where: str, text: str) -> list[dict[str, Any]]:
    """One object of JSON, or one a line."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    several = len(lines) > 1 and lines[0][1].rstrip().endswith("}") and lines[1][1].startswith("{")
    return [_object(f"{where}, line {number}", line) for number, line in lines] if several else [_object(where, text)]


def _object(where: str, text: str) -> dict[str, Any]:
    """NaN, which Python writes where JSON has no word, is read as it was meant."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WorkloadError(
            f"{where}: is no whole JSON ({error}); was it still being written? Give a file that is complete"
        ) from None
    if not isinstance(found, dict):
        raise _unknown(where, "no object")
    return found


def _of_table(where: str, text: str) -> Report:
    names = next((row for row in csv.reader(text.splitlines()[:1])), [])
    if aiperf.is_table(names):
        return aiperf.table(where, text)
    if requests_csv.is_table(names):
        return requests_csv.table(where, text)
    missing = [name for name in requests_csv.REQUIRED if name not in names]
    if len(missing) < len(requests_csv.REQUIRED):
        raise _unknown(where, f"a table without {', '.join(missing)}")
    raise _unknown(where, f"a first line {text[:60].splitlines()[0]!r}" if text.strip() else "nothing")


def _one(where: str, runs: Sequence[Any], run: int | None, called: Callable[[Any], str]) -> Any:
    """The run that was asked for."""
    if not runs:
        raise WorkloadError(f"{where}: no run is in it: give a file of a run that ended")
    if run is None and len(runs) > 1:
        listed = ", ".join(f"{number} ({called(each)})" for number, each in enumerate(runs, 1))
        raise WorkloadError(f"{where}: {len(runs)} runs are in it, of which --run takes one: {listed}")
    if run is not None and not 1 <= run <= len(runs):
        raise WorkloadError(f"{where}: --run {run}, but {len(runs)} are in it; they count from 1")
    return runs[(run or 1) - 1]


def _date(document: dict[str, Any]) -> str:
    return f"{document.get('date')}, request_rate {document.get('request_rate')}"


def _unknown(where: str, found: str) -> WorkloadError:
    return WorkloadError(f"{where}: is of no known tool: {found} found, looked for {KNOWN}")
