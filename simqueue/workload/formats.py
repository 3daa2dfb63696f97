"""Formats of recorded workloads: which one a file has, and how those that record single requests are read."""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simqueue.errors import WorkloadError
from simqueue.measured.read import read_report
from simqueue.workload.arrivals import Format
from simqueue.workload.checks import MAX_TOKENS
from simqueue.workload.columns import REQUIRED, Column, checked
from simqueue.workload.stamped import STAMPS_A_SECOND, Stamped, TraceWarning
from simqueue.workload.trace import NUMBER, WHOLE, check_width, explained, opened, read_trace

if TYPE_CHECKING:
    import pyarrow

MOONCAKE_BLOCK_TOKENS = 512
"""Tokens of the block that one of ``hash_ids`` stands for. Source: the traces' page, github.com/kvcache-ai/Mooncake."""

# A row of Mooncake's has its stamp within so many characters.
_ROW = 300
_MOST_SECONDS = 9 * 10**11
_ZONE = re.compile(r"(Z|[+-][0-9]{2}:?[0-9]{2})$")
_TOKEN_RULE = f"give a whole number of tokens from 0 to {MAX_TOKENS}"


def read_recorded(path: Path, format: Format, rng: Generator) -> dict[str, Column]:
    """The columns of a recorded workload, required ones first.

    Args:
        path: the file, plain or ``.gz``.
        format: one of `simqueue.workload.arrivals.Format` but ``"auto"`` and ``"servegen"``.
        rng: spreads stamps that are coarse.

    Warns:
        TraceWarning: what was changed in a public trace.

    Raises:
        WorkloadError: with the file and the line, column and value of the first thing that is wrong.
    """
    if format == "csv":
        return read_trace(path)
    if format == "results":
        return _read_results(path)
    with explained(path):
        return (_read_mooncake(path) if format == "mooncake" else _read_csv(path, format)).columns(path, rng)


def detected(path: Path) -> Format:
    """The format of a file by its first line: an object of JSON, or the names of columns. ``"csv"`` where no public
    format has them, so that the refusal says what a trace needs. A folder is ServeGen's; JSON that is no row of
    Mooncake's is what a load generator measured.

    Raises:
        WorkloadError: the file cannot be read.
    """
    if path.is_dir():
        return "servegen"
    with explained(path), opened(path) as file:
        first = next((line for line in file if line.strip()), "")
    if first.lstrip().startswith("{"):
        return "mooncake" if '"timestamp"' in first[:_ROW] else "results"
    names = set(next(csv.reader([first]), []))
    return next((name for name, layout in _LAYOUTS.items() if names.issuperset(layout.names)), "csv")


@dataclass(frozen=True, slots=True)
class _Layout:
    """Which columns of a public CSV file are read, and how its stamps are written.

    Attributes:
        names: of the columns of the stamp, the prompt tokens and the output tokens.
        stamps: a column of text as whole numbers of 100 ns; raises ValueError.
        is_stamp: whether one text is a stamp.
        rule: what to give in place of one that is not.
    """

    names: tuple[str, str, str]
    stamps: Callable[[pyarrow.ChunkedArray], NDArray[np.int64]]
    is_stamp: Callable[[str], bool]
    rule: str


