"""Does a batching policy keep the contract of docs/design.md? For the tests of whoever writes one."""

from __future__ import annotations

from collections.abc import Iterator, KeysView, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, cast, get_args

import numpy as np

from simqueue.cost.base import UNLIMITED
from simqueue.cost.linear import LinearCost
from simqueue.engine import Engine
from simqueue.errors import InvariantError
from simqueue.kv import Blocks, Unlimited
from simqueue.paged import PagedEngine
from simqueue.plan import Lasts, Refusals, Release, Step, Wait
from simqueue.policy.base import BatchingPolicy, Decider, PagedView, Refusing, View
from simqueue.record import Requests, settle
from simqueue.sim.driver import drive
from simqueue.source import Columns, Users
from simqueue.units import Grid

_MS = 10**9
_GRID = Grid()
_BLOCK = 4
_MOST_DECISIONS = 100_000


class _Case(NamedTuple):
    """A small workload: arrivals in ticks, prompts and outputs in tokens, and whether policies see a bound of those.

    With ``users``, who wait for their answers, ``arrival`` is how long they think.
    """

    name: str
    bounded: bool
    arrival: tuple[int, ...]
    prompt: tuple[int, ...]
    output: tuple[int, ...]
    users: int = 0
    short: bool = False


def _cycle(values: Sequence[int], count: int) -> tuple[int, ...]:
    return tuple(values[i % len(values)] for i in range(count))


