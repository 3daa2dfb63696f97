"""What a router is, and what it may see of a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from simqueue.checks import seconds
from simqueue.errors import ConfigError

_BLOCK = 1 << 12

Counts = Literal["tokens", "kv_use"] | None


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
        """The prompt tokens of these, and the output tokens that are expected of them (`expected_tokens`); all 0 for a
        router that does not count them (`Router.counts`)."""

    @property
    def kv_use(self) -> Sequence[float]:
        """The share of the blocks of key/value cache that was in use when somebody last came to the queue, got a seat
        or lost it; all 0 for a router that does not count them."""

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
    def counts(self) -> Counts:
        """Which of the lists that cost time to know it looks at."""

    @property
    def signal_age_s(self) -> float:
        """See above."""

    def chooser(self, asked: Asked) -> Chooser:
        """A fresh chooser. Raises ConfigError where the workload lacks a column that it needs."""


class Least:
    """Looks for the least of a signal; between equal ones it goes on where it was, in turn, so that nobody is favoured.

    Args:
        signal: which of a view's lists.
    """

    def __init__(self, signal: str) -> None:
        self._signal = signal
        self._last = -1

    def choose(self, request: int, view: View) -> int:
        """The least of all that are ready."""
        values: Sequence[float] = getattr(view, self._signal)
        if len(view.ready) < len(values):
            return self.among(view.ready, view)
        least = min(values)
        replica = values.index(least)
        if replica <= self._last and least in (after := values[self._last + 1 :]):
            replica = self._last + 1 + after.index(least)
        self._last = replica
        return replica

    def among(self, replicas: Sequence[int], view: View) -> int:
        """The least of some of them, which are in ascending order."""
        values: Sequence[float] = getattr(view, self._signal)
        least = min([values[replica] for replica in replicas])
        equal = [replica for replica in replicas if values[replica] == least]
        self._last = replica = next((replica for replica in equal if replica > self._last), equal[0])
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
