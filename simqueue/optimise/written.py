"""A `Space` as it is written: the ``[optimise]`` table of a scenario."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from simqueue.errors import ConfigError
from simqueue.optimise.space import LOAD, RATE, Choice, Number, Option, Range, Space
from simqueue.sweep import labels
from simqueue.tables import shown, unknown

_PARTS = ("workload", "system", "cluster")
_EXAMPLE = '"system.policy.max_seqs" = "8..128"'
_RANGE = re.compile(r"\s*(?P<low>[^\s.][^\s]*?)\s*\.\.\s*(?P<high>[^\s.][^\s]*)\s*")


def space_of(table: Any) -> Space:
    """The space of an ``[optimise]`` table, None if there is none.

    Raises:
        ConfigError: in one line, what is wrong, where, and what would do.
    """
    if table is not None and not isinstance(table, Mapping):
        raise ConfigError(f"optimise = {shown(table)} is not a table: write [optimise] and keys below it")
    space = Space({key: _dimension(key, value) for key, value in labels.flat(table or {})})
    _refuse_nothing(space)
    return space


def _refuse_nothing(space: Space) -> None:
    if not space.dimensions:
        raise ConfigError(f"nothing may be chosen: give --vary or an [optimise] table, with keys such as {_EXAMPLE}")
    if {RATE, LOAD} <= space.dimensions.keys():
        raise ConfigError(f"optimise: both {RATE} and {LOAD} set the rate: keep one of them")
    if space.size == 1:
        [key, *_] = space.dimensions
        raise ConfigError(f'optimise: "{key}" and all else have one value each: give a range or several values')


def _dimension(key: str, value: Any) -> Range | Choice:
    where = f'optimise: "{key}"'
    if key not in (RATE, LOAD) and (key.partition(".")[0] not in _PARTS or "." not in key):
        raise unknown("optimise", "key", key, (RATE, LOAD, "system.policy.max_seqs", "cluster.replicas"))
    if isinstance(value, str):
        found = _range(value, where)
        if key in (RATE, LOAD) and found.low <= 0:
            raise ConfigError(f"{where} = {value!r}: {key} must be more than 0: give a higher lower end")
        return found
    if not isinstance(value, list):
        raise ConfigError(f'{where} = {shown(value)} is neither a range nor a list: write "1..64", or [1, 8, 64]')
    if not value:
        raise ConfigError(f"{where} = [] leaves nothing to choose: give at least one value, or remove the key")
    if key in (RATE, LOAD):
        raise ConfigError(f'{where} = {shown(value)} is no range: write "0.1..0.95"')
    twice = next((one for i, one in enumerate(value) if one in value[:i]), None)
    if twice is not None:
        raise ConfigError(f"{where} has {shown(twice)} twice: remove one")
    return _choice(value, where)


def _choice(values: list[Any], where: str) -> Choice:
    split = [_split(value, where) for value in values]
    names = _names([value for value, _ in split])
    return Choice(tuple(Option(name, *one) for name, one in zip(names, split, strict=True)))


def _names(values: list[Any]) -> list[Any]:
    """Numbers by themselves, tables by their kind if that tells them apart, all else in a few letters."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return values
    kinds = [str(value.get("kind")) for value in values if isinstance(value, Mapping)]
    return kinds if len(set(kinds)) == len(values) else labels.words(values)


def _split(value: Any, where: str) -> tuple[Any, dict[str, Range]]:
    """A table without its ranges, and these by their place."""
    if not isinstance(value, Mapping):
        return value, {}
    plain: dict[str, Any] = {}
    ranges: dict[str, Range] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            plain[key], below = _split(inner, f"{where}.{key}")
            ranges |= {f"{key}.{place}": found for place, found in below.items()}
        elif isinstance(inner, str) and _RANGE.fullmatch(inner) and inner.strip()[0] in "+-0123456789":
            ranges[key] = _range(inner, f"{where}: {key}")
        else:
            plain[key] = inner
    return plain, ranges


def _range(text: str, where: str) -> Range:
    """``LOW..HIGH``."""
    match = _RANGE.fullmatch(text)
    if match is None:
        raise ConfigError(f'{where} = {shown(text)} is no range: write "LOW..HIGH", such as "8..128"')
    low, high = (_number(match[end], text, where) for end in ("low", "high"))
    if high < low:
        raise ConfigError(f"{where} = {shown(text)}: {low:g} is not below {high:g}: give the lower end first")
    return Range(low, high)


def _number(text: str, of: str, where: str) -> Number:
    try:
        number = int(text) if re.fullmatch(r"[-+]?\d+", text) else float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{where} = {shown(of)}: {text!r} is no number: write LOW..HIGH, such as 8..128")
    return number
