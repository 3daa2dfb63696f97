"""The simulator's side: many noise seeds on the very workload that ran live, and what slower steps would do."""

from __future__ import annotations

from concurrent.futures import Executor
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np

from simqueue.cost.base import StepCost
from simqueue.cost.linear import Affine
from simqueue.cost.noise import NoNoise
from simqueue.cost.profile import Measured
from simqueue.errors import ConfigError
from simqueue.pool import submit
from simqueue.sim.simulate import simulate
from simqueue.system import CostSpec, System
from simqueue.units import Grid
from simqueue.validate.compare import CENTRE, JUDGED, TAIL
from simqueue.validate.measure import Figures, Measures, measure
from simqueue.workload import Workload

SEEDS = 20
# By how much steps are slowed, and hastened, to see what that does.
_CHANGE = 0.01


class Task(NamedTuple):
    """What is simulated, but for the seed of the noise."""

    workload: Workload
    system: System
    warmup: int
    span_s: float


def seeds(system: System) -> range:
    """Without noise all seeds are alike."""
    return range(1 if isinstance(system.noise, NoNoise) else SEEDS)


def predict(task: Task, pool: Executor | None) -> list[Measures]:
    """One simulation for each noise seed."""
    one = partial(_one, task)
    if pool is None:
        return [one(seed) for seed in seeds(task.system)]
    return [future.result() for future in submit(pool, one, seeds(task.system))]


def _one(task: Task, seed: int) -> Measures:
    result = simulate(task.workload, task.system, seed=seed, warmup=task.warmup)
    return measure(result, task.system.policy, task.span_s)


def elasticity(task: Task, predicted: list[Measures], pool: Executor | None) -> dict[str, dict[str, float]]:
    """By how many per cent each judged figure grows for every per cent that all steps take longer: the difference
    between one per cent more and one per cent less, on the same workload with the same draws.

    Raises:
        ConfigError: the cost is neither affine nor measured.
    """
    faster, slower = (_figures(predict(_at(task, 1 + change), pool)) for change in (-_CHANGE, _CHANGE))
    now = _figures(predicted)
    return {metric: {name: _slope(metric, name, faster, now, slower) for name in (*CENTRE, *TAIL)} for metric in JUDGED}


def _at(task: Task, factor: float) -> Task:
    return task._replace(system=msgspec.structs.replace(task.system, cost=scaled(task.system.cost, factor)))


def _figures(measures: list[Measures]) -> list[Figures]:
    return [measured.figures for measured in measures]


def _slope(metric: str, name: str, faster: list[Figures], now: list[Figures], slower: list[Figures]) -> float:
    low, middle, high = (_mean(figures, metric, name) for figures in (faster, now, slower))
    return float(f"{(high - low) / middle / (2 * _CHANGE):.4g}")


def _mean(figures: list[Figures], metric: str, name: str) -> float:
    return float(np.mean([f[metric][name] for f in figures]))


class _Scaled(Measured, frozen=True, dict=True):
    """A measured cost whose steps take ``factor`` times as long: on a finer grid they are as many more ticks."""

    factor: float = 1.0

    def coefficients(self) -> tuple[float, ...]:
        return tuple(self.factor * c for c in super().coefficients())

    def on(self, grid: Grid) -> StepCost:
        return super().on(Grid(round(grid.ticks_per_s * self.factor)))


def scaled(cost: CostSpec, factor: float) -> CostSpec:
    """A cost whose every step takes ``factor`` times as long.

    Raises:
        ConfigError: the cost is neither affine nor measured.
    """
    check_scalable(cost)
    if isinstance(cost, Affine):
        return Affine(*(factor * c for c in cost.coefficients()))
    assert isinstance(cost, Measured)
    fields = {name: getattr(cost, name) for name in cost.__struct_fields__}
    made = _Scaled(**fields, factor=factor)
    # The very profile, wherever it came from.
    made.__dict__["profile"] = cost.profile
    return made


def check_scalable(cost: CostSpec) -> None:
    """Refuse a cost that cannot be `scaled`. Raises ConfigError."""
    if not isinstance(cost, Affine | Measured):
        raise ConfigError(f"cost {type(cost).__name__}: only an affine or a measured cost can be scaled")
