"""Effects from values at points: against SALib, against integrals, and of nothing but chance."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from simqueue.sensitivity import morris, sobol

NAMES = ["rate", "service", "nothing"]


def mm1(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean response of M/M/1, s / (1 - rate s), at rates from 0.3 to 0.6 and services from 0.8 to 1.2 s."""
    rate, service = 0.3 + 0.3 * points[:, 0], 0.8 + 0.4 * points[:, 1]
    return service / (1 - rate * service)


def shares() -> tuple[float, float, float, float]:
    """First order and total of rate and of service, by the midpoint rule on a grid."""
    middles = (np.arange(400) + 0.5) / 400
    rate, service = np.meshgrid(middles, middles, indexing="ij")
    values = mm1(np.column_stack((rate.ravel(), service.ravel()))).reshape(400, 400)
    by_rate, by_service = (np.var(values.mean(axis=axis)) / np.var(values) for axis in (1, 0))
    return by_rate, 1 - by_service, by_service, 1 - by_rate


def noisy(values: NDArray[np.float64], size: float, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ten replications around values, and their mean."""
    parts = values + size * np.random.default_rng(seed).standard_normal((10, len(values)))
    return parts.mean(axis=0), parts


@pytest.mark.statistical
def test_indices_of_a_queue_within_their_error() -> None:
    """The standard deviation of each over seeds is 0.012 to 0.024 with so many rows."""
    points = sobol.design(NAMES, 1)
    values = mm1(points)
    rate, service, nothing = sobol.effects(NAMES, points, *noisy(values, 0.0, 1), seed=1)
    first, total, first_service, total_service = shares()
    for found, exact in ((rate, (first, total)), (service, (first_service, total_service))):
        assert (found.first, found.size) == pytest.approx(exact, abs=0.07)
        assert abs(found.size - exact[1]) < found.half_width
        assert found.seen
    assert (nothing.size, nothing.first, nothing.seen) == (0, 0, False)


def test_elementary_effects_are_those_of_salib() -> None:
    points = morris.design(NAMES, 1)
    values = mm1(points)
    each = morris.elementary(points, values)
    assert each.shape == (morris.TRAJECTORIES, 3)
    found = morris.effects(NAMES, points, *noisy(values, 0.0, 1), seed=1)
    assert [effect.size for effect in found] == pytest.approx(np.abs(each).mean(axis=0))
    assert [effect.mean for effect in found] == pytest.approx(each.mean(axis=0))
    assert [effect.spread for effect in found] == pytest.approx(each.std(axis=0, ddof=1))
    assert [effect.seen for effect in found] == [True, True, False]


def test_elementary_effects_of_a_line_are_its_slopes() -> None:
    points = morris.design(NAMES, 2)
    slopes = np.array([3.0, -2.0, 0.5])
    each = morris.elementary(points, points @ slopes)
    assert np.allclose(each, slopes)


@pytest.mark.statistical
@pytest.mark.parametrize("method", [morris, sobol])
def test_what_is_only_chance_is_not_seen(method: ModuleType) -> None:
    """A figure that depends on the first parameter alone. Of the two others at most 5 % may be seen, whether chance is
    of its own at every point or, as with common customers, the same for every change of a parameter."""
    points = method.design(NAMES, 1)
    seen = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        alike = 0.3 * rng.standard_normal((10, 3)) @ points.T
        parts = 5 * points[:, 0] + alike + 0.01 * rng.standard_normal((10, len(points)))
        first, *others = method.effects(NAMES, points, parts.mean(axis=0), parts, seed=1)
        assert first.seen
        seen += sum(effect.seen for effect in others)
    # 40 chances of 5 %: more than 6 in one case of 300.
    assert seen <= 6
    assert any(effect.noise > 0 for effect in others)


@pytest.mark.parametrize("method", [morris, sobol])
def test_a_figure_that_never_changes(method: ModuleType) -> None:
    points = method.design(NAMES, 1)
    found = method.effects(NAMES, points, *noisy(np.ones(len(points)), 0.0, 1), seed=1)
    assert {(effect.size, effect.seen) for effect in found} == {(0.0, False)}


def test_one_replication_tells_nothing_of_chance() -> None:
    points = morris.design(NAMES, 1)
    found = morris.effects(NAMES, points, mm1(points), mm1(points)[None], seed=1)
    assert not any(effect.seen for effect in found)
