"""Triton's dynamic batcher: its knobs, and how it forms batches while the model is busy."""

from __future__ import annotations

from bisect import bisect_right
from typing import ClassVar

import msgspec
import numpy as np

from simqueue.checks import at_least
from simqueue.errors import ConfigError
from simqueue.plan import Release, Step, Wait
from simqueue.policy.backlog import Backlog, Batch
from simqueue.policy.base import View
from simqueue.policy.triton_batcher import QueueBatcher, Rule
from simqueue.policy.triton_queue import PriorityQueue, QueuePolicy
from simqueue.units import INT64_MAX, Grid

_IDLE = Wait()
_WHERE = "policy triton"
# Payloads that wait for an instance, besides the one that it runs; and how often a batcher with nothing to do looks.
_SLOTS, _POLL_S = 2, 0.5


class Triton(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="triton"):
    """Triton Inference Server 2.51 (core r24.10), ``dynamic_batching``, one instance: a batcher moves queued requests
    into payloads of at most ``max_batch_size`` even while the model is busy, as soon as they make a preferred size or
    the oldest has been queued for ``max_queue_delay_microseconds``.

    Two payloads at most wait for the instance, in which they can be topped up until they are full, taken or frozen;
    then the batcher stands still. Those behind the one that is taken are merged with it as far as they fit, if their
    oldest has waited longer than the delay. ``preferred_batch_size`` is ``(max_batch_size,)`` unless given.
    ``race_probability``: how often the end of a batch wakes the batcher before the instance takes the next payload,
    which then takes along what is queued (5.6 % in recorded runs); drawn from ``seed``.

    With ``priority_levels``, a timeout or a ``max_queue_size`` nothing is formed ahead: the queue stands until the
    instance is free, so that nothing is topped up, frozen or merged, and there is no race. Level 1 goes first; the
    level of a request is its ``priority``, or ``default_priority_level`` if that is no level. Each level has the policy
    that ``priority_queue_policy`` gives it, or ``default_queue_policy`` (`simqueue.policy.triton_queue.QueuePolicy`).
    Left out: several instances, ragged shapes, and cancelled requests that still take up room in the queue. The rule as
    found in dynamic_batch_scheduler.cc, scheduler_utils.cc, rate_limiter.cc and payload.cc, and, for what is formed
    ahead, in recorded runs (docs/real_batchers.md).
    """

    max_batch_size: int
    preferred_batch_size: tuple[int, ...] = ()
    max_queue_delay_microseconds: int = 0
    race_probability: float = 0.056
    seed: int = 0
    priority_levels: int = 0
    default_priority_level: int = 0
    default_queue_policy: QueuePolicy = QueuePolicy()
    priority_queue_policy: dict[int, QueuePolicy] = {}
    iteration_level: ClassVar[bool] = False
    release: ClassVar[Release] = "batch"

    def __post_init__(self) -> None:
        at_least(_WHERE, "max_batch_size", self.max_batch_size, 1)
        at_least(_WHERE, "max_queue_delay_microseconds", self.max_queue_delay_microseconds, 0)
        for size in self.preferred_batch_size:
            if not 1 <= size <= self.max_batch_size:
                raise ConfigError(
                    f"{_WHERE}: preferred_batch_size has {size}, which is not within 1 and max_batch_size = "
                    f"{self.max_batch_size}: leave it out, or raise max_batch_size"
                )
        if not 0 <= self.race_probability <= 1:
            raise ConfigError(f"{_WHERE}: race_probability = {self.race_probability} must be within 0 and 1")
        self._check_levels()

    def _check_levels(self) -> None:
        levels, default = self.priority_levels, self.default_priority_level
        at_least(_WHERE, "priority_levels", levels, 0)
        if not min(levels, 1) <= default <= levels:
            raise ConfigError(
                f"{_WHERE}: default_priority_level = {default} is not within {min(levels, 1)} and priority_levels = "
                f"{levels}: give the level of requests that name none"
            )
        self.default_queue_policy.check(f"{_WHERE}: default_queue_policy")
        for level, policy in self.priority_queue_policy.items():
            if not 1 <= level <= levels:
                raise ConfigError(
                    f"{_WHERE}: priority_queue_policy has level {level}, which is not within 1 and priority_levels = "
                    f"{levels}: leave it out, or raise priority_levels"
                )
            policy.check(f"{_WHERE}: priority_queue_policy {level}")

    @property
    def turns_away(self) -> bool:
        """Whether it may refuse anybody."""
        return any(policy.turns_away for policy in (self.default_queue_policy, *self.priority_queue_policy.values()))

    @property
    def lenient(self) -> Triton:
        """The same that refuses nobody."""
        return msgspec.structs.replace(
            self,
            default_queue_policy=self.default_queue_policy.lenient,
            priority_queue_policy={level: policy.lenient for level, policy in self.priority_queue_policy.items()},
        )

    def decider(self, grid: Grid) -> TritonDecider | QueueBatcher:
        """The rule with its clock in ticks: as upstream (``support_prefetching_``), batches are formed ahead only where
        the queue is a plain one."""
        if not self.priority_levels and self.default_queue_policy.plain:
            return TritonDecider(self, grid)
        queue = PriorityQueue(self.priority_levels, self.default_priority_level, self._policy_of, grid)
        return QueueBatcher(self.rule(grid), queue)

    def rule(self, grid: Grid) -> Rule:
        """How many make a batch. Upstream fills in ``max_batch_size`` where no size is preferred."""
        preferred = sorted({*self.preferred_batch_size} or {self.max_batch_size})
        delay = grid.ticks(self.max_queue_delay_microseconds / 1e6)
        return Rule(self.max_batch_size, preferred, delay, grid.ticks(_POLL_S))

    def _policy_of(self, level: int) -> QueuePolicy:
        return self.priority_queue_policy.get(level, self.default_queue_policy)


