"""What a profile knows of its own error: how far held-out steps were from what it says they take."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from simqueue.cluster.disaggregation import Disaggregation
from simqueue.config import Scenario
from simqueue.cost.profile import Measured
from simqueue.cost.scale import Scale, kinds_of
from simqueue.plan import Shape
from simqueue.policy.base import BatchingPolicy, launches_ahead
from simqueue.profile import Point, Profile, Serving
from simqueue.system import System
from simqueue.units import Grid

_SHARE = 0.95
# Which cells tell how far each kind of step is off; of a profile that has serving runs which of their steps do.
_CELLS = {"decode": ("decode",), "prefill": ("prefill", "chunk"), "total": ("total",)}


@dataclass(frozen=True)
class Coefficient:
    """How many times as long one kind of step takes as a profile says.

    Attributes:
        keys: where a scenario says so: one for every system that has the profile.
        profile: its name.
        kind: of step, as in `simqueue.cost.scale.Scale`.
        value: what the scenario says; 1 if it says nothing.
        half_width: relative, half of the 95 % interval of the true one; None where the profile does not tell.
    """

    keys: tuple[str, ...]
    profile: str
    kind: str
    value: float
    half_width: float | None

    @property
    def ends(self) -> tuple[float, float]:
        """Of the interval, as far apart in ratio; needs a half-width."""
        assert self.half_width is not None
        return self.value / (1 + self.half_width), self.value * (1 + self.half_width)


def coefficients(scenario: Scenario) -> list[Coefficient]:
    """All that a scenario has, by profile and kind; none where its costs were not measured, or where replicas that
    differ are listed one by one, so that no key reaches them."""
    found: dict[tuple[str, str], Coefficient] = {}
    for place, system in keyed_systems(scenario).items():
        cost = system.cost
        if not isinstance(cost, Measured):
            continue
        known = half_widths(cost, system.policy)
        for kind in kinds_of(cost.profile):
            before = found.get((cost.profile.name, kind))
            keys = (*(before.keys if before else ()), f"{place}.cost.scale.{kind}")
            value = getattr(cost.scale, kind)
            found[cost.profile.name, kind] = Coefficient(keys, cost.profile.name, kind, value, known.get(kind))
    return list(found.values())


def keyed_systems(scenario: Scenario) -> dict[str, System]:
    """The systems that keys of the scenario reach, by where they are in it."""
    cluster = scenario.cluster
    if isinstance(cluster, Disaggregation):
        pools = {"prefill": cluster.prefill.systems, "decode": cluster.decode.systems}
        return {f"cluster.{name}.system": all_of[0] for name, all_of in pools.items() if _alike(all_of)}
    return {"system": scenario.system} if cluster is None or _alike(cluster.systems) else {}


def _alike(systems: tuple[System, ...]) -> bool:
    return all(system == systems[0] for system in systems[1:])


def half_widths(cost: Measured, policy: BatchingPolicy) -> dict[str, float]:
    """Relative half-widths of 95 % intervals of how long steps take, by kind.

    All steps of a kind are taken to be off by one and the same factor, and 95 % of plausible factors to be as near to 1
    as 95 % of held-out steps were to what the profile says. That errors of neighbouring shapes go together is the safe
    assumption: if they were independent they would cancel out over the shapes that a run meets. What the fit and its
    repeats leave open is in them, since they were measured on what the fit did not see. What another day or another
    machine of the same kind would give is not.

    Args:
        cost: its profile tells: of a serving run the held-out stages of load; else the held-out cells, their means
            against the mean that a simulation takes.
        policy: where nothing is launched ahead, steps are those that the serving run has of such policies.
    """
    serving = cost.profile.serving
    if serving is not None:
        return dict(_served(serving, ahead=launches_ahead(policy)))
    plain = cost if cost.scale == Scale() else msgspec.structs.replace(cost, scale=Scale())
    off = dict(_held_out(plain, plain.profile))
    widths = {kind: [abs(e) for cell in cells for e in off.get(cell, ())] for kind, cells in _CELLS.items()}
    return {kind: float(np.quantile(errors, _SHARE)) for kind, errors in widths.items() if errors}


def _served(serving: Serving, *, ahead: bool) -> Iterator[tuple[str, float]]:
    """The larger of two where a kind has two sorts of steps."""
    sorts = {
        "decode": ("decode",) if ahead or "exposed" not in serving.errors else ("exposed",),
        "prefill": ("prefill", "chunk"),
        "start": ("start",) if ahead else ("start", "pause"),
    }
    for kind, names in sorts.items():
        if known := [serving.errors[name].p95 for name in names if name in serving.errors]:
            yield kind, max(known)


def _held_out(cost: Measured, profile: Profile) -> Iterator[tuple[str, list[float]]]:
    """By kind of cell: predicted over measured mean, less 1, of the cells that neither table nor fit has seen."""
    grid = Grid()
    model = cost.on(grid)
    for kind in ("decode", "prefill", "chunk", "total"):
        cells = [point for point in profile.points if point.held_out and point.kind == kind]
        yield kind, [float(grid.seconds(model.step(_shape(point)))) / point.mean_s - 1 for point in cells]


def _shape(point: Point) -> Shape:
    """The step that a cell is."""
    if point.kind == "decode":
        return Shape(decode_rows=point.decode_rows, longest=point.longest)
    total = point.kind == "total"
    new, behind = (point.width, point.context) if total else (point.rows * point.width, point.rows * point.context)
    return Shape(prefill_rows=point.rows, new_tokens=new, prefill_context=behind, widest=point.width)


def not_known(all_of: list[Coefficient]) -> list[str]:
    """The kinds of step whose error their profile does not tell."""
    return [f"{one.kind} of {one.profile}" for one in all_of if one.half_width is None]


def as_table(all_of: list[Coefficient]) -> list[Mapping[str, object]]:
    """In JSON's types."""
    return [
        {"key": one.keys[0], "profile": one.profile, "kind": one.kind, "half_width": one.half_width} for one in all_of
    ]
