"""`Parameter`: one number of a scenario, and the range in which it is varied."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from simqueue.errors import ConfigError

Value = int | float
RATE = "rate"
_RANGE = re.compile(r"(?P<key>[^=]+)=(?P<low>[^=]+?)\.\.(?P<high>[^=]+)")


@dataclass(frozen=True)
class Parameter:
    """What varies.

    Attributes:
        keys: of the scenario, all set alike; ``("rate",)``: the rate that its arrivals are brought to.
        low, high: the range, both included; whole numbers if both are.
        source: where the range is from, in words.
        times: where this is not empty, the key is set to this list times the value.
    """

    keys: tuple[str, ...]
    low: Value
    high: Value
    source: str
    times: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """What it is called: its first key."""
        return self.keys[0]

    def at(self, share: float) -> Value:
        """The value at this share of the range, 0 to 1: whole numbers have equal parts of it."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return min(self.high, self.low + math.floor(share * (self.high - self.low + 1)))
        return self.low + share * (self.high - self.low)

    def overrides(self, value: Value) -> list[str]:
        """``key=value`` as `simqueue.config.load` takes it; none for the rate."""
        if self.name == RATE:
            return []
        told = repr([one * value for one in self.times]) if self.times else repr(value)
        return [f"{key}={told}" for key in self.keys]


def given(vary: str) -> Parameter:
    """``KEY=LOW..HIGH``, as it is written. Raises ConfigError."""
    match = _RANGE.fullmatch(vary)
    if match is None:
        raise ConfigError(f"--vary {vary!r} is no range of a number: write KEY=LOW..HIGH, such as rate=80..120")
    low, high = (_number(match[end], vary) for end in ("low", "high"))
    if not low < high:
        raise ConfigError(f"--vary {vary!r}: {low:g} is not below {high:g}: give the lower end first")
    key = match["key"].strip()
    if key == RATE or isinstance(low, int) != isinstance(high, int):
        low, high = float(low), float(high)
    return Parameter((key,), low, high, "given")


def _number(text: str, vary: str) -> Value:
    try:
        value: Value = int(text) if re.fullmatch(r"\s*[-+]?\d+\s*", text) else float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"--vary {vary!r}: {text.strip()!r} is no number: write KEY=0.5..2")
    return value
