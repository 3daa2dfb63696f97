"""Every combination of a ``[sweep]`` table, named and checked before anything runs."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from simqueue.config import Scenario, scenario_from
from simqueue.errors import ConfigError, SimqueueError
from simqueue.sweep import labels
from simqueue.tables import shown, unknown

LOAD = "load"
RATE = "workload.arrivals.rate"
USERS = "workload.arrivals.users"
_PARTS = ("workload", "system", "run")


@dataclass(frozen=True)
class Cell:
    """One combination.

    Attributes:
        label: unique in its sweep.
        series: the label without what the x axis of a figure shows.
        values: what each swept key is, as its label says it: a number as it is, all else in a few letters.
        scenario: what to simulate; under ``load`` its arrivals are still to be brought to their rate.
        load: the rate as a fraction of the saturation throughput, or None: the rate is the scenario's own.
        capacity: the same for all cells that have one saturation throughput.
    """

    label: str
    series: str
    values: Mapping[str, Any]
    scenario: Scenario
    load: float | None
    capacity: str


@dataclass(frozen=True)
class Plan:
    """A sweep before it runs.

    Attributes:
        table: the whole scenario as read, overrides applied.
        path: of the scenario's file.
        keys: the swept keys, as written.
        x: the column that a figure's x axis shows: ``rate``, or the number of users, or else the first swept number.
        cells: every combination, the last key changing fastest.
    """

    table: Mapping[str, Any]
    path: Path
    keys: tuple[str, ...]
    x: str
    cells: tuple[Cell, ...]


class _Point(NamedTuple):
    """One value of one swept key, and what it is in a label and in a column."""

    key: str
    value: Any
    entry: str
    column: Any


def plan(table: Mapping[str, Any], path: Path) -> Plan:
    """Every combination of the lists in ``table["sweep"]``.

    Keys are dotted paths into the scenario, or ``load``: fractions of each system's own saturation throughput. A whole
    table (``system.policy``) is set before a value inside it (``system.policy.max_batch``).

    Raises:
        ConfigError: the sweep table cannot be used, or a combination is no scenario.
        SimqueueError: whatever else is wrong with a combination, its label before the message.
    """
    try:
        axes = _axes(table.get("sweep"))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    x = _x_axis(axes)
    hidden = frozenset({"rate"} if LOAD in axes else ())
    names = labels.names(list(axes))
    points = [_points(key, values, names[key], hidden) for key, values in axes.items()]
    cells = tuple(_cell(table, path, combination, x) for combination in itertools.product(*points))
    return Plan(table, path, tuple(axes), "rate" if x in (LOAD, RATE, None) else str(x), cells)


def _axes(sweep: Any) -> dict[str, list[Any]]:
    if not sweep:
        raise ConfigError("has no [sweep] table with keys: add one, for example load = [0.2, 0.5, 0.8]")
    if not isinstance(sweep, Mapping):
        raise ConfigError(f"sweep = {shown(sweep)} is not a table: write [sweep] and keys below it")
    axes = dict(labels.flat(sweep))
    for key, values in axes.items():
        _check_axis(key, values)
    if LOAD in axes and RATE in axes:
        raise ConfigError(f'sweep: both {LOAD} and "{RATE}" set the rate: keep one of them')
    return axes


def _check_axis(key: str, values: Any) -> None:
    if not isinstance(values, list):
        raise ConfigError(f'sweep: "{key}" = {shown(values)} is not a list: write [{shown(values)}]')
    if not values:
        raise ConfigError(f'sweep: "{key}" = [] leaves nothing to run: give at least one value, or remove the key')
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise ConfigError(f'sweep: "{key}" has {shown(twice)} twice: remove one')
    if key == LOAD:
        _check_loads(values)
    elif key.partition(".")[0] not in _PARTS or "." not in key:
        raise unknown("sweep", "key", key, (LOAD, "system.policy", "system.policy.max_batch", RATE))


def _check_loads(values: list[Any]) -> None:
    for value in values:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and value > 0):
            raise ConfigError(
                f"sweep: load = {shown(value)} is no fraction of the saturation throughput: give positive numbers, "
                "below 1 for a steady state"
            )


def _x_axis(axes: Mapping[str, list[Any]]) -> str | None:
    """The key whose values a figure's x axis shows."""
    numbers = [key for key, values in axes.items() if key.partition(".")[0] != "run" and all(map(_is_number, values))]
    return next((key for key in (LOAD, RATE, USERS) if key in axes), numbers[0] if numbers else None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _points(key: str, values: list[Any], name: str, hidden: frozenset[str]) -> list[_Point]:
    words = labels.words(values, hidden)
    column = values if all(map(_is_number, values)) else words
    # A single value tells no cell from another.
    told = len(values) > 1
    entries = [labels.entry(name, value, word) * told for value, word in zip(values, words, strict=True)]
    return [_Point(key, *point) for point in zip(values, entries, column, strict=True)]


def _cell(table: Mapping[str, Any], path: Path, points: Sequence[_Point], x: str | None) -> Cell:
    own = {key: value for key, value in table.items() if key != "sweep"}
    label = ", ".join(point.entry for point in points if point.entry) or _policy(own, x)
    chosen = {point.key: point.value for point in points}
    load = chosen.pop(LOAD, None)
    try:
        for key in sorted(chosen, key=lambda key: key.count(".")):
            own = _with(own, key, chosen[key], path)
        if RATE in chosen:
            _refuse_users(own["workload"]["arrivals"].get("kind"), RATE, path)
        scenario = scenario_from(own, path)
        if scenario.cluster is not None:
            raise ConfigError(f"{path}: [cluster] is for `simqueue simulate` and Python: leave it out of a sweep")
        if load is not None:
            _refuse_users(own["workload"].get("arrivals", {}).get("kind"), LOAD, path)
    except SimqueueError as error:
        raise type(error)(f"{error} (in the sweep's cell {label})") from None
    series = ", ".join(point.entry for point in points if point.entry and point.key != x) or _policy(own, x)
    values = {point.key: point.column for point in points if point.key != LOAD}
    return Cell(label, series, values, scenario, load, _capacity(own))


def _refuse_users(kind: Any, key: str, path: Path) -> None:
    """Nobody can set the rate of users who wait for their answers."""
    if kind == "users":
        raise ConfigError(
            f'{path}: sweep: "{key}" sets a rate, but users send as fast as they are answered: sweep over "{USERS}"'
        )


def _policy(table: Mapping[str, Any], x: str | None) -> str:
    """The policy, if no swept key tells one cell from another, without the knob that the x axis shows."""
    hidden = frozenset({x.rpartition(".")[2]} if x and x.startswith("system.policy.") else ())
    return labels.shown(table["system"]["policy"], hidden)


def _with(table: Mapping[str, Any], key: str, value: Any, path: Path) -> dict[str, Any]:
    """The table with a dotted key set, the given one untouched."""
    changed = deepcopy(dict(table))
    *above, last = key.split(".")
    inner = changed
    for depth, part in enumerate(above):
        inner = inner.setdefault(part, {})
        if not isinstance(inner, dict):
            place = ".".join(above[: depth + 1])
            raise ConfigError(f'{path}: {place} = {shown(inner)} is not a table: sweep "{key}" cannot be set')
    inner[last] = deepcopy(value)
    return changed


def _capacity(table: Mapping[str, Any]) -> str:
    """Saturation depends on the system and on the lengths, in their order, and not on when requests come: but in a
    trace lengths come with arrivals, and in sessions they add up."""
    workload = dict(table["workload"])
    if workload.get("arrivals", {}).get("kind") not in ("trace", "sessions"):
        workload.pop("arrivals", None)
    return json.dumps([workload, table["system"], table.get("run", {}).get("seed")], sort_keys=True)
