"""The clients: asyncio tasks, one a request, that ask when their time has come; tokens are read as they stream in.

A load generator must not be what is measured: what everybody pays for every token is paid in one short loop, and a task
runs only when there is something to decide.

They run in a thread of the server's process or in a process of their own (`main`), where they do not share the
interpreter lock with the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import selectors
import socket
import sys
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from simqueue.live.executor import now_ns
from simqueue.live.job import Job
from simqueue.live.streams import Server, Stream
from simqueue.live.wire import Bye, Cancel, Quiet, Submit
from simqueue.record import NEVER, Known, Requests
from simqueue.source import Columns, Sessions, Source, Users

# The operating system rarely wakes a sleeper later than this, but the later the longer it slept; the rest is waited for
# awake, reading what comes.
_OVERSLEPT_NS = 1_000_000
_NOTHING = Known()


class Account(NamedTuple):
    """What the clients saw: by request, when its first and its last tokens were there (ns; 0 if never), its tokens, why
    it failed, if it did, and when its client gave up (ns), if it did."""

    first_ns: list[int]
    last_ns: list[int]
    tokens: list[list[int]]
    failed: dict[int, str]
    gave_up_ns: dict[int, int]

    @classmethod
    def empty(cls, count: int) -> Account:
        """Of so many requests, nothing."""
        return cls([0] * count, [0] * count, [[] for _ in range(count)], {}, {})


class Clients:
    """All clients of one job."""

    def __init__(self, job: Job, server: Server, origin_ns: int) -> None:
        count = len(job.output)
        self._job, self._server, self._origin_ns = job, server, origin_ns
        self._account = Account.empty(count)
        self._arrival = [*(job.arrival or [NEVER] * count), NEVER]
        # By the order in which they come: their rows, by which they are called.
        self._rows: Sequence[int] = range(count)
        self._source: Source = Columns(self._arrival)
        if job.following:
            self._rows = self._converse(job)
        elif job.think is not None:
            self._source = Users(self._arrival, job.think, job.users)
        # How they have come, by row; of turns that follow, what was said and answered before; and how many answers have
        # been heard.
        self._ids: dict[int, int] = {}
        self._said: dict[int, bytes] = {}
        self._heard = 0
        self._news = asyncio.Event()
        server.when_over, server.when_gone = self._hear, self._news.set

    def _converse(self, job: Job) -> Sequence[int]:
        zeros = np.zeros(len(job.output), np.int64)
        requests = Requests(np.array(job.arrival, np.int64), zeros, zeros)
        self._arrival = requests.arrival
        self._source = source = Sessions(requests, job.following, job.think or [])
        return source.rows

    async def run(self) -> Account:
        """Send everything in time and read every answer."""
        count, tail = len(self._job.output), 0
        tasks: list[asyncio.Task[None]] = []
        while tail < count and not self._server.gone:
            await self._until_due()
            come = self._source.take(self._now())
            tasks += self._ask(range(tail, come))
            tail = come
        await asyncio.gather(*tasks)
        self._server.send([Bye()])
        return self._account

    def _now(self) -> int:
        return now_ns() - self._origin_ns

    async def _until_due(self) -> None:
        """Until somebody is to ask, or the server has gone; even if that is so already, others have a turn before."""
        await asyncio.sleep(0)
        while (left := self._source.next - self._now()) > 0 and not self._server.gone:
            if left > _OVERSLEPT_NS:
                await self._news_until(self._source.next - _OVERSLEPT_NS)
            else:
                await asyncio.sleep(0)

    async def _news_until(self, due: int) -> None:
        """Until then, or until something is heard: an answer that brings somebody earlier, or that nobody answers."""
        self._news.clear()
        timer = asyncio.get_running_loop().call_at((self._origin_ns + due) / 1e9, self._news.set)
        await self._news.wait()
        timer.cancel()

    def _ask(self, come: range) -> list[asyncio.Task[None]]:
        """All are on the wire before anything else is done for one."""
        job, server = self._job, self._server
        requests = [self._rows[i] for i in come]
        self._ids.update(zip(requests, come, strict=True))
        wanted = [min(job.output[request], job.leaves.get(request, NEVER)) for request in requests]
        streams = list(map(server.listen, requests, wanted))
        server.send(map(self._submit, requests))
        self._say_if_quiet()
        for request in requests if job.patience else ():
            self._bear(request, job.patience[request])
        return [asyncio.create_task(self._client(*pair)) for pair in zip(requests, streams, strict=True)]

    def _bear(self, request: int, patience_ns: int | None) -> None:
        """Wait so long for a first token, and no longer."""
        if patience_ns is None:
            return
        until_ns = self._arrival_ns(request) + patience_ns

        def give_up() -> None:
            if self._server.give_up(request):
                self._account.gave_up_ns[request] = until_ns
                self._server.send([Cancel(request)])

        asyncio.get_running_loop().call_at(until_ns / 1e9, give_up)

    async def _client(self, request: int, stream: Stream) -> None:
        account, tokens = self._account, stream.tokens
        failed = await stream.over
        if failed:
            account.failed[request] = failed
        elif len(tokens) < self._job.output[request]:
            self._server.send([Cancel(request)])
        account.first_ns[request], account.last_ns[request] = stream.first_ns, stream.last_ns
        account.tokens[request] = tokens

    def _hear(self, request: int, stream: Stream, at_ns: int) -> None:
        """At once, and not when the client's task runs: nobody may be taken who comes after whom this brings."""
        before = self._source.next
        self._heard += 1
        following = self._job.following[request] if self._job.following else -1
        if following >= 0:
            self._said[following] = self._prompt(request) + np.array(stream.tokens, np.int64).tobytes()
        self._said.pop(request, None)
        self._source.hear(self._ids[request], at_ns - self._origin_ns)
        if self._source.next < before:
            self._news.set()
        self._say_if_quiet()

    def _say_if_quiet(self) -> None:
        """Of users the server knows it by their number."""
        if self._job.following and self._source.next == NEVER:
            self._server.send([Quiet(self._heard)])

    def _arrival_ns(self, request: int) -> int:
        return self._origin_ns + self._arrival[self._ids[request]]

    def _prompt(self, request: int) -> bytes:
        """It begins with what was said and answered before; where there was no answer, with what is in its place."""
        said = self._said.get(request, b"")
        return said + self._job.prompts[request][len(said) :]

    def _submit(self, request: int) -> Submit:
        job = self._job
        return Submit(
            request=request,
            arrival_ns=self._arrival_ns(request),
            sent_ns=now_ns(),
            prompt=self._prompt(request),
            output=job.output[request],
            known=job.known[request] if job.known else _NOTHING,
            last=self._ids[request] == len(job.output) - 1,
        )


def converse(sock: socket.socket, job: Job, origin_ns: int) -> Account:
    """Run all clients of a job over one socket, on an event loop of their own.

    `select` wakes within some 100 microseconds of its time; `epoll`, which asyncio takes by default, rounds up to whole
    milliseconds.
    """

    async def run() -> Account:
        server = Server(sock, asyncio.get_running_loop())
        try:
            return await Clients(job, server, origin_ns).run()
        finally:
            server.close()

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        return runner.run(run())


def main() -> None:
    """As a process: the job comes on stdin, then, once this is ready, the start; the account goes to stdout.

    It ends without a word if whoever started it has gone.
    """
    size = int.from_bytes(sys.stdin.buffer.read(8), "little")
    if not size:
        return
    job = msgspec.msgpack.decode(sys.stdin.buffer.read(size), type=Job)
    sock = socket.socket(fileno=int(sys.argv[1]))
    gc.freeze()
    gc.disable()
    sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()
    origin_ns = int.from_bytes(sys.stdin.buffer.read(8), "little")
    account = converse(sock, job, origin_ns)
    with contextlib.suppress(BrokenPipeError), os.fdopen(sys.stdout.fileno(), "wb") as out:
        out.write(msgspec.msgpack.encode(account))
