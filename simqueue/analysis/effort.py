"""How many more runs there are to be, and how long, for intervals to be as narrow as was asked."""

from __future__ import annotations

import math
from typing import NamedTuple

from simqueue.analysis.interval import LEVEL
from simqueue.analysis.replicated import Replicated
from simqueue.analysis.student import student

# Where intervals are aimed at, as a share of what is asked: a width is itself known to an eighth or so, but to look
# once more costs less than to run for longer than is needed.
_AIM = 0.95
_LEAST, _MOST, _CLOSE = 1.1, 8.0, 0.01
# Where so many times as many requests are needed runs are made anew.
_ANEW = 4.0
# So many; or more, so that what a run fills fits a processor's cache. Not too many: the more parts an interval is from,
# the more it is the narrow ones that have figures which are too low, and to stop at these is to be wrong too often.
_RUNS, _IN_CACHE, _MOST_RUNS = 32, 50_000, 100


class Further(NamedTuple):
    """So many more ``runs``, of ``requests`` each."""

    runs: int
    requests: int


def further(found: Replicated, requests: int, left: int, *, any_length: bool) -> Further | None:
    """What to run next; None if every figure that `Replicated.precision` names is as near as asked, and the runs are
    long enough to believe it, or if there are no more to be had.

    Runs are added to those that there are. Only if four times as many requests or more are needed, or the runs are too
    short to be believed, longer ones shall take their place: 32, or up to 100 rather than longer than 50,000. If there
    are too few requests left for that, they are added to and stay too short.

    Args:
        found: the runs so far.
        requests: of each.
        left: how many more requests may be simulated.
        any_length: whether runs can be longer than that, which alone mends those that are too short.
    """
    factor, have = times_longer(found), found.replications * requests
    if short := any_length and found.too_short:
        factor = max(factor, _ANEW)
    needed = int(min(factor * have, left))
    longer = needed // _RUNS if short else min(needed // _RUNS, max(_IN_CACHE, needed // _MOST_RUNS))
    if any_length and (short or needed >= _ANEW * have) and longer > requests:
        return Further(needed // longer, longer)
    runs = min(math.ceil((factor - 1) * found.replications), left // requests)
    return Further(runs, requests) if runs else None


def times_longer(found: Replicated) -> float:
    """1 if every figure that `Replicated.precision` names is as near as asked; else how many times as many requests
    that is likely to take, up to 8, in as many runs as Student's t is then of."""
    wanted = found.precision
    if wanted is None or found.precise:
        return 1.0
    paths = [tuple(figure.split(".")) for figure in wanted.of]
    gain = student(_RUNS - 1, LEVEL) / student(min(found.replications, _RUNS) - 1, LEVEL)
    widths = [(gain * found.interval(path).relative, found.widening(path)) for path in paths]
    return max(_LEAST, *(_factor(width, widening, _AIM * wanted.relative) for width, widening in widths))


def _factor(relative: float, widening: float, aim: float) -> float:
    """With how many times as many requests a relative half-width is ``aim``, by bisection. As
    `simqueue.analysis.interval.interval` and `simqueue.analysis.trust.Excursions` have it, it is ``w h / (1 - h)``, and
    ``h`` goes down with the root of the number of requests, ``w - 1`` with the number itself."""
    plain = relative / widening
    half, low, high = plain / (1 + plain) if math.isfinite(plain) else 1.0, 1.0, _MOST
    while high - low > _CLOSE:
        factor = (low + high) / 2
        narrower = half / math.sqrt(factor)
        if (1 + (widening - 1) / factor) * narrower > aim * (1 - narrower):
            low = factor
        else:
            high = factor
    return high
