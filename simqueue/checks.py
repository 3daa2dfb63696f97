"""Checks of values that come from outside, each naming the place, the value and the remedy."""

from __future__ import annotations

import math
from collections.abc import Sequence

from simqueue.errors import ConfigError


def at_least(where: str, key: str, value: int, least: int) -> None:
    """Refuse an integer below ``least``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{where}: {key} = {value!r} is not a whole number")
    if value < least:
        raise ConfigError(f"{where}: {key} = {value} must be at least {least}")


def within(where: str, key: str, value: int, least: int, most: int) -> None:
    """Refuse an integer below ``least`` or above ``most``."""
    at_least(where, key, value, least)
    if value > most:
        raise ConfigError(f"{where}: {key} = {value} must be at most {most}")


def seconds(where: str, key: str, value: float, *, infinite: bool = False) -> None:
    """Refuse a duration that is negative, NaN, or infinite where that means nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{where}: {key} = {value!r} is not a number of seconds")
    if math.isnan(value) or value < 0 or (math.isinf(value) and not infinite):
        raise ConfigError(f"{where}: {key} = {value} must be a finite number of seconds, 0 or more")


def positive(where: str, key: str, value: float) -> None:
    """Refuse a number that is not positive and finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{where}: {key} = {value!r} is not a number")
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{where}: {key} = {value} must be a positive, finite number")


def one_of(where: str, key: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse a word that is not in ``allowed``."""
    if value not in allowed:
        raise ConfigError(f"{where}: {key} = {value!r} is not one of {', '.join(allowed)}")
