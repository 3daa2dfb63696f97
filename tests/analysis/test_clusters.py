"""Clusters of values above a level, where their number is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simqueue.analysis.clusters import clusters


@pytest.mark.parametrize("size", [1, 3, 10, 50])
def test_as_many_as_there_are(size: int) -> None:
    """Poisson clusters, each of as many neighbours: 200 in all, of which a few touch."""
    rng = np.random.default_rng(size)
    runs = [np.zeros(50_000, bool) for _ in range(10)]
    for run in runs:
        for begin in rng.integers(0, len(run) - size, 20):
            run[begin : begin + size] = True
    assert clusters(runs) == pytest.approx(200, rel=0.15)


def test_independent_values_are_clusters_of_one() -> None:
    above = np.random.default_rng(1).random((10, 10_000)) < 0.01
    assert clusters(list(above)) == pytest.approx(above.sum(), rel=0.1)


@given(st.lists(st.lists(st.booleans(), max_size=30), min_size=1, max_size=4))
def test_never_more_than_there_are_values(runs: list[list[bool]]) -> None:
    values = sum(map(sum, runs))
    found = clusters([np.array(run, bool) for run in runs])
    assert 0 <= found <= values
    assert (found > 0) == (values > 0)
