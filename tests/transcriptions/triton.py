"""Triton Inference Server's dynamic batcher, core r24.10, written from its C++ alone.

``scheduler_utils.cc`` (`PolicyQueue`, `PriorityQueue`, its cursor), ``dynamic_batch_scheduler.cc`` (`Server.batcher`,
`Server.get_dynamic_batch`), ``rate_limiter.cc`` and ``instance_queue.cc`` (`Server.slot`, `Server.dequeue`), for one
instance, requests of batch size 1 and one shape. Threads take no time; what happens at one instant happens in this
order: requests come, timers fire, the instance finishes, the instance takes a payload. A thread never looks at the very
instant of a timeout, so that ``now > timeout`` is ``now >= timeout`` here. The instance is quicker than the batcher: no
race. Times are in ticks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field

POLL = 500_000  # 500 ms, if a tick is a microsecond


@dataclass(frozen=True)
class Policy:
    """``ModelQueuePolicy``."""

    delay: bool = False
    timeout: int = 0
    override: bool = False
    size: int = 0


@dataclass(frozen=True)
class Config:
    """``ModelDynamicBatching``."""

    max_batch: int
    preferred: frozenset[int]
    delay: int
    levels: int = 0
    default_level: int = 0
    default: Policy = Policy()
    policies: dict[int, Policy] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    id: int
    start: int
    priority: int = 0
    timeout: int = 0


class PolicyQueue:
    def __init__(self, policy: Policy, keep: bool) -> None:
        self.policy, self.keep = policy, keep
        self.queue: list[Request] = []
        self.timestamps: list[int] = []
        self.delayed: list[Request] = []
        self.rejected: list[Request] = []

    def __len__(self) -> int:
        return len(self.queue) + len(self.delayed)

    def enqueue(self, request: Request, now: int) -> bool:
        if self.policy.size != 0 and len(self) >= self.policy.size:
            return False
        self.queue.append(request)
        timeout = self.policy.timeout
        if self.policy.override and request.timeout != 0 and request.timeout < timeout:
            timeout = request.timeout
        self.timestamps.append(now + timeout if timeout != 0 else 0)
        return True

    def dequeue(self) -> Request:
        if self.queue:
            self.timestamps.pop(0)
            return self.queue.pop(0)
        return self.delayed.pop(0)

    def expired(self, index: int, now: int) -> bool:
        return self.timestamps[index] != 0 and now >= self.timestamps[index]

    def apply(self, index: int, now: int) -> tuple[bool, int]:
        """Whether the index is that of a request still, and how many were rejected."""
        rejected = 0
        if index < len(self.queue):
            current = index
            while current < len(self.queue) and self.expired(current, now):
                if self.policy.delay:
                    self.delayed.append(self.queue[current])
                else:
                    self.rejected.append(self.queue[current])
                    rejected += 1
                current += 1
            del self.queue[index:current], self.timestamps[index:current]
            if index < len(self.queue):
                return True, rejected
        return index - len(self.queue) < len(self.delayed), rejected

    def reject_timeouts(self, now: int) -> int:
        if self.policy.delay:
            return 0
        count = index = 0
        while index < len(self.queue):
            if self.expired(index, now):
                count += 1
                self.rejected.append(self.queue.pop(index))
                self.timestamps.pop(index)
            else:
                index += 1
        return count

    def at(self, index: int) -> Request:
        return self.queue[index] if index < len(self.queue) else self.delayed[index - len(self.queue)]

    def timeout_at(self, index: int) -> int:
        return self.timestamps[index] if index < len(self.queue) else 0

    def erasable(self) -> bool:
        return not self.keep and len(self) + len(self.rejected) == 0


@dataclass
class Cursor:
    """``level`` None is the end of all."""

    level: int | None
    index: int = 0
    at_delayed: bool = False
    closest_timeout: int = 0
    oldest: int = 0
    count: int = 0
    valid: bool = True

    def copy(self) -> Cursor:
        return Cursor(**vars(self))


class PriorityQueue:
    def __init__(self, config: Config) -> None:
        self.size = 0
        self.default = config.default
        self.queues: dict[int, PolicyQueue] = {}
        if config.levels == 0:
            self.queues[0] = PolicyQueue(self.default, True)
            plain = self.default.timeout == 0 and not self.default.override and self.default.size == 0
            self.prefetches = plain
        else:
            for level, policy in config.policies.items():
                self.queues[level] = PolicyQueue(policy, True)
            self.prefetches = False
        self.front = min(self.queues, default=0)
        self.reset()

    def reset(self) -> None:
        self.cursor = Cursor(min(self.queues, default=None))

    def mark(self) -> None:
        self.marked = self.cursor.copy()

    def to_mark(self) -> None:
        self.cursor = self.marked.copy()

    def enqueue(self, level: int, request: Request, now: int) -> bool:
        queue = self.queues.setdefault(level, PolicyQueue(self.default, False))
        if not queue.enqueue(request, now):
            return False
        self.size += 1
        self.front = min(self.front, level)
        cursor = self.cursor
        reached = -1 if cursor.level is None else cursor.level
        if cursor.valid and (level < reached or (level == reached and cursor.at_delayed)):
            cursor.valid = False
        return True

    def dequeue(self) -> Request:
        self.cursor.valid = False
        level = min(level for level, queue in self.queues.items() if level >= self.front and len(queue))
        self.front = level
        request = self.queues[level].dequeue()
        self.size -= 1
        if self.queues[level].erasable():
            del self.queues[level]
        return request

    def reject_timeouts(self, now: int) -> None:
        for level, queue in self.queues.items():
            count = queue.reject_timeouts(now)
            self.size -= count
            if count > 0 and level == self.cursor.level:
                self.cursor.valid = False

    def release(self) -> list[Request]:
        released: list[Request] = []
        for level in sorted(self.queues):
            queue = self.queues[level]
            released += queue.rejected
            queue.rejected = []
            if queue.erasable():
                if self.cursor.valid and level == self.cursor.level:
                    self.cursor.valid = False
                del self.queues[level]
        return released

    def cursor_valid(self, now: int) -> bool:
        return self.cursor.valid and now < self.cursor.closest_timeout

    def cursor_end(self) -> bool:
        return self.cursor.count == self.size

    def apply_at_cursor(self, now: int) -> int:
        cursor, rejected = self.cursor, 0
        while cursor.level is not None:
            there, count = self.queues[cursor.level].apply(cursor.index, now)
            rejected += count
            if not there and self.size > cursor.count + rejected:
                cursor.level = min((level for level in self.queues if level > cursor.level), default=None)
                cursor.index = 0
                continue
            break
        self.size -= rejected
        return rejected

    def advance(self) -> None:
        cursor = self.cursor
        if cursor.count >= self.size:
            return
        assert cursor.level is not None
        queue = self.queues[cursor.level]
        timeout, start = queue.timeout_at(cursor.index), queue.at(cursor.index).start
        if timeout != 0:
            cursor.closest_timeout = min(cursor.closest_timeout, timeout) if cursor.closest_timeout else timeout
        # 0 is an instant here: what upstream takes for "none yet" is the first request.
        cursor.oldest = min(cursor.oldest, start) if cursor.count else start
        cursor.index += 1
        cursor.count += 1
        cursor.at_delayed = cursor.index > len(queue.queue)


@dataclass
class Payload:
    requests: list[Request] = field(default_factory=list)
    state: str = "uninitialized"  # then ready, scheduled, executing


class Server:
    """What became of everybody: ``batches`` as ``(start, ids)``, ``rejected`` as ``{id: when}``."""

    def __init__(self, config: Config, service: Callable[[int], int]) -> None:
        self.config, self.service, self.now = config, service, 0
        self.queue = PriorityQueue(config)
        self.payload, self.saturated = Payload(), False
        self.pending_size = self.queued_size = self.next_preferred = 0
        self.payloads: list[Payload] = []
        self.consumers, self.executing, self.ends = 1, False, 0
        self.batches: list[tuple[int, list[int]]] = []
        self.rejected: dict[int, int] = {}
        self.thread = self.batcher()
        self.sleeps_until = next(self.thread)

    def run(self, requests: list[Request]) -> None:
        coming = list(requests)
        while (
            coming
            or self.queue.size
            or self.executing
            or self.payloads
            or len(self.rejected) + sum(len(ids) for _, ids in self.batches) < len(requests)
        ):
            events = [self.sleeps_until]
            events += [coming[0].start] if coming else []
            events += [self.ends] if self.executing else []
            self.now = min(events)
            here = [request for request in coming if request.start == self.now]
            coming = coming[len(here) :]
            # One after the other the frontend's threads enqueue them, before the batcher's gets the lock.
            wakes = [self.enqueue(request) for request in here]
            if any(wakes):
                self.notify()
            while self.sleeps_until <= self.now:
                self.notify()
            if self.executing and self.ends <= self.now:
                self.executing = False
                self.consumers += 1
                if not self.payloads:
                    self.notify()
            if not self.executing and self.payloads:
                self.dequeue()

    def notify(self) -> None:
        self.sleeps_until = next(self.thread)

    def slot(self) -> bool:
        return len(self.payloads) < 2 if self.queue.prefetches else self.consumers > 0

    def stale(self) -> bool:
        return self.payload.state == "executing"

    def enqueue(self, request: Request) -> bool:
        """Whether it wakes the batcher."""
        self.queued_size += 1
        config = self.config
        level = request.priority
        if level <= 0 or level > config.levels:
            level = config.default_level
        if not self.queue.enqueue(level, request, self.now):
            self.rejected[request.id] = self.now
            return False
        return self.slot() and (self.saturated or self.stale() or self.queued_size >= self.next_preferred)

    def batcher(self) -> Generator[int, None, None]:
        """Yields until when it sleeps; is resumed then or when it is notified."""
        while True:
            rejected: list[Request] = []
            wait = 0
            if self.saturated or self.stale():
                self.payload, self.saturated, self.next_preferred = Payload(), False, 0
            if self.queue.size == 0:
                wait = POLL
            else:
                yield from self.wait_for_slot()
                if self.stale():
                    continue
                wait = self.get_dynamic_batch()
                rejected = self.queue.release()
                pending = self.queue.cursor.count
                if wait == 0 and pending != 0:
                    self.payload.requests += [self.queue.dequeue() for _ in range(pending)]
                    if self.payload.state == "uninitialized":
                        self.payload.state = "ready"
                    self.queued_size -= self.pending_size
                    self.pending_size = 0
            if wait > 0:
                yield self.now + wait
            if self.payload.state == "ready":
                self.payload.state = "scheduled"
                self.payloads.append(self.payload)
                self.consumers -= 1
            self.finish(rejected)

    def wait_for_slot(self) -> Generator[int, None, None]:
        while not self.slot():
            deadline = self.now + POLL
            while self.now < deadline and not self.slot():
                yield deadline
            if not self.slot():
                self.queue.reject_timeouts(self.now)
                self.finish(self.queue.release())

    def finish(self, rejected: list[Request]) -> None:
        self.rejected |= {request.id: self.now for request in rejected}

    def get_dynamic_batch(self) -> int:
        """How long to wait, 0 where there is something to do."""
        queue, config, now = self.queue, self.config, self.now
        largest = max(config.preferred)
        send_now, best = False, 0
        if not queue.cursor_valid(now):
            queue.reset()
            self.pending_size = 0
        self.queued_size -= queue.apply_at_cursor(now)
        have = len(self.payload.requests)
        while not queue.cursor_end():
            if have + queue.cursor.count != 0:
                if have + self.pending_size + 1 > largest and best == 0:
                    best = self.pending_size
                    queue.mark()
                    self.saturated = True
                if have + self.pending_size + 1 > config.max_batch:
                    send_now = True
                    break
            self.pending_size += 1
            queue.advance()
            self.queued_size -= queue.apply_at_cursor(now)
            if self.pending_size + have in config.preferred:
                best = self.pending_size
                queue.mark()
        age = now - queue.cursor.oldest
        exceeded = config.delay != 0 and age >= config.delay
        if best != 0 and not exceeded:
            if config.delay == 0:
                self.saturated = True
            self.pending_size = best
            queue.to_mark()
            return 0
        if queue.cursor.count == 0:
            return 0
        if send_now or have + self.pending_size >= largest:
            self.saturated = True
            return 0
        if exceeded or config.delay == 0:
            return 0
        above = [size for size in config.preferred if size > self.pending_size + have]
        self.next_preferred = min(above or config.preferred) - have
        if not self.saturated and have != 0 and have not in config.preferred:
            return 0
        wait = config.delay - age
        if queue.cursor.closest_timeout != 0:
            wait = min(wait, queue.cursor.closest_timeout - now)
        return wait

    def dequeue(self) -> None:
        payload = self.payloads.pop(0)
        payload.state = "executing"
        size = len(payload.requests)
        while self.payloads and self.config.delay > 0 and self.config.max_batch > 1:
            following = self.payloads[0]
            if self.now - following.requests[0].start <= self.config.delay:
                break
            following.state = "executing"
            if size + len(following.requests) > self.config.max_batch:
                break
            payload.requests += following.requests
            size += len(following.requests)
            self.payloads.pop(0)
        self.batches.append((self.now, [request.id for request in payload.requests]))
        self.executing, self.ends = True, self.now + self.service(size)
        self.notify()
