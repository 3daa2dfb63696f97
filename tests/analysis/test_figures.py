"""The word on several runs together: are more of them said to grow than would be by chance?"""

from __future__ import annotations

import pytest
from scipy.stats import binom

from simqueue.analysis.figures import Pooled


def unstable(load: float, said: list[bool]) -> bool:
    runs = [{"unstable": one, "offered_rps": load * 3, "saturation_rps": 3.0} for one in said]
    return bool(Pooled(runs, [{}] * len(runs))["unstable"])


@pytest.mark.parametrize("runs", [1, 2, 5, 10, 20, 40, 160])
def test_below_load_1_so_many_must_say_so_that_it_is_no_chance(runs: int) -> None:
    least = next(count for count in range(runs + 1) if unstable(0.9, [True] * count + [False] * (runs - count)))
    assert binom.sf(least - 1, runs, 0.01) <= 0.01 + 1e-9 < binom.sf(least - 2, runs, 0.01)


def test_it_is_the_same_whoever_says_so() -> None:
    assert not unstable(0.9, [True] + [False] * 9)
    assert unstable(0.9, [False] * 8 + [True] * 2)


def test_the_first_alone_knows_that_the_load_is_1() -> None:
    assert unstable(1.0, [True] + [False] * 9)
    assert unstable(1.2, [True] + [False] * 9)
    # It grew by less than would be too much there, as where requests are turned away.
    assert not unstable(1.2, [False] * 10)
