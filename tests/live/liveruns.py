"""Live runs on the pretended device, and what must hold of every one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from simqueue import Affine, Continuous, Dynamic, NoBatching, Result, Static, System, Workload
from simqueue.live.executor import Emitted, Tokens
from simqueue.live.journal import Completed, Planned, replay
from simqueue.live.ledger import HOST_FIELDS
from simqueue.live.serve import Served, serve
from simqueue.live.sleep import SleepExecutor, token
from simqueue.live.worker import GRID
from simqueue.plan import Work
from simqueue.policy import BatchingPolicy, RayServe, Triton

COST = Affine(base_s=2e-4, per_row_s=5e-6, per_new_token_s=1e-6)
POLICIES = {
    "none": NoBatching(),
    "static, batch": Static(4),
    "static, request": Static(4, "request"),
    "dynamic": Dynamic(8),
    "dynamic that waits": Dynamic(8, 0.003, release="request"),
    "dynamic, whole bulks": Dynamic(6, float("inf"), 3),
    "triton": Triton(8, (4,), 3000),
    "triton, queue policies": Triton(8, priority_levels=2, default_priority_level=2),
    "ray-serve": RayServe(6, 0.003),
    "continuous": Continuous(8),
    "chunked": Continuous(8, 16),
}


def workload(requests: int, seed: int = 0) -> Workload:
    """A rush, more than any policy can take in, and then as many again one by one."""
    rng = np.random.default_rng(seed)
    arrival = np.sort(np.where(np.arange(requests) % 2, rng.uniform(0, 0.01, requests), rng.uniform(0, 0.1, requests)))
    return Workload.from_columns(arrival, rng.integers(1, 40, requests), rng.integers(1, 12, requests))


class Strict(SleepExecutor):
    """Looks at what it is asked to do: rows come and go as the plans say, and none is forgotten here.

    ``deeds`` are done while the step of that number, from 1, runs.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.begun: dict[int, list[int]] = {}
        self.steps = 0
        self.leaving: set[int] = set()
        self.deeds: dict[int, Callable[[], object]] = {}

    def begin(self, request: int, prompt: Tokens) -> None:
        assert request not in self.begun
        self.begun[request] = prompt.tolist()
        super().begin(request, prompt)

    def launch(self, chunks: Sequence[tuple[int, int]], work: Work) -> None:
        decoding = sum(left == 0 for left in self._left.values())
        assert decoding == work.decode_rows + work.held_rows
        assert len(chunks) == work.prefill_rows
        assert len(self._left) >= decoding + len(chunks)
        assert not self.leaving & self._left.keys()
        super().launch(chunks, work)
        self.steps += 1
        self.deeds.get(self.steps, lambda: None)()

    def ahead(self, leaving: Sequence[int]) -> None:
        assert self._left.keys() >= set(leaving)
        self.leaving = set(leaving)
        super().ahead(leaving)

    @property
    def empty(self) -> bool:
        """Whether nobody is on the device."""
        return not self._emitted


