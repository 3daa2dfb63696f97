"""How much longer runs are to be, against intervals of runs that are so much longer."""

from __future__ import annotations

import math

import pytest

from simqueue.analysis import effort


@pytest.mark.parametrize("relative", [0.08, 0.2, 1.5, math.inf])
@pytest.mark.parametrize("widening", [1.0, 1.3, 4.0])
def test_so_much_longer_they_are_as_narrow_as_wanted(relative: float, widening: float) -> None:
    """The half-width ``w h / (1 - h)`` of runs ``f`` times as long, by the laws that `_factor` inverts."""
    aim = 0.06
    factor = effort._factor(relative, widening, aim)
    assert 1 <= factor <= effort._MOST
    half = 1.0 if math.isinf(relative) else (relative / widening) / (1 + relative / widening)
    half /= math.sqrt(factor)
    reached = (1 + (widening - 1) / factor) * half / (1 - half)
    # To the step of the bisection; or as much longer as runs ever get at once, which is not enough.
    assert reached == pytest.approx(aim, rel=0.02) or (factor == effort._MOST and reached > aim)


def test_without_widening_it_is_the_square_for_narrow_intervals() -> None:
    assert effort._factor(0.02, 1.0, 0.01) == pytest.approx(4.0, rel=0.03)
