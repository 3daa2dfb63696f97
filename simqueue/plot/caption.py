"""The line below a figure: what was run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simqueue.config import Run
from simqueue.cost.linear import Affine
from simqueue.cost.profile import Measured
from simqueue.sweep import Plan, labels

_AS_LABELLED = "as labelled"
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def of_sweep(plan: Plan) -> str:
    """Cost and machine, lengths, arrivals, requests and seed of a sweep; ``as labelled`` where they are swept."""
    return f"{_cost(plan)}.{_shared(plan)}\n{_workload(plan)}."


def duration(seconds: float) -> str:
    """Seconds with the unit that suits them: ``0.0008`` is ``800 µs``."""
    size, unit = next(((size, unit) for size, unit in _UNITS if seconds >= size), _UNITS[-1])
    return f"{seconds / size:.4g} {unit}"


def _cost(plan: Plan) -> str:
    if _swept(plan, "system.cost"):
        return f"Cost {_AS_LABELLED}"
    cost = plan.cells[0].scenario.system.cost
    return _measured(cost) if isinstance(cost, Measured) else _affine(cost) if isinstance(cost, Affine) else "Own cost"


def _measured(cost: Measured) -> str:
    profile = cost.profile
    source = profile.provenance
    machine = source.cpu if source.gpu == "none" else source.gpu
    form = " (fitted curve)" if cost.curve else ""
    return f"{profile.name}{form}: {profile.model.name}, {profile.model.dtype}, on {machine}"


def _affine(cost: Affine) -> str:
    named = {"": cost.base_s, "a row": cost.per_row_s, "a new token": cost.per_new_token_s}
    named["a token in the cache"] = cost.per_context_token_s
    return "A step takes " + " + ".join(f"{duration(s)} {name}".strip() for name, s in named.items() if s)


def _workload(plan: Plan) -> str:
    workload, run = plan.table["workload"], plan.table.get("run", {})
    parts = (
        []
        if "prompt_tokens" not in workload
        else [
            f"Prompts {_told(plan, 'workload.prompt_tokens', workload['prompt_tokens'])}",
            f"outputs {_told(plan, 'workload.output_tokens', workload['output_tokens'])}",
        ]
    )
    if "lengths" in workload:
        parts.append(f"lengths {_told(plan, 'workload.lengths', workload['lengths'])}")
    if "classes" in workload:
        parts.append(f"classes {', '.join(each['name'] for each in workload['classes'])}")
    else:
        parts.append(f"arrivals {_told(plan, 'workload.arrivals', workload['arrivals'])}")
    if "requests" in workload and not _swept(plan, "workload.requests"):
        parts.append(f"{workload['requests']:,} requests a run{_or_more(plan.cells[0].scenario.run)}")
    if isinstance(run.get("warmup"), int) and run["warmup"]:
        parts.append(f"the first {run['warmup']:,} left out")
    return ", ".join([*parts, f"seed {run.get('seed', 0)}"])


def _or_more(run: Run) -> str:
    if run.precision is None:
        return ""
    return f" or more (until {', '.join(run.precision_of)} is known to {100 * run.precision:g} %)"


def _told(plan: Plan, key: str, table: Mapping[str, Any]) -> str:
    if key in plan.keys:
        return _AS_LABELLED
    rate = frozenset({"rate"} if plan.x == "rate" else ())
    hidden = {"kind", *(swept.removeprefix(f"{key}.") for swept in plan.keys)} | rate
    knobs = ", ".join(f"{knob} {labels.shown(value, rate)}" for knob, value in table.items() if knob not in hidden)
    return f"{table['kind']} ({knobs})" if knobs else str(table["kind"])


def _swept(plan: Plan, key: str) -> bool:
    return any(f"{swept}.".startswith(f"{key}.") for swept in plan.keys)


def _shared(plan: Plan) -> str:
    """What a label leaves out because all have it."""
    sweep = dict(labels.flat(plan.table["sweep"]))
    knobs = {knob: value for values in sweep.values() for knob, value in labels.common(values).items()}
    told = ", ".join(f"{knob}={labels.shown(value)}" for knob, value in knobs.items() if knob != "rate")
    return f" {told} wherever it applies." if told else ""
