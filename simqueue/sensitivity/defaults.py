"""Which parameters a scenario has, and ranges for them that its own values suggest."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from simqueue.analysis.server import at_rate, run
from simqueue.capacity.trial import Case
from simqueue.config import Scenario
from simqueue.cost.linear import Affine
from simqueue.errors import ConfigError, SimqueueError
from simqueue.provenance import described
from simqueue.sensitivity.calibration import coefficients, keyed_systems
from simqueue.sensitivity.parameter import RATE, Parameter, Value
from simqueue.workload import MMPP, Poisson, Users

WIDTH = 0.1
HIGHEST_LOAD = 0.95
_HALVINGS = 4
CV = "workload.arrivals.cv"
CALIBRATION = "calibration"
# The rate is a parameter of its own, and limits of lengths are no property of traffic.
_LEFT_OUT = ("rate", "min", "max")
# Of a smaller whole number the next one is no small change.
_FEW = 4
# Enough, all at once, to fill every seat.
_CROWD, _AT_ONCE = 400, 1e6


class Reader(NamedTuple):
    """A scenario's file.

    Attributes:
        table: as it stands.
        load: the scenario, with these overrides.
    """

    table: Mapping[str, Any]
    load: Callable[[list[str]], Scenario]


def found(reader: Reader) -> tuple[list[Parameter], float]:
    """The parameters, and how far those that were not measured are varied, as a share of their values: 10 %, or less if
    the load would be above 0.95 where all ends that make it higher come together. A system that is hardly stable has no
    figures that a run could tell.

    Raises:
        ConfigError: it is too near to saturation for that, or beyond.
        SimqueueError: it cannot be run.
    """
    scenario = reader.load([])
    if isinstance(scenario.workload.arrivals, Users):
        return _usable(scenario, reader, WIDTH), WIDTH
    case = _case(scenario)
    load = case.workload(case.seed).rate / case.saturation_rps()
    for width in (WIDTH / 2**halvings for halvings in range(_HALVINGS + 1)):
        # Not to be looked at more closely if the rate alone is too high.
        if load * (1 + width) <= HIGHEST_LOAD:
            usable = _usable(scenario, reader, width)
            if _highest_load(usable, scenario, reader) <= HIGHEST_LOAD:
                return usable, width
    raise ConfigError(
        f"{scenario.path}: the load is {load:.3g}, too near to saturation to vary everything around it: set a lower "
        "rate, or give ranges that stay below saturation, such as --vary rate=LOW..HIGH"
    )


def _usable(scenario: Scenario, reader: Reader, width: float) -> list[Parameter]:
    """Those of which both ends can be run; of an end that cannot, the value itself is taken."""
    kept = []
    for parameter, value in _all(scenario, reader.table, width):
        low, high = (end if _can_be(parameter, end, reader) else value for end in (parameter.low, parameter.high))
        if low < high:
            kept.append(replace(parameter, low=low, high=high))
    return kept


def _all(scenario: Scenario, table: Mapping[str, Any], width: float) -> Iterator[tuple[Parameter, Value]]:
    """Every parameter, and the value that it has."""
    source, arrivals = f"± {100 * width:.3g} %", scenario.workload.arrivals
    if not isinstance(arrivals, Users):
        rate = _case(scenario).workload(scenario.run.seed).rate
        yield Parameter((RATE,), rate * (1 - width), rate * (1 + width), source), rate
    if isinstance(arrivals, Poisson):
        yield Parameter((CV,), 1 - width, 1 + width, source), 1.0
    if isinstance(arrivals, MMPP):
        stays = ("workload.arrivals.mean_stay_s",)
        yield Parameter(stays, 1 - width, 1 + width, source, arrivals.mean_stay_s), 1.0
    for key, value in _numbers(scenario, table):
        if isinstance(value, int) and value < _FEW:
            continue
        yield Parameter((key,), *_around(value, width), source), value
    for one in coefficients(scenario):
        if one.half_width:
            yield Parameter(one.keys, *one.ends, CALIBRATION), one.value


def _around(value: Value, width: float) -> tuple[Value, Value]:
    """Whole numbers by one at least."""
    if isinstance(value, int):
        return max(1, math.floor(value * (1 - width))), math.ceil(value * (1 + width))
    return value * (1 - width), value * (1 + width)


def _numbers(scenario: Scenario, table: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    """Every positive number of arrivals, lengths, policy, cost and overheads, with its key."""
    spec = scenario.workload
    names = ("arrivals", "prompt_tokens", "output_tokens")
    parts = {f"workload.{name}": getattr(spec, name) for name in names if getattr(spec, name) is not None}
    for place, system in keyed_systems(scenario).items():
        parts[f"{place}.policy"] = system.policy
        if isinstance(system.cost, Affine):
            parts[f"{place}.cost"] = system.cost
    for place, part in parts.items():
        yield from _leaves(place, described(part))
    # What a profile's serving run found is not there as numbers, and has no error that is known.
    for place in keyed_systems(scenario):
        overheads = _below(table, place).get("overheads")
        if isinstance(overheads, Mapping):
            yield from _leaves(f"{place}.overheads", overheads)


def _below(table: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    for key in place.split("."):
        table = table.get(key, {})
    return table


def _leaves(place: str, table: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(f"{place}.{key}", value)
        elif isinstance(value, int | float) and not isinstance(value, bool) and key not in _LEFT_OUT and value > 0:
            yield f"{place}.{key}", value


def _can_be(parameter: Parameter, value: Value, reader: Reader) -> bool:
    """Whether a scenario has such a value, and its system can be run with it when it is full."""
    if parameter.name == RATE:
        return True
    try:
        scenario = reader.load(settings(reader.load([]), parameter, value))
        case = _case(scenario)
        crowd = case.workload(case.seed, _CROWD if case.any_length else None)
        if not crowd.closed_loop:
            crowd = at_rate(case.server, crowd.head(min(len(crowd), _CROWD)), _AT_ONCE)
        run(case.server, crowd, seed=case.seed, warmup=0)
    except SimqueueError:
        return False
    return True


def _highest_load(parameters: list[Parameter], scenario: Scenario, reader: Reader) -> float:
    """Rate over saturation throughput where every parameter is at the end at which that is lower."""
    worst: list[str] = []
    rate = _case(scenario).workload(scenario.run.seed).rate
    for parameter in parameters:
        if parameter.name == RATE:
            rate = float(parameter.high)
            continue
        ends = [settings(scenario, parameter, end) for end in (parameter.low, parameter.high)]
        capacity = [_case(reader.load(end)).saturation_rps() for end in ends]
        worst += ends[0] if capacity[0] < capacity[1] else ends[1]
    return rate / _case(reader.load(worst)).saturation_rps()


def settings(scenario: Scenario, parameter: Parameter, value: Value) -> list[str]:
    """The overrides that give a parameter this value. Poisson arrivals are those with gamma gaps of cv 1."""
    arrivals = scenario.workload.arrivals
    if parameter.name == CV and isinstance(arrivals, Poisson):
        return [f'workload.arrivals={{kind="gamma", rate={arrivals.rate!r}, cv={value!r}}}']
    return parameter.overrides(value)


def _case(scenario: Scenario) -> Case:
    return Case(scenario.workload, scenario.cluster or scenario.system, scenario.path.parent, scenario.run.seed)
