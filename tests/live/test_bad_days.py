"""Bad days of a live run, with real processes, sockets and signals: nobody hangs or is answered twice, nothing stays.

Whatever is to happen happens while a certain step runs, so that it is always in the middle of the run.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from liveruns import COST, POLICIES, Strict, assert_laws, assert_times, live, whole, workload

from simqueue import Affine, Continuous, Dynamic
from simqueue.errors import DeviceError, SimqueueError
from simqueue.live import clients as asking
from simqueue.live import crowd as crowding
from simqueue.live import serve as serving
from simqueue.live import streams as listening
from simqueue.live import worker as working
from simqueue.live.clients import Account
from simqueue.live.connection import Connection
from simqueue.live.crowd import Crowd, InProcess, InThread
from simqueue.live.executor import now_ns
from simqueue.live.job import Job
from simqueue.live.journal import Cancelled, replay
from simqueue.live.serve import RunError
from simqueue.live.sleep import token
from simqueue.live.streams import SERVER_GONE
from simqueue.live.wire import Answer, Bye, Cancel, Failed, Message, Submit, Unpacker, packed
from simqueue.live.worker import GRID, INTERRUPTED, Worker
from simqueue.plan import Step, Wait
from simqueue.policy import BatchingPolicy

pytestmark = pytest.mark.usefixtures("nothing_stays")
WHERE = ("thread", "process")
_GUARD_S = 30


# One worker, several crowds of clients.


def job(mine: int, count: int, outputs: Sequence[int], leaves: dict[int, int] | None = None) -> Job:
    """Everybody at once. Their prompts say who they are."""
    prompts = [np.array([mine, row, *range(row % 5)]).tobytes() for row in range(count)]
    return Job(prompts, [outputs[row % len(outputs)] for row in range(count)], arrival=[0] * count, leaves=leaves or {})


@dataclass
class Day:
    """What became of the crowds of one worker."""

    worker: Worker
    executor: Strict
    jobs: Sequence[Job]
    accounts: Sequence[Account | str]

    def __post_init__(self) -> None:
        prompts = self.executor.begun
        self.requests = {(prompt[0], prompt[1]): request for request, prompt in prompts.items()}
        assert len(self.requests) == len(prompts), "the device began somebody twice"
        assert self.executor.empty

    def account(self, mine: int) -> Account:
        """What a crowd saw."""
        account = self.accounts[mine]
        assert isinstance(account, Account), account
        return account

    def expected(self, mine: int, row: int) -> list[int]:
        """The whole answer to a request that has been on the device."""
        return [token(self.requests[mine, row], at) for at in range(self.jobs[mine].output[row])]

    def assert_whole(self, mine: int) -> None:
        """A crowd has read everything it wanted, and nothing else."""
        account, job = self.account(mine), self.jobs[mine]
        assert not account.failed
        for row, answer in enumerate(account.tokens):
            wanted = job.leaves.get(row, job.output[row])
            assert answer == (self.expected(mine, row)[:wanted] if wanted else [])

    def assert_told(self, reason: str) -> None:
        """Everybody has read a whole answer, or the beginning of one and why there is no more; whom the server never
        read could only see that it had gone."""
        told = 0
        for mine in range(len(self.jobs)):
            account = self.account(mine)
            for row, answer in enumerate(account.tokens):
                whole = self.expected(mine, row) if (mine, row) in self.requests else []
                assert answer == whole[: len(answer)]
                if row in account.failed:
                    assert len(answer) < self.jobs[mine].output[row]
                    assert account.failed[row] in (reason, SERVER_GONE)
                    told += account.failed[row] == reason
                else:
                    assert len(answer) == self.jobs[mine].output[row]
        ledger = self.worker.ledger
        assert None not in ledger.outcome
        assert told == ledger.outcome.count("failed") > 0

    def assert_counted(self, policy: BatchingPolicy) -> dict[str, int]:
        """Every request has one outcome, and the plans are the simulator's; returns the outcomes."""
        ledger = self.worker.ledger
        assert None not in ledger.outcome
        outcomes = {name: ledger.outcome.count(name) for name in ("completed", "cancelled", "failed")}
        assert sum(outcomes.values()) == len(ledger.numbers)
        assert outcomes["cancelled"] == sum(isinstance(entry, Cancelled) for entry in self.worker.journal)
        assert replay(self.worker.journal, policy, GRID) == []
        return outcomes


