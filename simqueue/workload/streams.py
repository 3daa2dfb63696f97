"""Independent random streams, one for each purpose, all from one seed."""

from __future__ import annotations

from numpy.random import PCG64, Generator, SeedSequence

from simqueue.workload.checks import require_whole


class Streams:
    """One generator for each purpose, made when it is first asked for, so that changing what one of them draws leaves
    the others alone.

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

    def __init__(self, seed: int, key: tuple[int, ...]) -> None:
        self._seed, self._key = seed, key

    def __getattr__(self, purpose: str) -> Generator:
        if purpose not in _PLACES:
            raise AttributeError(f"there is no random stream for {purpose}")
        # As `SeedSequence.spawn` would make it.
        child = SeedSequence(self._seed, spawn_key=(*self._key, _PLACES[purpose]))
        self.__dict__[purpose] = found = Generator(PCG64(child))
        return found


_PLACES = {purpose: place for place, purpose in enumerate(Streams.__annotations__)}
# Keeps the children of a part apart from those above.
_PART = 1 << 17


def streams(seed: int, part: str | None = None) -> Streams:
    """Fresh streams for ``seed``, a whole number from 0 to 2**63 - 1; those of a part of the workload, such as a class
    of clients, follow from its name."""
    require_whole("workload", "seed", seed, "choose another seed", at_least=0, at_most=2**63 - 1)
    return Streams(seed, () if part is None else (_PART, *part.encode()))
