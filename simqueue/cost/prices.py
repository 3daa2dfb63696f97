"""`Prices`: what every step of a run can cost, worked out before it, for loops that are compiled."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.int64]
Table = NDArray[np.int64]
_NONE = np.zeros(0, np.int64)
# Sums of ticks stay below it.
MOST_TICKS = 1 << 62


class Prices(NamedTuple):
    """In ticks: by tables (then ``linear`` is None), or linear.

    Attributes:
        decode_of: ``(most rows + 1,)``: which line of ``sums`` is for so many rows.
        sums: ``(lines, longest + 2)``: how long decode steps with contexts up to, and without, the longest take
            together.
        prefill_of: ``(2, widest + 1)``: which line of ``beside`` and ``alone`` is for prompts that wide, from their
            start and (1) on tokens that are in the cache; -1: none.
        beside, alone: ``(lines, most prompts + 1)``: what so many prompts take in a step in which others decode, and by
            themselves.
        mixed: what both in one step take beside that.
        linear: base, per row, per new token, per token in the cache, and the least that a step takes.
        added, added_row: what is added to a step in which somebody decodes, and for each of those.
    """

    decode_of: Column = _NONE
    sums: Table = _NONE.reshape(0, 0)
    prefill_of: Table = _NONE.reshape(2, 0)
    beside: Table = _NONE.reshape(0, 0)
    alone: Table = _NONE.reshape(0, 0)
    mixed: int = 0
    linear: tuple[int, int, int, int, int] | None = None
    added: int = 0
    added_row: int = 0


@runtime_checkable
class Priced(Protocol):
    """A cost model whose steps can be priced before a run."""

    def prices(self, rows: int, widest: int, longest: int) -> Prices | None:
        """For steps of up to so many rows, with prompts of up to ``widest`` tokens and contexts of up to ``longest``,
        of answers that have no more tokens than that; None where these are too many, or sums of them might leave 64
        bits. Steps that have no price here are refused when they come to be run."""
