"""Bare hand-written SimPy loops of the benchmarked models: no policies, no checks, nothing general.

They are the yardstick of docs/performance.md: what SimPy and CPython allow for these very models, leaping too, with
integer time, arrivals as a column, and every request's scheduled, first-token and finish times recorded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator
from heapq import heappop, heappush
from math import sqrt
from typing import Any

import simpy

BASE, ROW, NEW, CONTEXT = 800_000_000, 8_000_000, 8_000_000, 2_000  # picoseconds


def run(process: Generator[Any, None, None], env: simpy.Environment) -> None:
    env.process(process)
    env.run()


def single_pass_batches(
    arrival: list[int], max_batch: int
) -> tuple[list[int], list[int]]:
    """Single forward passes of one prompt token each, ``max_batch`` at most together; 1 is no batching."""
    env = simpy.Environment()
    n = len(arrival)
    scheduled, finished = [0] * n, [0] * n

    def server() -> Generator[Any, None, None]:
        head = 0
        while head < n:
            now = env.now
            if arrival[head] > now:
                yield env.timeout(arrival[head] - now)
                now = env.now
            tail = bisect_right(arrival, now, head, min(head + max_batch, n))
            rows = tail - head
            duration = BASE + (ROW + NEW) * rows
            yield env.timeout(duration)
            scheduled[head:tail] = [now] * rows
            finished[head:tail] = [now + duration] * rows
            head = tail

    run(server(), env)
    return scheduled, finished


def continuous(
    arrival: list[int], prompt: list[int], output: list[int], seats: int
) -> tuple[list[int], list[int], list[int]]:
    """Iteration-level batching with whole prompts; one event from a change of the running set to the next."""
    env = simpy.Environment()
    n = len(arrival)
    scheduled, first, finished = [0] * n, [0] * n, [0] * n
    arrival = [*arrival, 1 << 200]

    def server() -> Generator[Any, None, None]:
        head = rows = context = clock = 0
        tail = 0
        heap: list[tuple[int, int]] = []
        while head < n or heap:
            now = env.now
            while arrival[tail] <= now:
                tail += 1
            admit = min(tail - head, seats - rows)
            if not admit and not rows:
                yield env.timeout(arrival[tail] - now)
                continue
            limit = arrival[tail] - now
            duration = steps = new = 0
            if admit > 0:
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
                a = BASE + (ROW + NEW) * rows + CONTEXT * context
                b = CONTEXT * rows
                total = a * left + b * (left * (left - 1) >> 1)
                rest = limit - duration
                if total > rest:
                    c = 2 * a - b
                    left = int(4 * rest / (sqrt(c * c + 8 * b * rest) + c)) or 1
                    total = a * left + b * (left * (left - 1) >> 1)
                    while total < rest:
                        total += a + b * left
                        left += 1
                    while total - a - b * (left - 1) >= rest:
                        left -= 1
                        total -= a + b * left
                duration += total
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

    run(server(), env)
    return scheduled, first, finished
