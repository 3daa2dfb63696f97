"""`serve`: a workload through a policy on a real device, in wall time, asked for by concurrent clients."""

from __future__ import annotations

import gc
import math
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from simqueue.checks import at_least, one_of
from simqueue.errors import ConfigError, SimqueueError, WorkloadError
from simqueue.fates import OUTCOMES
from simqueue.live.both_ends import BothEnds
from simqueue.live.clients import Account
from simqueue.live.connection import Connection
from simqueue.live.crowd import Crowd, InProcess, InThread, Where
from simqueue.live.executor import GRID, Executor, Tokens, now_ns
from simqueue.live.interrupt import noted
from simqueue.live.job import Job, job_of
from simqueue.live.journal import Entry
from simqueue.live.worker import Worker, with_batch
from simqueue.policy.base import BatchingPolicy
from simqueue.provenance import provenance
from simqueue.record import Requests
from simqueue.replica import Core, check_order, core, is_paged, may_turn_away
from simqueue.result import Result
from simqueue.system import System
from simqueue.workload import Workload

# From the word to start until time 0: the clients have then set their first timers.
_HEAD_START_NS = 20_000_000
_PROMPTS = 1 << 17
# What the policies call the most requests that they run at a time.
_LIMITS = ("max_seqs", "batch", "max_batch", "max_num_seqs", "max_bs", "max_running_requests", "max_batch_size")


@dataclass(frozen=True)
class Served:
    """One live run.

    Attributes:
        result: the requests that were completed, turned away or given up, as the simulator would give them. Further
            columns of its workload: ``sent_late_s`` (after the intended arrival), ``received_s`` (by the worker, after
            the intended arrival).
        outcomes: how many requests met with each of `simqueue.record.Outcome`; the rest never reached the server.
        answers: the tokens that each request's client read, by row of the workload.
        failed: by row, why.
        journal: every call to the engine, for `simqueue.live.journal.replay`.
        host: ns of every step by `simqueue.live.ledger.HOST_FIELDS`.
        waited: by step, whether the replica had been free before it.
        interrupted: whether Ctrl-C was pressed: it ends the run after the step under way, and nothing else.
    """

    result: Result | None
    outcomes: Mapping[str, int]
    answers: Sequence[Sequence[int]]
    failed: Mapping[int, str]
    journal: Sequence[Entry]
    host: Mapping[str, NDArray[np.int64]]
    waited: NDArray[np.bool_]
    interrupted: bool


