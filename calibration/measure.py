"""Timing cells in randomised order, round after round, until their medians are known well or time is over."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from calibration.cells import Cell
from calibration.samples import Recorder, Repeats, Samples
from simqueue.plan import Work

if TYPE_CHECKING:
    from simqueue.live.device.eager import EagerExecutor
    from simqueue.live.device.graph import GraphExecutor

    Stepper = GraphExecutor | EagerExecutor

PRECISION = 0.01
_VISITS = 3
_RANKED = 6
_REPEATS = 3
_LONG_S = 0.05
# the standard error of a median is that of a mean times sqrt(pi / 2) (Kenney and Keeping 1962, normal samples)
_MEDIAN = float(np.sqrt(np.pi / 2))

# these executors take one step whatever the plan says
_WORK = Work()

Act = Callable[[], object]
Tell = Callable[[str], None]


def half_width(repeats: Repeats) -> float:
    """Relative half-width of the 95 % confidence interval of a cell's median, its visits taken as independent.

    From six visits on by order statistics (David and Nagaraja 2003, section 7.1: ranks n/2 -+ 0.98 sqrt(n)), which
    a few disturbed visits do not move; Student's t on three to five; infinite on fewer.
    """
    visits = np.sort(repeats.visits())
    n = len(visits)
    if n < _VISITS:
        return float("inf")
    if n < _RANKED:
        spread = _MEDIAN * float(visits.std(ddof=1)) / n**0.5
        return float(stats.t.ppf(0.975, n - 1) * spread) / float(np.median(visits))
    rank = int((n - 1.96 * n**0.5) / 2)
    return float(visits[n - 1 - rank] - visits[rank]) / 2 / float(np.median(visits))


def unknown(cells: Sequence[Cell], samples: Samples) -> list[Cell]:
    """The cells whose median is not known to `PRECISION` yet."""
    return [cell for cell in cells if cell not in samples or half_width(samples[cell]) > PRECISION]


def measure(executor: Stepper, cells: Sequence[Cell], into: Recorder, deadline: float, tell: Tell) -> None:
    """Visit the cells round after round until all are known or ``deadline`` (of `time.monotonic`) is there."""
    arrange = _arranger(executor)
    with _no_collection():
        while pending := unknown(cells, into.samples):
            number, known = into.next_round, len(cells) - len(pending)
            random.Random(number).shuffle(pending)
            # what has never been measured first: a profile needs every cell once
            pending.sort(key=lambda cell: cell in into.samples)
            for i, cell in enumerate(pending):
                if time.monotonic() > deadline:
                    return
                _visit(executor, cell, arrange(cell), number, into)
                left = len(pending) - i - 1
                tell(f"round {number}: {left} left, {known} of {len(cells)} medians known to {PRECISION:.0%}")
            gc.collect()


def _visit(executor: Stepper, cell: Cell, acts: tuple[Act, Act], number: int, into: Recorder) -> None:
    """Warm up, then time some steps by wall clock and one more on the device.

    A long step needs neither: what it leaves out is small beside it, and one pass gives both times.
    """
    reset, step = acts
    wall, device = _both(executor, reset, step)
    if wall > _LONG_S:
        if cell not in into.samples:
            wall, device = _both(executor, reset, step)
        walls = [wall]
    else:
        reset()
        step()
        walls = [_reset_and_time(reset, step) for _ in range(_REPEATS)]
        _, device = _both(executor, reset, step)
    if executor.clock.cuda:
        into.add(cell, number, "device", [device])
    into.add(cell, number, "wall", walls)


def _both(executor: Stepper, reset: Act, step: Act) -> tuple[float, float]:
    """One step by wall clock and, where there is a GPU, on the device."""
    executor.clock.on = executor.clock.cuda
    wall = _reset_and_time(reset, step)
    executor.clock.on = False
    return wall, executor.clock.elapsed_s() if executor.clock.cuda else wall


def _reset_and_time(reset: Act, step: Act) -> float:
    reset()
    return _timed(step)


def _timed(step: Act) -> float:
    begin = time.perf_counter_ns()
    step()
    return (time.perf_counter_ns() - begin) / 1e9


@contextmanager
def _no_collection() -> Any:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _arranger(executor: Stepper) -> Callable[[Cell], tuple[Act, Act]]:
    """For a cell, what puts the executor before that step, untimed, and the step itself."""
    rng = np.random.default_rng(0)
    arrange: Any = _graph_cell if executor.iteration_level else _eager_cell
    return lambda cell: arrange(executor, cell, lambda tokens: rng.integers(0, executor.vocabulary, tokens))


def _graph_cell(executor: GraphExecutor, cell: Cell, draw: Callable[[int], Any]) -> tuple[Act, Act]:
    """A step that decodes follows another one, as it does when it is served: where steps overlap, it has begun."""
    decoding, joining = range(cell.decode_rows), range(cell.decode_rows, cell.decode_rows + cell.rows)
    follows = executor.overlaps and cell.decode_rows > 0
    longest = max(1, cell.longest - follows)
    rows = [(request, draw(longest), longest) for request in decoding]
    rows += [(request, draw(cell.context + cell.width), cell.context) for request in joining]
    chunks = [(request, cell.width) for request in joining]

    def reset() -> None:
        executor.pretend(rows)
        if follows:
            executor.launch((), _WORK)
            executor.ahead(())
            executor.collect(lambda: False)

    return reset, lambda: _step(executor, chunks)


def _eager_cell(executor: EagerExecutor, cell: Cell, draw: Callable[[int], Any]) -> tuple[Act, Act]:
    """The last of several rows is one token shorter, for a batch of several requests has padding."""
    if cell.kind == "decode":
        shorter = cell.longest - 1 if cell.decode_rows > 1 and cell.longest > 1 else cell.longest
        return executor.pretend(cell.decode_rows, cell.longest, shorter), lambda: _step(executor, [])
    batch = [draw(cell.width) for _ in range(cell.rows)]
    if cell.rows > 1 and cell.width > 1:
        batch[-1] = batch[-1][1:]

    def reset() -> None:
        executor.forget()
        for request, prompt in enumerate(batch):
            executor.begin(request, prompt)

    return reset, lambda: _step(executor, [(request, len(prompt)) for request, prompt in enumerate(batch)])


def _step(executor: Stepper, chunks: Sequence[tuple[int, int]]) -> None:
    executor.launch(chunks, _WORK)
    executor.collect(lambda: False)
