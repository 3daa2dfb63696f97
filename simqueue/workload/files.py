"""Writing and reading workload columns: Parquet (with how they were made) and CSV (the columns alone)."""

from __future__ import annotations

import csv
import gzip
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import msgspec

from simqueue.errors import OutputError, WorkloadError
from simqueue.workload.columns import REQUIRED, Column, checked
from simqueue.workload.trace import read_trace

if TYPE_CHECKING:
    import pyarrow

_META_KEY = b"simqueue.workload"


def write(columns: Mapping[str, Column], meta: Mapping[str, Any], path: Path) -> None:
    """Write to ``.parquet``, ``.csv`` or ``.csv.gz``: aside first, then renamed, so that no half file stays.

    Raises:
        WorkloadError: the name ends in something else.
        OutputError: the place cannot be written.
    """
    import pyarrow

    _refuse_unknown_format(path)
    table = pyarrow.table(dict(columns))
    with _aside(path) as file:
        if path.suffix == ".parquet":
            _write_parquet(table, meta, file)
        elif path.suffix == ".gz":
            with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed:
                _write_csv(table, cast(BinaryIO, packed))
        else:
            _write_csv(table, file)


def read(path: Path) -> tuple[dict[str, Column], dict[str, Any]]:
    """Columns and how they were made (nothing, from CSV).

    Raises:
        WorkloadError: the file is missing, of another kind or damaged, or a value in it cannot be used.
    """
    _refuse_unknown_format(path)
    if path.suffix != ".parquet":
        return read_trace(path), {}
    table, meta = _read_parquet(path)
    missing = [name for name in REQUIRED if name not in table.column_names]
    if missing:
        raise WorkloadError(f"{path}: no column {missing[0]}; a workload needs {', '.join(REQUIRED)}")
    try:
        return checked({name: table[name].to_numpy() for name in table.column_names}), meta
    except WorkloadError as error:
        raise WorkloadError(f"{path}: {error}") from None


def _read_parquet(path: Path) -> tuple[pyarrow.Table, dict[str, Any]]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path, partitioning=None)
        stored = (table.schema.metadata or {}).get(_META_KEY, b"{}")
        return table, msgspec.json.decode(stored, type=dict[str, Any])
    except FileNotFoundError:
        raise WorkloadError(f"{path}: no such file; check the path") from None
    except (OSError, pyarrow.ArrowException, msgspec.MsgspecError) as error:
        reason = str(error).splitlines()[0]
        raise WorkloadError(f"{path}: cannot be read as a workload: {reason}; check the file") from None


def _refuse_unknown_format(path: Path) -> None:
    if not path.name.endswith((".parquet", ".csv", ".csv.gz")):
        raise WorkloadError(f"{path}: a workload's file ends in .parquet, .csv or .csv.gz; rename it")


def _write_parquet(table: pyarrow.Table, meta: Mapping[str, Any], file: BinaryIO) -> None:
    from pyarrow import parquet

    parquet.write_table(table.replace_schema_metadata({_META_KEY: msgspec.json.encode(dict(meta))}), file)


def _write_csv(table: pyarrow.Table, file: BinaryIO) -> None:
    """Doubles are written with as many digits as it takes to read the same double again."""
    from pyarrow import csv as arrow_csv

    header = io.StringIO()
    csv.writer(header, lineterminator="\n").writerow(table.column_names)
    file.write(header.getvalue().encode())
    arrow_csv.write_csv(table, file, arrow_csv.WriteOptions(include_header=False))


@contextmanager
def _aside(path: Path) -> Iterator[BinaryIO]:
    """A file beside ``path`` that takes its place when all went well, and is gone when it did not."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with aside.open("wb") as file:
            yield file
        aside.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}; choose another place") from None
    finally:
        with suppress(OSError):  # renamed, or its folder never was
            aside.unlink()
