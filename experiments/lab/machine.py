"""What the simulator is told of an executor, measured on runs that nothing is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from calibration.jitter import outside
from calibration.run import Plan, calibrate
from lab.bench import OUTPUTS, PROMPTS, WINDOW, Bench, asked_by
from simqueue.cost.linear import Affine
from simqueue.cost.noise import LognormalNoise, ServingNoise
from simqueue.cost.profile import Measured
from simqueue.errors import ProfileError
from simqueue.live.executor import Executor
from simqueue.live.serve import Served, serve
from simqueue.policy import BatchingPolicy, Static
from simqueue.system import CostSpec, Overheads, System

# Of prompts, lengths and answers that no later run has.
CALIBRATION_SEED = 1000
_NAME = "lab-graph"
_CALLS = 6
_LEAST_CV = 1e-6


@dataclass(frozen=True)
class Machine:
    """An executor, and what the simulator is told of it. ``handover_s`` where the cost brings no overheads."""

    executor: Executor
    cost: CostSpec
    noise: Any
    handover_s: float = 0.0

    def system(self, policy: BatchingPolicy) -> System:
        """To be run live and simulated alike."""
        overheads = Overheads(handover_s=self.handover_s)
        if isinstance(self.cost, Measured):
            overheads = Overheads.measured(policy, self.cost)
        return System(policy=policy, cost=self.cost, noise=self.noise, overheads=overheads)

    def decode_s(self, rows: int) -> float:
        """Seconds of a decode step of so many rows of half a window, as measured, without what serving adds."""
        assert isinstance(self.cost, Measured)
        assert self.cost.profile.decode is not None
        return self.cost.profile.decode.at(rows, WINDOW // 2 - 1)

    def told(self) -> dict[str, Any]:
        """In JSON's types: a profile by its name, a formula by its coefficients."""
        return {
            "cost": msgspec.to_builtins(self.cost),
            "noise": msgspec.to_builtins(self.noise),
            "handover_s": self.handover_s,
        }


def streaming(bench: Bench, folder: Path) -> Machine:
    """The graph executor, by `simqueue calibrate`: every size of step, then serving. Samples that ``folder`` has are
    gone on with.

    Raises:
        ProfileError: there was too little time.
        ConfigError: the folder has samples of something else.
    """
    loaded = bench.loaded
    dtype = bench.size.dtype
    plan = Plan(
        *(loaded.source, "graph", dtype, loaded.device.type, folder, _NAME),
        *(bench.size.calibration_minutes, bench.most, WINDOW, (PROMPTS, OUTPUTS)),
    )
    profile = calibrate(plan, bench.graph)
    if profile is None or profile.serving is None:
        raise ProfileError(
            f"calibration: {plan.minutes} minutes were too few on this machine; the same command goes on from there"
        )
    bench.graph.forget()
    return Machine(bench.graph, Measured(path=str(folder / f"{_NAME}.json")), ServingNoise())


def calling(bench: Bench) -> Machine:
    """The naive executor: a formula for its steps, by least squares over calls with one prompt, and one with all.

    A step costs something, and something more for each row, each new token and each token in the cache; between two
    calls some time passes. None of it is negative. Steps that stand out among their like, which other programs on the
    machine have held up, are left out.
    """
    runs = [_called(bench, rows) for rows in (1, bench.users)]
    design = np.concatenate([_design(run) for run in runs])
    seconds = np.concatenate([_seconds(run) for run in runs])
    found = _fitted(design, seconds)
    kept = ~outside(seconds / (design @ found), np.where(design[:, 3] > 0, "decode", "prefill"))
    found = _fitted(design[kept], seconds[kept])
    cv = float(np.std(seconds[kept] / (design[kept] @ found)))
    return Machine(bench.naive, Affine(*found[:4].tolist()), LognormalNoise(cv=max(cv, _LEAST_CV)), float(found[4]))


def _fitted(design: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    size = np.maximum(design.max(axis=0), 1.0)
    return np.asarray(optimize.nnls(design / size, seconds)[0] / size)


def _called(bench: Bench, rows: int) -> Served:
    requests = max(rows, _CALLS)
    workload, seed = asked_by(requests, requests, CALIBRATION_SEED + rows), CALIBRATION_SEED + rows
    return serve(workload, System(policy=Static(batch=rows), cost=Affine(base_s=1.0)), bench.naive, seed=seed)


def _design(run: Served) -> NDArray[np.float64]:
    """``(steps, 5)``: one, rows, new tokens, tokens in the cache, and whether it begins a call after another one."""
    assert run.result is not None
    leaps = run.result.leaps
    prefills = leaps["prefill_rows"]
    columns = (leaps["rows"] + prefills, leaps["rows"] + leaps["new_tokens"], leaps["context"])
    first = (prefills > 0) & ~run.waited
    return np.column_stack([np.ones(len(prefills)), *columns, first]).astype(np.float64)


def _seconds(run: Served) -> NDArray[np.float64]:
    assert run.result is not None
    return run.result.grid.seconds(run.result.leaps["total"])
