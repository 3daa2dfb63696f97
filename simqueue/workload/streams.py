"""Independent random streams, one for each purpose, all from one seed."""

from __future__ import annotations

from typing import NamedTuple

from numpy.random import PCG64, Generator, SeedSequence

from simqueue.workload.checks import require_whole


class Streams(NamedTuple):
    """One generator for each purpose, so that changing what one of them draws leaves the others alone.

    A new purpose goes at the end: a child of a seed sequence depends on its place.
    """

    gaps: Generator
    stays: Generator
    jumps: Generator
    prompts: Generator
    outputs: Generator
    thinks: Generator
    stamps: Generator
    sizes: Generator
    turns: Generator
    predictions: Generator
    patiences: Generator


# Keeps the children of a part apart from those above.
_PART = 1 << 17


def streams(seed: int, part: str | None = None) -> Streams:
    """Fresh streams for ``seed``, a whole number from 0 to 2**63 - 1; those of a part of the workload, such as a class
    of clients, follow from its name."""
    require_whole("workload", "seed", seed, "choose another seed", at_least=0, at_most=2**63 - 1)
    key = () if part is None else (_PART, *part.encode())
    children = SeedSequence(seed, spawn_key=key).spawn(len(Streams._fields))
    return Streams(*(Generator(PCG64(child)) for child in children))
