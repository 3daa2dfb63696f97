"""What a parameter does to a figure, how well that is known, and what chance alone would have looked like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simqueue.analysis.interval import LEVEL
from simqueue.analysis.student import student
from simqueue.errors import ConfigError

Array = NDArray[np.float64]
_REMEDY = "pip install 'simqueue[study]'"


@dataclass(frozen=True)
class Effect:
    """Of one parameter on one figure.

    Attributes:
        parameter: its name.
        size: how much it does: see `simqueue.sensitivity.morris` and `simqueue.sensitivity.sobol`.
        half_width: of the 95 % interval of the size over other points of the same ranges.
        noise: what the size stays under in 95 % of cases if the parameter does nothing and runs only differ by chance.
    """

    parameter: str
    size: float
    half_width: float
    noise: float

    @property
    def seen(self) -> bool:
        """Whether it is more than chance."""
        return self.size > self.noise


def standard_errors(parts: Array) -> Array:
    """Of the mean over the first axis, along which replications lie; NaN of a single one."""
    count = len(parts)
    if count < 2:
        return np.full(parts.shape[1:], np.nan)
    return np.asarray(np.std(parts, axis=0, ddof=1) / np.sqrt(count))


def reach(replications: int) -> float:
    """How many standard errors, from so many replications, 95 % of what is chance stays under."""
    return student(max(1, replications - 1), LEVEL)


def problem(names: list[str]) -> dict[str, object]:
    """The unit cube of these parameters, as SALib has it."""
    return {"num_vars": len(names), "names": names, "bounds": [[0.0, 1.0]] * len(names)}


def require_salib() -> None:
    """Raises ConfigError where it is not installed."""
    try:
        import SALib  # noqa: F401
    except ImportError:
        raise ConfigError(f"sensitivity needs SALib, which is not installed: {_REMEDY}") from None
