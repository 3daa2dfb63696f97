"""Every combination of a ``[sweep]`` table, named and checked before anything runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
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
    """

    label: str
    series: str
    values: Mapping[str, Any]
    scenario: Scenario
    load: float | None


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
    """One value of one swept key, the how manieth it is, and what it is in a label and in a column."""

    key: str
    number: int
    value: Any
    entry: str
    column: Any


Known = dict[tuple[int, ...], tuple[dict[str, Any], Scenario]]


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
    own, known = {key: value for key, value in table.items() if key != "sweep"}, Known()
    cells = tuple(_cell(own, path, combination, x, known) for combination in itertools.product(*points))
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
    twice = _twice(values)
    if twice is not None:
        raise ConfigError(f'sweep: "{key}" has {shown(twice)} twice: remove one')
    if key == LOAD:
        _check_loads(values)
    elif key.partition(".")[0] not in _PARTS or "." not in key:
        raise unknown("sweep", "key", key, (LOAD, "system.policy", "system.policy.max_batch", RATE))


def _twice(values: list[Any]) -> Any | None:
    """The first that has been there before; tables can only be looked for one by one."""
    numbers: set[Any] = set()
    tables: list[Any] = []
    for value in values:
        if value in (numbers if isinstance(value, Hashable) else tables):
            return value
        numbers.add(value) if isinstance(value, Hashable) else tables.append(value)
    return None


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
    return [_Point(key, n, *point) for n, point in enumerate(zip(values, entries, column, strict=True))]


def _cell(table: dict[str, Any], path: Path, points: Sequence[_Point], x: str | None, known: Known) -> Cell:
    label = ", ".join(point.entry for point in points if point.entry) or _policy(table, x)
    load = next((point.value for point in points if point.key == LOAD), None)
    others = [point for point in points if point.key != LOAD]
    numbers = tuple(point.number for point in others)
    try:
        if numbers not in known:
            known[numbers] = _scenario(table, path, {point.key: point.value for point in others})
        own, scenario = known[numbers]
        if load is not None:
            _refuse_users(own["workload"].get("arrivals", {}).get("kind"), LOAD, path)
    except SimqueueError as error:
        raise type(error)(f"{error} (in the sweep's cell {label})") from None
    series = ", ".join(point.entry for point in points if point.entry and point.key != x) or _policy(own, x)
    return Cell(label, series, {point.key: point.column for point in others}, scenario, load)


def _scenario(table: dict[str, Any], path: Path, chosen: Mapping[str, Any]) -> tuple[dict[str, Any], Scenario]:
    """The tables with these values in their places, and what they describe; it is the same at every load."""
    own = table
    for key in sorted(chosen, key=lambda key: key.count(".")):
        own = _with(own, key, chosen[key], path)
    if RATE in chosen:
        _refuse_users(own["workload"]["arrivals"].get("kind"), RATE, path)
    scenario = scenario_from(own, path)
    if scenario.cluster is not None:
        raise ConfigError(f"{path}: [cluster] is for `simqueue simulate` and Python: leave it out of a sweep")
    return own, scenario


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
    """The table with a dotted key set; the given one stays as it is, and all that is not on the way is shared."""
    changed = dict(table)
    *above, last = key.split(".")
    inner = changed
    for depth, part in enumerate(above):
        below = inner.get(part, {})
        if not isinstance(below, Mapping):
            place = ".".join(above[: depth + 1])
            raise ConfigError(f'{path}: {place} = {shown(below)} is not a table: sweep "{key}" cannot be set')
        inner[part] = dict(below)
        inner = inner[part]
    inner[last] = value
    return changed
