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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

import msgspec

from simqueue.live.executor import now_ns
from simqueue.live.wire import Answer, Bye, Cancel, Failed, Message, Submit, Unpacker, packed
from simqueue.record import NEVER
from simqueue.source import Columns, Source, Users

_CHUNK = 1 << 16
# The operating system rarely wakes a sleeper later than this, but the later the longer it slept; the rest is waited for
# awake, reading what comes.
_OVERSLEPT_NS = 1_000_000
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

    @classmethod
    def empty(cls, count: int) -> Account:
        """Of so many requests, nothing."""
        return cls([0] * count, [0] * count, [[] for _ in range(count)], {})


@dataclass(slots=True)
class Stream:
    """An answer as it comes in.

    Attributes:
        wanted: after so many tokens whoever asked stops listening.
        over: done once these are there (then its result is empty), or once no more will come (then it is why).
        tokens: what there is so far.
        first_ns, last_ns: when the first and the last of them were there; 0 if never.
    """

    wanted: int
    over: asyncio.Future[str]
    tokens: list[int] = field(default_factory=list)
    first_ns: int = 0
    last_ns: int = 0


class Server:
    """The clients' end of the socket: sends messages, and keeps the tokens that come for whoever listens.

    Attributes:
        gone: why nobody answers any more, if that is so.
        when_over: called with the number of a request that listens no more, and the instant, before anything else runs.
        when_gone: called then.
    """

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        sock.setblocking(False)
        self._socket, self._loop = sock, loop
        self._unpacker = Unpacker()
        self._out = bytearray()
        self._streams: dict[int, Stream] = {}
        self.gone = ""
        self.when_over: Callable[[int, int], None] = lambda request, at_ns: None
        self.when_gone: Callable[[], None] = lambda: None
        loop.add_reader(sock, self._receive)

    def listen(self, request: int, wanted: int) -> Stream:
        """Keep the tokens that come for a request from now on, up to the message after which ``wanted`` are there."""
        stream = Stream(wanted, self._loop.create_future())
        if self.gone or not wanted:
            self._end(request, stream, self.gone, now_ns())
        else:
            self._streams[request] = stream
        return stream

    def send(self, messages: Iterable[Message]) -> None:
        """Hand over messages, at once if the server takes them. Each is made when its turn has come."""
        for message in messages:
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
        if data:
            self._read(data, now_ns())
        else:
            self._hear_no_more()

    def _read(self, data: bytes, there_ns: int) -> None:
        """What has come is there at one instant; answers that are whole then end in order of their numbers."""
        whole: list[tuple[int, Stream]] = []
        for message in self._unpacker.feed(data):
            if isinstance(message, Answer):
                whole += self._keep(message, there_ns)
            elif isinstance(message, Failed):
                self._fail(message.requests, message.reason, there_ns)
        for request, stream in sorted(whole, key=itemgetter(0)):
            self._end(request, stream, "", there_ns)

    def _keep(self, answer: Answer, there_ns: int) -> Iterator[tuple[int, Stream]]:
        """Yields the streams that have what is wanted; they get no more. This is all that a token costs: no task runs
        for it."""
        streams = self._streams
        for request, new in zip(answer.requests, answer.tokens, strict=True):
            stream = streams.get(request)
            if stream is None or not new:
                continue
            tokens = stream.tokens
            if not tokens:
                stream.first_ns = there_ns
            stream.last_ns = there_ns
            tokens += new
            if len(tokens) >= stream.wanted:
                yield request, streams.pop(request)

    def _fail(self, requests: Iterable[int], reason: str, at_ns: int) -> None:
        for request in requests:
            stream = self._streams.pop(request, None)
            if stream is not None:
                self._end(request, stream, reason, at_ns)

    def _end(self, request: int, stream: Stream, reason: str, at_ns: int) -> None:
        stream.over.set_result(reason)
        self.when_over(request, at_ns)

    def _hear_no_more(self) -> None:
        self._loop.remove_reader(self._socket)
        self.gone = SERVER_GONE
        self._fail(list(self._streams), SERVER_GONE, now_ns())
        self.when_gone()


class Clients:
    """All clients of one job."""

    def __init__(self, job: Job, server: Server, origin_ns: int) -> None:
        count = len(job.output)
        self._job, self._server, self._origin_ns = job, server, origin_ns
        self._account = Account.empty(count)
        self._arrival = [*(job.arrival or [NEVER] * count), NEVER]
        self._source: Source = Columns(self._arrival)
        if job.think is not None:
            self._source = Users(self._arrival, job.think, job.users)
        self._news = asyncio.Event()
        server.when_over, server.when_gone = self._hear, self._news.set

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

    def _ask(self, requests: range) -> list[asyncio.Task[None]]:
        """All are on the wire before anything else is done for one."""
        job, server = self._job, self._server
        wanted = [min(job.output[request], job.leaves.get(request, NEVER)) for request in requests]
        streams = list(map(server.listen, requests, wanted))
        server.send(map(self._submit, requests))
        return [asyncio.create_task(self._client(*pair)) for pair in zip(requests, streams, strict=True)]

    async def _client(self, request: int, stream: Stream) -> None:
        account, tokens = self._account, stream.tokens
        failed = await stream.over
        if failed:
            account.failed[request] = failed
        elif len(tokens) < self._job.output[request]:
            self._server.send([Cancel(request)])
        account.first_ns[request], account.last_ns[request] = stream.first_ns, stream.last_ns
        account.tokens[request] = tokens

    def _hear(self, request: int, at_ns: int) -> None:
        """At once, and not when the client's task runs: nobody may be taken who comes after whom this brings."""
        before = self._source.next
        self._source.hear(request, at_ns - self._origin_ns)
        if self._source.next < before:
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
