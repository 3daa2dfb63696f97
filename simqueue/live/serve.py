"""`serve`: a workload through a policy on a real device, in wall time, asked for by concurrent clients."""

from __future__ import annotations

import gc
import math
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from simqueue.checks import at_least, one_of
from simqueue.errors import ConfigError, WorkloadError
from simqueue.live.clients import Account, Job
from simqueue.live.connection import Connection
from simqueue.live.crowd import Crowd, InProcess, InThread, Where
from simqueue.live.executor import Executor, Tokens, now_ns
from simqueue.live.journal import Entry
from simqueue.live.ledger import Ledger, Outcome
from simqueue.live.worker import GRID, TICKS_PER_NS, Worker, with_batch
from simqueue.provenance import provenance
from simqueue.result import Result
from simqueue.system import System
from simqueue.workload import Workload

# From the word to start until time 0: the clients have then set their first timers.
_HEAD_START_NS = 20_000_000
_PROMPTS = 1 << 17


@dataclass(frozen=True)
class Served:
    """One live run.

    Attributes:
        result: the completed requests, as the simulator would give them. Further columns of its workload:
            ``sent_late_s`` (after the intended arrival), ``received_s`` (by the worker, after the intended arrival).
        outcomes: how many requests were completed, cancelled, failed; the rest of the workload was never sent.
        answers: the tokens that each request's client read, by row of the workload.
        failed: by row, why.
        journal: every call to the engine, for `simqueue.live.journal.replay`.
        host: ns of every step by `simqueue.live.ledger.HOST_FIELDS`.
        waited: by step, whether the replica had been free before it.
        interrupted: whether it was stopped before all was done.
    """

    result: Result | None
    outcomes: Mapping[str, int]
    answers: Sequence[Sequence[int]]
    failed: Mapping[int, str]
    journal: Sequence[Entry]
    host: Mapping[str, NDArray[np.int64]]
    waited: NDArray[np.bool_]
    interrupted: bool


def serve(
    workload: Workload,
    system: System,
    executor: Executor,
    *,
    clients: Where = "process",
    seed: int = 0,
    warmup: int = 0,
    prompts: Sequence[Tokens] | None = None,
    leaves: Mapping[int, int] | None = None,
    saturation_rps: Callable[[], float] = lambda: math.nan,
) -> Served:
    """Run ``workload`` under ``system.policy`` on ``executor`` until every request has been answered.

    Args:
        workload: what arrives, each request at its intended instant, whatever the server does (open loop), or from
            users who wait for their answers (closed loop).
        system: its policy is the one that runs; the rest is provenance.
        executor: owns the device; left as it was found.
        clients: in a process of their own, or in a thread beside the worker's.
        seed: of the prompts' tokens, where they are not given.
        warmup: leave the first so many requests by arrival out of every figure.
        prompts: token ids of every request; random ones of the workload's lengths unless given.
        leaves: requests whose client goes away after so many tokens.
        saturation_rps: as `simqueue.saturation_rps` predicts it, for the result.

    Raises:
        ConfigError: the parts do not go together.
        WorkloadError: a request does not fit the executor's window, or a prompt is not what the workload says.
        DeviceError: the device cannot run it; every client has heard of it.
    """
    workload = workload.fit_context(executor.window, "error")
    _check(workload, system, executor, clients, warmup)
    if prompts is None:
        prompts = random_prompts(workload, executor.vocabulary, seed)
    _check_prompts(workload, prompts, executor.vocabulary)
    about = provenance(workload, system, seed, GRID)
    about["live"] = {"executor": dict(executor.describe()), "clients": clients}
    ours, theirs = socket.socketpair()
    with ours, _quiet(), _clients(clients, theirs, _job(workload, prompts, leaves or {})) as crowd:
        origin_ns = now_ns() + _HEAD_START_NS
        worker = Worker(system.policy, executor, [Connection(ours)], origin_ns, workload.meta["users"])
        crowd.begin(origin_ns)
        interrupted = _run(worker)
        account = crowd.account()
    if worker.error is not None:
        raise worker.error
    ledger = worker.ledger
    return Served(
        result=_result(workload, system, executor, _Seen(ledger, account, origin_ns), warmup, saturation_rps, about),
        outcomes={name: ledger.outcome.count(name) for name in get_args(Outcome)},
        answers=account.tokens,
        failed=account.failed,
        journal=worker.journal,
        host=ledger.host(),
        waited=np.array(ledger.waited, bool),
        interrupted=interrupted,
    )


