"""The sizes that the graph executor pads to; no torch."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_ROWS = (1, 2, 4, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256)
_POWERS = tuple(2**k for k in range(21))
_LAUNCH_TOKENS = 16_384


@dataclass(frozen=True, slots=True)
class Buckets:
    """Sizes that the graph runner pads to: rows and cache slots of a decode, rows and width of a prefill launch."""

    rows: tuple[int, ...]
    slots: tuple[int, ...]
    prefill_rows: tuple[int, ...]
    widths: tuple[int, ...]
    launch_tokens: int = _LAUNCH_TOKENS

    def launch_rows(self, width: int) -> int:
        """The most rows of a (bucketed) width that one prefill launch takes."""
        return max(r for r in self.prefill_rows if r == 1 or r * width <= self.launch_tokens)

    def prefills(self) -> Iterator[tuple[int, int]]:
        """Rows and width of every prefill launch there is."""
        return ((r, w) for w in self.widths for r in self.prefill_rows if r <= self.launch_rows(w))


def bucket(sizes: tuple[int, ...], size: int) -> int:
    """The first bucket that holds ``size``."""
    return sizes[bisect_left(sizes, size)]


def buckets(max_rows: int, max_context: int) -> Buckets:
    """The graph runner's buckets for up to ``max_rows`` rows and a window of ``max_context`` tokens."""
    return Buckets(
        rows=upto(_ROWS, max_rows),
        slots=upto(_POWERS[7:], max_context),
        prefill_rows=upto(_POWERS, max_rows),
        widths=upto(_POWERS[4:], max_context),
    )


def upto(sizes: Iterable[int], most: int) -> tuple[int, ...]:
    """The sizes below ``most``, and ``most`` itself."""
    return (*(s for s in sizes if s < most), most)
