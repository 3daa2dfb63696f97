"""Bare hand-written SimPy loops of the benchmarked models: the yardstick of docs/performance.md.

They have what the problem itself asks for (a policy object, integer time, arrivals as a column, decisions as deltas, a
heap by finishing step, leaping, every request's times recorded) and nothing else: no checks, no record of steps, one
cost model, one replica.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator
from heapq import heappop, heappush
from math import sqrt
from typing import Any

import simpy

BASE, ROW, NEW, CONTEXT = 800_000_000, 8_000_000, 8_000_000, 2_000  # picoseconds


class Batch:
    """A free server takes what waits, ``limit`` at most."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def decide(self, waiting: int, running: int) -> int:
        return min(waiting, self.limit)


class Seats:
    """Fill the free seats at every step."""

    def __init__(self, seats: int) -> None:
        self.seats = seats

    def decide(self, waiting: int, running: int) -> int:
        return min(waiting, self.seats - running)


def single_pass(policy: Batch, arrival: list[int], prompt: list[int]) -> tuple[list[int], list[int]]:
    """One forward pass a request; ``(scheduled, finished)``."""
    env = simpy.Environment()
    n = len(arrival)
    scheduled, finished = [0] * n, [0] * n
    decide = policy.decide

    def server() -> Generator[Any, None, None]:
        head = tail = 0
        while head < n:
            now = env.now
            tail = bisect_right(arrival, now, tail, min(tail + 256, n))
            rows = decide(tail - head, 0)
            if not rows:
                yield env.timeout(arrival[head] - now)
                continue
            end = head + rows
            duration = BASE + ROW * rows + NEW * sum(prompt[head:end])
            yield env.timeout(duration)
            for i in range(head, end):
                scheduled[i] = now
                finished[i] = now + duration
            head = end

    env.process(server())
    env.run()
    return scheduled, finished


def continuous(
    policy: Seats, arrival: list[int], prompt: list[int], output: list[int]
) -> tuple[list[int], list[int], list[int]]:
    """Iteration-level batching with whole prompts, an event a leap; ``(scheduled, first token, finished)``."""
    env = simpy.Environment()
    n = len(arrival)
    scheduled, first, finished = [0] * n, [0] * n, [0] * n
    arrival = [*arrival, 1 << 200]
    decide = policy.decide

    def server() -> Generator[Any, None, None]:
        head = tail = rows = context = clock = 0
        heap: list[tuple[int, int]] = []
        while head < n or heap:
            now = env.now
            while arrival[tail] <= now:
                tail += 1
            admit = decide(tail - head, rows)
            if not admit and not rows:
                yield env.timeout(arrival[tail] - now)
                continue
            limit = arrival[tail] - now
            duration = steps = new = 0
            if admit:
                for i in range(head, head + admit):
                    new += prompt[i]
                    scheduled[i] = now
                    heappush(heap, (clock + output[i], i))
                duration = BASE + (ROW + NEW) * rows + ROW * admit + NEW * new + CONTEXT * context
                for i in range(head, head + admit):
                    first[i] = now + duration
                head += admit
                context += rows + new
                rows += admit
                steps = 1
            left = heap[0][0] - clock - steps
            if left and duration < limit:
                left, more = leap(rows, context, left, limit - duration)
                duration += more
                steps += left
                context += rows * left
            yield env.timeout(duration)
            now += duration
            clock += steps
            while heap and heap[0][0] <= clock:
                i = heappop(heap)[1]
                finished[i] = now
                context -= prompt[i] + output[i] - 1
                rows -= 1

    env.process(server())
    env.run()
    return scheduled, first, finished


def leap(rows: int, context: int, steps: int, limit: int) -> tuple[int, int]:
    """So many decode steps, or the fewest that last ``limit``; with their duration."""
    a = BASE + (ROW + NEW) * rows + CONTEXT * context
    b = CONTEXT * rows
    total = a * steps + b * (steps * (steps - 1) >> 1)
    if total > limit:
        c = 2 * a - b
        steps = int(4 * limit / (sqrt(c * c + 8 * b * limit) + c)) or 1
        total = a * steps + b * (steps * (steps - 1) >> 1)
        while total < limit:
            total += a + b * steps
            steps += 1
        while total - a - b * (steps - 1) >= limit:
            steps -= 1
            total -= a + b * steps
    return steps, total
