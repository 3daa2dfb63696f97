"""The engine under cancellations, call by call, beside a ledger that counts everything anew each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simqueue import Affine, System, Workload, simulate
from simqueue.cost.linear import LinearCost
from simqueue.engine import Engine
from simqueue.plan import Wait, Work
from simqueue.policy import BatchingPolicy, Continuous, Dynamic, NoBatching, Static
from simqueue.record import Leaps, OpenRequests, Requests, leap_row, settle
from simqueue.units import Grid

PS = 1e-12
COST = LinearCost(4, 2, 1, 1)
SAME_COST = Affine(4 * PS, 2 * PS, 1 * PS, 1 * PS)
_NEVER = 10**9

sizes = st.sampled_from([1, 2, 3, 4, 5, 12])
waits = st.sampled_from([0.0, 10 * PS, 40 * PS, 300 * PS])
POLICIES: dict[str, st.SearchStrategy[BatchingPolicy]] = {
    "none": st.just(NoBatching()),
    "static, batch": st.builds(Static, sizes),
    "static, request": st.builds(Static, sizes, st.just("request")),
    "dynamic": st.builds(lambda most, wait, release: Dynamic(most, wait, None, release), sizes, waits,
                         st.sampled_from(["batch", "request"])),
    "dynamic, whole bulks": st.builds(lambda most, release: Dynamic(most + 2, inf, most, release), sizes,
                                      st.sampled_from(["batch", "request"])),
    "dynamic, unlimited": st.just(Dynamic()),
    "continuous": st.builds(Continuous, sizes),
    "chunked": st.builds(lambda seats, more: Continuous(seats, seats + more), sizes, st.integers(0, 9)),
}  # fmt: skip


@dataclass
class Fate:
    """One request, and all that became of it; ``leaves`` is when its client does."""

    arrival: int
    prompt: int
    output: int
    leaves: int
    computed: int = 0
    emitted: int = 0
    scheduled: int = -1
    first: int = -1
    finished: int = -1
    outcome: str = ""
    aboard: bool = False
    freed: int = 0

    @property
    def waits(self) -> bool:
        return self.scheduled < 0 and not self.outcome

    @property
    def decodes(self) -> bool:
        return self.aboard and self.emitted > 0 and not self.silent

    @property
    def silent(self) -> bool:
        """Held, or about to leave: no token of it is wanted any more."""
        return self.outcome != "" or self.emitted == self.output


requests_to_come = st.lists(
    st.builds(
        lambda gap, prompt, output, stays: Fate(gap, prompt, output, stays),
        st.sampled_from([0, 0, 0, 1, 7, 30, 200]),
        st.sampled_from([1, 1, 2, 5, 13]),
        st.sampled_from([1, 1, 2, 3, 8, 12, 20]),
        st.sampled_from([_NEVER, _NEVER, 0, 1, 9, 20, 45, 90, 150]),
    ),
    min_size=1,
    max_size=18,
)


@dataclass
class Driver:
    """Makes the calls that a driver makes, and looks at the engine after each.

    ``leaping``: runs as many steps as the work allows (but no further than an arrival), else one at a time. ``known``:
    requests are there beforehand, as the simulator's, else they come as a live run's do.
    """

    policy: BatchingPolicy
    fates: list[Fate]
    leaping: bool
    known: bool
    now: int = 0
    come: int = 0
    batch: list[int] = field(default_factory=list)
    done: int = 0
    leaps: Leaps = field(default_factory=Leaps)

    def __post_init__(self) -> None:
        at = 0
        for fate in self.fates:
            fate.arrival = at = at + fate.arrival
            fate.leaves += at
        self.with_batch = getattr(self.policy, "release", "request") == "batch"
        self.to_completion = not getattr(self.policy, "iteration_level", True)
        columns = [np.array([getattr(fate, name) for fate in self.fates]) for name in ("arrival", "prompt", "output")]
        self.requests = Requests(*columns) if self.known else OpenRequests()
        self.engine = Engine(self.policy, self.requests, Grid(), track_extremes=True)

    def run(self) -> None:
        """Until the last one has gone."""
        while True:
            self.arrive()
            self.depart()
            waiting = [i for i, fate in enumerate(self.fates[: self.come]) if fate.waits]
            work = self.engine.plan(self.now)
            if isinstance(work, Work):
                self.start(work, waiting)
                self.work(work)
                continue
            self.look()
            assert not any(fate.aboard for fate in self.fates)
            if self.come == len(self.fates) and not waiting:
                return
            self.now = self.next(work)

    def next(self, wait: Wait) -> int:
        """When a free replica wakes."""
        wakes = [fate.arrival for fate in self.fates[self.come :]][:1]
        wakes += [fate.leaves for fate in self.fates[: self.come] if not fate.outcome]
        wakes += [] if wait.until is None else [wait.until]
        assert min(wakes) < _NEVER
        return min(wakes)

    def arrive(self) -> None:
        while self.come < len(self.fates) and self.fates[self.come].arrival <= self.now:
            fate = self.fates[self.come]
            if isinstance(self.requests, OpenRequests):
                assert self.requests.append(fate.arrival, fate.prompt, fate.output) == self.come
            self.come += 1
            self.engine.submit(self.come)
            self.look()
        if self.come == len(self.fates):
            if not self.known:
                self.engine.close()
            assert self.engine.closed

    def depart(self) -> None:
        """Who goes now; those who have their answers change nothing."""
        for i, fate in enumerate(self.fates[: self.come]):
            if fate.leaves > self.now or (fate.outcome and self.known):
                continue
            self.engine.cancel(i, self.now)
            gone, whole = [], []
            if not fate.outcome:
                fate.outcome, fate.finished = "cancelled", self.now
                if self.batch and fate.aboard:
                    if all(self.fates[j].silent for j in self.batch):
                        gone = self.batch
                        whole = [j for j in gone if not self.fates[j].outcome]
                elif fate.aboard:
                    gone = [i]
                if fate.scheduled < 0:
                    fate.scheduled = self.now
                if fate.first < 0:
                    fate.first = self.now
            self.leave(whole, gone, self.now)
            self.look()

    def start(self, work: Work, waiting: Sequence[int]) -> None:
        """The plan is what the ledger says there is."""
        chunks = list(self.engine.prefill)
        assert len(dict(chunks)) == len(chunks)
        rows = [fate for fate in self.fates if fate.aboard]
        decode, held = [fate for fate in rows if fate.decodes], [fate for fate in rows if fate.silent]
        cached = [fate.computed + (self.done or fate.emitted) - 1 for fate in decode + held]
        assert (work.decode_rows, work.held_rows) == (len(decode), len(held))
        assert (work.context, work.longest) == (sum(cached), max(cached, default=0))
        tokens, before = [n for _, n in chunks], [self.fates[i].computed for i, _ in chunks]
        assert (work.prefill_rows, work.new_tokens) == (len(chunks), sum(tokens))
        assert (work.prefill_context, work.widest) == (sum(before), max(tokens, default=0))
        assert work.rows > 0
        new = [i for i, _ in chunks if not self.fates[i].aboard]
        assert new == waiting[: len(new)]
        assert all(0 < n <= self.fates[i].prompt - self.fates[i].computed for i, n in chunks)
        for i in new:
            self.fates[i].aboard, self.fates[i].scheduled = True, self.now
        if self.to_completion:
            assert not (chunks and self.batch)
            self.batch = self.batch or new
            to_come = [self.fates[i].output - self.fates[i].emitted for i in self.batch if not self.fates[i].silent]
            assert work.steps == max(to_come)
        self.chunks = chunks

    def work(self, work: Work) -> None:
        """Run it, and tell the engine."""
        steps, ends = (work.steps if self.leaping else 1), [self.now + COST.step(work)]
        tokens = work.context + work.decode_rows + work.held_rows + work.new_tokens
        for duration in COST.series(work.rows, tokens, 0, steps - 1):
            if work.cut and self.come < len(self.fates) and self.fates[self.come].arrival <= ends[-1]:
                break
            ends.append(ends[-1] + duration)
        first = ends[0] - self.now if work.prefill_rows else 0
        row = (self.now, len(ends), first, ends[-1] - self.now, work.admitted, 0, 0, 0)
        self.leaps.append(leap_row(*row))
        leaving = sorted(self.engine.leaving)
        ended = self.engine.complete(len(ends), ends[0], ends[-1], ends)
        whole = self.emit(ends)
        self.done += len(ends) if self.batch else 0
        gone = whole
        if self.batch:
            over = all(self.fates[i].silent for i in self.batch)
            gone = self.batch if over else []
            if self.with_batch:
                whole = [i for i in gone if not self.fates[i].outcome]
        assert ended == (len(gone) if self.batch else 0)
        assert len(ends) > 1 or leaving == sorted(gone)
        self.now = ends[-1]
        self.leave(whole, gone, self.now)
        self.look()

    def emit(self, ends: Sequence[int]) -> list[int]:
        """Every row moves on by these steps; returns who has emitted everything by now, and had not before."""
        for i, tokens in self.chunks:
            self.fates[i].computed += tokens
        whole = []
        for i, fate in enumerate(self.fates):
            if not fate.aboard or fate.silent or fate.computed < fate.prompt:
                continue
            if not fate.emitted:
                fate.first = ends[0]
            fate.emitted += len(ends)
            if fate.emitted >= fate.output:
                whole.append(i)
                fate.finished = ends[fate.output - fate.emitted - 1]
                fate.emitted = fate.output
        return whole

    def leave(self, whole: Sequence[int], gone: Sequence[int], end: int) -> None:
        """The engine says so too; note it."""
        assert sorted(self.engine.left) == sorted(whole)
        assert sorted(self.engine.freed) == sorted(gone)
        for i in whole:
            assert not self.fates[i].outcome
            self.fates[i].outcome = "completed"
            if self.with_batch:
                self.fates[i].finished = end
            if not self.known and self.requests.finished[i] < 0:
                self.requests.finished[i] = end
        for i in gone:
            assert self.fates[i].aboard
            self.fates[i].aboard = False
            self.fates[i].freed += 1
        if gone and self.batch:
            self.batch, self.done = [], 0

    def look(self) -> None:
        """What policies may ask is what the ledger says."""
        engine, here = self.engine, self.fates[: self.come]
        waiting = [i for i, fate in enumerate(here) if fate.waits]
        assert list(engine.queue()) == waiting
        assert engine.waiting == len(waiting)
        if waiting:
            assert engine.oldest() == self.fates[waiting[0]].arrival
        assert engine.running == sum(fate.aboard for fate in here)
        partly = {i: fate.prompt - fate.computed for i, fate in enumerate(here) if fate.aboard and not fate.emitted}
        assert engine.prefilling == partly
        assert list(engine.prefilling) == sorted(partly)

    def check(self) -> None:
        """Afterwards: everybody was answered or went away, once, and every row came and went once."""
        for i, fate in enumerate(self.fates):
            assert fate.outcome in ("completed", "cancelled")
            assert (fate.outcome == "completed") <= (fate.emitted == fate.output)
            assert fate.freed == (fate.computed > 0)
            assert fate.computed in (0, fate.prompt) or fate.outcome == "cancelled"
            assert fate.arrival <= fate.scheduled <= fate.first <= fate.finished
            if not self.known:
                assert self.requests.finished[i] == fate.finished
        if self.known:
            times = settle(self.requests, self.leaps.columns(), with_batch=self.with_batch)
            first = [fate.finished if self.with_batch else fate.first for fate in self.fates]
            assert times[0].tolist() == [fate.scheduled for fate in self.fates]
            assert times[1].tolist() == first
            assert times[2].tolist() == [fate.finished for fate in self.fates]


@pytest.mark.parametrize("kind", POLICIES)
def test_engine_keeps_its_books_whoever_goes_away(kind: str) -> None:
    @settings(max_examples=3 * settings.default.max_examples)
    @given(POLICIES[kind], requests_to_come, st.booleans(), st.booleans())
    def keeps(policy: BatchingPolicy, fates: list[Fate], leaping: bool, known: bool) -> None:
        driver = Driver(policy, fates, leaping, known)
        driver.run()
        driver.check()

    keeps()


@pytest.mark.parametrize("kind", POLICIES)
def test_without_cancellations_the_run_is_the_simulators(kind: str) -> None:
    @given(POLICIES[kind], requests_to_come, st.booleans(), st.booleans())
    def equal(policy: BatchingPolicy, fates: list[Fate], leaping: bool, known: bool) -> None:
        for fate in fates:
            fate.leaves = _NEVER
        driver = Driver(policy, fates, leaping, known)
        driver.run()
        driver.check()
        arrival = np.array([fate.arrival for fate in fates]) * PS
        lengths = ([fate.prompt for fate in fates], [fate.output for fate in fates])
        result = simulate(Workload.from_columns(arrival, *lengths), System(policy, SAME_COST))
        assert result.grid == Grid()
        assert result.scheduled.tolist() == [fate.scheduled for fate in fates]
        assert result.finished.tolist() == [fate.finished for fate in fates]
        if not driver.with_batch:
            assert result.first_token.tolist() == [fate.first for fate in fates]

    equal()