def random_prompts(workload: Workload, vocabulary: int, seed: int) -> list[Tokens]:
    """Token ids for every request of the workload."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_PROMPTS,)))
    return [rng.integers(0, vocabulary, n) for n in workload.prompt_tokens.tolist()]


def _check(workload: Workload, system: System, executor: Executor, clients: Where, warmup: int) -> None:
    one_of("live", "clients", clients, get_args(Where))
    at_least("run", "warmup", warmup, 0)
    if warmup >= len(workload):
        raise ConfigError(f"run: warmup = {warmup} leaves none of {len(workload)} requests: lower it")
    if getattr(system.policy, "iteration_level", True) and not executor.iteration_level:
        raise ConfigError(
            f"the {executor.describe()['runner']} executor runs whole batches, whose requests cannot join or leave "
            "between steps: use the graph executor, or a run-to-completion policy"
        )


def _check_prompts(workload: Workload, prompts: Sequence[Tokens], vocabulary: int) -> None:
    if len(prompts) != len(workload):
        raise WorkloadError(f"{len(prompts)} prompts for {len(workload)} requests: give one for each")
    for row, (prompt, tokens) in enumerate(zip(prompts, workload.prompt_tokens.tolist(), strict=True)):
        if len(prompt) != tokens:
            raise WorkloadError(f"row {row}: its prompt has {len(prompt)} tokens, and the workload says {tokens}")
        if np.min(prompt) < 0 or np.max(prompt) >= vocabulary:
            raise WorkloadError(f"row {row}: its prompt has token ids that are not within 0 and {vocabulary - 1}")


def _job(workload: Workload, prompts: Sequence[Tokens], leaves: Mapping[int, int]) -> Job:
    def column(name: str) -> list[int] | None:
        found = workload.extra.get(name)
        return None if found is None else found.tolist()

    def ns(seconds: NDArray[np.float64]) -> list[int]:
        return np.rint(seconds * 1e9).astype(np.int64).tolist()  # type: ignore[no-any-return]

    return Job(
        prompts=[np.ascontiguousarray(prompt, np.int64).tobytes() for prompt in prompts],
        output=workload.output_tokens.tolist(),
        max_output=column("max_output_tokens"),
        predicted_output=column("predicted_output_tokens"),
        arrival=None if workload.closed_loop else ns(workload.arrival_s),
        think=ns(workload.extra["think_s"]) if workload.closed_loop else None,
        users=workload.meta["users"] or 0,
        leaves=dict(leaves),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """No garbage collection meanwhile: a pause of some milliseconds would be a stall of every request."""
    collects = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if collects:
            gc.enable()


def _run(worker: Worker) -> bool:
    """Let the worker's thread serve. Ctrl-C ends it after the step under way; returns whether it was pressed."""
    thread = threading.Thread(target=worker.run, name="simqueue worker")
    thread.start()
    while thread.is_alive():
        try:
            thread.join()
        except KeyboardInterrupt:
            worker.stop.set()
    return worker.stop.is_set()


def _clients(where: Where, sock: socket.socket, job: Job) -> AbstractContextManager[Crowd]:
    return closing(InProcess(sock, job) if where == "process" else InThread(sock, job))


class _Seen(NamedTuple):
    """A run from both ends."""

    ledger: Ledger
    account: Account
    origin_ns: int


def _result(
    workload: Workload,
    system: System,
    executor: Executor,
    seen: _Seen,
    warmup: int,
    saturation_rps: Callable[[], float],
    about: Mapping[str, Any],
) -> Result | None:
    """What was completed, as the simulator's class; None if nothing was, after the warm-up."""
    ledger = seen.ledger
    kept = np.flatnonzero([outcome == "completed" for outcome in ledger.outcome])
    if len(kept) <= warmup:
        return None
    rows = np.array(ledger.numbers)[kept]
    arrival, scheduled, first_token, finished, sent, received = (
        np.array(column, np.int64)[kept]
        for column in (
            ledger.requests.arrival[:-1],
            ledger.scheduled,
            ledger.first_token,
            ledger.requests.finished,
            ledger.sent,
            ledger.received,
        )
    )
    together = with_batch(system.policy, executor)
    first_token = finished if together else first_token
    first_there, last_there = (
        (np.array(column, np.int64)[rows] - seen.origin_ns) * TICKS_PER_NS for column in seen.account[:2]
    )
    # Nothing is there before it left, nor before what left earlier, whatever the clocks say.
    first_there = np.maximum(first_there, first_token)
    last_there = np.maximum.reduce([last_there, finished, first_there])
    extra = {"sent_late_s": GRID.seconds(sent - arrival), "received_s": GRID.seconds(received - arrival)}
    columns = {name: column[rows] for name, column in workload.columns.items()}
    return Result(
        workload=Workload.of(columns | {"arrival_s": GRID.seconds(arrival)} | extra, workload.meta),
        grid=GRID,
        arrival=arrival,
        scheduled=scheduled,
        first_token=first_there,
        finished=last_there,
        first_delivery=first_there - first_token,
        delivery=last_there - finished,
        leaps=ledger.leaps(),
        with_batch=together,
        warmup=warmup,
        durations=ledger.durations,
        saturation_rps=saturation_rps,
        provenance=about,
    )
