"""The clients: asyncio tasks, one a request, that send when their time has come and read tokens as they stream in.

They run in a thread of the server's process or in a process of their own (``python -m simqueue.live.clients``), where
they do not share the interpreter lock with the worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import selectors
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import NamedTuple

import msgspec

from simqueue.live.executor import now_ns
from simqueue.live.wire import Answer, Bye, Cancel, Failed, Message, Submit, Unpacker, packed
from simqueue.record import NEVER
from simqueue.source import Columns, Source, Users

_CHUNK = 1 << 18
SERVER_GONE = "the server has gone away"


class Job(msgspec.Struct, frozen=True):
    """What the clients do. Columns have one entry a request, in order of arrival.

    Attributes:
        prompts: token ids, int64.
        output: tokens to ask for.
        max_output, predicted_output: what the server may know of that.
        arrival: ns after the start at which each is sent, where that is known beforehand.
        think: else, ns that users think, in the order in which they begin to.
        users: how many do.
        leaves: requests whose client goes away after so many tokens.
    """

    prompts: list[bytes]
    output: list[int]
    max_output: list[int] | None = None
    predicted_output: list[int] | None = None
    arrival: list[int] | None = None
    think: list[int] | None = None
    users: int = 0
    leaves: dict[int, int] = {}


class Account(NamedTuple):
    """What the clients saw: by request, when its first and its last tokens were there (ns; 0 if never), its tokens, and
    why it failed, if it did."""

    first_ns: list[int]
    last_ns: list[int]
    tokens: list[list[int]]
    failed: dict[int, str]


class ServerGoneError(Exception):
    """An answer will not be whole, and why."""


class Server:
    """The clients' end of the socket: sends requests, and hands tokens to whoever waits for them."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        sock.setblocking(False)
        self._socket, self._loop = sock, loop
        self._unpacker = Unpacker()
        self._out = bytearray()
        self._streams: dict[int, asyncio.Queue[list[int] | str]] = {}
        self.gone = ""
        self.when_gone: Callable[[], None] = lambda: None
        loop.add_reader(sock, self._receive)

    async def ask(self, request: Submit) -> AsyncGenerator[list[int]]:
        """Send a request; yields no tokens once it is sent, then its tokens as they come. Who stops listening cancels
        it. Raises ServerGoneError."""
        if self.gone:
            raise ServerGoneError(self.gone)
        stream = self._streams[request.request] = asyncio.Queue()
        self.send(request)
        left = request.output
        try:
            yield []
            while left > 0:
                tokens = await stream.get()
                if isinstance(tokens, str):
                    left = 0
                    raise ServerGoneError(tokens)
                left -= len(tokens)
                yield tokens
        finally:
            del self._streams[request.request]
            if left > 0:
                self.send(Cancel(request.request))

    def send(self, message: Message) -> None:
        """Hand over a message, at once if the server takes it."""
        self._out += packed(message)
        self._flush()

    def close(self) -> None:
        """Hang up."""
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()

    def _flush(self) -> None:
        try:
            while self._out:
                del self._out[: self._socket.send(self._out)]
        except BlockingIOError:
            self._loop.add_writer(self._socket, self._flush)
            return
        except OSError:
            self._out.clear()
        self._loop.remove_writer(self._socket)

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._socket)
            self._hand_out(list(self._streams), [self.gone or SERVER_GONE] * len(self._streams))
            self.gone = self.gone or SERVER_GONE
            self.when_gone()
        for message in self._unpacker.feed(data):
            if isinstance(message, Answer):
                self._hand_out(message.requests, message.tokens)
            elif isinstance(message, Failed):
                self._hand_out(message.requests, [message.reason] * len(message.requests))

    def _hand_out(self, requests: Sequence[int], news: Sequence[list[int] | str]) -> None:
        for request, new in zip(requests, news, strict=True):
            stream = self._streams.get(request)
            if stream is not None:
                stream.put_nowait(new)


class Clients:
    """All clients of one job."""

    def __init__(self, job: Job, server: Server, origin_ns: int) -> None:
        count = len(job.output)
        self._job, self._server, self._origin_ns = job, server, origin_ns
        self.account = Account([0] * count, [0] * count, [[] for _ in range(count)], {})
        self._arrival = [*(job.arrival or [NEVER] * count), NEVER]
        self._source: Source = Columns(self._arrival)
        if job.think is not None:
            self._source = Users(self._arrival, job.think, job.users)
        self._news = asyncio.Event()
        server.when_gone = self._news.set

    async def run(self) -> Account:
        """Send everything in time and read every answer."""
        count, tail = len(self._job.output), 0
        tasks: list[asyncio.Task[None]] = []
        while tail < count and not self._server.gone:
            await self._until(self._source.next)
            come = self._source.take(now_ns() - self._origin_ns)
            tasks += [asyncio.create_task(self._client(request)) for request in range(tail, come)]
            tail = come
        await asyncio.gather(*tasks)
        self._server.send(Bye())
        return self.account

    async def _until(self, due: int) -> None:
        """Until ``due``, or until an answer has been heard that may bring somebody earlier."""
        timer = None
        if due != NEVER:
            timer = asyncio.get_running_loop().call_at((self._origin_ns + due) / 1e9, self._news.set)
        await self._news.wait()
        self._news.clear()
        if timer is not None:
            timer.cancel()

    async def _client(self, request: int) -> None:
        account, leaves = self.account, self._job.leaves.get(request, NEVER)
        tokens = account.tokens[request]
        answer = self._server.ask(self._submit(request))
        try:
            async for new in answer:
                if new:
                    account.last_ns[request] = now_ns()
                    account.first_ns[request] = account.first_ns[request] or account.last_ns[request]
                    tokens += new
                if len(tokens) >= leaves:
                    break
        except ServerGoneError as error:
            account.failed[request] = str(error)
        finally:
            await answer.aclose()
        self._source.hear(request, (account.last_ns[request] or now_ns()) - self._origin_ns)
        self._news.set()

    def _submit(self, request: int) -> Submit:
        job = self._job
        return Submit(
            request=request,
            arrival_ns=self._origin_ns + self._arrival[request],
            sent_ns=now_ns(),
            prompt=job.prompts[request],
            output=job.output[request],
            max_output=job.max_output[request] if job.max_output else None,
            predicted_output=job.predicted_output[request] if job.predicted_output else None,
            last=request == len(job.output) - 1,
        )


def converse(sock: socket.socket, job: Job, origin_ns: int) -> Account:
    """Run all clients of a job over one socket, on an event loop of their own.

    `select` wakes within some 60 microseconds of its time; `epoll`, which asyncio takes by default, rounds up to whole
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


if __name__ == "__main__":
    main()
