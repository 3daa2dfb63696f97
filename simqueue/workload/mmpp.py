"""The Markov-modulated Poisson process: a Poisson process whose rate follows a hidden Markov chain."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from simqueue.errors import WorkloadError
from simqueue.workload.checks import is_number, require_positive
from simqueue.workload.streams import Streams

_MOST_STAYS = 20_000_000
_FEWEST_STAYS = 256
_ROW_SUM_ERROR = 1e-6


class MMPP(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="kind", tag="mmpp"):
    """Poisson arrivals at ``rates[i]`` per second while a Markov chain is in state i.

    The chain stays in state i for an exponential time with mean ``mean_stay_s[i]`` and then jumps: to the
    next state in turn (``transitions = "cyclic"``) or by a matrix of jump probabilities (rows sum to 1, zero
    diagonal). It starts in its time-stationary distribution. A rate may be 0 (on-off arrivals), but not all
    of them.
    """

    rates: tuple[float, ...]
    mean_stay_s: tuple[float, ...]
    transitions: Literal["cyclic"] | tuple[tuple[float, ...], ...] = "cyclic"

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "rates", tuple(self.rates))
        msgspec.structs.force_setattr(self, "mean_stay_s", tuple(self.mean_stay_s))
        _check_rates(self.rates)
        _check_stays(self.mean_stay_s, len(self.rates))
        if self.transitions != "cyclic":
            matrix = _check_matrix(self.transitions, len(self.rates))
            msgspec.structs.force_setattr(self, "transitions", matrix)

    @property
    def jump_matrix(self) -> NDArray[np.float64]:
        """Jump probabilities ``(states, states)``: where a stay in the row's state leads."""
        if self.transitions == "cyclic":
            return np.roll(np.eye(len(self.rates)), 1, axis=1)
        matrix = np.array(self.transitions, np.float64)
        rows: NDArray[np.float64] = matrix / matrix.sum(axis=1, keepdims=True)
        return rows

    @property
    def stationary(self) -> NDArray[np.float64]:
        """Share of time in each state: the jump chain's stationary law times the mean stays, normalised.

        Source: semi-Markov processes, e.g. Ross, Stochastic Processes, 2nd ed., section 4.8.
        """
        time_s: NDArray[np.float64] = _stationary_jumps(self.jump_matrix) * self.mean_stay_s
        shares: NDArray[np.float64] = time_s / time_s.sum()
        return shares

    @property
    def mean_rate(self) -> float:
        """Mean requests per second: the rates weighted with the share of time in each state."""
        return float(self.stationary @ self.rates)

    def times(self, requests: int, streams: Streams) -> NDArray[np.float64]:
        """The first ``requests`` arrival times in seconds.

        A unit-rate Poisson process seen through the inverse of the cumulative intensity (time change: Cinlar,
        Introduction to Stochastic Processes, chapter 4, section 7): the chain never depends on the rates.
        """
        return _Path(self, streams).times(np.cumsum(streams.gaps.standard_exponential(requests)))

    def scaled(self, factor: float) -> MMPP:
        """The same process with every rate ``factor`` times as high, and the same stays."""
        return msgspec.structs.replace(self, rates=tuple(rate * factor for rate in self.rates))

    def rescale(self, arrival_s: NDArray[np.float64], factor: float, streams: Streams) -> NDArray[np.float64]:
        """What ``arrival_s``, drawn from this process by fresh ``streams``, would be with the rates scaled.

        The cumulative intensity at each arrival stays what it was, so any subset of the arrivals can be
        rescaled.
        """
        path = _Path(self, streams)
        return path.times(path.marks(arrival_s) / factor)