def day(
    jobs: Sequence[Job],
    policy: BatchingPolicy,
    executor: Strict,
    deeds: dict[int, Callable[[list[Any], Worker], object]] | None = None,
    where: type[InProcess | InThread] = InProcess,
) -> Day:
    """Serve all of them; ``deeds`` are done while the step of that number runs."""
    with ExitStack() as stack:
        pairs = [socket.socketpair() for _ in jobs]
        crowds: list[Crowd] = [
            stack.enter_context(closing(where(theirs, job))) for job, (_, theirs) in zip(jobs, pairs, strict=True)
        ]
        origin = now_ns() + 20_000_000
        worker = Worker(policy, executor, [Connection(ours) for ours, _ in pairs], origin)
        for step, deed in (deeds or {}).items():
            executor.deeds[step] = lambda deed=deed: deed(crowds, worker)
        for crowd in crowds:
            crowd.begin(origin)
        thread = threading.Thread(target=worker.run)
        thread.start()
        thread.join(_GUARD_S)
        assert not thread.is_alive()
        accounts = [account(crowd) for crowd in crowds]
    return Day(worker, executor, jobs, accounts)


def account(crowd: Crowd) -> Account | str:
    try:
        return crowd.account()
    except SimqueueError as error:
        return str(error)


def sends(mine: int, number: signal.Signals) -> Callable[[list[Any], Worker], None]:
    """Signal the process of a crowd, and wait until it is dead, stopped, or going on."""
    until = {signal.SIGKILL: os.WEXITED, signal.SIGSTOP: os.WSTOPPED, signal.SIGCONT: os.WCONTINUED}[number]

    def send(crowds: list[Any], worker: Worker) -> None:
        process = crowds[mine]._process.pid
        os.kill(process, number)
        os.waitid(os.P_PID, process, until | os.WNOWAIT)

    return send


# Clients who go away.


@pytest.mark.parametrize("kind", ["static, request", "dynamic", "continuous", "chunked"])
def test_a_crowd_is_killed_and_many_leave_under_load(kind: str) -> None:
    draw = random.Random(kind)
    outputs = [1, 20, 3, 11, 6]
    jobs = [
        job(mine, 60, outputs, {row: draw.randrange(12) for row in range(60) if draw.random() < 0.4})
        for mine in range(3)
    ]
    run = day(jobs, POLICIES[kind], Strict(COST), {40: sends(1, signal.SIGKILL)})
    outcomes = run.assert_counted(POLICIES[kind])
    assert run.worker.error is None
    assert outcomes["failed"] == 0
    assert run.accounts[1] == "the client process died (exit status -9): run again"
    for mine in (0, 2):
        if getattr(POLICIES[kind], "release", "request") == "request":
            run.assert_whole(mine)
    stayed = sum(len(job.output) - len(job.leaves) for job in (jobs[0], jobs[2]))
    assert outcomes["completed"] >= stayed
    assert outcomes["cancelled"] > 0


def test_every_client_is_killed() -> None:
    """The worker cancels everything and ends."""
    run = day([job(0, 30, [50])], Continuous(8), Strict(COST), {20: sends(0, signal.SIGKILL)})
    assert run.worker.error is None
    outcomes = run.assert_counted(Continuous(8))
    assert outcomes["cancelled"] == len(run.worker.ledger.numbers) >= 8


