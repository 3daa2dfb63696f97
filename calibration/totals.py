"""A profile from somebody's own server: a table of rows, new tokens, context and seconds of its steps."""

from __future__ import annotations

import csv
import math
from datetime import UTC, datetime
from pathlib import Path

from calibration.fit import Padding, fit_curve
from calibration.provenance import installed_version
from simqueue.errors import ConfigError
from simqueue.profile import SCHEMA, Curves, Model, Point, Profile, Provenance

_COLUMNS = ("rows", "new_tokens", "context", "seconds")
_LEAST = 8
_HOLD_OUT_EVERY = 5


def from_totals(path: Path, name: str) -> Profile:
    """Fit a curve over the sums of a step; every fifth line, in order of size, is held out.

    Raises:
        ConfigError: a line cannot be used, or there are too few.
    """
    points = [_marked(i, p) for i, p in enumerate(sorted(_points(path), key=lambda p: (p.rows, p.width, p.context)))]
    if len(points) < _LEAST:
        raise ConfigError(f"samples {path}: {len(points)} lines, but a fit needs at least {_LEAST}")
    train, held = ([p for p in points if p.held_out == out] for out in (False, True))
    curve = fit_curve("totals", train, held, Padding())
    return Profile(
        schema=SCHEMA,
        name=name,
        runner="samples",
        iteration_level=True,
        model=Model(name="unknown", max_context=2**31 - 1, parameters=0, layers=0, hidden=0, dtype="unknown"),
        provenance=_provenance(path, len(points)),
        decode=None,
        prefill=None,
        mixed_s=0.0,
        host_s=0.0,
        noise=None,
        curves=Curves(totals=curve),
        points=tuple(points),
    )


def _points(path: Path) -> list[Point]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"samples {path}: cannot be read ({error})") from None
    reader = csv.DictReader(text.splitlines())
    missing = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
    if missing:
        raise ConfigError(f"samples {path}: line 1 has no column {missing[0]!r}; needed are {','.join(_COLUMNS)}")
    return [_point(path, reader.line_num, row) for row in reader]


def _point(path: Path, line: int, row: dict[str, str]) -> Point:
    rows, new, context = (int(_number(path, line, row, column, whole=True)) for column in _COLUMNS[:3])
    seconds = _number(path, line, row, "seconds", whole=False)
    if rows < 1 or new < 1:
        column = "rows" if rows < 1 else "new_tokens"
        raise ConfigError(f"samples {path}: line {line}, column {column}: {row[column]} must be at least 1")
    return Point(
        kind="total", rows=rows, width=new, context=context, decode_rows=0, longest=0,
        seconds=seconds, mean_s=seconds, device_s=seconds, cv=0.0, repeats=1, held_out=False,
    )  # fmt: skip


def _number(path: Path, line: int, row: dict[str, str], column: str, *, whole: bool) -> float:
    value = row[column]
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or number < 0 or (whole and number != int(number)) or (not whole and number <= 0):
        wanted = "a whole number, 0 or more" if whole else "a positive number of seconds"
        raise ConfigError(f"samples {path}: line {line}, column {column}: {value!r} is not {wanted}")
    return number


def _marked(index: int, point: Point) -> Point:
    held_out = index % _HOLD_OUT_EVERY == _HOLD_OUT_EVERY // 2
    return Point(
        **{name: getattr(point, name) for name in point.__struct_fields__ if name != "held_out"}, held_out=held_out
    )


def _provenance(path: Path, lines: int) -> Provenance:
    unknown = "unknown"
    return Provenance(
        gpu=unknown, driver=unknown, cpu=unknown, python=unknown, torch=unknown, transformers=unknown,
        dtype=unknown, attention=unknown, weights=unknown,
        command=f"simqueue profiles fit {path.name}",
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        repeats=f"{lines} steps, one line each",
        precision=unknown,
        samples=path.name,
        simqueue=installed_version(),
        notes=("seconds as given; context is summed over the rows",),
    )  # fmt: skip
