"""Raw samples: one CSV line per timed step, appended as it is measured, under one line that says on what."""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.cells import Cell
from simqueue.errors import ConfigError, OutputError
from simqueue.profile import Kind

ClockName = Literal["wall", "device"]
COLUMNS = ("kind", "rows", "width", "context", "decode_rows", "longest", "held_out", "round", "clock", "seconds")
_MARK = "# simqueue samples 1 "
_OURS = b"# simqueue "
_IDENTITY = (
    *("runner", "model", "weights", "dtype", "max_rows", "max_context", "gpu", "driver", "cpu"),
    *("python", "torch", "transformers", "attention"),
)


@dataclass
class Repeats:
    """What was measured of one cell: seconds by wall clock with the round of each, and seconds on the device."""

    wall: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    device: list[float] = field(default_factory=list)

    def visits(self) -> NDArray[np.float64]:
        """The median of each visit: repeats within one are alike, so it is the visits that count as independent."""
        rounds, wall = np.array(self.rounds), np.array(self.wall)
        return np.array([np.median(wall[rounds == r]) for r in dict.fromkeys(self.rounds)])


Samples = dict[Cell, Repeats]


class Recorder:
    """Appends samples to a file; opened again, it goes on after the last whole line, if that is of the same kind.

    Raises:
        ConfigError: the file holds samples of something else, or no samples.
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path, header: Mapping[str, str]) -> None:
        self.path, self.samples = path, Samples()
        size = whole(path)
        if size:
            found, self.samples = read(path)
            refuse_other(path, found, header)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[str] = path.open("a", newline="", encoding="utf-8")
            self._file.truncate(size)
        except OSError as error:
            raise OutputError(f"samples {path}: cannot be written ({error.strerror}): choose another --out") from None
        self._csv = csv.writer(self._file, lineterminator="\n")
        if not size:
            self._file.write(first_line(_MARK, header))
            self._csv.writerow(COLUMNS)
            self._file.flush()

    @property
    def next_round(self) -> int:
        return 1 + max((max(repeats.rounds) for repeats in self.samples.values() if repeats.rounds), default=0)

    def add(self, cell: Cell, number: int, clock: ClockName, seconds: list[float]) -> None:
        """One visit's samples; on disk when this returns."""
        _note(self.samples, cell, number, clock, seconds)
        shape = (cell.kind, cell.rows, cell.width, cell.context, cell.decode_rows, cell.longest, int(cell.held_out))
        self._csv.writerows((*shape, number, clock, f"{s:.9f}") for s in seconds)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def is_samples(path: Path) -> bool:
    """Whether the file was written by a `Recorder` (and is not somebody's own table of step times)."""
    with opened(path) as file:
        return file.read(len(_MARK)) == _MARK


def read(path: Path) -> tuple[dict[str, str], Samples]:
    """The header and the samples of a file, gzip or not. Raises ConfigError naming line, column and value."""
    with opened(path) as file:
        header, samples = header_of(path, _MARK, file.readline()), Samples()
        for line in _rows(path, file):
            _note(samples, *line)
    return header, samples


def _rows(path: Path, file: IO[str]) -> Iterator[tuple[Cell, int, ClockName, list[float]]]:
    for number, row in enumerate(csv.DictReader(file), start=3):
        try:
            yield _parse(row)
        except (TypeError, ValueError, KeyError):
            raise ConfigError(
                f"samples {path}: line {number} is not a sample: {','.join(map(str, row.values()))}"
            ) from None


def _parse(row: dict[str, str]) -> tuple[Cell, int, ClockName, list[float]]:
    kind, clock, seconds = row["kind"], row["clock"], float(row["seconds"])
    if kind not in get_args(Kind) or clock not in get_args(ClockName) or not (math.isfinite(seconds) and seconds > 0):
        raise ValueError
    rows, width, context, decode_rows, longest, held_out = (int(row[name]) for name in COLUMNS[1:7])
    cell = Cell(kind, rows, width, context, decode_rows, longest, bool(held_out))  # type: ignore[arg-type]
    return cell, int(row["round"]), clock, [seconds]  # type: ignore[return-value]


def _note(samples: Samples, cell: Cell, number: int, clock: ClockName, seconds: list[float]) -> None:
    repeats = samples.setdefault(cell, Repeats())
    if clock == "wall":
        repeats.wall += seconds
        repeats.rounds += [number] * len(seconds)
    else:
        repeats.device += seconds


def first_line(mark: str, header: Mapping[str, str]) -> str:
    """What a file starts with: what it is, and on what its samples were taken."""
    return mark + msgspec.json.encode(dict(header)).decode() + "\n"


def header_of(path: Path, mark: str, line: str) -> dict[str, str]:
    """What `first_line` wrote. Raises ConfigError if it did not."""
    if not line.startswith(mark):
        raise ConfigError(f"samples {path}: line 1 does not start with {mark.strip()!r}: not written by calibrate")
    try:
        return msgspec.json.decode(line.removeprefix(mark), type=dict[str, str])
    except msgspec.DecodeError as error:
        raise ConfigError(f"samples {path}: line 1 cannot be read ({error})") from None


def refuse_other(path: Path, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Refuse a file whose samples were taken on something else. Raises ConfigError."""
    for key in _IDENTITY:
        if found.get(key) != wanted.get(key):
            raise ConfigError(
                f"samples {path}: measured with {key} = {found.get(key)!r}, now it is {wanted.get(key)!r}: "
                "choose another --out or --name, or delete the file"
            )


def opened(path: Path) -> IO[str]:
    """The text of a file, gzip or not; of one that `first_line` begins, its whole lines. Raises ConfigError."""
    try:
        raw = _bytes(path)
        text = raw[: _whole(raw)].decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(f"samples {path}: cannot be read ({error})") from None
    return io.StringIO(text, newline="")


def whole(path: Path) -> int:
    """How many bytes of a file are whole lines: where to go on. 0 if it is missing. Raises ConfigError."""
    try:
        return _whole(_bytes(path)) if path.exists() else 0
    except (OSError, EOFError) as error:
        raise ConfigError(f"samples {path}: cannot be read ({error})") from None


def _bytes(path: Path) -> bytes:
    raw = path.read_bytes()
    return gzip.decompress(raw) if path.suffix == ".gz" else raw


def _whole(raw: bytes) -> int:
    """A write that was cut short leaves a line without its end, whose number may look like one all the same. Without
    both of its first lines a file has nothing in it yet. What is not ours is left as it is."""
    if not raw.startswith(_OURS):
        return len(raw)
    return raw.rfind(b"\n") + 1 if raw.count(b"\n") > 1 else 0