@pytest.fixture
def crowds(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The client processes that `serve` starts."""
    started: list[Any] = []

    class Noted(InProcess):
        def __init__(self, *args: Any) -> None:
            started.append(self)
            super().__init__(*args)

    monkeypatch.setattr(serving, "InProcess", Noted)
    return started


@pytest.mark.parametrize("kind", ["static, batch", "continuous"])
def test_serve_says_that_its_clients_died(kind: str, crowds: list[Any]) -> None:
    executor = Strict(COST)
    executor.deeds[5] = lambda: sends(0, signal.SIGKILL)(crowds, None)  # type: ignore[arg-type]
    with pytest.raises(RunError, match=r"^the client process died \(exit status -9\): run again$") as caught:
        live(workload(60), POLICIES[kind], "process", executor)
    assert executor.empty
    assert caught.value.served.answers == [[]] * 60


def test_ctrl_c_ends_a_run_whose_clients_are_stopped(crowds: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """They will never say what they saw: what the server knows of the run is what there is."""
    monkeypatch.setattr(crowding, "_SILENT_S", 0.3)

    def stops() -> None:
        sends(0, signal.SIGSTOP)(crowds, None)  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGINT)

    executor = Strict(COST)
    executor.deeds[60] = stops
    with pytest.raises(RunError, match=r"^the client process is there, but has said nothing for 0\.3 s") as caught:
        live(workload(60), Continuous(8), "process", executor)
    assert executor.empty
    served = caught.value.served
    assert served.interrupted
    assert served.result is not None
    assert len(served.result.arrival) == served.outcomes["completed"] > 0
    assert (served.result.delivery == 0).all()
    assert_laws(served, Continuous(8))


def test_clients_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(SimqueueError, match=r"^the client process died \(exit status 1\): run again$"):
        live(workload(3), Continuous(8), "process")


def test_clients_that_do_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowding, "_READY_S", 0.0)
    with pytest.raises(SimqueueError, match=r"^the client process is there, but has said nothing for 0 s"):
        live(workload(3), Continuous(8), "process")


def test_ctrl_c_while_clients_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(InProcess, "_get_ready", interrupted)
    with pytest.raises(KeyboardInterrupt):
        live(workload(3), Continuous(8), "process")


def test_a_crowd_that_stalls_holds_up_nobody_and_loses_nothing() -> None:
    """It is stopped until more waits for it than its socket holds."""
    sent = []

    def stalls(crowds: list[Any], worker: Worker) -> None:
        connection = worker._connections[0]
        if not sent and len(connection.asked) == 6:
            sent.append(signal.SIGSTOP)
        elif sent == [signal.SIGSTOP] and connection.waiting:
            sent.append(signal.SIGCONT)
        else:
            return
        sends(0, sent[-1])(crowds, worker)

    jobs = [job(0, 6, [1500]), job(1, 6, [1200])]
    deeds = dict.fromkeys(range(1, 1500), stalls)
    run = day(jobs, Continuous(12), Strict(Affine(base_s=2e-5)), deeds)
    assert sent == [signal.SIGSTOP, signal.SIGCONT]
    for mine in (0, 1):
        run.assert_whole(mine)
    assert run.assert_counted(Continuous(12)) == {"completed": 12, "cancelled": 0, "failed": 0}


# Clients who do not behave.


class Raw:
    """A client made of a bare socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket, self._unpacker = sock, Unpacker()
        sock.settimeout(_GUARD_S)

    def say(self, *messages: Message) -> None:
        self._socket.sendall(b"".join(map(packed, messages)))

    def say_bytes(self, data: bytes) -> None:
        self._socket.sendall(data)

    def hear(self) -> Iterator[Message]:
        """Until the server hangs up."""
        while data := self._socket.recv(1 << 16):
            yield from self._unpacker.feed(data)


def ask(number: int, prompt: Sequence[int] = (1, 2), output: int = 3, last: bool = False) -> Submit:
    return Submit(number, 0, 0, np.array(prompt, np.int64).tobytes(), output, last=last)


@pytest.fixture
def two() -> Iterator[tuple[Raw, Raw, Worker]]:
    """Two bare clients, and the worker that will serve both once they have said everything."""
    with ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(2)]
        clients = [Raw(stack.enter_context(theirs)) for _, theirs in pairs]
        executor = Strict(COST, window=32)
        yield (*clients, Worker(Continuous(4), executor, [Connection(ours) for ours, _ in pairs], now_ns()))
        assert executor.empty


def framed(body: object) -> bytes:
    """As `packed`, of anything."""
    data = msgspec.msgpack.encode(body)
    return len(data).to_bytes(4, "little") + data


