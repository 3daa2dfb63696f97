"""A server that is calibrated in virtual time: what it is made of is known, and must come out of its records."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from profiles import cost_of

from calibration.ramp import lengths_for, ramp, runs_of
from calibration.records import Records
from calibration.watch import watched
from simqueue.live.serve import Served
from simqueue.profile import Profile
from simqueue.result import Result
from simqueue.sim.simulate import simulate
from simqueue.system import Overheads, System


def records_of(profile: Profile, noise: Any, seconds: float, seed: int = 0) -> Records:
    """What the serving runs of a calibration record of a server that this profile, serving part and all, describes."""
    parts = []
    for number, run in enumerate(runs_of(profile)):
        cost = cost_of(profile)
        system = System(run.policy, cost, noise, Overheads.measured(run.policy, cost))
        lengths = run.lengths(lengths_for(profile.model.max_context))
        workload, stages_s = ramp(system, lengths, run.share * seconds, seed + number)
        result = simulate(workload, system, seed=seed, longest_leap=1)
        parts.append(watched(live(result, system.overheads), run.policy, stages_s, number))
    return Records.joined(parts)


def live(result: Result, over: Overheads) -> Served:
    """A result as a live run tells it: back to back, what lies between two steps is part of the second."""
    leaps, grid = dict(result.leaps), result.grid
    start, ends = leaps["start"].copy(), leaps["start"] + leaps["total"]
    waited = np.zeros(len(start), bool)
    free = batch = 0
    for n, (rows, joining) in enumerate(zip(leaps["rows"].tolist(), leaps["prefill_rows"].tolist(), strict=True)):
        if not rows:
            pause = grid.ticks(over.handover_s) + grid.ticks(over.handover_per_request_s) * batch
            waited[n] = n == 0 or start[n] > free + pause
            batch = joining
        start[n] = start[n] if waited[n] else free
        free = ends[n]
    leaps |= {"start": start, "total": ends - start}
    return cast(Served, SimpleNamespace(result=replace(result, leaps=leaps), waited=waited))
