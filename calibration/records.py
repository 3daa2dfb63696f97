"""What a serving run recorded, and its file: one CSV line per step, start and answer, under the line of the samples."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from calibration.samples import first_line, header_of, opened, refuse_other, whole
from simqueue.errors import ConfigError, OutputError

Kind = Literal["step", "start", "handover", "idle", "timer", "queued", "answer", "exposed", "pause"]
Ints = NDArray[np.int64]
_KINDS = get_args(Kind)
_MARK = "# simqueue serving 3 "


@dataclass(frozen=True)
class Records:
    """Columns, one entry a record, in the order in which they were made.

    Attributes:
        run: number of the run, from 0.
        stage: of its load, from 0.
        kind: "step": seconds from the end of the step before to its own, where somebody decodes; "start": seconds from
            the decision to the end of a step in which nobody does; "handover": seconds from the end of a batch to the
            decision on the next one, which follows at once; "idle": seconds from when a request that found the replica
            free should have been sent to the decision on it; "timer": the same from when a timer should have fired;
            "queued": seconds from the begin of the first step after a request should have been sent, the replica being
            busy, to that of the step that took it (negative if it still made it into a step that had begun by then);
            "answer": seconds from the end of a step to when the client had the token; "exposed": a "step" of a policy
            for which nothing is launched ahead; "pause": the same of one that stops those who decode.
        rows, longest, prefill_rows, widest, context: of the step, as `simqueue.plan.Shape` has them; ``rows`` decode or
            are held, ``context`` is that of the rows that prefill. Of "answer" and "queued" ``rows`` are all there are.
        ended: requests in the batch that ended before, for a "handover"; rows that are stopped, for a "pause".
        since_ns: for an "idle", how long the replica had been free by then; for a "start" or a "pause", how long ago
            the last step that prefilled had begun.
        seconds: how long.
    """

    run: Ints
    stage: Ints
    kind: NDArray[np.str_]
    rows: Ints
    longest: Ints
    prefill_rows: Ints
    widest: Ints
    context: Ints
    ended: Ints
    since_ns: Ints
    seconds: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def sort(self) -> NDArray[np.str_]:
        """What each step does: "start" with nobody decoding, "decode" alone, or beside that "prefill" prompts from
        their start or a "chunk" on a context. Steps that nothing is launched ahead of are a sort of their own."""
        unhidden = np.isin(self.kind, ("exposed", "pause"))
        conditions = [unhidden, self.prefill_rows == 0, self.rows == 0, self.context > 0]
        return np.select(conditions, [self.kind, "decode", "start", "chunk"], "prefill")

    def where(self, mask: NDArray[np.bool_]) -> Self:
        """Some of the records."""
        return type(self)(**{name: getattr(self, name)[mask] for name in COLUMNS})

    def of(self, *kinds: Kind) -> Self:
        """The records of some kinds."""
        return self.where(np.isin(self.kind, kinds))

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The records of one after another."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS})

    @classmethod
    def nothing(cls) -> Self:
        """No record."""
        return cls(**{name: np.zeros(0, _dtype(name)) for name in COLUMNS})


COLUMNS = tuple(field.name for field in fields(Records))


def beside(samples: Path) -> Path:
    """Where the serving runs of a file of samples are."""
    name, dot, suffix = samples.name.partition(".csv")
    return samples.with_name(f"{name}-serving{dot}{suffix}")


def append(path: Path, header: Mapping[str, str], records: Records) -> None:
    """Add a run's records to the file, after its last whole line; it is made where it is missing.

    Raises:
        ConfigError: it holds records of something else.
        OutputError: it cannot be written.
    """
    size = whole(path)
    try:
        with path.open("a", newline="", encoding="utf-8") as file:
            file.truncate(size)
            lines = csv.writer(file, lineterminator="\n")
            if not size:
                file.write(first_line(_MARK, header))
                lines.writerow(COLUMNS)
            columns = [getattr(records, name).tolist() for name in COLUMNS[:-1]]
            lines.writerows(zip(*columns, (f"{s:.9f}" for s in records.seconds), strict=True))
    except OSError as error:
        raise OutputError(f"samples {path}: cannot be written ({error.strerror}): choose another --out") from None


def recorded(path: Path, header: Mapping[str, str]) -> Records:
    """What is in the file, nothing if it is missing.

    Raises:
        ConfigError: it holds records of something else, or a line is none.
    """
    if not whole(path):
        return Records.nothing()
    with opened(path) as file:
        refuse_other(path, header_of(path, _MARK, file.readline()), header)
        rows = csv.DictReader(file)
        parsed = [_parsed(path, number, row) for number, row in enumerate(rows, start=3)]
    columns = zip(*parsed, strict=True) if parsed else [()] * len(COLUMNS)
    return Records(**{name: np.array(column, _dtype(name)) for name, column in zip(COLUMNS, columns, strict=True)})


def _parsed(path: Path, number: int, row: dict[str, str]) -> tuple[int | float | str, ...]:
    try:
        seconds, kind = float(row["seconds"]), row["kind"]
        if kind not in _KINDS or not math.isfinite(seconds) or (seconds <= 0 and kind != "queued"):
            raise ValueError
        sizes = {name: int(row[name]) for name in COLUMNS if name not in ("kind", "seconds")}
    except (TypeError, ValueError, KeyError):
        raise ConfigError(
            f"samples {path}: line {number} is no record of a serving run: {','.join(map(str, row.values()))}"
        ) from None
    return tuple(seconds if name == "seconds" else kind if name == "kind" else sizes[name] for name in COLUMNS)


def _dtype(name: str) -> str:
    return {"kind": f"<U{max(map(len, _KINDS))}", "seconds": "<f8"}.get(name, "<i8")
