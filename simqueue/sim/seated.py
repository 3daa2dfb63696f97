"""Runs of continuous batching without an event loop: the engine, its policy and the driver as one recursion.

What the event loop does in general (`simqueue.sim.driver`, `simqueue.engine`) this does for one policy alone, where
nothing is random and nobody hears of answers: with the same ticks, in half of the time.
"""

from __future__ import annotations

from bisect import bisect_right
from heapq import heappop, heappush

from simqueue.cost.base import StepCost
from simqueue.plan import Shape
from simqueue.record import Leaps, Requests, leap_row

# As in the engine: a heap entry is `step << _BITS | request`.
_BITS = 32
_MASK = (1 << _BITS) - 1


def seated_run(requests: Requests, cost: StepCost, seats: int) -> Leaps:
    """Whole prompts, first come first served, as many at a time as there are ``seats`` (`simqueue.Continuous`). Fills
    in ``requests``."""
    arrival, prompt, output, finished = requests.arrival, requests.prompt, requests.output, requests.finished
    price, leap, looks, leaps = cost.step, cost.leap, cost.needs_longest, Leaps()
    append, count = leaps.append, requests.count
    # Who finishes at which decode step, and when the cache of each was empty, as if it had always grown by a token.
    finishing: list[int] = []
    begun: list[int] = []
    now = clock = rows = context = longest = head = tail = 0
    while True:
        if arrival[tail] <= now:
            tail = bisect_right(arrival, now, tail, count)
        admitted = min(tail - head, seats - rows)
        due = arrival[tail] - now
        if admitted:
            end = head + admitted
            prompts = prompt[head:end]
            for i in range(head, end):
                heappush(finishing, (clock + output[i]) << _BITS | i)
            steps, new, widest = (finishing[0] >> _BITS) - clock, sum(prompts), max(prompts)
            first = total = price(Shape(rows, 0, context, longest, admitted, new, 0, widest))
            done = 1
            if steps > 1 and first < due:
                deepest = longest + 1 if longest >= widest else widest
                done, total = leap(rows + admitted, context + rows + new, deepest, steps - 1, due - first)
                done, total = done + 1, total + first
            append(leap_row(now, done, first, total, admitted, rows, context, longest))
            context += rows * done + new + admitted * (done - 1)
            rows += admitted
            if looks:
                for i in range(head, end):
                    heappush(begun, (clock + 1 - prompt[i]) << _BITS | i)
            head = end
        elif rows:
            done, total = leap(rows, context, longest, (finishing[0] >> _BITS) - clock, due)
            append(leap_row(now, done, 0, total, 0, rows, context, longest))
            context += rows * done
        elif tail < count:
            now = arrival[tail]
            continue
        else:
            return leaps
        now, clock = now + total, clock + done
        beyond = (clock + 1) << _BITS
        while finishing and finishing[0] < beyond:
            i = heappop(finishing) & _MASK
            finished[i] = now
            context -= prompt[i] + output[i] - 1
            rows -= 1
        while begun and finished[begun[0] & _MASK] >= 0:
            heappop(begun)
        longest = clock - (begun[0] >> _BITS) if begun else 0
