"""Crude simulators, written from the rules of each queue and from nothing else: no chain, no formula, no engine."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush, heapreplace

import numpy as np

Means = dict[str, float]
REPLICATIONS = 12
FAR = 5.6  # Student's t with 11 degrees of freedom goes beyond with probability 2e-4


def agree(exact: Means, replicate: Callable[[np.random.Generator], Means], precision: float) -> None:
    """Independent replications must cover ``exact`` and be precise enough to notice ``precision`` of it."""
    runs = [replicate(np.random.default_rng([2024, i])) for i in range(REPLICATIONS)]
    for key, value in exact.items():
        seen = np.array([run[key] for run in runs])
        error = seen.std(ddof=1) / math.sqrt(REPLICATIONS)
        assert error < precision / 3 * value, f"{key}: standard error {error:.3g} of {value:.5g} is too crude"
        assert abs(seen.mean() - value) < FAR * error + 1e-9 * value, (
            f"{key}: {seen.mean():.6g} +- {error:.2g}, not {value:.6g}"
        )


def batches(
    arrival: np.ndarray,
    service_s: Callable[[int], float],
    max_batch: float = math.inf,
    min_batch: float = math.inf,
    max_wait_s: float = math.inf,
) -> Means:
    """A free server starts min(n, max_batch) if n >= min_batch wait or the oldest has waited max_wait_s."""
    times = arrival.tolist()
    free, first, waited, served, busy, squares, steps = 0.0, 0, 0.0, 0.0, 0.0, 0, 0
    while True:
        enough = times[first + int(min_batch) - 1] if first + min_batch <= len(times) else math.inf
        start = max(free, min(enough, times[first] + max_wait_s)) if first < len(times) else math.inf
        if start == math.inf or start > times[-1]:
            break
        size = int(min(max_batch, bisect_right(times, start) - first))
        duration = service_s(size)
        waited += size * start - sum(times[first : first + size])
        served += size * duration
        busy, squares, steps, first, free = (
            busy + duration,
            squares + size**2,
            steps + 1,
            first + size,
            start + duration,
        )
    return {
        "queueing": waited / first,
        "service": served / first,
        "utilisation": busy / free,
        "per_step": first / steps,
        "per_request": squares / first,
    }


def iterations(arrival: np.ndarray, output: np.ndarray, step_s: Callable[[int], float], seats: int) -> Means:
    """At every step's end the first who wait take the free seats; everyone seated emits one token a step."""
    times, left = arrival.tolist(), output.tolist()
    now, next_one, seated = 0.0, 0, []
    waited, served, busy, rows, squares, steps, done = 0.0, 0.0, 0.0, 0, 0, 0, 0
    while next_one < len(times):
        if not seated:
            now = max(now, times[next_one])
        while next_one < len(times) and len(seated) < seats and times[next_one] <= now:
            waited += now - times[next_one]
            seated.append(next_one)
            next_one += 1
        duration = step_s(len(seated))
        now += duration
        busy, rows, squares, steps = (
            busy + duration,
            rows + len(seated),
            squares + len(seated) ** 2,
            steps + 1,
        )
        served += duration * len(seated)
        for i in seated:
            left[i] -= 1
        done += sum(left[i] == 0 for i in seated)
        seated = [i for i in seated if left[i] > 0]
    return {
        "queueing": waited / len(times),
        "service": served / done,
        "utilisation": busy / now,
        "per_step": rows / steps,
        "per_request": squares / rows,
    }


def waits(arrival: np.ndarray, service: np.ndarray) -> np.ndarray:
    """Queueing times of one server, first come first served."""
    wait, found = 0.0, []
    for gap, length in zip(np.diff(arrival).tolist(), service.tolist(), strict=False):
        found.append(wait)
        wait = max(0.0, wait + length - gap)
    return np.array(found)


def several_servers(
    arrival: np.ndarray,
    service: np.ndarray,
    servers: int,
    capacity: float = math.inf,
    patience: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """First come first served; who finds ``capacity`` there is turned away, who would wait too long leaves by then.

    For each of those admitted: ``waited``, whether ``served``, and ``response`` (if not served, until it left).
    """
    limits = np.full(len(arrival), math.inf) if patience is None else patience
    free, leaving, rows = [0.0] * servers, [], []
    for now, length, limit in zip(arrival.tolist(), service.tolist(), limits.tolist(), strict=True):
        while leaving and leaving[0] <= now:
            heappop(leaving)
        if len(leaving) >= capacity:
            continue
        wait = max(0.0, free[0] - now)
        served = wait <= limit
        if served:
            heapreplace(free, now + wait + length)
        response = wait + length if served else limit
        heappush(leaving, now + response)
        rows.append((min(wait, limit), served, response))
    waited, kept, responses = zip(*rows, strict=True)
    return {"waited": np.array(waited), "served": np.array(kept), "response": np.array(responses)}


def least_first(arrival: np.ndarray, service: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Queueing times of one server that, when free, takes the least key that waits, the first of equals."""
    times, lengths, keys = arrival.tolist(), service.tolist(), key.tolist()
    wait, waiting, now, next_one = np.zeros(len(times)), [], 0.0, 0
    while next_one < len(times) or waiting:
        if not waiting:
            now = max(now, times[next_one])
        while next_one < len(times) and times[next_one] <= now:
            heappush(waiting, (keys[next_one], next_one))
            next_one += 1
        chosen = heappop(waiting)[1]
        wait[chosen] = now - times[chosen]
        now += lengths[chosen]
    return wait


def shared(arrival: np.ndarray, work: np.ndarray) -> np.ndarray:
    """Response times where n requests present each get 1 / n of the server."""
    response, present, now, each = np.zeros(len(arrival)), [], 0.0, 0.0  # each: work done for one always there
    for i, until in enumerate([*arrival.tolist(), math.inf]):
        while present and now + (present[0][0] - each) * len(present) <= until:
            done, first = heappop(present)
            now += (done - each) * (len(present) + 1)
            each = done
            response[first] = now - arrival[first]
        if i < len(arrival):
            each += (until - now) / len(present) if present else 0.0
            now = until
            heappush(present, (each + work[i], i))
    return response


def shortest_queues(arrival: np.ndarray, service: np.ndarray, servers: int, choices: np.ndarray) -> np.ndarray:
    """Response times where request i joins the shortest of the queues ``choices[i]``, in random order."""
    queues, response = [deque() for _ in range(servers)], []
    for now, length, drawn in zip(arrival.tolist(), service.tolist(), choices.tolist(), strict=True):
        for queue in (queues[k] for k in drawn):
            while queue and queue[0] <= now:
                queue.popleft()
        joined = min((queues[k] for k in drawn), key=len)
        joined.append((joined[-1] if joined else now) + length)
        response.append(joined[-1] - now)
    return np.array(response)


def poisson_arrivals(rng: np.random.Generator, rate: float, requests: int) -> np.ndarray:
    return np.cumsum(rng.exponential(1 / rate, requests))


def mmpp_arrivals(
    rng: np.random.Generator, rates: list[float], stays: list[float], jumps: np.ndarray, horizon_s: float
) -> np.ndarray:
    """Stays one after the other, each filled with a Poisson number of uniform arrivals."""
    now, state, arrivals = 0.0, 0, []
    up_to = np.cumsum(jumps, axis=1).tolist()
    while now < horizon_s:
        stay = rng.exponential(stays[state])
        arrivals.append(now + np.sort(rng.uniform(0, stay, rng.poisson(rates[state] * stay))))
        now += stay
        state = bisect_right(up_to[state][:-1], rng.random())
    return np.concatenate(arrivals)
