"""Which of several is best: a sequential selection that stands on simultaneous intervals of paired differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from simqueue.analysis.interval import LEVEL


class Gap(NamedTuple):
    """How much worse one is than another: the logarithm of the ratio of their figures, and half of its interval."""

    value: float
    half_width: float

    @property
    def least(self) -> float:
        """The lower end."""
        return self.value - self.half_width

    @property
    def most(self) -> float:
        """The upper end."""
        return self.value + self.half_width


Gaps = Callable[[int, int], Gap]


@dataclass(frozen=True)
class Selection:
    """What was found. Competitors are numbered from 0.

    Attributes:
        best: who has the best figure.
        open: who may be the best, in order, with 95 % confidence: nobody else is better beyond doubt.
        most: how much worse than the best of all ``best`` is at most, with 95 % confidence: the logarithm of the
            ratio; 0 where it is the only one that is left, NaN or infinite where that cannot be told.
        replications: of each, when it was looked at last.
    """

    best: int
    open: tuple[int, ...]
    most: float
    replications: Mapping[int, int]


def looks(first: int, most: int) -> list[int]:
    """Numbers of replications after which to look: each twice the one before, up to the ``most``."""
    numbers = [first]
    while numbers[-1] < most:
        numbers.append(min(2 * numbers[-1], most))
    return numbers


def level_each(competitors: int, looks: int) -> float:
    """The confidence level of a single interval, so that 95 % hold for all that is said: see `select`."""
    return 1 - (1 - LEVEL) / (max(1, competitors - 1) * looks)


def select(
    competitors: int, looks: Sequence[int], look: Callable[[Sequence[int], int], Gaps], indifference: float
) -> Selection:
    """Look at everybody after so many replications; leave out who is worse beyond doubt; go on with the others.

    With the intervals of `level_each` the ``competitors - 1`` differences to the one that is truly best lie in theirs,
    at every look together, with a probability of 95 % or more (Bonferroni), however the differences depend on each
    other: so common random numbers do no harm. If they do, the best is never left out, those that are left contain it,
    and each is worse than the best by something between the least and the most of its gaps to those that are left:
    multiple comparisons with the best, where the best is not known (Edwards and Hsu, JASA 78, 1983; Hsu, Annals of
    Statistics 12, 1984). Nelson and Matejcik (Management Science 41, 1995) select under common random numbers by such
    intervals, in two stages; a new look each time there are twice as many replications leaves out early what is far
    off, as Kim and Nelson (ACM TOMACS 11, 2001) do after each one.

    It ends when one is left, or when the one that looks best is worse than the best by ``indifference`` at most, or
    with the last look.

    Args:
        competitors: how many.
        looks: numbers of replications, growing.
        look: makes so many replications of these, and says how much worse each is than each of the others.
        indifference: a share: differences up to it do not matter.
    """
    left: Sequence[int] = range(competitors)
    replications: dict[int, int] = {}
    for number in looks:
        gaps = look(left, number)
        replications |= dict.fromkeys(left, number)
        left = [one for one in left if not any(gaps(one, other).least > 0 for other in left if other != one)]
        best = min(left, key=lambda one: gaps(one, left[0]).value if one != left[0] else 0.0)
        most = max((gaps(best, other).most for other in left if other != best), default=0.0)
        if most <= math.log1p(indifference):
            break
    return Selection(best, tuple(left), most, replications)
