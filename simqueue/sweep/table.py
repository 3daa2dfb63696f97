"""The tidy table of a sweep: one row a cell, one column a figure, and its files."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from simqueue.sweep.cells import Plan
from simqueue.sweep.folder import ABOUT, CSV, TABLE
from simqueue.sweep.task import Row

if TYPE_CHECKING:
    import pyarrow


def table(plan: Plan, rows: Sequence[Row]) -> pyarrow.Table:
    """The rows as columns, and in the metadata where they come from (JSON under ``simqueue.sweep``)."""
    import pyarrow

    # A policy without memory to look at has no preemptions to tell of.
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    return pyarrow.table(columns, metadata={ABOUT: msgspec.json.encode(provenance(plan))})


def provenance(plan: Plan) -> dict[str, Any]:
    """What was run, by which version, on which Python."""
    return {
        "simqueue": version("simqueue"),
        "python": platform.python_version(),
        "file": plan.path.name,
        "scenario": _plain(plan.table),
        "cells": len(plan.cells),
    }


def write(table: pyarrow.Table, folder: Path) -> list[Path]:
    """Write ``sweep.parquet`` and ``sweep.csv``; both hold every number exactly."""
    from pyarrow import csv, parquet

    paths = [folder / TABLE, folder / CSV]
    parquet.write_table(table, paths[0])
    csv.write_csv(table, paths[1])
    return paths


def _plain(value: Any) -> Any:
    """In JSON's types, which have no infinite numbers."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value
