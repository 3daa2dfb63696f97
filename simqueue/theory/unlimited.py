"""Batches without a cap: everyone who waits starts at once, immediately or after a timeout."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from simqueue.checks import positive, seconds
from simqueue.theory.batch import BatchQueue, service_times
from simqueue.theory.chain import MOST_STATES, TAIL, THETAS, affordable, last_state, poisson, stationary
from simqueue.theory.load import stable

_WHERE = "unlimited_batching"
_FIRST_TRY = 250


def unlimited_batching(rate: float, service_s: float | Callable[[int], float], max_wait_s: float = 0.0) -> BatchQueue:
    """Batches of all who wait, started when the oldest has waited ``max_wait_s``, solved exactly.

    Poisson arrivals at ``rate`` per second; a batch of n takes ``service_s(n)`` (or a constant). The timer
    runs while the server is busy too, so ``max_wait_s = 0`` is greedy batching, the model of Inoue (2021),
    "Queueing analysis of GPU-based inference servers with dynamic batching: A closed-form characterization",
    Performance Evaluation 147, which also has the chain of batch sizes for that case. With a timeout, derived
    here:

    A service of length S starts with nobody waiting; the first arrival comes U ~ Exp(rate) later. If U + T <=
    S the next batch starts at S and holds it and all who came in (U, S]; otherwise the next batch starts at U
    + T and holds 1 + Poisson(rate T). Integrating over U: for S > T the next size is k >= 1 with probability
    e^(-rate S) [(rate S)^k / k! - (rate T)^k / k! + (rate T)^(k-1) / (k-1)!], the waiting times of those in
    it sum to rate S^2 / 2 + T e^(-rate (S - T)) in the mean, and it starts S + e^(-rate (S - T)) / rate after
    this one; for S <= T these are 1 + Poisson(rate T), T + rate T^2 / 2 and T + 1 / rate. The mean queueing
    time is the mean sum of waiting times over the mean batch.

    The chain is cut off where the stationary tail is provably below ``tail``, provided that the time per
    request, ``service_s(n) / n``, is no longer than at the largest n looked at for all n beyond it (true of
    any affine cost).

    Raises:
        ConfigError: a parameter is out of its range, the load (rate times the limit of ``service_s(n) /
            n``) is not below 1, or the chain would need too many states.
    """
    positive(_WHERE, "rate", rate)
    seconds(_WHERE, "max_wait_s", max_wait_s)
    time = _truncated_times(rate, service_s, max_wait_s)
    sizes = np.arange(1, len(time) + 1)
    share = stationary(_transitions(rate, time, max_wait_s, sizes))

    longer = time > max_wait_s
    timed_out = np.exp(-rate * np.maximum(time - max_wait_s, 0.0))
    waited = timed_out * max_wait_s + rate * np.where(longer, time, max_wait_s) ** 2 / 2
    cycle = share @ (np.where(longer, time, max_wait_s) + timed_out / rate)
    batch = share @ sizes
    return BatchQueue(
        batch_size=np.concatenate(([0.0], share)),
        mean_queueing_s=float(share @ waited / batch),
        mean_service_s=float(share @ (sizes * time) / batch),
        utilisation=float(share @ time / cycle),
        throughput_rps=float(batch / cycle),
        tail=TAIL,
    )


def _transitions(
    rate: float, time: NDArray[np.float64], max_wait_s: float, sizes: NDArray[np.int64]
) -> NDArray[np.float64]:
    timed_out = np.exp(-rate * np.maximum(time - max_wait_s, 0.0))[:, None]
    at_end = poisson(rate * time[:, None], sizes) - timed_out * poisson(rate * max_wait_s, sizes)
    at_end[time <= max_wait_s] = 0.0
    return np.maximum(at_end, 0.0) + timed_out * poisson(rate * max_wait_s, sizes - 1)


def _truncated_times(rate: float, service_s: float | Callable[[int], float], max_wait_s: float) -> NDArray[np.float64]:
    """Service times for as many batch sizes as matter."""
    known = _FIRST_TRY
    while True:
        time = service_times(_WHERE, service_s, known)
        last = _last_state(rate, time, max_wait_s)
        if last <= known:
            return time[: max(last, 1)]
        if known == MOST_STATES:
            stable(_WHERE, rate * (time[-1] - time[known // 2 - 1]) / (known - known // 2))
            affordable(_WHERE, last)
        known = min(2 * known, MOST_STATES)


def _last_state(rate: float, time: NDArray[np.float64], max_wait_s: float) -> int:
    """B' <= 1 + Poisson(rate (slope B + rest)), the affine function being a bound on max(time, T).

    With a = rate slope (e^theta - 1) / theta < 1 this gives M = E exp(theta B) <= C E exp(a theta B) <= C M^a
    (Jensen), hence M <= C^(1 / (1 - a)), with C = exp(theta + rate rest (e^theta - 1)). Derived here.
    """
    slope = time[-1] / len(time)
    rest = max_wait_s + np.max(time - slope * np.arange(1, len(time) + 1)).clip(min=0.0)
    arrivals = rate * np.expm1(THETAS)
    power = slope * arrivals / THETAS
    log_moment = np.full_like(power, np.inf)
    good = power < 1
    log_moment[good] = (THETAS + arrivals * rest)[good] / (1 - power[good])
    return last_state(log_moment)
