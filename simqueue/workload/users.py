"""Closed-loop users: who waits for an answer, thinks, and asks again."""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simqueue.workload.checks import MAX_CV, require_positive, require_whole, require_within
from simqueue.workload.streams import Streams

_LONGEST_S = 1e12


class _Think(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """Independent think times of one distribution, in seconds."""

    @property
    def _name(self) -> str:
        return f"{self.__struct_config__.tag} times"

    def draw(self, count: int, rng: Generator) -> NDArray[np.float64]:
        """``count`` think times."""
        raise NotImplementedError

    def rest(self, count: int, rng: Generator) -> NDArray[np.float64]:
        """What is left of ``count`` thinks that are under way at one instant: a uniform share of one that was met in
        proportion to its length. Source: Cox, Renewal Theory (1962), section 5.4."""
        return rng.random(count) * self._met(count, rng)

    def _met(self, count: int, rng: Generator) -> NDArray[np.float64]:
        raise NotImplementedError


class FixedThink(_Think, frozen=True, tag="fixed"):
    """Always ``value`` seconds, which may be 0."""

    value: float

    def __post_init__(self) -> None:
        require_within(self._name, "value", self.value, 0, _LONGEST_S, "give seconds")

    @property
    def mean(self) -> float:
        """Mean in seconds."""
        return self.value

    def draw(self, count: int, rng: Generator) -> NDArray[np.float64]:
        return np.full(count, float(self.value))

    _met = draw


class ExponentialThink(_Think, frozen=True, tag="exponential"):
    """Exponential with this ``mean`` in seconds."""

    mean: float

    def __post_init__(self) -> None:
        require_positive(self._name, "mean", self.mean, "give seconds, or think_s = 0")

    def draw(self, count: int, rng: Generator) -> NDArray[np.float64]:
        return rng.standard_exponential(count) * self.mean

    def _met(self, count: int, rng: Generator) -> NDArray[np.float64]:
        return rng.standard_gamma(2.0, count) * self.mean


class LognormalThink(_Think, frozen=True, tag="lognormal"):
    """Lognormal with this ``mean`` in seconds and coefficient of variation ``cv``.

    The log has variance ``log(1 + cv**2)`` and mean ``log(mean)`` less half of that.
    """

    mean: float
    cv: float

    def __post_init__(self) -> None:
        require_positive(self._name, "mean", self.mean, "give seconds, or think_s = 0")
        require_within(self._name, "cv", self.cv, 0, MAX_CV, "give the standard deviation over the mean")

    def draw(self, count: int, rng: Generator) -> NDArray[np.float64]:
        variance = math.log1p(self.cv**2)
        return rng.lognormal(math.log(self.mean) - variance / 2, math.sqrt(variance), count)

    def _met(self, count: int, rng: Generator) -> NDArray[np.float64]:
        variance = math.log1p(self.cv**2)
        return rng.lognormal(math.log(self.mean) + variance / 2, math.sqrt(variance), count)


Think = FixedThink | ExponentialThink | LognormalThink


def require_think(what: str, key: str, seconds: float | Think) -> None:
    """Refuse everything but seconds, 0 or more, or a distribution of such."""
    if not isinstance(seconds, _Think):
        require_within(what, key, seconds, 0, _LONGEST_S, "give seconds")


def think_of(seconds: float | Think) -> Think:
    """A distribution as it is; of a number, that which is always so many seconds."""
    return seconds if isinstance(seconds, _Think) else FixedThink(seconds)


class Users(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="kind", tag="users"):
    """``users`` people: each thinks, sends a request, waits for the whole answer, thinks again, and so on, until the
    requests of the workload have been sent.

    Everybody begins to think at 0, so that the first requests come one think time later (with think time 0, all
    users at once). ``think_s`` is a number of seconds or a distribution.

    When requests come depends on when answers do, hence on the system: only a run finds it out. The i-th request to
    come has the lengths of row i; the k-th think to begin, of whichever user, is row k of the column ``think_s`` (fewer
    than ``users`` thinks begin after the last row's and before the last request: they take the first rows again).
    """

    users: int
    think_s: float | Think = 0.0

    def __post_init__(self) -> None:
        require_whole("users arrivals", "users", self.users, "give how many there are")
        require_think("users arrivals", "think_s", self.think_s)

    @property
    def think(self) -> Think:
        """The distribution of the think times."""
        return think_of(self.think_s)

    @property
    def mean_rate(self) -> None:
        """Known only when the system is: see `Workload.rate`."""
        return None

    def times(self, requests: int, streams: Streams) -> NDArray[np.float64]:
        """Zeros, until a run has found out."""
        return np.zeros(requests)

    def thinks(self, requests: int, streams: Streams) -> NDArray[np.float64]:
        """As many think times in seconds as there are requests, in the order in which they begin."""
        return self.think.draw(requests, streams.thinks)
