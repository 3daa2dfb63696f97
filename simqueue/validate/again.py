"""Whether kept live runs are of what a scenario asks for now: all but cost, noise and overheads must be the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np

from simqueue.errors import OutputError
from simqueue.provenance import described
from simqueue.result import Result
from simqueue.validate.cells import Case
from simqueue.validate.record import Cell
from simqueue.workload import Workload

# Of a system, beside its policy, what says which steps are made.
_PARTS = ("max_context_tokens", "memory", "order", "admission")


def unchecked(case: Case, cell: Cell, met: Result) -> list[str]:
    """What the scenario asks for and the runs do not say of themselves.

    Raises:
        OutputError: they are of something else.
    """
    asked, ran = _asked(case), _ran(cell, met)
    known = [name for name in asked if name in ran]
    differing = [f"{name} = {ran[name]!r}, not {asked[name]!r}" for name in known if ran[name] != asked[name]]
    differing += [f"other {name}" for name in _other_columns(case, met.workload)]
    if differing:
        raise OutputError(
            f"its live runs had {', '.join(differing)}; only cost, noise and overheads can be compared again: undo "
            "that, or run it live again"
        )
    return [name for name in asked if name not in ran]


def _asked(case: Case) -> dict[str, Any]:
    scenario = case.scenario
    system = {
        "policy": described(scenario.system.policy),
        "max_context_tokens": scenario.system.max_context_tokens,
        "memory": msgspec.to_builtins(scenario.system.memory),
        "order": described(scenario.system.order),
        "admission": msgspec.to_builtins(scenario.system.admission),
    }
    return _flat(system, msgspec.to_builtins(case.live), scenario.run.seed, scenario.run.fixed_warmup)


def _ran(cell: Cell, met: Result) -> dict[str, Any]:
    about = met.provenance
    return _flat(about["system"], cell.provenance.get("live", {}), about["seed"], met.warmup)


def _flat(system: Mapping[str, Any], live: Mapping[str, Any], seed: int, warmup: int) -> dict[str, Any]:
    """By the names of a scenario's keys, in JSON's types."""
    found = {f"system.policy.{key}": value for key, value in system["policy"].items()}
    found |= {f"system.{key}": system[key] for key in _PARTS if key in system}
    found |= {f"live.{key}": value for key, value in live.items()}
    flat: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(found | {"run.seed": seed, "run.warmup": warmup}))
    return flat


def _other_columns(case: Case, met: Workload) -> Iterator[str]:
    """Which columns of the workload are others."""
    asked = case.workload
    for name in ("prompt_tokens", "output_tokens"):
        if not np.array_equal(getattr(asked, name), getattr(met, name)):
            yield name
    if len(asked) != len(met) or not _alike(asked.at_rate(met.rate) if case.at_load else asked, met):
        yield "arrivals"


def _alike(asked: Workload, met: Workload) -> bool:
    """Whether arrivals are the same, but for the whole nanoseconds of a live run; of a closed loop its users."""
    if asked.closed_loop and met.closed_loop:
        return bool(asked.meta["spec"] == met.meta["spec"])
    return asked.closed_loop == met.closed_loop and np.allclose(asked.arrival_s, met.arrival_s, rtol=1e-6, atol=1e-8)