_CASES = (
    _Case("one request of one token", False, (0,), (1,), (1,)),
    _Case("one request that comes late", True, (50 * _MS,), (30,), (9,)),
    _Case("two at one instant", False, (3 * _MS, 3 * _MS), (5, 7), (2, 4)),
    _Case("twenty at once", False, (0,) * 20, _cycle((9, 40, 1), 20), _cycle((1, 12, 5, 3), 20)),
    _Case("single passes, one a step", True, tuple(range(0, 25 * _MS, _MS)), (1,) * 25, (1,) * 25),
    _Case("steady", False, tuple(range(0, 72 * _MS, 3 * _MS)), _cycle((20, 3, 60, 8), 24), _cycle((6, 1, 17), 24)),
    _Case("bursts", True, tuple(40 * _MS * (i // 8) for i in range(24)), _cycle((4, 33), 24), _cycle((8, 2, 25), 24)),
    _Case("far apart", True, tuple(range(0, 3000 * _MS, 500 * _MS)), _cycle((100, 1), 6), _cycle((30, 1), 6)),
    _Case("users who do not think", True, (0,) * 20, _cycle((9, 40, 1), 20), _cycle((1, 12, 5, 3), 20), 6),
    _Case("users", False, _cycle((0, 9 * _MS, 2 * _MS), 24), _cycle((20, 3, 8), 24), _cycle((6, 1, 17, 4), 24), 5),
)
# Coefficients that tie with no arrival, and one that makes every step end at one.
_COSTS = (LinearCost(800_000_000, 8_000_000, 8_000_000, 2_000), LinearCost(_MS, 0, 0, 0))


def check_policy(policy: BatchingPolicy) -> None:
    """Run ``policy`` over a grid of small workloads and refuse it where it breaks the contract of the core.

    Checked: every request finishes; every answer is one that the engine can carry out; deciders are deterministic
    and share nothing; the view is only read; decisions hold as long as they say (leaping equals stepping) and do
    not depend on output lengths that nobody can know yet; ``release`` and ``iteration_level`` say what it does.
    A rule of chance is caught by chance alone.

    Raises:
        InvariantError: what the policy did wrong, and in which workload.
    """
    for case in _CASES:
        for cost in _COSTS:
            # Memory that is short, and memory that never is.
            for short in (False, True) if getattr(policy, "paged", False) else (False,):
                try:
                    _check(policy, case._replace(short=short), cost)
                except InvariantError as error:
                    where = f"{type(policy).__name__}, {case.name}{', short of memory' if short else ''}"
                    raise InvariantError(f"{where}: {error}") from error.__cause__


def _check(policy: BatchingPolicy, case: _Case, cost: LinearCost) -> None:
    if getattr(policy, "release", "request") not in get_args(Release):
        raise InvariantError(f'release = {policy.release!r} is neither "batch" nor "request"')  # type: ignore[attr-defined]
    one, other = (_Watched(policy, policy.decider(_GRID)) for _ in range(2))
    fate = one.serve(case, cost)
    other.serve(case, cost)
    fresh = _Watched(policy, policy.decider(_GRID))
    fresh.serve(case, cost)
    if not one.log == other.log == fresh.log:
        raise InvariantError("its deciders do not decide alike: they share state, or are not deterministic")
    slow = _Watched(policy, policy.decider(_GRID))
    if slow.serve(case, cost, longest_leap=1) != fate:
        raise InvariantError('asked after every step it decides otherwise than it promised: answer with lasts = "step"')
    longer = _Watched(policy, policy.decider(_GRID))
    longer.serve(case._replace(output=tuple(reversed(case.output))), cost, longest_leap=1)
    for (seen, mine), (also_seen, theirs) in zip(slow.log, longer.log, strict=False):
        if seen != also_seen:
            break
        if mine != theirs:
            raise InvariantError(f"at tick {seen[0]} its decision depends on output lengths that nobody knows yet")


class _Watched:
    """A policy with one decider, which is shown no more than a `View` and whose every answer is noted."""

    def __init__(self, policy: BatchingPolicy, decider: Decider) -> None:
        self.release = getattr(policy, "release", "request")
        self.paged = getattr(policy, "paged", False)
        for name in ("reserve", "preemption", "headroom", "fits", "turns_away"):
            if hasattr(policy, name):
                setattr(self, name, getattr(policy, name))
        self._batches_only = self.release == "batch" or not getattr(policy, "iteration_level", True)
        self._decider = decider
        self.log: list[tuple[tuple[object, ...], Step | Wait]] = []

    def decider(self, grid: Grid) -> _Watched:
        """What the engine asks for: this very one."""
        return self

    def decide(self, view: View) -> Step | Wait:
        """Pass the question on, and look at the answer."""
        seen: tuple[object, ...] = (view.now, view.waiting, view.running, tuple(view.prefilling.items()), view.closed)
        shown = _ShownPaged(view) if self.paged else _Shown(view)
        if isinstance(shown, _ShownPaged):
            seen += (shown.clock, shown.free_blocks, *((i, shown.emitted(i)) for i in shown.seats))
        seen += (*view.queue(),)
        try:
            decision = self._decider.decide(shown)
        except InvariantError:
            raise
        except Exception as error:
            raise InvariantError(f"it raises {error!r}") from error
        if isinstance(decision, Step):
            self._check_step(decision)
        self.log.append((seen, decision))
        if len(self.log) > _MOST_DECISIONS:
            raise InvariantError(f"after {_MOST_DECISIONS} decisions there are still requests that have not finished")
        return decision

    @property
    def looks(self) -> int | None:
        """Passed on, of a policy that turns requests away."""
        return cast(Refusing, self._decider).looks

    def refuse(self, view: View) -> Refusals:
        """Likewise."""
        return cast(Refusing, self._decider).refuse(_Shown(view))

    def _check_step(self, step: Step) -> None:
        if step.lasts not in get_args(Lasts):
            raise InvariantError(f"it answers {step}, whose lasts is none of {', '.join(get_args(Lasts))}")
        named = (*step.preempt, *step.resume, *step.skip)
        numbers = [step.admit, *named, *(number for pair in step.prefill for number in pair)]
        if not all(type(number) is int for number in numbers):
            raise InvariantError(f"it answers {step}, with numbers that are not whole")
        if self._batches_only and step.lasts != "batch":
            raise InvariantError(
                f"it answers {step}, though its release or iteration_level says that batches run to completion"
            )

    def serve(self, case: _Case, cost: LinearCost, *, longest_leap: int = UNLIMITED) -> list[list[int]]:
        """Run the case; returns when requests were scheduled, had their first token, and finished."""
        arrival, prompt, output = (np.array(column, np.int64) for column in (case.arrival, case.prompt, case.output))
        most = [max(case.output)] * len(case.output) if case.bounded else None
        # Predictions that are worth nothing, so that none tells how long an output is.
        predicted = [1 + tokens % 7 for tokens in case.prompt]
        requests = Requests(arrival, prompt, output, most, predicted)
        engine = self._engine(case, requests)
        source = Users(requests.arrival, case.arrival, case.users) if case.users else Columns(requests.arrival)
        leaps = drive(engine, requests, source, cost, longest_leap=longest_leap).columns()
        return [column.tolist() for column in settle(requests, leaps, with_batch=self.release == "batch")]

    def _engine(self, case: _Case, requests: Requests) -> Engine | PagedEngine:
        if not self.paged:
            return Engine(self, requests, _GRID, track_extremes=True)
        longest = max(case.prompt) + max(case.output)
        blocks = Blocks(_BLOCK, 2 * -(-longest // _BLOCK) + 1) if case.short else Unlimited()
        return PagedEngine(self, requests, _GRID, blocks, longest=longest, track_extremes=True)


class _Shown:
    """Of an engine what `View` promises, to be read only."""

    __slots__ = ("_view",)
    _view: View

    def __init__(self, view: View) -> None:
        object.__setattr__(self, "_view", view)

    def __setattr__(self, name: str, value: object) -> None:
        raise InvariantError(f"it sets view.{name}: what a policy remembers belongs into its decider")

    def __getattr__(self, name: str) -> object:
        raise InvariantError(f"it reads view.{name}, which is no part of simqueue.policy.View")

    @property
    def now(self) -> int:
        return self._view.now

    @property
    def waiting(self) -> int:
        return self._view.waiting

    @property
    def running(self) -> int:
        return self._view.running

    @property
    def prefilling(self) -> Mapping[int, int]:
        return MappingProxyType(self._view.prefilling)

    @property
    def closed(self) -> bool:
        return self._view.closed

    @property
    def arrived(self) -> int:
        return self._view.arrived

    def arrival(self, request: int) -> int:
        if not 0 <= request < self._view.arrived:
            raise InvariantError(f"it asks when request {request} arrives, which nobody knows yet")
        return self._view.arrival(request)

    def oldest(self) -> int:
        return self._view.oldest()

    def queue(self) -> Iterator[int]:
        return self._view.queue()

    def prompt_tokens(self, request: int) -> int:
        return self._view.prompt_tokens(request)

    def max_output_tokens(self, request: int) -> int | None:
        return self._view.max_output_tokens(request)

    def predicted_output_tokens(self, request: int) -> int | None:
        return self._view.predicted_output_tokens(request)

    def priority(self, request: int) -> int:
        return self._view.priority(request)

    def client(self, request: int) -> str:
        return self._view.client(request)

    def ttft_slo(self, request: int) -> int:
        return self._view.ttft_slo(request)


class _ShownPaged(_Shown):
    """Of an engine that counts blocks what `PagedView` promises."""

    __slots__ = ()
    _view: PagedView

    @property
    def seats(self) -> KeysView[int]:
        return self._view.seats

    @property
    def free_blocks(self) -> int:
        return self._view.free_blocks

    @property
    def total_blocks(self) -> int:
        return self._view.total_blocks

    @property
    def block_size(self) -> int:
        return self._view.block_size

    @property
    def clock(self) -> int:
        return self._view.clock

    def most_tokens(self, request: int) -> int:
        return self._view.most_tokens(request)

    @property
    def growth(self) -> int:
        return self._view.growth

    def grows(self, request: int) -> bool:
        return self._view.grows(request)

    def blocks(self, request: int) -> int:
        return self._view.blocks(request)

    def needs(self, request: int, tokens: int) -> int:
        return self._view.needs(request, tokens)

    def demand(self, request: int) -> tuple[int, int]:
        return self._view.demand(request)

    def demands(self) -> Iterator[tuple[int, int, int]]:
        return self._view.demands()

    def whole(self, request: int) -> int:
        return self._view.whole(request)

    def backlog(self, request: int) -> int:
        return self._view.backlog(request)

    def emitted(self, request: int) -> int:
        return self._view.emitted(request)

    def preempted(self, request: int) -> bool:
        return self._view.preempted(request)