class TritonDecider:
    """The batcher, which is caught up with when the instance is free.

    Attributes:
        backlog: its `batches` are the payloads that wait for the instance, its ``ids`` the queue.
        seen: how many of the queue have been enqueued, as far as it has been caught up with.
        current: the payload that it moves requests to; it is one of those that wait, or empty, or taken already.
        frozen: nothing more is moved to it ("saturated"), or it was taken ("stale").
        enough: queued requests that wake the batcher ("next preferred batch size").
        wakes: when it looks by itself.
    """

    def __init__(self, policy: Triton, grid: Grid) -> None:
        self.most, self.preferred, self.delay, self.poll = policy.rule(grid)
        self.races, self.rng = policy.race_probability, np.random.default_rng(policy.seed)
        self.backlog = Backlog()
        self.seen = 0
        self.current: Batch = []
        self.frozen = False
        self.enough = 0
        self.wakes = self.poll
        self.ran = False

    def decide(self, view: View) -> Step | Wait:
        """Start the payload whose turn it is, or wait until the batcher makes one."""
        self.backlog.look(view)
        self.seen = min(self.seen, len(self.backlog.ids))
        self._catch_up(view)
        ran, self.ran = self.ran, False
        if not self.backlog.batches:
            return Wait(self.wakes) if self.backlog.ids else _IDLE
        self._race(ran)
        batch = self._taken(view)
        self.ran = True
        self._wake(view, view.now)
        return Step(admit=self.backlog.start(batch), lasts="batch")

    def _catch_up(self, view: View) -> None:
        """Arrivals and the batcher's timer, in their order."""
        ids = self.backlog.ids
        while True:
            # Moved requests leave the queue, so that the next arrival is always the first that was not seen.
            arrives = view.arrival(ids[self.seen]) if self.seen < len(ids) else INT64_MAX
            if min(arrives, self.wakes) > view.now:
                return
            if arrives <= self.wakes:
                self.seen += 1
                if len(self.backlog.batches) < _SLOTS and (self.frozen or self.seen >= self.enough):
                    self._wake(view, arrives)
            else:
                self._wake(view, self.wakes)

    def _wake(self, view: View, now: int) -> None:
        """The batcher moves what is to be moved, and sleeps."""
        backlog = self.backlog
        while True:
            if self.frozen:
                self.current, self.frozen, self.enough = [], False, 0
            if not self.seen:
                self.wakes = now + self.poll
                return
            if len(backlog.batches) == _SLOTS:
                # Until one is taken.
                self.wakes = INT64_MAX
                return
            count, sleep = self._evaluate(view, now)
            if sleep:
                self.wakes = now + sleep
                return
            if count:
                if not self.current:
                    backlog.batches.append(self.current)
                self.current += backlog.take(count)
                self.seen -= count

    def _evaluate(self, view: View, now: int) -> tuple[int, int]:
        """How many of the queue to move now; or how long to sleep first, if that is not 0."""
        have, most, largest = len(self.current), self.most, self.preferred[-1]
        count = best = 0
        full = False
        for count in range(self.seen + 1):
            size = have + count
            if count and size in self.preferred:
                best = count
            if count == self.seen:
                break
            if size and size + 1 > largest and not best:
                best, self.frozen = count, True
            if size and size + 1 > most:
                full = True
                break
        age = now - view.arrival(self.backlog.ids[0])
        expired = bool(self.delay) and age >= self.delay
        if best and not expired:
            self.frozen = self.frozen or not self.delay
            return best, 0
        if full or have + count >= largest:
            self.frozen = True
            return count, 0
        if expired or not self.delay:
            return count, 0
        above = bisect_right(self.preferred, have + count)
        self.enough = self.preferred[above if above < len(self.preferred) else 0] - have
        if have and have not in self.preferred:
            return count, 0
        return count, self.delay - age

    def _race(self, ran: bool) -> None:
        """Now and then the end of a batch wakes the batcher first."""
        first = self.backlog.batches[0]
        room = min(self.most - len(first), self.seen)
        if ran and first is self.current and not self.frozen and room and self.rng.random() < self.races:
            first += self.backlog.take(room)
            self.seen -= room

    def _taken(self, view: View) -> Batch:
        """The payload at the head, with those behind it that are overdue and fit."""
        batches = self.backlog.batches
        batch = batches.popleft()
        stale = [batch]
        while self.delay and batches and view.now - view.arrival(batches[0][0]) > self.delay:
            stale.append(batches[0])
            if len(batch) + len(batches[0]) > self.most:
                break
            batch = batch + batches.popleft()
        self.frozen = self.frozen or any(payload is self.current for payload in stale)
        return batch
