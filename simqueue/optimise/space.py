"""`Space`: which settings of a scenario may be chosen, and which values each may have."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from simqueue.errors import ConfigError
from simqueue.tables import shown

Number = int | float
RATE, LOAD = "rate", "load"
# A range that spans more than this is looked through in ratios, as `simqueue capacity` does it.
_WIDE = 10.0
# Nobody sets a number finer than that.
_DIGITS = 4


class Draw(Protocol):
    """Whoever chooses values: a sampler, or a rule."""

    def number(self, name: str, of: Range) -> Number:
        """One of a range."""

    def word(self, name: str, words: Sequence[str]) -> str:
        """One of several words."""


class Setting(NamedTuple):
    """A key of the scenario, its value, and what the value is called."""

    key: str
    value: Any
    name: Any


@dataclass(frozen=True)
class Point:
    """One choice of everything that may be chosen.

    Attributes:
        settings: in the order in which they are set: a whole table before what is inside it.
    """

    settings: tuple[Setting, ...]

    @cached_property
    def named(self) -> dict[str, Any]:
        """What each setting is called."""
        return {setting.key: setting.name for setting in self.settings}

    @cached_property
    def key(self) -> str:
        """The same for points that are the same."""
        return json.dumps(self.named, sort_keys=True)

    def of(self, key: str) -> float | None:
        """The value of ``rate`` or ``load``; None if that is not chosen."""
        return next((float(setting.value) for setting in self.settings if setting.key == key), None)

    def put(self, table: Mapping[str, Any]) -> dict[str, Any]:
        """The tables of a scenario with these settings, all but rate and load; the given ones untouched."""
        changed = deepcopy(dict(table))
        for setting in self.settings:
            if setting.key not in (RATE, LOAD):
                _put(changed, setting.key, deepcopy(setting.value))
        return changed


@dataclass(frozen=True)
class Range:
    """All numbers from ``low`` to ``high``, both included; whole ones only if both are whole."""

    low: Number
    high: Number

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are in it."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def log(self) -> bool:
        """Whether ratios are what counts in it."""
        return self.low > 0 and self.high > _WIDE * self.low

    @property
    def size(self) -> float:
        """How many numbers."""
        return self.high - self.low + 1 if self.whole else math.inf

    def drawn(self, key: str, draw: Draw, name: str) -> list[Setting]:
        """The one that is drawn."""
        number = draw.number(name, self)
        if not self.whole:
            number = min(max(float(f"{number:.{_DIGITS}g}"), self.low), self.high)
        return [Setting(key, number, number)]

    def each(self, key: str) -> Iterator[list[Setting]]:
        """Every one of so many whole numbers."""
        for number in range(int(self.low), int(self.high) + 1):
            yield [Setting(key, number, number)]


@dataclass(frozen=True)
class Option:
    """One of several values; a table may have ranges in it, by their dotted place, which count only if it is chosen."""

    name: Any
    value: Any
    inner: Mapping[str, Range]

    @property
    def size(self) -> float:
        """How many values it stands for."""
        return math.prod(inner.size for inner in self.inner.values())


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    options: tuple[Option, ...]

    @property
    def size(self) -> float:
        """How many values there are in all."""
        return sum(option.size for option in self.options)

    def drawn(self, key: str, draw: Draw, name: str) -> list[Setting]:
        """The option that is drawn, and what is drawn in its ranges."""
        words = [str(option.name) for option in self.options]
        option = self.options[words.index(draw.word(name, words))] if words[1:] else self.options[0]
        settings = [Setting(key, option.value, option.name)]
        for place, inner in option.inner.items():
            settings += inner.drawn(f"{key}.{place}", draw, f"{name}[{option.name}].{place}")
        return settings

    def each(self, key: str) -> Iterator[list[Setting]]:
        """Every value, where all ranges are of whole numbers."""
        for option in self.options:
            inner = [list(each.each(f"{key}.{place}")) for place, each in option.inner.items()]
            for chosen in itertools.product(*inner):
                yield [Setting(key, option.value, option.name), *itertools.chain(*chosen)]


@dataclass(frozen=True)
class Space:
    """All that may be chosen, by dotted key of the scenario, or `RATE` or `LOAD`."""

    dimensions: Mapping[str, Range | Choice]

    @property
    def size(self) -> float:
        """How many points there are; infinite where a number need not be whole."""
        return math.prod(dimension.size for dimension in self.dimensions.values())

    def point(self, draw: Draw) -> Point:
        """The point that is drawn."""
        drawn = (dimension.drawn(key, draw, key) for key, dimension in self.dimensions.items())
        return _point(itertools.chain(*drawn))

    def each(self) -> Iterator[Point]:
        """Every point of a finite space, the last key changing fastest."""
        for chosen in itertools.product(*(dimension.each(key) for key, dimension in self.dimensions.items())):
            yield _point(itertools.chain(*chosen))

    def corners(self) -> Iterator[list[Point]]:
        """For each option two points: all ranges at their lower and at their upper ends, and of all other choices the
        first; without choices, these two."""
        choices = {key: each for key, each in self.dimensions.items() if isinstance(each, Choice)}
        words = {key: str(option.name) for key, each in choices.items() for option in each.options[:1]}
        told = [words] + [
            {**words, key: str(option.name)} for key, each in choices.items() for option in each.options[1:]
        ]
        for chosen in told:
            yield [self.point(_Corner(end, chosen)) for end in (lambda of: of.low, lambda of: of.high)]


class _Corner(NamedTuple):
    """Draws one end of every range, and the words that are given by key."""

    end: Callable[[Range], Number]
    words: Mapping[str, str]

    def number(self, name: str, of: Range) -> Number:
        return self.end(of)

    def word(self, name: str, words: Sequence[str]) -> str:
        return self.words[name]


def _point(settings: Iterable[Setting]) -> Point:
    return Point(tuple(sorted(settings, key=lambda setting: setting.key.count("."))))


def _put(table: dict[str, Any], key: str, value: Any) -> None:
    *above, last = key.split(".")
    for depth, part in enumerate(above, 1):
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            place = ".".join(above[:depth])
            raise ConfigError(f'{place} = {shown(table)} is not a table: "{key}" cannot be set')
    table[last] = value