def answers(messages: Sequence[Message]) -> dict[int, list[int]]:
    read: dict[int, list[int]] = {}
    for message in messages:
        if isinstance(message, Answer):
            for number, tokens in zip(message.requests, message.tokens, strict=True):
                read.setdefault(number, []).extend(tokens)
    return read


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (ask(5, [1] * 31, 2), "31 prompt and 2 output tokens do not fit 32 tokens"),
        (ask(5, [], 2), "0 prompt and 2 output tokens do not fit 32 tokens"),
        (ask(5, [1], 0), "1 prompt and 0 output tokens do not fit 32 tokens"),
        (ask(5, [1], -3), "1 prompt and -3 output tokens do not fit 32 tokens"),
        (ask(5, [1, -1]), "token ids -1 to 1 are not within 0 and 50256"),
        (ask(5, [3, 50257]), "token ids 3 to 50257 are not within 0 and 50256"),
    ],
)
def test_what_cannot_be_served_is_refused_for_itself(two: tuple[Raw, Raw, Worker], wrong: Submit, reason: str) -> None:
    one, other, worker = two
    one.say(ask(4), wrong, ask(6, last=True), Cancel(5), Cancel(99))
    other.say(ask(5, last=True))
    thread = threading.Thread(target=worker.run)
    thread.start()
    heard = []
    for message in one.hear():
        heard.append(message)
        if len(answers(heard).get(6, ())) == 3:
            one.say(Bye())
            other.say(Bye())
    thread.join(_GUARD_S)
    assert [message for message in heard if isinstance(message, Failed)] == [Failed([5], reason)]
    assert {number: len(tokens) for number, tokens in answers(heard).items()} == {4: 3, 6: 3}
    assert worker.error is None
    assert worker.ledger.outcome.count("completed") >= 2


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x05\x00\x00\x00hello",
        packed(Cancel(1))[:-1],
        packed(ask(7)) + packed(ask(7)),
        framed(["Submit", 8, 0, 0, b"no whole words", 1]),
        packed(ask(7)) + b"\x01\x00\x00\x00\xc1",
    ],
)
def test_who_talks_nonsense_is_dropped_and_the_others_are_served(two: tuple[Raw, Raw, Worker], nonsense: bytes) -> None:
    one, other, worker = two
    one.say(ask(1, output=20))
    one.say_bytes(nonsense)
    one._socket.shutdown(socket.SHUT_WR)
    other.say(ask(1, [1, 2, 3]), ask(2, last=True))
    thread = threading.Thread(target=worker.run)
    thread.start()
    heard = []
    for message in other.hear():
        heard.append(message)
        if all(len(answers(heard).get(number, ())) == 3 for number in (1, 2)):
            other.say(Bye())
    thread.join(_GUARD_S)
    assert set(answers(heard)) == {1, 2}
    assert worker.error is None
    assert worker.ledger.outcome.count("completed") == 2
    assert worker.ledger.outcome.count("cancelled") == len(worker.ledger.outcome) - 2


class Slow:
    """A bare client, not reading, with four answers that its socket cannot hold, and the worker that it asked."""

    def __init__(self, stack: ExitStack, others: Sequence[socket.socket] = ()) -> None:
        ours, theirs = socket.socketpair()
        self.raw = Raw(stack.enter_context(theirs))
        self.executor = Strict(Affine(base_s=1e-5))
        self.connection = Connection(ours)
        connections = [self.connection, *map(Connection, others)]
        self.worker = Worker(Continuous(8), self.executor, connections, now_ns())
        self.thread = threading.Thread(target=self.worker.run)
        self.raw.say(*[ask(number, output=1500, last=number == 3) for number in range(4)])

    def reads(self) -> None:
        """Everything that it wants, and then it says goodbye."""
        heard = []
        for message in self.raw.hear():
            heard.append(message)
            if isinstance(message, Answer) and len(answers(heard)[3]) == 1500:
                break
        self.raw.say(Bye())
        assert {number: len(tokens) for number, tokens in answers(heard).items()} == dict.fromkeys(range(4), 1500)


def test_a_client_that_reads_only_when_everything_is_done() -> None:
    with ExitStack() as stack:
        slow = Slow(stack)
        slow.thread.start()
        while slow.worker.ledger.outcome != ["completed"] * 4:
            time.sleep(0.001)
        assert slow.connection.waiting > 0
        slow.reads()
        slow.thread.join(_GUARD_S)
        assert slow.worker.error is None


def test_a_client_that_reads_late_is_not_kept_waiting_by_another() -> None:
    """The other goes on until the first has everything, and then leaves in the middle of its answer."""
    with ExitStack() as stack:
        ours, theirs = socket.socketpair()
        other, slow = Raw(stack.enter_context(theirs)), Slow(stack, [ours])
        other.say(ask(0, output=500_000, last=True))
        slow.thread.start()
        while sum(map(bool, slow.worker.ledger.outcome)) < 4:
            time.sleep(0.001)
        slow.reads()
        other.say(Bye())
        slow.thread.join(_GUARD_S)
        assert not slow.thread.is_alive()
        assert sorted(map(str, slow.worker.ledger.outcome)) == ["cancelled", *["completed"] * 4]


