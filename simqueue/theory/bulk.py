"""Bulk service: batches of at least a and at most b, constant service for a given batch size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simqueue.checks import at_least, positive
from simqueue.errors import ConfigError
from simqueue.theory.batch import BatchQueue, ServiceTime, service_times
from simqueue.theory.chain import TAIL, THETAS, affordable, drift_moment, last_state, poisson, stationary
from simqueue.theory.load import stable

_WHERE = "bulk_service"


def bulk_service(rate: float, service_s: ServiceTime, max_batch: int, min_batch: int = 1) -> BatchQueue:
    """M/D^(a,b)/1 with a = ``min_batch`` and b = ``max_batch``, solved exactly by its embedded Markov chain.

    Poisson arrivals at ``rate`` per second. A free server that finds n >= a requests starts min(n, b) of
    them, first come first served, and otherwise waits until there are a; a batch of n takes ``service_s`` of
    n, and arrivals during it wait. Greedy batching with a cap is a = 1.

    Source of the rule and of the chain at the ends of services: Neuts (1967), "A general class of bulk queues
    with Poisson input", Annals of Mathematical Statistics 38; Bailey (1954), "On queueing processes with bulk
    service", Journal of the Royal Statistical Society B 16. The mean is derived here: from N left at the end
    of a service, the number waiting is integrated over the wait for request a (N, N+1, ..., a-1, each 1/rate
    long) and over the service (those left over, and rate t new ones after t); divided by the mean cycle it is
    the time average, by Little's law rate times the mean queueing time.

    Raises:
        ConfigError: a parameter is out of its range, the load ``rate * service_s(b) / b`` is not below 1,
            or the chain would need too many states.
    """
    times = _checked(rate, service_s, max_batch, min_batch)
    last = max(max_batch, _last_state(rate, times, min_batch))
    affordable(_WHERE, last)
    found = np.arange(last + 1)
    started, left = np.clip(found, min_batch, max_batch), np.maximum(found - max_batch, 0)
    time = times[started - 1]
    share = stationary(poisson(rate * time[:, None], found[None, :] - left[:, None]))

    missing = np.maximum(min_batch - found, 0)
    cycle = share @ (missing / rate + time)
    waited = missing * (found + min_batch - 1) / (2 * rate) + left * time + rate * time**2 / 2
    return BatchQueue(
        batch_size=np.bincount(started, share, max_batch + 1).astype(np.float64),
        mean_queueing_s=float(share @ waited / (rate * cycle)),
        mean_service_s=float(share @ (started * time) / (share @ started)),
        utilisation=float(share @ time / cycle),
        throughput_rps=float(share @ started / cycle),
        tail=TAIL,
    )


def _checked(rate: float, service_s: ServiceTime, max_batch: int, min_batch: int) -> NDArray[np.float64]:
    positive(_WHERE, "rate", rate)
    at_least(_WHERE, "min_batch", min_batch, 1)
    at_least(_WHERE, "max_batch", max_batch, 1)
    if min_batch > max_batch:
        raise ConfigError(f"{_WHERE}: min_batch = {min_batch} must not exceed max_batch = {max_batch}")
    times = service_times(_WHERE, service_s, max_batch)
    stable(_WHERE, rate * times[-1] / max_batch)
    return times


def _last_state(rate: float, times: NDArray[np.float64], min_batch: int) -> int:
    """From N >= b the next N is N - b and new arrivals; from less it is the arrivals of one service."""
    arrivals = rate * np.expm1(THETAS)
    log_factor = arrivals * times[-1] - THETAS * len(times)
    return last_state(drift_moment(log_factor, arrivals * times[min_batch - 1 :].max()))
