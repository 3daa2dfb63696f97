"""Quasi-birth-death processes: chains of levels 0, 1, 2, ... that move by one level at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_Matrix = NDArray[np.float64]


def rate_matrix(up: _Matrix, within: _Matrix, down: _Matrix) -> _Matrix:
    """R with pi[n + 1] = pi[n] R, n = 0, 1, ..., from the rates one level up, within a level and one level down.

    All (states, states), per second; ``within`` has the rates of leaving a state, negative, on its diagonal, and the
    chain must have a steady state. The levels from 1 on are alike.

    Source: Neuts (1981), Matrix-Geometric Solutions in Stochastic Models, chapter 3.
    """
    first_passage = _logarithmic_reduction(up, within, down)
    return np.asarray(-up @ np.linalg.inv(within + up @ first_passage), np.float64)


def _logarithmic_reduction(up: _Matrix, within: _Matrix, down: _Matrix) -> _Matrix:
    """The matrix G of first passages one level down.

    Source: Latouche and Ramaswami (1993), "A logarithmic reduction algorithm for quasi-birth-death
    processes", Journal of Applied Probability 30. Each round doubles the number of levels that are accounted
    for.
    """
    identity = np.eye(len(up))
    rise, fall = np.linalg.solve(-within, up), np.linalg.solve(-within, down)
    passage, path = fall, rise
    while np.abs(path).max() > 1e-17:
        back = identity - rise @ fall - fall @ rise
        rise, fall = np.linalg.solve(back, rise @ rise), np.linalg.solve(back, fall @ fall)
        passage, path = passage + path @ fall, path @ rise
    return np.asarray(passage, np.float64)