def test_a_client_that_reads_late_hears_why_there_is_no_more() -> None:
    broken = threading.Event()

    def breaks() -> None:
        assert slow.connection.waiting > 0
        broken.set()
        raise OUT_OF_MEMORY

    with ExitStack() as stack:
        slow = Slow(stack)
        slow.executor.deeds[1400] = breaks
        slow.thread.start()
        broken.wait(_GUARD_S)
        heard = list(slow.raw.hear())
        slow.thread.join(_GUARD_S)
    failed = [message for message in heard if isinstance(message, Failed)]
    assert failed == [Failed([number], str(OUT_OF_MEMORY)) for number in range(4)]
    assert all(len(tokens) >= 1390 for tokens in answers(heard).values())


# A device that fails.


class Broken(Strict):
    """Raises in the call of that name during the step of that number, and never lets go of a row after."""

    def __init__(self, call: str, error: Exception) -> None:
        super().__init__(COST)
        self.call, self.error, self.broken = call, error, False

    def _may_break(self, call: str) -> None:
        if self.broken or (call == self.call and self.steps >= 70):
            self.broken = True
            raise self.error

    def begin(self, request: int, prompt: Any) -> None:
        self._may_break("begin")
        super().begin(request, prompt)

    def launch(self, *args: Any) -> None:
        self._may_break("launch")
        super().launch(*args)

    def collect(self, *args: Any) -> Any:
        self._may_break("collect")
        return super().collect(*args)

    def end(self, requests: Sequence[int]) -> None:
        self._may_break("end")
        super().end(requests)

    @property
    def empty(self) -> bool:
        """What is on a broken device is of no account."""
        return True


OUT_OF_MEMORY = DeviceError("out of memory: 8 rows of 40 tokens; about 6 rows fit")
CALLS = ("begin", "launch", "collect", "end")


@pytest.mark.parametrize("where", [InThread, InProcess])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", ["static, batch", "continuous"])
def test_a_device_that_refuses_tells_everybody(kind: str, call: str, where: type[InProcess | InThread]) -> None:
    run = day([job(mine, 40, [4, 30]) for mine in range(2)], POLICIES[kind], Broken(call, OUT_OF_MEMORY), where=where)
    assert run.worker.error is OUT_OF_MEMORY
    run.assert_told(str(OUT_OF_MEMORY))
    assert run.worker.ledger.outcome.count("completed") > 0


@pytest.mark.parametrize("call", CALLS)
def test_so_does_one_that_raises_what_nobody_expects(call: str) -> None:
    cause = RuntimeError("boom")
    run = day([job(mine, 40, [4, 30]) for mine in range(2)], Continuous(8), Broken(call, cause), where=InThread)
    run.assert_told("the worker died of RuntimeError('boom')")
    assert run.worker.error is not None
    assert run.worker.error.__cause__ is cause


@pytest.mark.parametrize("where", [InThread, InProcess])
def test_clients_who_would_have_come_later_do_not_wait_for_it(where: type[InProcess | InThread]) -> None:
    executor = Broken("collect", OUT_OF_MEMORY)
    jobs = [Job([bytes(8)] * 9, [90] * 9, arrival=[0] * 8 + [10**9 * 3600])]
    with ExitStack() as stack:
        ours, theirs = socket.socketpair()
        crowd = stack.enter_context(closing(where(theirs, jobs[0])))
        worker = Worker(Continuous(8), executor, [Connection(ours)], now_ns())
        crowd.begin(now_ns())
        worker.run()
        account = crowd.account()
    assert account.failed == dict.fromkeys(range(8), str(OUT_OF_MEMORY))
    assert account.tokens[8] == []


@pytest.mark.parametrize("clients", WHERE)
def test_serve_raises_what_the_device_said(clients: str) -> None:
    with pytest.raises(RunError, match=f"^{OUT_OF_MEMORY}$") as caught:
        live(workload(90), Continuous(8), clients, Broken("collect", OUT_OF_MEMORY))
    assert caught.value.__cause__ is OUT_OF_MEMORY
    with pytest.raises(RunError, match=r"^the worker died of KeyError\(7\)$") as caught:
        live(workload(90), Continuous(8), clients, Broken("launch", KeyError(7)))
    assert isinstance(caught.value.__cause__, SimqueueError)
    assert isinstance(caught.value.__cause__.__cause__, KeyError)


