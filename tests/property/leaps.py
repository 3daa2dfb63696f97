"""Leaping is stepping: whatever decides, a run that leaps is the run of single steps, to the last tick."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np

from simqueue import Result, SimqueueError, System, Workload, simulate


def answered(workload: Workload, system: System, **how: Any) -> Result | None:
    """The run, or None where nobody is answered, which is refused."""
    try:
        return simulate(workload, system, **how)
    except SimqueueError as error:
        if not re.search("ever fits|no request was answered", str(error)):
            raise
        return None


def alike(workload: Workload, system: System, seed: int = 0) -> Result | None:
    """The run, after it was found to be that of single steps; None where nobody is answered."""
    leaping, stepping = answered(workload, system, seed=seed), answered(workload, system, seed=seed, longest_leap=1)
    if leaping is None or stepping is None:
        assert leaping is stepping is None
        return None
    _same(leaping.requests(), stepping.requests())
    _same(leaping.steps(), stepping.steps())
    if leaping.fates is not None:
        assert np.array_equal(leaping.fates.spells, stepping.fates.spells)  # type: ignore[union-attr]
    assert figures(leaping) == figures(stepping)
    return leaping


def figures(result: Result) -> dict[str, Any]:
    """All of them, but for the capacity, which depends on workload and system alone and is a simulation of its own."""
    return replace(result, saturation_rps=lambda: math.inf).summary()


def _same(one: Any, other: Any) -> None:
    """Column by column; where there is no time, there is none."""
    assert one.keys() == other.keys()
    for name, column in one.items():
        assert np.array_equal(column, other[name], equal_nan=column.dtype.kind == "f"), name
