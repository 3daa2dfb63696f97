"""How much longer runs are to be, for intervals to be as narrow as was asked."""

from __future__ import annotations

import math

from simqueue.analysis.replicated import Replicated

# Where intervals are aimed at, as a share of what is asked: each is itself known to a sixth or so.
_AIM = 0.85
_LEAST, _MOST, _CLOSE = 1.3, 32.0, 0.01


def times_longer(found: Replicated) -> float:
    """1 if every figure that `Replicated.precision` names is as near as asked, and the runs are long enough to believe
    it; else by how many times as long they shall be, from 1.3 to 32."""
    wanted = found.precision
    if wanted is None:
        return 1.0
    widths = {tuple(figure.split(".")): found.relative(figure) for figure in wanted.of}
    short = [path for path in widths if found.doubt(path)]
    factors = [
        _factor(width, found.widening(path), _AIM * wanted.relative)
        for path, width in widths.items()
        if width > wanted.relative
    ]
    if not factors and not short:
        return 1.0
    return max(_LEAST, *factors, 2.0 if short else 1.0)


def _factor(relative: float, widening: float, aim: float) -> float:
    """By how much longer runs have a relative half-width of ``aim``, by bisection. As
    `simqueue.analysis.interval.interval` and `simqueue.analysis.trust.Excursions` have it, it is ``w h / (1 - h)``, and
    ``h`` goes down with the root of the length, ``w - 1`` with the length itself."""
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