def _dates(column: pyarrow.ChunkedArray) -> NDArray[np.int64]:
    import pyarrow

    # A date with a zone is another type. The files of 2024 have one, those of 2023 have not.
    zone = "UTC" if _ZONE.search(column[0].as_py()) else None
    nanoseconds = column.cast(pyarrow.timestamp("ns", zone)).cast(pyarrow.int64()).to_numpy()
    return np.asarray(nanoseconds // (10**9 // STAMPS_A_SECOND))


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _seconds(column: pyarrow.ChunkedArray) -> NDArray[np.int64]:
    import pyarrow

    seconds = column.cast(pyarrow.float64()).to_numpy()
    if not ((seconds >= 0) & (seconds < _MOST_SECONDS)).all():
        raise ValueError("a time is negative, infinite or none")
    return np.asarray(np.rint(seconds * STAMPS_A_SECOND), np.int64)


def _is_seconds(text: str) -> bool:
    return NUMBER.fullmatch(text) is not None and 0 <= float(text) < _MOST_SECONDS


_LAYOUTS: Mapping[Format, _Layout] = {
    "azure": _Layout(
        ("TIMESTAMP", "ContextTokens", "GeneratedTokens"),
        _dates,
        _is_date,
        "give dates like 2023-11-16 18:17:03.9799600, all of them with a zone or none",
    ),
    "burstgpt": _Layout(
        ("Timestamp", "Request tokens", "Response tokens"), _seconds, _is_seconds, "give finite seconds, not negative"
    ),
}


def _read_csv(path: Path, format: Format) -> Stamped:
    layout = _LAYOUTS[format]
    _refuse_header(path, format, layout.names)
    try:
        return _parsed(path, layout)
    except ValueError as error:  # pyarrow's refusals are ValueErrors
        _locate(path, layout)
        reason = str(error).splitlines()[0]
        raise WorkloadError(f"{path}: {reason}; {layout.rule}") from error


def _refuse_header(path: Path, format: Format, wanted: Sequence[str]) -> None:
    with opened(path) as file:
        names = next((row for row in csv.reader(file) if row), [])
    for name in wanted:
        if names.count(name) != 1:
            raise WorkloadError(
                f"{path}, line 1: {names.count(name)} columns {name} among {', '.join(map(repr, names)) or 'none'}; "
                f"a trace of format '{format}' has {', '.join(wanted)}"
            )


def _parsed(path: Path, layout: _Layout) -> Stamped:
    import pyarrow
    from pyarrow import csv as arrow_csv

    stamp, prompt, output = layout.names
    types = {stamp: pyarrow.string(), prompt: pyarrow.int64(), output: pyarrow.int64()}
    options = arrow_csv.ConvertOptions(column_types=types, include_columns=list(layout.names), null_values=[])
    with pyarrow.input_stream(str(path)) as file:
        table = arrow_csv.read_csv(file, convert_options=options)
    if not table.num_rows:
        raise WorkloadError(f"{path}: there are no rows below the header; a trace needs at least one request")
    prompts, outputs = table[prompt].to_numpy(), table[output].to_numpy()
    if min(prompts.min(), outputs.min()) < 0 or max(prompts.max(), outputs.max()) > MAX_TOKENS:
        raise ValueError("a length is out of range")
    return Stamped(layout.stamps(table[stamp]), prompts, outputs, {})


def _locate(path: Path, layout: _Layout) -> None:
    """Go through the file line by line and refuse the first value that cannot be used."""
    with opened(path) as file:
        reader = csv.reader(file)
        rows = (row for row in reader if row)
        names = next(rows)
        stamp, *lengths = (names.index(name) for name in layout.names)
        for row in rows:
            line = f"{path}, line {reader.line_num}"
            check_width(line, names, row)
            if not layout.is_stamp(row[stamp].strip()):
                raise WorkloadError(f"{line}, column {names[stamp]}: {row[stamp]!r} is no time; {layout.rule}")
            for column in lengths:
                _check_tokens(f"{line}, column {names[column]}", row[column])


def _check_tokens(at: str, text: str) -> None:
    if not WHOLE.fullmatch(text.strip()) or not 0 <= int(text) <= MAX_TOKENS:
        raise WorkloadError(f"{at}: {text!r} is no length; {_TOKEN_RULE}")


_Length = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]


class _MooncakeRow(msgspec.Struct):
    """One line of Mooncake's JSONL; ``timestamp`` is in milliseconds."""

    timestamp: Annotated[float, msgspec.Meta(ge=0, lt=1000 * _MOST_SECONDS)]
    input_length: _Length
    output_length: _Length
    hash_ids: list[int] = []


def _read_mooncake(path: Path) -> Stamped:
    decoder = msgspec.json.Decoder(_MooncakeRow)
    with opened(path) as file:
        rows = [_decoded(decoder, path, number, line) for number, line in enumerate(file, 1) if line.strip()]
    if not rows:
        raise WorkloadError(f"{path}: the file is empty; a trace needs at least one request")
    milliseconds = np.array([row.timestamp for row in rows])
    blocks = np.array([" ".join(map(str, row.hash_ids)) for row in rows], object)
    return Stamped(
        np.rint(milliseconds * (STAMPS_A_SECOND // 1000)).astype(np.int64),
        np.array([row.input_length for row in rows], np.int64),
        np.array([row.output_length for row in rows], np.int64),
        {"hash_ids": blocks} if blocks.any() else {},
    )


def _decoded(decoder: msgspec.json.Decoder[_MooncakeRow], path: Path, number: int, line: str) -> _MooncakeRow:
    try:
        return decoder.decode(line)
    except msgspec.MsgspecError as error:
        start = line.strip()[:80]
        raise WorkloadError(
            f"{path}, line {number}: {start!r} is no row: {error}; a trace of format 'mooncake' has one "
            '{"timestamp": milliseconds, "input_length": tokens, "output_length": tokens} a line'
        ) from None


def _read_results(path: Path) -> dict[str, Column]:
    """When completed requests were sent, and how long they were."""
    report = read_report(path)
    if (seen := report.seen) is None:
        raise WorkloadError(
            f"{path}: single requests are not in it, only figures of all: {report.tool.name} writes them where it is "
            "asked to (docs/compare.md)"
        )
    full = (seen.prompt_tokens > 0) & (seen.output_tokens > 0)
    if lost := report.offered.requests - int(full.sum()):
        warnings.warn(
            f"{path}: {lost} of {report.offered.requests} requests failed or have no tokens and are left out",
            TraceWarning,
            stacklevel=2,
        )
    return checked({name: getattr(seen, name)[full] for name in REQUIRED})
