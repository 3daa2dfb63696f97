"""Small profiles made of numbers that a test chose."""

from __future__ import annotations

from typing import Any

import msgspec

from simqueue.cost.profile import Measured
from simqueue.profile import (
    Curve,
    Curves,
    DecodeTable,
    Jitter,
    Model,
    Noise,
    Paths,
    PrefillTable,
    Profile,
    Provenance,
    Serving,
    check,
)

PROVENANCE = Provenance(**{name: "made up" for name in Provenance.__struct_fields__ if name != "notes"})
MODEL = Model(name="made up", max_context=10**6, parameters=1, layers=1, hidden=1, dtype="none")
NORMAL = Noise(probabilities=(0.1, 0.5, 0.9), decode=(-1.0, 0.0, 1.0), prefill=(-2.0, 0.0, 1.0), mean_over_median=1.0)

STEADY = Jitter(
    decode=(1.0,),
    prefill=(1.0,),
    persistent=(),
    memory=(),
    stall_probability=0.0,
    stalls=(),
    lags=(),
    autocorrelation=(),
    drift=(),
)


def jitter(**changes: Any) -> Jitter:
    """Steps that scatter by a tenth, remember each other, and stall at times, but for the changes."""
    plain = {
        **msgspec.structs.asdict(STEADY),
        "decode": (0.9, 0.95, 1.0, 1.15),
        "prefill": (0.8, 1.0, 1.2),
        "persistent": (0.3, 0.4),
        "memory": (0.5, 0.9),
        "stall_probability": 0.01,
        "stalls": (2.0, 6.0),
    }
    return Jitter(**{**plain, **changes})


def serving(**changes: Any) -> Serving:
    """A serving run in which steps took what the table says, but for the changes."""
    names = ("per_step_s", "per_row_s", "per_prefill_s", "per_prefill_row_s", "per_start_row_s")
    terms = dict.fromkeys(names, 0.0)
    plain: dict[str, Any] = {
        **terms,
        "decode_factor": 1.0,
        "prefill_factor": 1.0,
        "standard_errors": {},
        "steps": 1,
        "errors": {},
        "jitter": STEADY,
        "paths": Paths(**dict.fromkeys(Paths.__struct_fields__, 0.0)),
    }
    return Serving(**{**plain, **changes})


def flat_curve(**changes: Any) -> Curve:
    """A curve that costs a second whatever it is asked, but for the changes."""
    plain: dict[str, Any] = {
        "form": "affine",
        "axis": "rows",
        "knots": (1,),
        "rule": "ceil",
        "floor_s": 0.0,
        "base_s": (1.0,),
        "per_row_s": 0.0,
        "per_new_token_s": (0.0,),
        "per_context_token_s": (0.0,),
        "per_pair_s": 0.0,
        "pad_rows": (),
        "pad_length": (),
        "pad_context": (),
        "standard_errors": {},
        "errors": {},
        "reading": (),
    }
    return Curve(**{**plain, **changes})


def profile(decode: DecodeTable | None, prefill: PrefillTable | None, **changes: Any) -> Profile:
    """A sound profile around two tables."""
    plain: dict[str, Any] = {
        "schema": 1,
        "name": "made-up",
        "runner": "graph",
        "iteration_level": True,
        "model": MODEL,
        "provenance": PROVENANCE,
        "decode": decode,
        "prefill": prefill,
        "mixed_s": 0.0,
        "host_s": 0.0,
        "noise": NORMAL,
        "curves": Curves(decode=flat_curve(), prefill=flat_curve()),
        "points": (),
    }
    made = Profile(**{**plain, **changes})
    check(made, "test")
    return made


def cost_of(made: Profile, **options: bool) -> Measured:
    """The cost model of a profile that is in no file."""
    spec = Measured(name=made.name, **options)
    spec.__dict__["profile"] = made
    return spec


def measured(
    rows: Any, longest: Any, decode: Any, width: Any, prefill: Any, rule: Any, mixed: int, tick_s: float, **changes: Any
) -> Measured:
    """A cost model whose cells are whole ticks: decode ``[rows][longest]``, prefill ``[rows][width][context]``."""
    times = tuple(tuple(c * tick_s for c in line) for line in decode)
    quiet = tuple(tuple(0.01 for _ in line) for line in decode)
    prefill_times = tuple(tuple(tuple(c * tick_s for c in cell) for cell in line) for line in prefill)
    prefill_quiet = tuple(tuple(tuple(0.02 for _ in cell) for cell in line) for line in prefill)
    made = profile(
        DecodeTable(rows=rows, longest=longest, rule=rule, seconds=times, cv=quiet),
        PrefillTable(rows=rows, width=width, context=(0, 10**6), rule=rule, seconds=prefill_times, cv=prefill_quiet),
        mixed_s=mixed * tick_s,
        **changes,
    )
    return cost_of(made)
