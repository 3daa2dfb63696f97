"""What is measured: the cells (step shapes) of one calibration."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import pairwise

from simqueue.live.device.buckets import Buckets, bucket, upto
from simqueue.profile import Kind

_MIXED = (
    (1, 64, 16, 255),
    (1, 64, 64, 255),
    (2, 128, 128, 255),
    (4, 64, 64, 511),
    (8, 64, 32, 255),
    (1, 256, 240, 127),
)
_HELD_OUT = 0.25


@dataclass(frozen=True, slots=True)
class Cell:
    """One step shape: ``rows`` of ``width`` new tokens on ``context`` tokens each, ``decode_rows`` with ``longest``.

    A ``held_out`` cell goes into no table and no fit; it says how good they are.
    """

    kind: Kind
    rows: int = 0
    width: int = 0
    context: int = 0
    decode_rows: int = 0
    longest: int = 0
    held_out: bool = False

    @property
    def work(self) -> int:
        """Tokens computed and tokens read, a rough measure of cost for bounding and for ordering."""
        return self.rows * self.width * 8 + self.rows * self.context + self.decode_rows * (8 + self.longest)


def graph_cells(sizes: Buckets, seed: int) -> list[Cell]:
    """Every bucket of the graph runner, mixed steps, and sizes between the buckets that are held out."""
    rng = random.Random(seed)
    window = sizes.slots[-1]
    longest = tuple(s - 1 for s in sizes.slots)
    decode = [Cell("decode", decode_rows=r, longest=n) for r in sizes.rows for n in longest]
    fresh = [Cell("prefill", r, w) for r, w in sizes.prefills()]
    # a chunk's price does not depend on how much context it has: the launch reads the whole window
    chunks = [Cell("chunk", r, min(w, window - 1), max(1, (window - w) // 2)) for r, w in sizes.prefills()]
    held = _between_decode(rng, sizes.rows, (0, *longest), _share(decode))
    held += _between_prefill(rng, "prefill", sizes.prefill_rows, (0, *sizes.widths), _share(fresh), sizes)
    held += _between_prefill(rng, "chunk", sizes.prefill_rows, (0, *sizes.widths), _share(chunks), sizes)
    mixed = [Cell("mixed", r, w, 0, d, n) for r, w, d, n in _MIXED if r + d <= sizes.rows[-1] and max(w, n) < window]
    return decode + fresh + chunks + mixed + held


def eager_cells(max_rows: int, max_context: int, seed: int) -> list[Cell]:
    """A grid fine enough to interpolate in, up to twice the window for rows that a batch holds, and held-out cells."""
    rng = random.Random(seed)
    rows = upto((1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256), max_rows)
    # at one token nobody in a batch is shorter, and without padding there is no mask to pay for: hence 1 and 2
    widths = upto((1, 2, 16, 32, 64, 96, 128, 192, 256, 384, 512, 1024), max_context)
    # finished rows of a batch are held and go on growing, so a padded cache can outgrow the window
    longest = upto((1, 2, 32, 64, 128, 192, 256, 384, 512, 768, 1023, 1535), 2 * max_context - 2)
    decode = [Cell("decode", decode_rows=r, longest=n) for r in rows for n in longest]
    fresh = [Cell("prefill", r, w) for r in rows for w in widths]
    held = _between_decode(rng, rows, longest, _share(decode))
    held += _between_prefill(rng, "prefill", rows, widths, _share(fresh), None)
    return decode + fresh + held


def _share(cells: list[Cell]) -> int:
    return max(4, round(_HELD_OUT * len(cells)))


def _between(rng: random.Random, axis: tuple[int, ...]) -> int:
    """A size that is not on the axis: uniform within a gap between two neighbours, each gap as likely.

    On an axis without gaps, as of rows up to 3, any size of it: the cell's other size is off its own axis.
    """
    gaps = [(low, high) for low, high in pairwise(axis) if high - low > 1]
    if not gaps:
        return rng.choice(axis)
    low, high = rng.choice(gaps)
    return rng.randrange(low + 1, high)


def _between_decode(rng: random.Random, rows: tuple[int, ...], longest: tuple[int, ...], n: int) -> list[Cell]:
    return [
        Cell("decode", decode_rows=_between(rng, rows), longest=_between(rng, longest), held_out=True) for _ in range(n)
    ]


def _between_prefill(
    rng: random.Random, kind: Kind, rows: tuple[int, ...], widths: tuple[int, ...], n: int, sizes: Buckets | None
) -> list[Cell]:
    """Held-out prefills; with buckets, only such as fit one launch and, for chunks, leave room for a context."""
    cells: list[Cell] = []
    while len(cells) < n:
        r, w = _between(rng, rows), _between(rng, widths)
        if sizes and bucket(rows, r) > sizes.launch_rows(bucket(widths, w)):
            continue
        context = rng.randrange(1, max(2, widths[-1] - w)) if kind == "chunk" else 0
        cells.append(Cell(kind, r, w, context, held_out=True))
    return cells
