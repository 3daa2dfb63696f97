"""Rows of a public trace as recorded, and the rules that make a workload of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simqueue.errors import WorkloadError
from simqueue.workload.columns import Column, checked

STAMPS_A_SECOND = 10**7
"""Stamps are whole numbers of 100 ns, the finest that a public trace has: differences are exact."""

_MILLISECOND = STAMPS_A_SECOND // 1000
# Above this share of rows with the stamp of the row before, the clock of the recorder shows in the arrivals.
_SHARED = 0.1
# Two rows that come together by chance show no clock: so often must stamps follow each other after one tick, give or
# take 1 %.
_FEWEST_TICKS = 10


class TraceWarning(UserWarning):
    """Something in a public trace was changed: rows left out, sorted, or their stamps spread."""


@dataclass(frozen=True, slots=True)
class Stamped:
    """What a public trace recorded, one row a request, in the order of the file.

    Attributes:
        stamps: int64 ``(rows,)``, in units of 100 ns from any origin.
        prompt_tokens: int64 ``(rows,)``, at least 0.
        output_tokens: int64 ``(rows,)``, at least 0.
        extra: further columns by name, ``(rows,)`` each.
    """

    stamps: NDArray[np.int64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    extra: Mapping[str, Column]

    def columns(self, path: Path, rng: Generator) -> dict[str, Column]:
        """The columns of a workload: rows without tokens left out, the rest sorted, arrivals in seconds from the first
        stamp, coarse stamps spread with ``rng``.

        Warns:
            TraceWarning: how many rows each of these changed.

        Raises:
            WorkloadError: no row is left.
        """
        kept = self._with_tokens(path)
        order = kept[np.argsort(self.stamps[kept], kind="stable")]
        _warn_of_disorder(path, self.stamps[kept])
        lengths = {"prompt_tokens": self.prompt_tokens, "output_tokens": self.output_tokens}
        rows = {name: column[order] for name, column in {**lengths, **self.extra}.items()}
        return checked({"arrival_s": _arrival_s(path, self.stamps[order], rng), **rows})

    def _with_tokens(self, path: Path) -> NDArray[np.intp]:
        """Indices of the rows that can be served. An output of 0 tokens is how BurstGPT logs a failure."""
        full = (self.prompt_tokens > 0) & (self.output_tokens > 0)
        if not full.any():
            raise WorkloadError(f"{path}: no row has both prompt and output tokens; a trace needs at least one request")
        if lost := int((~full).sum()):
            _warn(path, f"{lost} of {len(full)} rows have 0 prompt or output tokens (failures) and are left out")
        return np.flatnonzero(full)


def _warn_of_disorder(path: Path, stamps: NDArray[np.int64]) -> None:
    if back := int((np.diff(stamps) < 0).sum()):
        _warn(path, f"{back} of {len(stamps)} rows come before the row above; the rows are sorted by time")


def _arrival_s(path: Path, stamps: NDArray[np.int64], rng: Generator) -> NDArray[np.float64]:
    """Seconds from the first of the sorted ``stamps``.

    Replayed raw, coarse stamps are batches that nobody sent. The tick is the least distance of two stamps: that of
    Mooncake's conversations is 3 s give or take 3 ms, so that no common divisor would tell. Sorting after the draw
    keeps the rows of a tick in the order of the file.
    """
    since = stamps - stamps[0]
    gaps = np.diff(since)
    apart = gaps[gaps > 0]
    tick = int(apart.min(initial=np.iinfo(np.int64).max))
    shared = 1 - len(apart) / max(len(gaps), 1)
    if tick <= _MILLISECOND or shared < _SHARED or int((apart < 1.01 * tick).sum()) < _FEWEST_TICKS:
        return np.asarray(since / STAMPS_A_SECOND)
    _warn(
        path,
        f"{100 * shared:.3g} % of rows share the stamp of the row before and no other stamps are closer than "
        f"{tick / STAMPS_A_SECOND:g} s; arrivals are spread uniformly within this tick, by the seed",
    )
    return np.asarray(np.sort(since + tick * rng.random(len(since))) / STAMPS_A_SECOND)


def _warn(path: Path, text: str) -> None:
    warnings.warn(f"{path}: {text}", TraceWarning, stacklevel=2)
