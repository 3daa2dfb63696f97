"""The steps of live runs against what the cost model says of their shapes: where an error comes from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simqueue.lag import on_grid
from simqueue.plan import Work
from simqueue.result import Result
from simqueue.starts import decided, since_prefill
from simqueue.system import System
from simqueue.units import Grid, digits
from simqueue.validate.record import Steps

_SHAPE = {
    "decode_rows": "rows",
    **{name: name for name in ("context", "longest", "prefill_rows", "new_tokens", "prefill_context", "widest")},
    "paused": "paused",
}


def steps(live: Sequence[Result], system: System) -> dict[str, Steps]:
    """By kind; ``mixed`` steps decode and prefill at once. One that only prefills counts from the decision on it, and
    takes what the cost model and the system's ``start_s`` say; one that stops others from when the last one ended."""
    shapes = np.concatenate([_shapes(result) for result in live])
    durations, starts = (
        np.concatenate(columns) for columns in zip(*(_measured(result, system) for result in live), strict=True)
    )
    predicted = _predicted(shapes, system, live[0].grid) + starts
    decodes, prefills = shapes[:, 0] > 0, shapes[:, list(_SHAPE).index("prefill_rows")] > 0
    kinds = {"decode": decodes & ~prefills, "prefill": prefills & ~decodes, "mixed": prefills & decodes}
    return {kind: _of(durations[at], predicted[at], durations.sum()) for kind, at in kinds.items() if at.any()}


def _measured(result: Result, system: System) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds of each step, and of those what a start takes beyond its cost."""
    leaps, grid = result.leaps, result.grid
    begin = decided(result, system.policy)
    takes, since = on_grid(system.overheads.start_s, grid), since_prefill(begin, leaps["prefill_rows"])
    starts = [0 if rows else takes(ticks) for rows, ticks in zip(leaps["rows"].tolist(), since.tolist(), strict=True)]
    return grid.seconds(leaps["start"] + leaps["total"] - begin), grid.seconds(starts)


def _shapes(result: Result) -> NDArray[np.int64]:
    """One row a step: a live run's leaps are its steps."""
    none = np.zeros(len(result.leaps["start"]), np.int64)
    return np.column_stack([result.leaps.get(column, none) for column in _SHAPE.values()])


def _predicted(shapes: NDArray[np.int64], system: System, grid: Grid) -> NDArray[np.float64]:
    """Seconds of each, every shape priced once."""
    distinct, at = np.unique(shapes, axis=0, return_inverse=True)
    price = system.overheads.around(system.cost.on(grid), grid).step
    ticks = [price(Work(**dict(zip(_SHAPE, row, strict=True)))) for row in distinct.tolist()]
    return grid.seconds(ticks)[at.reshape(-1)]


def _of(live_s: NDArray[np.float64], predicted_s: NDArray[np.float64], all_s: float) -> Steps:
    live, predicted = float(live_s.mean()), float(predicted_s.mean())
    return Steps(
        count=len(live_s),
        live_s=digits(live),
        predicted_s=digits(predicted),
        share=digits(float(live_s.sum() / all_s)),
        error=digits(predicted / live - 1),
    )
