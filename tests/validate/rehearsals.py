"""Cells whose live side is a simulation too, so that the answers are known."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from simqueue import Result, simulate
from simqueue.cost.noise import NoNoise
from simqueue.validate import machine
from simqueue.validate.cells import Case, cases
from simqueue.validate.predict import scaled
from simqueue.validate.record import Cell
from simqueue.validate.run import compared
from simqueue.validate.runs import Runs

HERE = {"runner": "sleep", "model": "none", "gpu": "none"}
SCENARIO = """
[workload]
requests = 440
arrivals = { kind = "poisson", rate = 20.0 }
prompt_tokens = { kind = "lognormal", mean = 60, cv = 0.66 }
output_tokens = { kind = "geometric", mean = 10 }
[system]
policy = { kind = "continuous", max_seqs = 8 }
cost = { kind = "affine", base_s = 0.8e-3, per_row_s = 8e-6, per_new_token_s = 8e-6, per_context_token_s = 2e-9 }
noise = { kind = "lognormal", cv = 0.2 }
[live]
executor = "sleep"
clients = "thread"
[run]
seed = 3
warmup = 20
"""


def planned(sweep: str = "", text: str = SCENARIO) -> list[Case]:
    """The cases of the scenario with these lines below ``[sweep]``."""
    return cases({Path("scene.toml"): tomllib.loads(text + (f"[sweep]\n{sweep}" if sweep else ""))})


def lived(case: Case, factor: float = 1.0, repeats: int = 3, **changes: Any) -> list[Result]:
    """Runs of a machine whose steps take ``factor`` times as long as the case's cost says."""
    cost = scaled(case.scenario.system.cost, factor)
    system = msgspec.structs.replace(case.scenario.system, cost=cost, **changes)
    run = case.scenario.run
    ran = [simulate(case.workload, system, seed=100 + i, warmup=run.warmup, longest_leap=1) for i in range(repeats)]
    # A live run has but the scenario's seed.
    return [replace(result, provenance={**result.provenance, "seed": run.seed}) for result in ran]


def runs(case: Case, results: Sequence[Result]) -> Runs:
    """As if they had run live, and thousand plans had been made again."""
    outcomes = {"completed": sum(len(result.arrival) for result in results)}
    source = {**machine.provenance(case.scenario.system.cost, HERE), "live": msgspec.to_builtins(case.live)}
    return Runs(list(results), outcomes, {"device": 1e-3}, 1_000, 0, 0.0125, source)


def cell(case: Case, factor: float = 1.0, repeats: int = 3) -> Cell:
    """The comparison of a machine that is ``factor`` times as slow as predicted."""
    return compared(case, runs(case, lived(case, factor, repeats)), "made-up", None)


def quiet(case: Case) -> Case:
    """The same without noise: every run and every prediction is alike."""
    system = msgspec.structs.replace(case.scenario.system, noise=NoNoise())
    return replace(case, scenario=replace(case.scenario, system=system))
