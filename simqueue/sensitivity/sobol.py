"""Sobol's indices: which share of a figure's variance over the ranges is due to which parameter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simqueue.sensitivity.effect import Array, Effect, problem, reach, standard_errors

ROWS = 128
# Of a run: many points tell more here than long runs.
REQUESTS = 1000
_FEWEST = 16


@dataclass(frozen=True)
class Indices(Effect):
    """``size`` is the total index: the share of the variance that would be left if all but this parameter were known
    (Homma and Saltelli, Reliability Engineering & System Safety 52, 1996).

    Attributes:
        first: the index of first order: the share that would go if this parameter alone were known (Sobol 1993).
        first_half_width: of its 95 % interval.
    """

    first: float
    first_half_width: float


def design(names: list[str], seed: int) -> Array:
    """``(rows * (parameters + 2), parameters)`` points of the unit cube (Saltelli et al., Computer Physics
    Communications 181, 2010): a point, the same with one coordinate after the other from a second point, and that."""
    from SALib.sample import sobol

    return np.asarray(sobol.sample(problem(names), ROWS, calc_second_order=False, seed=seed % 2**32), np.float64)


def groups(parameters: int) -> tuple[int, int]:
    """How many points belong together, and how few of such groups are too few."""
    return parameters + 2, _FEWEST


def effects(names: list[str], points: Array, values: Array, parts: Array, seed: int) -> list[Indices]:
    """Of every parameter.

    The total index is half the mean square of what changing one coordinate changes, over the variance (Jansen, Computer
    Physics Communications 117, 1999). Without an effect that is what chance makes: the noise is half the mean squared
    standard error of such a change, from the replications, times the square of Student's t.

    Args: see `simqueue.sensitivity.morris.effects`; ``points`` in whole rows. Half-widths are from SALib's bootstrap
        over rows.
    """
    from SALib.analyze import sobol

    if not np.ptp(values):
        # No variance has no shares.
        return [Indices(name, 0.0, 0.0, 0.0, 0.0, 0.0) for name in names]
    found = sobol.analyze(problem(names), values, calc_second_order=False, seed=seed % 2**32)
    rows = parts.reshape(len(parts), -1, len(names) + 2)
    errors = standard_errors(rows[:, :, 1:-1] - rows[:, :, :1])
    noise = reach(len(parts)) ** 2 * np.mean(errors**2, axis=0) / (2 * np.var(values))
    columns = (found["ST"], found["ST_conf"], noise, found["S1"], found["S1_conf"])
    return [Indices(name, *map(float, row)) for name, row in zip(names, np.transpose(columns), strict=True)]
