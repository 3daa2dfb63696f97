"""simqueue's own traces: CSV of arrivals, prompt and output tokens and any further columns, plain or gzip."""

from __future__ import annotations

import csv
import gzip
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from simqueue.errors import WorkloadError
from simqueue.workload.checks import MAX_TOKENS
from simqueue.workload.columns import (
    ARRIVAL_RULE,
    ORDER_RULE,
    REQUIRED,
    TOKEN_COLUMNS,
    TOKEN_RULE,
    Column,
    checked,
)

if TYPE_CHECKING:
    import pyarrow

WHOLE = re.compile(r"-?[0-9]+")
NUMBER = re.compile(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def read_trace(path: Path) -> dict[str, Column]:
    """The columns of a trace file, required ones first; further ones as whole numbers, numbers or text.

    A million rows take about half a second. Only when something is wrong is the file gone through line by
    line.

    Raises:
        WorkloadError: with the file and the line, column and value of the first thing that is wrong.
    """
    with explained(path):
        names = _header(path)
        try:
            return checked(_parsed(path, names))
        except (ValueError, WorkloadError) as error:  # pyarrow's refusals are ValueErrors
            _locate(path)
            reason = str(error).splitlines()[0]
            raise WorkloadError(f"{path}: {reason}") from error


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what goes wrong while reading the file into a refusal that names it."""
    try:
        yield
    except FileNotFoundError:
        raise WorkloadError(f"{path}: no such file; check the path") from None
    except UnicodeDecodeError:
        raise WorkloadError(f"{path}: not UTF-8 text; save the trace as UTF-8") from None
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise WorkloadError(f"{path}: cannot be read as a trace: {error}; check the file") from None


def opened(path: Path) -> IO[str]:
    """The text of a plain or gzip file, without a byte order mark."""
    opener = gzip.open if path.suffix == ".gz" else open
    return cast(IO[str], opener(path, "rt", encoding="utf-8-sig", newline=""))


def _header(path: Path) -> list[str]:
    with opened(path) as file:
        names = next((row for row in csv.reader(file) if row), [])
    if not names:
        raise WorkloadError(f"{path}: the file is empty; its first line must be {','.join(REQUIRED)}")
    for name in REQUIRED:
        if name not in names:
            raise WorkloadError(
                f"{path}, line 1: no column {name} among {', '.join(map(repr, names))}; "
                f"a trace needs {', '.join(REQUIRED)}, or all columns of a public format"
            )
    for index, name in enumerate(names):
        if not name or name in names[:index]:
            raise WorkloadError(f"{path}, line 1: column {index + 1} is called {name!r}; give each a name of its own")
    return names


def _parsed(path: Path, names: Sequence[str]) -> dict[str, Any]:
    import pyarrow
    from pyarrow import csv as arrow_csv

    types = dict.fromkeys(names, pyarrow.string()) | {"arrival_s": pyarrow.float64()}
    types |= {name: pyarrow.int64() for name in TOKEN_COLUMNS if name in names}
    with pyarrow.input_stream(str(path)) as file:
        table = arrow_csv.read_csv(
            file,
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(column_types=types, null_values=[]),
        )
    further = [name for name in names if name not in REQUIRED]
    return {name: _guessed(table[name]).to_numpy() for name in (*REQUIRED, *further)}


def _guessed(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    """A column of text as whole numbers, numbers or booleans where every value reads as one.

    A text that would not be written like that again, such as the name 007, stays text.
    """
    import pyarrow

    if not pyarrow.types.is_string(column.type):
        return column
    for wanted in (pyarrow.int64(), pyarrow.float64(), pyarrow.bool_()):
        try:
            cast = column.cast(wanted)
        except pyarrow.ArrowInvalid:
            continue
        if wanted != pyarrow.int64() or cast.cast(pyarrow.string()) == column:
            return cast
    return column


def _locate(path: Path) -> None:
    """Go through the file line by line and refuse the first value that cannot be used."""
    with opened(path) as file:
        reader = csv.reader(file)
        rows = (row for row in reader if row)
        names, last_s = next(rows), -math.inf
        for row in rows:
            last_s = _check_row(f"{path}, line {reader.line_num}", names, row, last_s)
    if last_s < 0:
        raise WorkloadError(f"{path}: there are no rows below the header; a trace needs at least one request")


def _check_row(line: str, names: Sequence[str], row: Sequence[str], last_s: float) -> float:
    check_width(line, names, row)
    for name, text in zip(names, row, strict=True):
        if name == "arrival_s":
            last_s = _check_arrival(line, text, last_s)
        elif name in TOKEN_COLUMNS:
            _check_tokens(line, name, text)
    return last_s


def check_width(line: str, names: Sequence[str], row: Sequence[str]) -> None:
    """Refuse a row with more or fewer values than the header has names."""
    if len(row) != len(names):
        raise WorkloadError(f"{line}: {len(row)} values in a file of {len(names)} columns; give one for each column")


def _check_arrival(line: str, text: str, last_s: float) -> float:
    at = f"{line}, column arrival_s: {text!r}"
    if not NUMBER.fullmatch(text.strip()) or not 0 <= float(text) < math.inf:
        raise WorkloadError(f"{at} is no time; {ARRIVAL_RULE}")
    arrival_s = float(text)
    if arrival_s < last_s:
        raise WorkloadError(f"{at} is out of order: {ORDER_RULE}")
    return arrival_s


def _check_tokens(line: str, name: str, text: str) -> None:
    if not WHOLE.fullmatch(text.strip()) or not 1 <= int(text) <= MAX_TOKENS:
        raise WorkloadError(f"{line}, column {name}: {text!r} is no length; {TOKEN_RULE}")