class RunError(SimqueueError):
    """The device, or the clients' process, ended a run before its time. ``served`` is what was completed until then."""

    def __init__(self, error: SimqueueError, served: Served) -> None:
        super().__init__(str(error))
        self.served = served


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
            users who wait for their answers (closed loop), or turns of sessions, whose prompts begin with what was said
            and answered before.
        system: its policy is the one that runs; the rest is provenance.
        executor: owns the device; left as it was found.
        clients: in a process of their own, or in a thread beside the worker's.
        seed: of the prompts' tokens, where they are not given.
        warmup: leave the first so many requests by arrival out of every figure; none of them where the run was ended
            before anybody who came after them was answered.
        prompts: token ids of every request; random ones of the workload's lengths unless given.
        leaves: requests whose client goes away after so many tokens.
        saturation_rps: as `simqueue.saturation_rps` predicts it, for the result.

    Raises:
        ConfigError: the parts do not go together.
        WorkloadError: a request does not fit the executor's window, or a prompt is not what the workload says.
        RunError: the device cannot run it, and every client has heard of it; or the clients' process died. It has
            what was completed until then (at their step ends, where the clients' process could not say more).
    """
    workload = workload.fit_context(executor.window, "error")
    _check(workload, system, executor, clients, warmup)
    if prompts is None:
        prompts = random_prompts(workload, executor.vocabulary, seed)
    _check_prompts(workload, prompts, executor.vocabulary)
    about = provenance(workload, system, seed, GRID)
    about["live"] = {"executor": dict(executor.describe()), "clients": clients}
    with noted() as interrupt:
        run = _run(workload, system, executor, clients, job_of(workload, prompts, leaves or {}), interrupt.pressed)
        ends = BothEnds(run.worker.ledger, run.account, run.origin_ns, with_batch(system.policy, executor))
        if run.error is not None:
            about["live"]["error"] = str(run.error)
        left_out = ends.warmup(warmup)
        if (run.error or interrupt.pressed()) and not ends.completed[left_out:].any():
            left_out = 0
        result = _result(workload, system, ends, left_out, saturation_rps, about)
        served = _served(run, ends, result, interrupt.pressed())
    if run.error is not None:
        raise RunError(run.error, served) from run.error
    return served


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
    if is_paged(system) and system.memory and system.memory.prefix_caching:
        raise ConfigError("memory: prefix_caching = true, and no executor has a prefix cache: leave it out")
    if workload.meta["adopted"]:
        raise ConfigError("requests cannot bring the cache of their prompts to an executor: run them simulated")
    check_order(system)
    _check_known(workload, system)
    check_rows(system.policy, executor.max_rows)


def _check_known(workload: Workload, system: System) -> None:
    """Refuse, as the simulator does, a policy or an order that goes by what the workload does not say."""
    none, extra = np.zeros(0, np.int64), workload.extra
    most, predicted = (() if column in extra else None for column in ("max_output_tokens", "predicted_output_tokens"))
    columns = (("priority", "priority"), ("client", "client"), ("ttft_slo", "ttft_slo_s"))
    traits = {name: () for name, column in columns if column in extra}
    core_of(system)(Requests(none, none, none, most, predicted, traits=traits))


def check_rows(policy: BatchingPolicy, max_rows: int) -> None:
    """Refuse a policy whose own limit is more requests than an executor has rows."""
    for key in _LIMITS:
        limit = getattr(policy, key, None)
        if isinstance(limit, int) and limit > max_rows:
            raise ConfigError(
                f"system.policy.{key} = {limit} is more requests than the executor has rows (live.max_rows = "
                f"{max_rows}): lower the one, or raise the other"
            )


def _check_prompts(workload: Workload, prompts: Sequence[Tokens], vocabulary: int) -> None:
    if len(prompts) != len(workload):
        raise WorkloadError(f"{len(prompts)} prompts for {len(workload)} requests: give one for each")
    for row, (prompt, tokens) in enumerate(zip(prompts, workload.prompt_tokens.tolist(), strict=True)):
        if len(prompt) != tokens:
            raise WorkloadError(f"row {row}: its prompt has {len(prompt)} tokens, and the workload says {tokens}")
        if np.min(prompt) < 0 or np.max(prompt) >= vocabulary:
            raise WorkloadError(f"row {row}: its prompt has token ids that are not within 0 and {vocabulary - 1}")


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


class _Run(NamedTuple):
    """A run that is over, and what went wrong."""

    worker: Worker
    account: Account
    origin_ns: int
    error: SimqueueError | None


def _run(
    workload: Workload,
    system: System,
    executor: Executor,
    clients: Where,
    job: Job,
    stopped: Callable[[], bool],
) -> _Run:
    """Clients and worker meet; once ``stopped()``, the step under way is the last."""
    ours, theirs = socket.socketpair()
    with ours, _quiet(), _clients(clients, theirs, job) as crowd:
        origin_ns = now_ns() + _HEAD_START_NS
        worker = Worker(
            *(system.policy, executor, [Connection(ours)], origin_ns, workload.meta["users"], stopped),
            core=core_of(system),
            admission=system.admission,
        )
        crowd.begin(origin_ns)
        thread = threading.Thread(target=worker.run, name="simqueue worker")
        thread.start()
        thread.join()
        try:
            return _Run(worker, crowd.account(), origin_ns, worker.error)
        except SimqueueError as error:
            return _Run(worker, Account.empty(len(workload)), origin_ns, worker.error or error)


def core_of(system: System) -> Callable[[Requests], Core]:
    """What makes the engine of a live run."""
    return partial(core, system, grid=GRID, track_extremes=True)


def _served(run: _Run, ends: BothEnds, result: Result | None, interrupted: bool) -> Served:
    ledger = run.worker.ledger
    return Served(
        result=result,
        outcomes={name: ends.outcome.count(name) for name in OUTCOMES},
        answers=run.account.tokens,
        failed=run.account.failed,
        journal=run.worker.journal,
        host=ledger.host(),
        waited=np.array(ledger.waited, bool),
        interrupted=interrupted,
    )


def _clients(where: Where, sock: socket.socket, job: Job) -> AbstractContextManager[Crowd]:
    return closing(InProcess(sock, job) if where == "process" else InThread(sock, job))


def _result(
    workload: Workload,
    system: System,
    ends: BothEnds,
    warmup: int,
    saturation_rps: Callable[[], float],
    about: Mapping[str, Any],
) -> Result | None:
    """As the simulator's class; None if nothing was completed after the warm-up."""
    if not ends.completed[warmup:].any():
        return None
    fated = may_turn_away(system) or "patience_s" in workload.extra
    return Result(
        workload=ends.workload(workload),
        grid=GRID,
        fates=ends.fates() if fated else None,
        **ends.times(),  # type: ignore[arg-type]
        leaps=ends.ledger.leaps(),
        with_batch=ends.with_batch,
        warmup=warmup,
        durations=ends.ledger.durations,
        saturation_rps=saturation_rps,
        provenance=about,
    )
