# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Whole runs as recursions over their leaps, compiled: what the event loop does, to the tick, for a few policies.

Ticks and tokens are int64. Whoever calls has seen to it that no step, nor all that an answer takes, comes near
`LIMIT`; a run that goes beyond it, or a step that has no price, ends the recursion: then the event loop says why.
"""

from libc.stdint cimport int64_t

import numpy as np

cdef int64_t LIMIT = 1 << 62
cdef int64_t NEVER = (1 << 63) - 1
# A heap entry is `key * APART + request`; keys are below 2^31, for whoever calls has seen to that too.
cdef int64_t APART = 1 << 32
cdef int FIELDS = 8


cdef class Prices:
    """`simqueue.cost.prices.Prices`, as the loops read them."""

    cdef bint linear
    cdef const int64_t[::1] decode_of
    cdef const int64_t[:, ::1] sums, prefill_of, beside, alone
    cdef int64_t base, per_row, per_new, per_context, floor, mixed, added, added_row

    def __init__(self, given):
        self.linear = given.linear is not None
        if self.linear:
            self.base, self.per_row, self.per_new, self.per_context, self.floor = given.linear
        else:
            self.decode_of, self.sums = given.decode_of, given.sums
            self.prefill_of, self.beside, self.alone = given.prefill_of, given.beside, given.alone
        self.mixed, self.added, self.added_row = given.mixed, given.added, given.added_row

    cdef int64_t decoding(self, int64_t rows, int64_t context, int64_t longest, int64_t steps) noexcept nogil:
        """How long so many decode steps last together; -1 if one of them has no price."""
        cdef int64_t first, slope, flat, total, at
        if self.linear:
            first = self.base + (self.per_row + self.per_new) * rows + self.per_context * context
            slope = self.per_context * rows
            flat = 0
            if first < self.floor:
                flat = steps
                if slope:
                    flat = min(steps, (self.floor - first + slope - 1) // slope)
            total = self.floor * flat + first * (steps - flat)
            total += slope * ((steps * (steps - 1) >> 1) - (flat * (flat - 1) >> 1))
        else:
            if rows >= self.decode_of.shape[0] or longest + steps >= self.sums.shape[1]:
                return -1
            at = self.decode_of[rows]
            total = self.sums[at, longest + steps] - self.sums[at, longest]
        return total + (self.added + self.added_row * rows) * steps

    cdef int64_t leap(
        self, int64_t rows, int64_t context, int64_t longest, int64_t steps, int64_t limit, int64_t* total
    ) noexcept nogil:
        """Of these steps the first that together last ``limit`` or more, or all; -1 if one has no price."""
        cdef int64_t fewest = 1, middle
        total[0] = self.decoding(rows, context, longest, steps)
        if total[0] < 0:
            return -1
        if total[0] <= limit:
            return steps
        while fewest < steps:
            middle = (fewest + steps) >> 1
            if self.decoding(rows, context, longest, middle) >= limit:
                steps = middle
            else:
                fewest = middle + 1
        total[0] = self.decoding(rows, context, longest, steps)
        return steps

    cdef int64_t prefilling(
        self,
        int64_t rows,
        int64_t context,
        int64_t longest,
        int64_t prompts,
        int64_t tokens,
        int64_t behind,
        int64_t widest,
    ) noexcept nogil:
        """How long the step lasts in which ``tokens`` of ``prompts`` are computed, on ``behind`` that already are, and
        ``rows`` decode; -1 if it has no price."""
        cdef int64_t total, at, added = self.added + self.added_row * rows if rows else 0
        if self.linear:
            total = self.base + (self.per_row + self.per_new) * rows + self.per_row * prompts
            total += self.per_new * tokens + self.per_context * (context + behind)
            return max(total, self.floor) + added
        if widest >= self.prefill_of.shape[1] or prompts >= self.alone.shape[1]:
            return -1
        at = self.prefill_of[1 if behind else 0, widest]
        if at < 0:
            return -1
        if not rows:
            return self.alone[at, prompts]
        if rows >= self.decode_of.shape[0] or longest + 1 >= self.sums.shape[1]:
            return -1
        total = self.beside[at, prompts] + self.mixed
        total += self.sums[self.decode_of[rows], longest + 1] - self.sums[self.decode_of[rows], longest]
        return max(total, 1) + added


def bulk(
    const int64_t[::1] arrival,
    const int64_t[::1] prompt,
    const int64_t[::1] output,
    int64_t[::1] finished,
    given,
    int64_t least,
    int64_t most,
    int64_t wait,
    bint with_batch,
):
    """Run to completion by the general bulk service rule (Neuts, "A general class of bulk queues with Poisson input",
    Annals of Mathematical Statistics 38, 1967) with a deadline: a free server starts up to ``most`` as soon as
    ``least`` wait, or the oldest has waited ``wait`` ticks.

    Nothing happens while a batch runs that the next decision would depend on but arrivals, which are known.

    Args:
        arrival, prompt, output: ``(requests,)``; fills in ``finished``.
        given: `simqueue.cost.prices.Prices`.
        least, most, wait: see above; a ``wait`` below 0: until ``least`` wait, or nobody can come any more.
        with_batch: answers leave when their batch ends.

    Returns:
        int64 ``(8, leaps)``: the columns of `simqueue.record.Leaps`; None where this cannot tell.
    """
    cdef Prices price = Prices(given)
    cdef int64_t count = arrival.shape[0], head = 0, free = 0, done = 0
    cdef int64_t end, last, due, start, i, tokens, widest, steps, first, total, size
    table = np.empty((FIELDS, count), np.int64)
    cdef int64_t[:, ::1] leaps = table
    with nogil:
        while head < count:
            last = head + least - 1
            due = arrival[min(last, count - 1)] if last < count or wait < 0 else NEVER
            if wait >= 0:
                due = min(due, arrival[head] + wait)
            start = max(free, due)
            end, tokens, widest, steps = head, 0, 0, 0
            while end < count and end - head < most and (arrival[end] <= start or end == head):
                tokens += prompt[end]
                widest = max(widest, prompt[end])
                steps = max(steps, output[end])
                end += 1
            size = end - head
            first = price.prefilling(0, 0, 0, size, tokens, 0, widest)
            total = price.decoding(size, tokens, widest, steps - 1)
            if first < 0 or total < 0 or start > LIMIT - first - total:
                break
            total += first
            for i in range(head, end):
                finished[i] = start + total
                if not with_batch and output[i] < steps:
                    finished[i] = start + first + price.decoding(size, tokens, widest, output[i] - 1)
            _write(leaps, done, start, steps, first, total, size, 0, 0, 0)
            done += 1
            head, free = end, start + total
    return table[:, :done] if head == count else None


def seated(
    const int64_t[::1] arrival,
    const int64_t[::1] prompt,
    const int64_t[::1] output,
    int64_t[::1] finished,
    given,
    int64_t seats,
    int64_t budget,
):
    """Continuous batching, first come first served, as many at a time as there are ``seats`` (`simqueue.Continuous`):
    the engine, its policy and the driver as one recursion. See `bulk`.

    ``budget``: the most tokens that a step computes; a prompt that does not fit is computed in chunks. 0: only whole
    prompts.

    Returns:
        The leaps; and where there is a budget, int64 ``(4, leaps)``: of how many prompts the first step computes how
        many tokens, on how many, and at most of one; and when each request was scheduled and had its first token. Or
        None.
    """
    cdef Prices price = Prices(given)
    cdef int64_t count = arrival.shape[0], most = min(seats, count), unlimited = NEVER
    cdef int64_t now = 0, clock = 0, rows = 0, context = 0, longest = 0, head = 0, tail = 0, done = 0
    # Of the request before the head, what is left of its prompt, where that has begun.
    cdef int64_t backlog = 0
    cdef int64_t due, free, left, end, begin, i, take, prompts, tokens, behind, widest, steps, first, total, more, taken
    cdef int64_t admitted
    cdef int64_t ends = 0, begun = 0
    cdef bint known = False, chunked = budget > 0
    # Every leap ends with an arrival or a finish, or begins with an admission. Chunks nobody can count beforehand.
    cdef int64_t lines = 3 * count + 1
    if not chunked:
        budget = unlimited
    table, chunks = np.empty((FIELDS, lines), np.int64), np.zeros((4, lines if chunked else 1), np.int64)
    schedule, firsts = np.zeros(count, np.int64), np.zeros(count, np.int64)
    cdef int64_t[:, ::1] leaps = table, chunk = chunks
    cdef int64_t[::1] scheduled = schedule, first_token = firsts
    # Who finishes at which decode step; and when the cache of each was empty, as if it had always grown by a token.
    cdef int64_t[::1] finishing = np.empty(most + 1, np.int64), empty = np.empty(count + 1, np.int64)
    with nogil:
        while True:
            if done == lines:
                with gil:
                    lines *= 2
                    table, chunks = _longer(table, lines), _longer(chunks, lines)
                    leaps, chunk = table, chunks
            while tail < count and arrival[tail] <= now:
                tail += 1
            due = (arrival[tail] if tail < count else NEVER) - now
            free = min(tail - head, seats - rows - (1 if backlog else 0))
            if backlog or free:
                left, begin, end, prompts, tokens, behind, widest = budget - rows, head, head, 0, 0, 0, 0
                if backlog:
                    take = min(backlog, left)
                    prompts, tokens, behind, widest = 1, take, prompt[head - 1] - backlog, take
                    left, backlog = left - take, backlog - take
                    if not backlog:
                        begin -= 1
                while free and left:
                    take = min(prompt[end], left)
                    left, backlog = left - take, prompt[end] - take
                    prompts, tokens, widest = prompts + 1, tokens + take, max(widest, take)
                    scheduled[end] = now
                    end, free = end + 1, free - 1
                first = price.prefilling(rows, context, longest, prompts, tokens, behind, widest)
                if first < 0:
                    break
                total, taken = first, 1
                if chunked:
                    chunk[0, done], chunk[1, done], chunk[2, done], chunk[3, done] = prompts, tokens, behind, widest
                # Those whose prompts are whole now: all but one that has begun and is left over.
                admitted, head, tokens = 0 if chunked else end - head, end, 0
                if backlog:
                    end = max(begin, end - 1)
                for i in range(begin, end):
                    tokens += prompt[i]
                    first_token[i] = now + first
                    _push(finishing, &ends, (clock + output[i]) * APART + i)
                # Seats that stayed empty for want of tokens are filled in the next step.
                if not backlog and not free and not behind and first < due:
                    steps = finishing[0] // APART - clock
                    if steps > 1:
                        more = price.leap(
                            rows + end - begin,
                            context + rows + tokens,
                            max(longest + 1, widest),
                            steps - 1,
                            due - first,
                            &total,
                        )
                        if more < 0:
                            break
                        taken, total = more + 1, total + first
                _write(leaps, done, now, taken, first, total, admitted, rows, context, longest)
                context += rows * taken + tokens + (end - begin) * (taken - 1)
                rows += end - begin
                if not price.linear:
                    for i in range(begin, end):
                        _push(empty, &begun, (clock + 1 - prompt[i]) * APART + i)
            elif rows:
                steps = finishing[0] // APART - clock
                taken = price.leap(rows, context, longest, steps, due, &total)
                if taken < 0:
                    break
                _write(leaps, done, now, taken, 0, total, 0, rows, context, longest)
                context += rows * taken
            elif tail < count:
                now = arrival[tail]
                continue
            else:
                known = True
                break
            done += 1
            if now > LIMIT - total:
                break
            now, clock = now + total, clock + taken
            while ends and finishing[0] < (clock + 1) * APART:
                i = finishing[0] % APART
                _pop(finishing, &ends)
                finished[i] = now
                context -= prompt[i] + output[i] - 1
                rows -= 1
            while begun and finished[_request(empty[0])] >= 0:
                _pop(empty, &begun)
            longest = clock - _key(empty[0]) if begun else 0
    if not known:
        return None
    return (table[:, :done], chunks[:, :done], schedule, firsts) if chunked else table[:, :done]


def durations(
    const int64_t[::1] steps,
    const int64_t[::1] first,
    const int64_t[::1] rows,
    const int64_t[::1] context,
    const int64_t[::1] longest,
    given,
    int64_t count,
):
    """How long every single step of some leaps lasts.

    Args:
        steps, first: ``(leaps,)``, as `simqueue.record.Leaps` has them.
        rows, context, longest: of the first decode step of each, whether it is the first of the leap or the second.
        given: `simqueue.cost.prices.Prices`.
        count: how many steps these are.

    Returns:
        int64 ``(steps,)``; None if one has no price.
    """
    cdef Prices price = Prices(given)
    column = np.empty(count, np.int64)
    cdef int64_t[::1] lasts = column
    cdef int64_t leap, age, decodes, at = 0
    with nogil:
        for leap in range(steps.shape[0]):
            decodes = steps[leap]
            if first[leap] > 0:
                lasts[at] = first[leap]
                at, decodes = at + 1, decodes - 1
            for age in range(decodes):
                lasts[at] = price.decoding(rows[leap], context[leap] + rows[leap] * age, longest[leap] + age, 1)
                if lasts[at] < 0:
                    with gil:
                        return None
                at += 1
    return column


def _longer(table, lines):
    """The same, with room for so many lines."""
    longer = np.zeros((len(table), lines), np.int64)
    longer[:, : table.shape[1]] = table
    return longer


cdef inline int64_t _key(int64_t entry) noexcept nogil:
    """Of an entry whose key may be below 0."""
    return entry >> 32


cdef inline int64_t _request(int64_t entry) noexcept nogil:
    return entry & (APART - 1)


cdef inline void _push(int64_t[::1] heap, int64_t* size, int64_t entry) noexcept nogil:
    cdef int64_t at = size[0], above
    size[0] += 1
    while at:
        above = (at - 1) >> 1
        if heap[above] <= entry:
            break
        heap[at] = heap[above]
        at = above
    heap[at] = entry


cdef inline void _pop(int64_t[::1] heap, int64_t* size) noexcept nogil:
    """Take the least one out."""
    cdef int64_t at = 0, below = 1, entry
    size[0] -= 1
    entry = heap[size[0]]
    while below < size[0]:
        if below + 1 < size[0] and heap[below + 1] < heap[below]:
            below += 1
        if heap[below] >= entry:
            break
        heap[at] = heap[below]
        at = below
        below = 2 * at + 1
    heap[at] = entry


cdef inline void _write(
    int64_t[:, ::1] leaps,
    int64_t at,
    int64_t start,
    int64_t steps,
    int64_t first,
    int64_t total,
    int64_t admitted,
    int64_t rows,
    int64_t context,
    int64_t longest,
) noexcept nogil:
    """One leap, in the order of `simqueue.record.STEP_FIELDS`."""
    leaps[0, at] = start
    leaps[1, at] = steps
    leaps[2, at] = first
    leaps[3, at] = total
    leaps[4, at] = admitted
    leaps[5, at] = rows
    leaps[6, at] = context
    leaps[7, at] = longest