class Again(Strict):
    """Where seats can be lost. Counts rows, and looks at what is begun anew or held: prompt and answer so far."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.held: dict[int, bool] = {}
        self.ever_held = 0

    def begin(self, request: int, prompt: Tokens) -> None:
        before = self.begun.pop(request, None)
        super().begin(request, prompt)
        if before is not None:
            self._check(request, before, prompt)
            self.begun[request] = before
            self._emitted[request] = len(prompt) - len(before)

    def hold(self, request: int, known: Tokens, *, on_host: bool) -> None:
        assert request not in self.held
        assert len(known) == len(self.begun[request]) + self._emitted[request]
        self._check(request, self.begun[request], known)
        super().hold(request, known, on_host=on_host)
        self.held[request] = on_host
        self.ever_held += 1

    def go_on(self, request: int) -> None:
        assert not self._begun
        del self.held[request]
        super().go_on(request)

    def launch(self, chunks: Any, work: Work) -> None:
        decoding = sum(left == 0 for left in self._left.values())
        # Where nobody decodes, who was left out of the step before still is.
        assert decoding <= work.paused if work.paused else decoding == work.decode_rows
        assert len(self._left) + list(self.held.values()).count(False) <= self.max_rows
        SleepExecutor.launch(self, chunks, work)
        self.steps += 1

    def end(self, requests: Any) -> None:
        super().end(requests)
        for request in requests:
            self.held.pop(request, None)

    def _check(self, request: int, prompt: list[int], known: Tokens) -> None:
        answer = [token(request, at) for at in range(len(known) - len(prompt))]
        assert known.tolist() == prompt + answer


class Whole(Strict):
    """Runs whole batches in one call, like a library that returns when everything is done."""

    iteration_level = False
    streams = False

    def launch(self, chunks: Sequence[tuple[int, int]], work: Work) -> None:
        super().launch(chunks, work)
        self.work = work

    def collect(self, stopped: Callable[[], bool]) -> list[Emitted]:
        steps = super().collect(stopped)
        while len(steps) < self.work.steps and not stopped():
            SleepExecutor.launch(self, (), Work(held_rows=self.work.prefill_rows))
            steps += super().collect(stopped)
        return steps


def live(
    work: Workload,
    policy: BatchingPolicy,
    clients: str = "thread",
    executor: Strict | None = None,
    leaves: Mapping[int, int] | None = None,
) -> Served:
    """Served on a pretended device, which is empty afterwards."""
    executor = executor or Strict(COST)
    run = serve(work, System(policy, COST), executor, clients=clients, leaves=leaves)
    assert executor.empty
    return run


def whole(work: Workload) -> list[list[int]]:
    """What a pretended device answers: requests are numbered as they come, which is in order."""
    return [[token(request, at) for at in range(n)] for request, n in enumerate(work.output_tokens.tolist())]


def limits(policy: BatchingPolicy) -> tuple[int, int | None]:
    """The most rows and the most tokens of a step."""
    if isinstance(policy, Continuous):
        return policy.max_seqs, policy.max_tokens
    names = ("batch", "max_batch", "max_batch_size")
    return next((getattr(policy, name) for name in names if hasattr(policy, name)), 1), None


def assert_answered(run: Served, work: Workload) -> None:
    """Every request exactly once, with exactly its tokens."""
    assert +Counter(run.outcomes) == {"completed": len(work)}
    assert run.answers == whole(work)
    assert not run.failed
    assert not run.interrupted
    assert run.result is not None
    assert len(run.result.arrival) == len(work)


def assert_laws(run: Served, policy: BatchingPolicy, *, clocks_agree: bool = True) -> None:
    """What holds of every run, whoever went away; also where clocks do not agree, but for what compares them."""
    assert replay(run.journal, policy, GRID) == []
    result = run.result
    assert result is not None
    assert_times(result)
    _assert_steps(result, policy)
    waited, starts, ends = run.waited, result.leaps["start"], result.step_ends
    assert np.array_equal(starts[1:][~waited[1:]], ends[:-1][~waited[1:]])
    _assert_journal(run)
    steps = len(result.step_ends)
    assert list(run.host) == list(HOST_FIELDS)
    assert all(len(column) == steps for column in run.host.values())
    assert len(run.waited) == steps
    assert run.waited[0]
    if clocks_agree:
        _assert_clocks(run, result)


def _assert_clocks(run: Served, result: Result) -> None:
    assert all((column >= 0).all() for column in run.host.values())
    late, received = (result.workload.extra[name] for name in ("sent_late_s", "received_s"))
    assert (late >= 0).all()
    assert (received >= late).all()
    assert (GRID.column(received) <= result.queueing + 1).all()


def assert_times(result: Result) -> None:
    """No instant is before one that it follows."""
    assert (np.diff(result.arrival) >= 0).all()
    assert (result.queueing >= 0).all()
    assert (result.service > 0).all()
    assert (result.queueing + result.service == result.response).all()
    assert (result.first_token <= result.finished).all()
    assert (result.first_delivery >= 0).all()
    assert (result.delivery >= 0).all()
    assert (result.scheduled < result.first_token - result.first_delivery).all()
    if result.with_batch:
        assert np.array_equal(result.first_token, result.finished)
        assert np.array_equal(result.first_delivery, result.delivery)
    # Little's law, of those who wait: time summed over requests is number summed over time.
    times, waiting = result.waiting()
    assert np.isclose((waiting[:-1] * np.diff(times)).sum(), GRID.seconds(result.queueing.sum()), rtol=1e-9)


def _assert_steps(result: Result, policy: BatchingPolicy) -> None:
    leaps, ends = result.leaps, result.step_ends
    starts, rows = leaps["start"], leaps["rows"] + leaps["prefill_rows"]
    assert (leaps["steps"] == 1).all()
    assert (leaps["total"] > 0).all()
    assert np.array_equal(leaps["first"], np.where(leaps["prefill_rows"] > 0, leaps["total"], 0))
    assert np.array_equal(ends, starts + leaps["total"])
    assert np.array_equal(ends - starts, result.durations())
    assert (starts[1:] >= ends[:-1]).all()
    assert (rows > 0).all()
    most, budget = limits(policy)
    assert rows.max() <= most
    if budget is not None:
        assert (leaps["new_tokens"] + leaps["rows"]).max() <= budget
    for left in (result.first_token - result.first_delivery, result.finished - result.delivery):
        assert np.isin(left, ends).all()
    # A request is scheduled at the plan of its first step, which begins then or, back to back, a little before.
    step = np.searchsorted(starts, result.scheduled, "right") - 1
    assert (result.scheduled < ends[step]).all()
    assert (leaps["prefill_rows"][step] > 0).all()


def _assert_journal(run: Served) -> None:
    """The steps of the result are those that the engine was told of."""
    assert run.result is not None
    works = [entry.answer for entry in run.journal if isinstance(entry, Planned) and isinstance(entry.answer, Work)]
    ends = [end for entry in run.journal if isinstance(entry, Completed) for end in entry.ends]
    assert run.result.step_ends.tolist() == ends
    if len(works) == len(ends):
        for name in ("prefill_rows", "new_tokens", "prefill_context", "widest", "context", "longest"):
            assert run.result.leaps[name].tolist() == [getattr(work, name) for work in works]
        assert run.result.leaps["rows"].tolist() == [work.decode_rows + work.held_rows for work in works]


def assert_all_work_done(result: Result, work: Workload, policy: BatchingPolicy) -> None:
    """Every token of every request was computed in some step, where everybody was served to the end."""
    leaps, steps = result.leaps, result.steps()
    assert leaps["new_tokens"].sum() == work.prompt_tokens.sum()
    emitted = steps["decode_rows"].sum() + len(work)
    assert emitted == work.output_tokens.sum()
    assert (steps["held_rows"] >= 0).all()
    if isinstance(policy, Continuous):
        assert steps["held_rows"].sum() == 0
    sizes = (leaps["rows"] + leaps["prefill_rows"])[leaps["prefill_rows"] > 0]
    if isinstance(policy, Static):
        expected: Sequence[int] = [policy.batch] * (len(work) // policy.batch)
        assert sizes.tolist() == [*expected, *([rest] if (rest := len(work) % policy.batch) else [])]