@pytest.mark.parametrize("clients", WHERE)
@pytest.mark.parametrize("kind", ["static, batch", "continuous"])
def test_what_was_completed_before_is_kept(kind: str, clients: str) -> None:
    work = workload(90)
    with pytest.raises(RunError) as caught:
        live(work, POLICIES[kind], clients, Broken("collect", OUT_OF_MEMORY))
    served = caught.value.served
    assert served.outcomes["failed"] > 0
    assert served.result is not None
    assert len(served.result.arrival) == served.outcomes["completed"] > 0
    assert served.result.provenance["live"]["error"] == str(OUT_OF_MEMORY)
    full = [answer for answer, tokens in zip(served.answers, whole(work), strict=True) if answer == tokens]
    assert len(full) == served.outcomes["completed"]
    assert_times(served.result)


def test_a_policy_that_breaks_the_contract_tells_everybody() -> None:
    class Greedy:
        def decider(self, grid: Any) -> Any:
            return self

        def decide(self, view: Any) -> Any:
            late = view.now > GRID.ticks(0.005)
            return Step(view.waiting + late) if view.waiting + view.running else Wait()

    run = day([job(0, 40, [4, 90])], Greedy(), Strict(COST), where=InThread)
    assert "the policy admits" in str(run.worker.error)
    run.assert_told(str(run.worker.error))


@pytest.mark.parametrize("where", [InThread, InProcess])
def test_more_rows_than_there_are(where: type[InProcess | InThread]) -> None:
    run = day([job(0, 40, [4, 30])], Dynamic(), Strict(COST, max_rows=8), where=where)
    assert isinstance(run.worker.error, DeviceError)
    reason = (
        "the policy runs more than the 8 requests that the executor has room for: lower its limit, or give the "
        "executor more rows (live.max_rows)"
    )
    assert str(run.worker.error) == reason
    run.assert_told(reason)


# A server that is stopped, or killed.

SCRIPT = """
import os, signal, sys, time
sys.path.insert(0, {tests!r})
from liveruns import COST, Strict, Whole, assert_laws, workload
from simqueue import Continuous, Static, System
from simqueue.live.serve import serve

policy, executor = {policy}, {executor}(COST)
collect = executor.collect

def until_stopped(stopped):
    emitted = collect(stopped)
    if executor.steps == {step}:
        {deed}
        while not stopped():
            time.sleep(0.001)
    return emitted

executor.collect = until_stopped
run = serve(workload(90), System(policy, COST), executor, clients={clients!r})
assert run.interrupted
assert executor.empty
if policy == Continuous(8):
    # Everybody has every token up to the last step.
    leaps = run.result.leaps
    assert sum(map(len, run.answers)) == (leaps["rows"] + leaps["prefill_rows"]).sum()
assert_laws(run, policy)
assert len(run.result.arrival) == run.outcomes["completed"] == sum(
    len(tokens) == n for tokens, n in zip(run.answers, run.result.provenance and workload(90).output_tokens)
)
assert set(run.failed.values()) <= {{{interrupted!r}, {gone!r}}}
assert list(run.failed.values()).count({interrupted!r}) == run.outcomes["failed"] > 0
print(executor.steps, *(run.outcomes[name] for name in ("completed", "cancelled", "failed")))
"""


def script(policy: str, executor: str, step: int, deed: str, clients: str) -> subprocess.Popen[str]:
    """A process that serves, and does ``deed`` when that step is over."""
    text = SCRIPT.format(
        tests=str(Path(__file__).parent),
        policy=policy,
        executor=executor,
        step=step,
        deed=deed,
        clients=clients,
        interrupted=INTERRUPTED,
        gone=SERVER_GONE,
    )
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", text], stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )


