"""Where a result comes from, in JSON's types."""

from __future__ import annotations

import math
import platform
from functools import cache
from importlib.metadata import version
from typing import Any

import msgspec

from simqueue.system import System
from simqueue.units import Grid
from simqueue.workload import Workload


def described(value: object) -> Any:
    """A configured object as the table that would configure it; a user's own class by its name and fields, which may
    hold anything: what JSON has no word for is there as Python shows it."""
    fields = msgspec.to_builtins(value, enc_hook=repr, str_keys=True) if _has_fields(value) else {}
    # JSON has no infinite numbers.
    table = {key: str(field) if field == math.inf else field for key, field in fields.items()}
    if isinstance(value, msgspec.Struct) and value.__struct_config__.tag is not None:
        return table
    return {"kind": f"{type(value).__module__}:{type(value).__qualname__}", **table}


def _has_fields(value: object) -> bool:
    return isinstance(value, msgspec.Struct) or hasattr(value, "__dataclass_fields__")


def provenance(workload: Workload, system: System, seed: int, grid: Grid) -> dict[str, Any]:
    """What was run, by which version, on which Python."""
    return {
        "simqueue": _version(),
        "python": platform.python_version(),
        "seed": seed,
        "ticks_per_s": grid.ticks_per_s,
        "workload": dict(workload.meta),
        "system": {
            "policy": described(system.policy),
            "cost": described(system.cost),
            "noise": described(system.noise),
            "overheads": msgspec.to_builtins(system.overheads),
            "max_context_tokens": system.max_context_tokens,
            "memory": msgspec.to_builtins(system.memory),
            "order": described(system.order),
            "admission": msgspec.to_builtins(system.admission),
        },
    }


@cache
def _version() -> str:
    """Read once: a sweep or a test may make thousands of results."""
    return version("simqueue")