class _Path:
    """One realisation of the hidden chain, drawn as far as somebody asks.

    Piece j lasts from ``knot_s[j]`` to ``knot_s[j + 1]`` at ``rate[j]``; ``mass`` is the cumulative intensity
    at the knots. How far it is drawn at once changes no draw: stays and jumps have a stream each.
    """

    def __init__(self, process: MMPP, streams: Streams) -> None:
        self._process, self._streams = process, streams
        self._onward = [_cumulative(row) for row in process.jump_matrix.tolist()]
        self._stays_per_s = 1.0 / float(_stationary_jumps(process.jump_matrix) @ process.mean_stay_s)
        # The rest of the stay that is under way at 0 is exponential too, with the same mean.
        self._state = bisect_right(_cumulative(process.stationary.tolist()), streams.jumps.random())
        self.knot_s, self.mass, self.rate = np.zeros(1), np.zeros(1), np.zeros(0)

    def times(self, marks: NDArray[np.float64]) -> NDArray[np.float64]:
        """When the cumulative intensity reaches the sorted ``marks``: never inside a piece of rate 0."""
        self._refuse_if_endless(float(marks[-1]) / self._process.mean_rate)
        while self.mass[-1] <= marks[-1]:
            self._grow()
        piece = np.searchsorted(self.mass, marks, side="right") - 1
        arrival_s = self.knot_s[piece] + (marks - self.mass[piece]) / self.rate[piece]
        return np.minimum(arrival_s, self.knot_s[piece + 1])

    def marks(self, arrival_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """The cumulative intensity at each of the sorted ``arrival_s``."""
        while self.knot_s[-1] < arrival_s[-1]:
            self._grow()
        return np.maximum.accumulate(np.interp(arrival_s, self.knot_s, self.mass))

    def _grow(self) -> None:
        more = max(_FEWEST_STAYS, len(self.rate))
        states = self._next_states(more)
        stay_s = self._streams.stays.standard_exponential(more) * np.take(self._process.mean_stay_s, states)
        rate = np.take(np.array(self._process.rates, np.float64), states)
        self.knot_s = np.append(self.knot_s, self.knot_s[-1] + np.cumsum(stay_s))
        self.mass = np.append(self.mass, self.mass[-1] + np.cumsum(stay_s * rate))
        self.rate = np.append(self.rate, rate)

    def _next_states(self, count: int) -> list[int]:
        states, state, onward = [], self._state, self._onward
        for uniform in self._streams.jumps.random(count).tolist():
            states.append(state)
            state = bisect_right(onward[state], uniform)
        self._state = state
        return states

    def _refuse_if_endless(self, duration_s: float) -> None:
        stays = duration_s * self._stays_per_s
        if not stays <= _MOST_STAYS:
            raise WorkloadError(
                f"mmpp arrivals: mean_stay_s = {list(self._process.mean_stay_s)} makes about {stays:.3g} "
                f"stays in {duration_s:.3g} s, more than {_MOST_STAYS}; use longer stays "
                "or fewer requests (stays far shorter than the gaps are Poisson arrivals at the mean rate)"
            )


def _cumulative(probabilities: list[float]) -> list[float]:
    """Running sums that end at exactly 1, so that a uniform draw always finds a state that can be."""
    sums = list(accumulate(probabilities))
    return [partial / sums[-1] for partial in sums]


def _stationary_jumps(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The law that the jump chain keeps: solves ``law @ matrix = law`` with ``sum(law) = 1``."""
    states = len(matrix)
    balance = np.vstack([(matrix.T - np.eye(states))[:-1], np.ones(states)])
    return np.linalg.solve(balance, np.eye(states)[-1])


def _check_rates(rates: Sequence[float]) -> None:
    for index, rate in enumerate(rates):
        if rate != 0:
            require_positive("mmpp arrivals", f"rates[{index}]", rate, "give requests per second, or 0 for silence")
    if not any(rates):
        raise WorkloadError(f"mmpp arrivals: rates = {list(rates)} never sends a request; give a rate above 0")


def _check_stays(mean_stay_s: Sequence[float], states: int) -> None:
    if len(mean_stay_s) != states:
        raise WorkloadError(
            f"mmpp arrivals: mean_stay_s has {len(mean_stay_s)} values and rates has {states}; "
            "give one of each for each state"
        )
    for index, stay in enumerate(mean_stay_s):
        require_positive("mmpp arrivals", f"mean_stay_s[{index}]", stay, "give the mean seconds in each state")


def _check_matrix(rows: str | Sequence[Sequence[float]], states: int) -> tuple[tuple[float, ...], ...]:
    if isinstance(rows, str):
        raise WorkloadError(f"mmpp arrivals: transitions = {rows!r} is unknown; use 'cyclic' or a matrix")
    matrix = tuple(tuple(row) for row in rows)
    if len(matrix) != states or any(len(row) != states for row in matrix):
        raise WorkloadError(f"mmpp arrivals: transitions is not {states} rows of {states}; give one for each of rates")
    for index, row in enumerate(matrix):
        _check_row(index, row)
    if not _all_connected(np.array(matrix)):
        raise WorkloadError("mmpp arrivals: transitions leave some state out of reach of another; connect or remove it")
    return matrix


def _check_row(index: int, row: Sequence[float]) -> None:
    at = f"mmpp arrivals: transitions[{index}] = {list(row)}"
    if not all(is_number(entry) and 0 <= entry <= 1 for entry in row):
        raise WorkloadError(f"{at} holds something that is no probability; use numbers from 0 to 1")
    if row[index] != 0:
        raise WorkloadError(f"{at} jumps from state {index} to itself; set that to 0 and lengthen mean_stay_s")
    if abs(sum(row) - 1) > _ROW_SUM_ERROR:
        raise WorkloadError(f"{at} sums to {sum(row):.9g}; make each row sum to 1")


def _all_connected(matrix: NDArray[np.float64]) -> bool:
    reach = (matrix > 0) | np.eye(len(matrix), dtype=bool)
    for _ in range(len(matrix).bit_length()):
        reach = reach @ reach
    return bool(reach.all())