@pytest.mark.parametrize("clients", WHERE)
@pytest.mark.parametrize("policy", ["Continuous(8)", "Static(4)"])
def test_ctrl_c_ends_after_the_step_under_way(policy: str, clients: str) -> None:
    """To the whole group of processes, as a terminal sends it."""
    with script(policy, "Strict", 30, "os.killpg(0, signal.SIGINT)", clients) as process:
        out, err = process.communicate(timeout=_GUARD_S)
    assert (process.returncode, err) == (0, "")
    steps, completed, cancelled, failed = map(int, out.split())
    assert steps == 30
    assert completed > 0
    assert cancelled == 0
    assert failed > 0


def test_ctrl_c_ends_a_call_that_runs_many_steps() -> None:
    """Nobody of that batch has been answered."""
    with script("Static(4)", "Whole", 3, "os.killpg(0, signal.SIGINT)", "thread") as process:
        out, err = process.communicate(timeout=_GUARD_S)
    assert (process.returncode, err) == (0, "")
    assert out.split()[0] == "3"


def test_the_server_is_killed() -> None:
    """Its clients end by themselves and without a word; the pipe closes when the last of them has."""
    with script("Continuous(8)", "Strict", 30, "os.kill(os.getpid(), signal.SIGKILL)", "process") as process:
        out, err = process.communicate(timeout=_GUARD_S)
    assert (process.returncode, out, err) == (-signal.SIGKILL, "", "")


def test_clients_that_nobody_starts_end_without_a_word() -> None:
    command = [sys.executable, "-c", "from simqueue.live.clients import main; main()", "0"]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_GUARD_S)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")


SERVER = """
import os, signal, socket, sys
sys.path.insert(0, {tests!r})
from liveruns import COST, Strict
from simqueue import Continuous
from simqueue.live.connection import Connection
from simqueue.live.worker import Worker

executor = Strict(COST)
executor.deeds[30] = lambda: os.kill(os.getpid(), signal.SIGKILL)
Worker(Continuous(8), executor, [Connection(socket.socket(fileno={number}))], int(sys.stdin.readline())).run()
"""


@pytest.mark.parametrize("where", [InThread, InProcess])
def test_clients_of_a_server_that_is_killed_end_with_an_error(where: type[InProcess | InThread]) -> None:
    ours, theirs = socket.socketpair()
    mine = job(0, 40, [4, 30])
    text = SERVER.format(tests=str(Path(__file__).parent), number=ours.fileno())
    with (
        closing(where(theirs, mine)) as crowd,
        subprocess.Popen(
            [sys.executable, "-c", text], stdin=subprocess.PIPE, pass_fds=(ours.fileno(),), text=True
        ) as server,
    ):
        ours.close()
        origin = now_ns()
        crowd.begin(origin)
        server.communicate(f"{origin}\n", timeout=_GUARD_S)
        account = crowd.account()
    assert server.returncode == -signal.SIGKILL
    # The only client: requests are numbered as its own.
    expected = [[token(row, at) for at in range(output)] for row, output in enumerate(mine.output)]
    assert 0 < len(account.failed) < 40
    assert set(account.failed.values()) == {SERVER_GONE}
    for row, answer in enumerate(account.tokens):
        assert answer == expected[row][: len(answer)]
        assert (len(answer) < len(expected[row])) == (row in account.failed)


# A clock that goes back.


class Backwards(Strict):
    """Its steps end before they began, now and then."""

    def collect(self, stopped: Callable[[], bool]) -> Any:
        (emitted,) = super().collect(stopped)
        return [emitted._replace(end_ns=working.now_ns())]


@pytest.mark.parametrize("kind", POLICIES)
def test_a_clock_that_goes_back(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By up to 20 ms at any time, for worker, device and clients: the engine's time goes on by a tick a step."""
    draw = random.Random(kind)

    def unsteady() -> int:
        return now_ns() - draw.choice([0, 0, 0, draw.randrange(20_000_000)])

    monkeypatch.setattr(working, "now_ns", unsteady)
    monkeypatch.setattr(asking, "now_ns", unsteady)
    monkeypatch.setattr(listening, "now_ns", unsteady)
    work, policy = workload(60), POLICIES[kind]
    leaves = {row: row % 5 for row in range(0, 60, 4)}
    run = live(work, policy, leaves=leaves, executor=Backwards(COST))
    assert_laws(run, policy, clocks_agree=False)
    assert run.outcomes["completed"] + run.outcomes["cancelled"] == 60
    for row, tokens in enumerate(whole(work)):
        if row not in leaves:
            assert run.answers[row] == tokens
