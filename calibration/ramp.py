"""The load of a serving run: from nearly none to more than can be served, so that every number of rows occurs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from simqueue.policy import BatchingPolicy, Continuous, Dynamic, NoBatching, Tgi
from simqueue.profile import Profile
from simqueue.sim.simulate import saturation_rps
from simqueue.system import System
from simqueue.workload import Workload
from simqueue.workload.lengths import Geometric, Lengths, Lognormal

STAGES = 16
# Stages of the load that are left out of the fit and judge it.
HELD_OUT = (2, 6, 10, 14)
_LEAST, _MOST = 0.005, 1.2
_ENOUGH = 2000
_PROMPTS, _OUTPUTS, _LONGEST = 1 / 16, 1 / 24, 1 / 2
_SPREAD = 0.66
_WAIT_STEPS = 5
_SHORT = 6.0


@dataclass(frozen=True)
class Run:
    """A policy under a ramp of load, its share of the time for serving, and the answers' lengths, if of its own."""

    name: str
    policy: BatchingPolicy
    share: float
    outputs: Lengths | None = None

    def lengths(self, usual: tuple[Lengths, Lengths]) -> tuple[Lengths, Lengths]:
        """Of prompts and of answers."""
        return usual[0], self.outputs or usual[1]


def runs_of(profile: Profile) -> list[Run]:
    """Serving runs that meet what the runner is for: whole prompts, chunks, and batches to completion with a timer.

    Where whole batches are all there is, without a timer too: who finds the replica free then starts at once. And one
    by one with short answers, whose starts follow each other after all times from a few steps to many seconds. And a
    policy for which nothing is launched ahead, so that the host's part of a step shows.
    """
    assert profile.decode
    assert profile.prefill
    rows, window = profile.decode.rows[-1], profile.model.max_context
    wait_s = _WAIT_STEPS * profile.decode.at(1, 1)
    at_once, timed = (Dynamic(rows, wait, release="request") for wait in (0.0, wait_s))
    alone = Run("one by one", NoBatching(), 0.1, Geometric(_SHORT, max=max(1, int(window * _LONGEST))))
    if not profile.iteration_level:
        return [Run("batches at once", at_once, 0.45), Run("batches", timed, 0.45), alone]
    half = max(1, rows // 2)
    whole, chunks = Continuous(rows), Continuous(half, max_tokens=half + max(1, window // 16))
    # At several times, since how quick a host is changes from minute to minute.
    bare = Run("nothing ahead", Tgi(max_batch_size=rows), 0.06)
    three = Run("whole prompts", whole, 0.36), Run("chunks", chunks, 0.18), Run("batches", timed, 0.18)
    return [*chain.from_iterable((run, bare) for run in three), alone]


def lengths_for(window: int) -> tuple[Lengths, Lengths]:
    """Prompts of a sixteenth of the window on average (lognormal), answers of a twenty-fourth (geometric)."""
    most = max(1, int(window * _LONGEST))
    prompts = Lognormal(max(1.0, window * _PROMPTS), _SPREAD, max=most)
    return prompts, Geometric(max(1.0, window * _OUTPUTS), max=most)


def ramp(system: System, lengths: tuple[Lengths, Lengths], seconds: float, seed: int) -> tuple[Workload, list[float]]:
    """Poisson arrivals in stages of equal length, from 0.005 to 1.2 times what ``system`` can serve, and their begins.

    ``lengths`` are those of prompts and of answers.
    """
    rng = np.random.default_rng(seed)
    rates = np.geomspace(_LEAST, _MOST, STAGES) * saturation_rps(_requests(np.zeros(_ENOUGH), lengths, rng), system)
    begins = np.linspace(0.0, seconds, STAGES + 1)
    expected = np.concatenate([[0.0], np.cumsum(rates * np.diff(begins))])
    # A Poisson process of rate 1 on the scale of what is expected (Lewis and Shedler 1979, time-scale transformation).
    count = rng.poisson(expected[-1]) + 1
    arrivals = np.interp(np.sort(rng.random(count)) * expected[-1], expected, begins)
    return _requests(arrivals, lengths, rng), begins[:-1].tolist()


def _requests(arrivals: NDArray[np.float64], lengths: tuple[Lengths, Lengths], rng: np.random.Generator) -> Workload:
    prompts, outputs = (length.draw(len(arrivals), rng).tokens for length in lengths)
    return Workload.from_columns(arrivals, prompts, outputs)
