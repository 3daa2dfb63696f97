"""`Report`: what one run of a load generator found, whichever wrote the file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, Self, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from simqueue.errors import WorkloadError
from simqueue.measured.seen import Seen
from simqueue.measured.tool import Figure, Tool

T = TypeVar("T")

MOST_TOKENS, MOST_SECONDS = 2**31 - 1, 1e12
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=MOST_SECONDS)]
Length = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]


class Offered(NamedTuple):
    """What was asked of a server: requests, their mean rate, and their mean lengths; None where nobody knows.

    Where single requests are known the rate and the lengths are theirs, otherwise those that were asked for.
    """

    requests: int
    rate_rps: float | None
    prompt_tokens: float | None
    output_tokens: float | None

    @classmethod
    def of(cls, requests: int, seen: Seen) -> Self:
        """So many requests, of which these were completed; the rate is that between the first and the last."""
        span_s = float(seen.arrival_s[-1] - seen.arrival_s[0])
        rate_rps = (len(seen.arrival_s) - 1) / span_s if span_s > 0 else None
        return cls(requests, rate_rps, float(seen.prompt_tokens.mean()), float(seen.output_tokens.mean()))


@dataclass(frozen=True)
class Report:
    """One run.

    Attributes:
        tool: what measured it.
        figures: what it found, in the unit of the metric.
        completed: requests that were answered; all figures are of these.
        failed: requests that were not.
        offered: what the server was asked.
        seen: the requests one by one, by arrival; None where the file does not have them.
        notes: what else to know, in sentences.
    """

    tool: Tool
    figures: Mapping[Figure, float]
    completed: int
    failed: int
    offered: Offered
    seen: Seen | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def of_requests(cls, tool: Tool, seen: Seen, failed: int, where: str, notes: tuple[str, ...] = ()) -> Self:
        """Of requests one by one: the usual figures, computed as the tool does it."""
        completed = len(seen.arrival_s)
        refuse_nothing(where, completed, failed)
        figures, more = told({figure: tool.value(seen, figure) for figure in tool.usual})
        return cls(tool, figures, completed, failed, Offered.of(completed + failed, seen), seen, (*notes, *more))


def told(figures: Mapping[Figure, float | None]) -> tuple[dict[Figure, float], tuple[str, ...]]:
    """The figures that say something, and a note of the others. Tools write 0 or NaN where they have no value."""
    kept = {figure: value for figure, value in figures.items() if value is not None and 0 < value < math.inf}
    lost = [figure for figure, value in figures.items() if value is not None and figure not in kept]
    if not lost:
        return kept, ()
    names = ", ".join(f"{figure.statistic} {figure.metric} = {figures[figure]:g}" for figure in lost)
    return kept, (f"left out, since the file has no usable value: {names}",)


def refuse_nothing(where: str, completed: int, failed: int) -> None:
    """Refuse a run in which no request was completed."""
    if completed < 1:
        raise WorkloadError(f"{where}: no request was completed ({failed} failed): there is nothing to compare with")


def converted(where: str, tool: str, value: Any, cls: type[T]) -> T:
    """A part of a file as the tool writes it. Raises WorkloadError."""
    try:
        return msgspec.convert(value, cls)
    except msgspec.ValidationError as error:
        raise WorkloadError(f"{where}: not as {tool} writes it: {error}; give the file as it was written") from None


def column(where: str, name: str, values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Numbers of a file, none of them negative, NaN or beyond all reason. Raises WorkloadError."""
    found = np.asarray(values, np.float64)
    bad = ~((found >= 0) & (found <= MOST_SECONDS))
    if bad.any():
        row = int(np.argmax(bad))
        raise WorkloadError(f"{where}: {name} of request {row} (counted from 0) is {found[row]:g}; leave this one out")
    return found
