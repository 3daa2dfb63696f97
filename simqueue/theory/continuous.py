"""Continuous (iteration-level) batching with geometric output lengths."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simqueue.checks import at_least, positive
from simqueue.errors import ConfigError
from simqueue.theory.batch import BatchQueue, ServiceTime, service_times
from simqueue.theory.chain import TAIL, THETAS, affordable, drift_moment, last_state, poisson, stationary
from simqueue.theory.load import stable

_WHERE = "continuous_batching"


def continuous_batching(rate: float, step_s: ServiceTime, max_seqs: int, mean_output_tokens: float) -> BatchQueue:
    """Iteration-level scheduling with ``max_seqs`` seats, solved exactly by the chain at the ends of steps.

    Poisson arrivals at ``rate`` per second, geometric outputs on 1, 2, ... with mean m =
    ``mean_output_tokens``. A step with n rows takes ``step_s`` of n, whether its rows prefill or decode; each
    row emits one token and leaves with probability 1/m. At each step's end those who wait fill the free
    seats, first come first served; an idle server starts a step at the next arrival.

    Derived here. Geometric lengths have no memory, so the number N present at the end of a step (1 at an
    arrival to an idle server) is a Markov chain: min(N, c) rows run, N' = N - Binomial(min(N, c), 1/m) +
    Poisson(rate step). Over a step of length D those without a seat wait and new ones join them, (N - c)^+ D
    + rate D^2 / 2 in the mean; divided by the mean cycle (D, and 1/rate of idling if N = 0) and by the rate
    this is the mean queueing time (Little's law), and rows times D likewise the mean service time.

    Raises:
        ConfigError: a parameter is out of its range, the load ``rate * m * step_s(c) / c`` is not below 1,
            or the chain would need too many states.
    """
    times = _checked(rate, step_s, max_seqs, mean_output_tokens)
    ends = 1 / mean_output_tokens
    last = max(max_seqs, _last_state(rate, times, ends))
    affordable(_WHERE, last)
    found = np.arange(last + 1)
    present = np.maximum(found, 1)
    rows = np.minimum(present, max_seqs)
    time = times[rows - 1]
    share = stationary(_transitions(rate, times, ends, last))

    cycle = share @ ((found == 0) / rate + time)
    waited = share @ ((present - rows) * time + rate * time**2 / 2)
    return BatchQueue(
        batch_size=np.bincount(rows, share, max_seqs + 1).astype(np.float64),
        mean_queueing_s=float(waited / (rate * cycle)),
        mean_service_s=float(share @ (rows * time) / (rate * cycle)),
        utilisation=float(share @ time / cycle),
        throughput_rps=float(share @ rows * ends / cycle),
        tail=TAIL,
    )


def _checked(rate: float, step_s: ServiceTime, max_seqs: int, mean_output_tokens: float) -> NDArray[np.float64]:
    positive(_WHERE, "rate", rate)
    at_least(_WHERE, "max_seqs", max_seqs, 1)
    positive(_WHERE, "mean_output_tokens", mean_output_tokens)
    if mean_output_tokens < 1:
        raise ConfigError(f"{_WHERE}: mean_output_tokens = {mean_output_tokens} must be at least 1")
    times = service_times(_WHERE, step_s, max_seqs)
    stable(_WHERE, rate * mean_output_tokens * times[-1] / max_seqs)
    return times


def _last_state(rate: float, times: NDArray[np.float64], ends: float) -> int:
    """From N >= c the next N is N - c, those of c who stay, and the arrivals; from less, N - c drops out."""
    rows = np.arange(1, len(times) + 1)[:, None]
    grown = rows * np.log1p((1 - ends) * np.expm1(THETAS)) + rate * times[:, None] * np.expm1(THETAS)
    return last_state(drift_moment(grown[-1] - THETAS * len(times), grown.max(axis=0)))


def _transitions(rate: float, times: NDArray[np.float64], ends: float, last: int) -> NDArray[np.float64]:
    seats = len(times)
    matrix = np.zeros((last + 1, last + 1))
    counts = np.arange(last + 1)
    stay = np.ones(1)
    for rows in range(1, seats + 1):
        stay = np.convolve(stay, (ends, 1 - ends))
        matrix[rows] = np.convolve(stay, poisson(rate * times[rows - 1], counts))[: last + 1]
    matrix[0] = matrix[1]
    for found in range(seats + 1, last + 1):
        matrix[found, found - seats :] = matrix[seats, : last + 1 - (found - seats)]
    return matrix
