"""Screening by elementary effects (Morris, Technometrics 33, 1991): few points tell which parameters matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simqueue.sensitivity.effect import Array, Effect, problem, reach, standard_errors

TRAJECTORIES = 10
# Of a run: differences between points are small, and shall be seen.
REQUESTS = 2000
_LEVELS = 4
_FEWEST = 4


@dataclass(frozen=True)
class Elementary(Effect):
    """``size`` is mu*, the mean size of elementary effects (Campolongo, Cariboni and Saltelli, Environmental Modelling
    & Software 22, 2007): by how much the figure changes when the parameter goes through its whole range, in the unit of
    the figure.

    Attributes:
        mean: mu, the same with signs: below 0 where a higher value makes the figure smaller.
        spread: sigma, the standard deviation of the elementary effects: 0 where the parameter does the same everywhere;
            otherwise it is not linear, or works together with others.
    """

    mean: float
    spread: float


def design(names: list[str], seed: int) -> Array:
    """``(trajectories * (parameters + 1), parameters)`` points of the unit cube, one trajectory after the other."""
    from SALib.sample import morris

    return np.asarray(morris.sample(problem(names), TRAJECTORIES, num_levels=_LEVELS, seed=_seed(seed)), np.float64)


def groups(parameters: int) -> tuple[int, int]:
    """How many points belong together, and how few of such groups are too few."""
    return parameters + 1, _FEWEST


def effects(names: list[str], points: Array, values: Array, parts: Array, seed: int) -> list[Elementary]:
    """Of every parameter.

    An elementary effect is known as well as replications agree on it, each with its own customers at all points. If
    there is no effect, mu* is the mean size of what chance makes; since all points have the same customers that may go
    one way in all trajectories. So the noise is the mean standard error, times Student's t.

    Args:
        names: of the parameters.
        points: from `design`, whole trajectories.
        values: ``(points,)``: the figure, of all replications together.
        parts: ``(replications, points)``: the same of each.
        seed: of the bootstrap that the half-width is from (over trajectories, by SALib).
    """
    from SALib.analyze import morris

    found = morris.analyze(problem(names), points, values, num_levels=_LEVELS, seed=_seed(seed))
    noise = reach(len(parts)) * standard_errors(np.stack([elementary(points, part) for part in parts])).mean(axis=0)
    columns = (found["mu_star"], found["mu_star_conf"], noise, found["mu"], found["sigma"])
    return [Elementary(name, *map(float, row)) for name, row in zip(names, np.transpose(columns), strict=True)]


def elementary(points: Array, values: Array) -> Array:
    """``(trajectories, parameters)``: change of the value over that of the one parameter that each step changes."""
    count = points.shape[1]
    steps = np.diff(points.reshape(-1, count + 1, count), axis=1)
    rises = np.diff(values.reshape(-1, count + 1), axis=1)
    which = np.abs(steps).argmax(axis=2)
    found = np.empty((len(steps), count))
    np.put_along_axis(found, which, rises / np.take_along_axis(steps, which[:, :, None], axis=2)[:, :, 0], axis=1)
    return found


def _seed(seed: int) -> int:
    """SALib takes 32 bits."""
    return seed % 2**32
