"""The worker: one thread that owns the engine and the device, and serves whoever is connected.

    receive what came -> engine.plan -> executor.launch -> executor.ahead -> executor.collect -> engine.complete
    -> deliver

What a step decodes is launched before the one before it has ended: while the host delivers and decides, the device
works. And a token's way to its client is the same, whatever comes next.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np

from simqueue.errors import SimqueueError
from simqueue.live.aboard import Aboard
from simqueue.live.connection import Connection
from simqueue.live.executor import GRID, TICKS_PER_NS, Emitted, Executor, Tokens, now_ns
from simqueue.live.journal import Cancelled, Closed, Completed, Entry, Opened, Rejected, Submitted, Told, plan, tell
from simqueue.live.ledger import Ledger
from simqueue.live.wire import Answer, Cancel, Failed, Submit
from simqueue.plan import Wait, Work
from simqueue.policy.base import BatchingPolicy, launches_ahead
from simqueue.record import NEVER, Requests
from simqueue.replica import Core, unlimited
from simqueue.system import Admission

INTERRUPTED = "the server was stopped"


class Worker:
    """Serves the requests of its connections under ``policy`` until all clients have said goodbye.

    Times are ticks of `GRID` since ``origin_ns``. An error of the device ends every answer and is kept in ``error``.
    In a closed loop ``users`` is how many there are: while all of them wait, no policy waits for company. Once
    ``stopped()``, the step under way is the last. ``core`` makes the engine, where its memory is limited.
    ``admission``: whom to turn away as they come.
    """

    def __init__(
        self,
        policy: BatchingPolicy,
        executor: Executor,
        connections: Iterable[Connection],
        origin_ns: int,
        users: int | None = None,
        stopped: Callable[[], bool] = lambda: False,
        core: Callable[[Requests], Core] | None = None,
        admission: Admission | None = None,
    ) -> None:
        self.ledger = Ledger()
        self.journal: list[Entry] = []
        self.error: SimqueueError | None = None
        self._requests = self.ledger.requests
        self._engine = core(self._requests) if core else unlimited(policy, self._requests, GRID)
        self._launches_ahead = launches_ahead(policy)
        self._executor = executor
        self._with_batch = with_batch(policy, executor)
        self._connections = list(connections)
        self._origin_ns = origin_ns
        self._users = users
        self._admission = admission
        self._stopped = stopped
        self._now = 0
        self._waited = True
        self._last_end = 0
        # While an answer is not whole: who asked, and by which number; and what is kept of one that leaves with its
        # batch.
        self._clients: dict[int, tuple[Connection, int]] = {}
        self._kept: dict[int, list[int]] = {}
        self._aboard = Aboard(executor, policy, self._engine)
        self._without_first: set[int] = set()
        self._to_deliver: list[tuple[Emitted, Sequence[int]]] = []

    def run(self) -> None:
        """Serve until every client has gone."""
        with self._keeping_errors():
            while self._round():
                pass
        with self._keeping_errors():
            self._hang_up(str(self.error or INTERRUPTED))

    @contextmanager
    def _keeping_errors(self) -> Iterator[None]:
        """The first one is kept; whoever started the thread raises it."""
        try:
            yield
        except SimqueueError as error:
            self.error = self.error or error
        except Exception as error:
            died = SimqueueError(f"the worker died of {error!r}")
            died.__cause__ = error
            self.error = self.error or died

    def _round(self) -> bool:
        """Receive, decide, run. Returns whether there is more to do."""
        begin = now_ns()
        self._receive()
        self._deliver()
        if self._stopped():
            return False
        received = now_ns()
        now = self._at(received)
        planned = plan(self._engine, now)
        self.journal.append(planned)
        self._turn_away("the policy has turned it away")
        if isinstance(planned.answer, Wait):
            return self._wait(planned.answer)
        decided = now_ns()
        self._aboard.reseat(planned.answer)
        self._begin(planned.prefill, now)
        self._executor.launch(planned.prefill, planned.answer)
        launched = now_ns()
        if self._launches_ahead and not self._aboard.held:
            self._executor.ahead(self._engine.leaving)
        onward = now_ns()
        emitted = self._executor.collect(self._stopped)
        ended = now_ns()
        self._complete(planned.answer, now, emitted)
        completed = now_ns()
        self._deliver()
        self.ledger.note_host((begin, received, decided, launched, onward, ended, completed, now_ns()), len(emitted))
        return True

    def _at(self, ns: int) -> int:
        """An instant in ticks, never before one that the engine has seen."""
        self._now = max(self._now, (ns - self._origin_ns) * TICKS_PER_NS)
        return self._now

    # What comes from the clients.

    def _receive(self) -> None:
        for connection in self._connections:
            for message in connection.receive():
                if isinstance(message, Submit):
                    self._submit(connection, message)
                elif isinstance(message, Cancel):
                    self._cancel(connection.asked.get(message.request))
            if connection.gone:
                for request in list(connection.asked.values()):
                    self._cancel(request)
        closed = all(connection.quiet for connection in self._connections) or self._everybody_waits()
        if closed != self._engine.closed:
            self._tell(Closed() if closed else Opened())

    def _everybody_waits(self) -> bool:
        """In a closed loop: nobody has an answer, after which there will be another question."""
        return len(self._clients) - sum(len(left) for _, left in self._to_deliver) == self._users

    def _submit(self, connection: Connection, message: Submit) -> None:
        if message.request in connection.asked:
            connection.drop()
            return
        request, prompt = len(self._requests.prompt), np.frombuffer(message.prompt, np.int64)
        if reason := self._refusal(prompt, message.output):
            connection.send(Failed([message.request], reason))
            connection.answered += 1
            return
        self._clients[request] = (connection, message.request)
        connection.asked[message.request] = request
        self._aboard.come(request, prompt)
        received = self._at(now_ns())
        self.ledger.open(message.request, self._ticks(message.sent_ns), received)
        # Nobody comes after the instant at which they are there, whatever the clocks say.
        arrival = min(self._ticks(message.arrival_ns), received)
        full = self._is_full(arrival)
        self._tell(Submitted(arrival, len(prompt), message.output, message.known))
        if self._engine.refused:
            self._turn_away("it can never fit the key/value cache")
        elif full:
            self._tell(Rejected(request))
            self._turn_away("the server is full")

    def _is_full(self, now: int) -> bool:
        """Whether whoever comes now is turned away, as `simqueue.system.Admission` has it."""
        limits, engine = self._admission, self._engine
        if limits is None:
            return False
        queue, ttft_s = limits.max_queue, limits.max_predicted_ttft_s
        return (queue is not None and engine.waiting >= queue) or (
            ttft_s is not None and engine.longest_wait(now) > GRID.ticks(ttft_s)
        )

    def _turn_away(self, reason: str) -> None:
        """Whom the engine has refused, and nobody has told so."""
        for request in self._engine.refused:
            connection, number = self._clients[request]
            self.ledger.outcome[request] = "rejected"
            connection.send(Failed([number], reason))
            self._forget(request)
        self._engine.refused.clear()

    def _refusal(self, prompt: Tokens, output: int) -> str:
        """Why the device cannot serve a request, if it cannot."""
        window, vocabulary = self._executor.window, self._executor.vocabulary
        if not (len(prompt) and output > 0 and len(prompt) + output <= window):
            return f"{len(prompt)} prompt and {output} output tokens do not fit {window} tokens"
        if prompt.min() < 0 or prompt.max() >= vocabulary:
            return f"token ids {prompt.min()} to {prompt.max()} are not within 0 and {vocabulary - 1}"
        return ""

    def _ticks(self, ns: int) -> int:
        return (ns - self._origin_ns) * TICKS_PER_NS

    def _cancel(self, request: int | None) -> None:
        """The client has gone; nothing to do where the answer is whole, or was never asked for."""
        if request is None or self.ledger.outcome[request]:
            return
        self._tell(Cancelled(request, self._at(now_ns())))
        self.ledger.outcome[request] = "cancelled"
        self._forget(request)
        self._leave(Emitted(now_ns(), (), ()))

    def _tell(self, entry: Told) -> None:
        self.journal.append(entry)
        tell(self._engine, self._requests, entry)

    # What the device does.

    def _begin(self, chunks: Sequence[tuple[int, int]], now: int) -> None:
        for request in self._aboard.begin(chunks):
            if self.ledger.scheduled[request] < 0:
                self.ledger.scheduled[request] = now
            if self.ledger.first_token[request] < 0:
                self._without_first.add(request)

    def _complete(self, work: Work, start: int, emitted: Sequence[Emitted]) -> None:
        ends = []
        for step in emitted:
            # A clock that stands still must not make a step of no length.
            self._now += 1
            ends.append(self._at(step.end_ns))
            if self._without_first:
                self._note_first_tokens(step.requests, ends[-1])
            self._aboard.emitted(step)
        # Back to back, what the host does between two steps is part of the second.
        self.ledger.note_steps(work, start if self._waited else self._last_end, ends, waited=self._waited)
        self._waited, self._last_end = False, ends[-1]
        self._tell(Completed(tuple(ends)))
        self._to_deliver += [(step, ()) for step in emitted[:-1]]
        self._leave(emitted[-1])

    def _note_first_tokens(self, requests: Sequence[int], end: int) -> None:
        for request in self._without_first.intersection(requests):
            self.ledger.first_token[request] = end
            self._without_first.remove(request)

    def _leave(self, step: Emitted) -> None:
        """Whose answers are whole, and whose rows are free, as the engine says after a completion or a cancellation."""
        left = self._engine.left
        for request in left:
            self.ledger.outcome[request] = "completed"
        self._to_deliver.append((step, left))
        if self._engine.freed:
            self._aboard.end(self._engine.freed)
            self._without_first.difference_update(self._engine.freed)

    # What goes to the clients.

    def _deliver(self) -> None:
        """Rows that are held, or whose client has gone, emit tokens that mean nothing."""
        pending, self._to_deliver = self._to_deliver, []
        for step, left in pending:
            if self._with_batch:
                self._keep(step)
                self._send(step.end_ns, left, [self._kept.pop(i, []) for i in left])
            else:
                self._send(step.end_ns, step.requests, [[token] for token in step.tokens])
            for request in left:
                self._forget(request)
        for connection in self._connections:
            if connection.waiting:
                connection.flush()

    def _keep(self, step: Emitted) -> None:
        output = self._requests.output
        for request, token in zip(step.requests, step.tokens, strict=True):
            if request in self._clients and len(answer := self._kept.setdefault(request, [])) < output[request]:
                answer.append(token)

    def _send(self, end_ns: int, requests: Sequence[int], tokens: Sequence[list[int]]) -> None:
        by_client: dict[Connection, tuple[list[int], list[list[int]]]] = {}
        for request, new in zip(requests, tokens, strict=True):
            client = self._clients.get(request)
            if client is not None:
                numbers, answers = by_client.setdefault(client[0], ([], []))
                numbers.append(client[1])
                answers.append(new)
        for connection, (numbers, answers) in by_client.items():
            connection.send(Answer(end_ns, numbers, answers))

    def _forget(self, request: int) -> None:
        connection, number = self._clients.pop(request)
        del connection.asked[number]
        connection.answered += 1
        self._aboard.forget(request)
        self._without_first.discard(request)
        self._kept.pop(request, None)

    # When nothing runs.

    def _wait(self, wait: Wait) -> bool:
        """Until something comes or the wait is over. Returns whether anybody is there to serve.

        It looks again and again: one who sleeps is woken late, and the later the longer it slept.
        """
        self._waited = True
        until = min(self._engine.looks, NEVER if wait.until is None else wait.until)
        while not self._stopped():
            here = [connection for connection in self._connections if not connection.gone]
            if not here:
                return False
            if self._ticks(now_ns()) >= until:
                return True
            behind = [connection for connection in here if connection.waiting]
            readable, writable, _ = select.select(here, behind, [], 0)
            for connection in writable:
                connection.flush()
            if readable:
                return True
        return True

    def _hang_up(self, reason: str) -> None:
        """Nobody is left waiting, whatever goes wrong: whose answer is not whole hears why. The device is emptied."""
        with ExitStack() as last:
            last.callback(self._aboard.end_all)
            for connection in self._connections:
                last.callback(connection.close)
            self._deliver()
            for request, (connection, number) in self._clients.items():
                self.ledger.outcome[request] = "failed"
                connection.send(Failed([number], reason))


def with_batch(policy: BatchingPolicy, executor: Executor) -> bool:
    """Whether answers leave when their batch ends, and not token by token."""
    return getattr(policy, "release", "request") == "batch" or not executor.streams
