"""What a router is, and what it may see of a cluster."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from simqueue.checks import seconds
from simqueue.errors import ConfigError

_BLOCK = 1 << 12


class View(Protocol):
    """What a router may read of a cluster. The lists are by replica; ``ready`` is always up to date, the others are as
    old as the router's signals are."""

    @property
    def ready(self) -> Sequence[int]:
        """The replicas that take requests, in ascending order; at least one."""

    @property
    def outstanding(self) -> Sequence[int]:
        """Requests that were sent there and whose last token has not left."""

    @property
    def tokens(self) -> Sequence[int]:
        """The prompt tokens of these, and the output tokens that are expected of them (`expected_tokens`)."""

    @property
    def queue(self) -> Sequence[int]:
        """Requests on their way to its queue and in it, and seats taken: a row that is held takes one."""


class Asked(NamedTuple):
    """What a router is given to start with.

    Attributes:
        replicas: how many there are, those included that are not ready.
        columns: by name, one value a request in order of id; not the lengths of the outputs.
        rng: all its draws.
    """

    replicas: int
    columns: Mapping[str, NDArray[Any]]
    rng: np.random.Generator


class Chooser(Protocol):
    """A router at work on one run; deterministic but for its draws, and all that the router remembers."""

    def choose(self, request: int, view: View) -> int:
        """One of ``view.ready`` for a request that has arrived. Called once for each time a request is sent."""


class Router(Protocol):
    """A frozen ``msgspec.Struct`` of knobs that makes fresh choosers.

    ``signal_age_s``: the router sees lists that are brought up to date at 0, ``signal_age_s``, ``2 signal_age_s``, ...
    seconds and at no other time; 0 means always. (The periodic update of Mitzenmacher (2000), "How useful is old
    information?", IEEE Transactions on Parallel and Distributed Systems 11: a bulletin board, on which what the router
    itself has sent since is not written either.)
    """

    @property
    def blind(self) -> bool:
        """Whether it looks at ``ready`` alone, so that the arrivals of each replica are known beforehand."""

    @property
    def signal_age_s(self) -> float:
        """See above."""

    def chooser(self, asked: Asked) -> Chooser:
        """A fresh chooser. Raises ConfigError where the workload lacks a column that it needs."""


class Least:
    """Looks for the least value; between equal ones it goes on where it was, in turn, so that nobody is favoured."""

    def __init__(self) -> None:
        self._last = -1

    def of(self, values: Sequence[int], ready: Sequence[int]) -> int:
        """The replica among ``ready`` that has the least of ``values``, which are by replica."""
        seen = values if len(ready) == len(values) else [values[replica] for replica in ready]
        least = min(seen)
        try:
            at = seen.index(least, bisect_right(ready, self._last))
        except ValueError:
            at = seen.index(least)
        self._last = replica = ready[at]
        return replica


def uniforms(rng: np.random.Generator) -> Iterator[float]:
    """Uniform draws from [0, 1), without end."""
    while True:
        yield from rng.random(_BLOCK).tolist()


def expected_tokens(columns: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """int64 ``(requests,)``: prompt tokens, and output tokens as far as anybody can know before they are there: the
    predicted ones where the workload has predictions, else the most that the request asks for, else none."""
    prompt = columns["prompt_tokens"]
    for name in ("predicted_output_tokens", "max_output_tokens"):
        if name in columns:
            return np.asarray(prompt + columns[name], np.int64)
    return np.asarray(prompt, np.int64)


def column_of(asked: Asked, where: str, name: str) -> NDArray[Any]:
    """The workload's column of that name. Raises ConfigError if there is none."""
    if name not in asked.columns:
        there = ", ".join(asked.columns)
        raise ConfigError(f"{where}: the workload has no column {name!r}, only {there}: use another router or trace")
    return asked.columns[name]


def check_age(where: str, router: Router) -> None:
    """Refuse an age that is none. Raises ConfigError."""
    seconds(where, "signal_age_s", router.signal_age_s)
