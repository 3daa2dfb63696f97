"""The clients' end of the socket: answers as they come in, by request.

What everybody pays for every token is paid in one short loop.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter

from simqueue.live.executor import now_ns
from simqueue.live.wire import Answer, Failed, Message, Unpacker, packed

_CHUNK = 1 << 16
SERVER_GONE = "the server has gone away"
GAVE_UP = "its client gave up"


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
        when_over: called with the number of a request that listens no more, what it has heard, and the instant, before
            anything else runs.
        when_gone: called then.
    """

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        sock.setblocking(False)
        self._socket, self._loop = sock, loop
        self._unpacker = Unpacker()
        self._out = bytearray()
        self._streams: dict[int, Stream] = {}
        self.gone = ""
        self.when_over: Callable[[int, Stream, int], None] = lambda request, stream, at_ns: None
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

    def give_up(self, request: int) -> bool:
        """Listen no more to a request that has no token yet. Returns whether that is so."""
        stream = self._streams.get(request)
        if stream is None or stream.tokens:
            return False
        self._fail([request], GAVE_UP, now_ns())
        return True

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
        self.when_over(request, stream, at_ns)

    def _hear_no_more(self) -> None:
        self._loop.remove_reader(self._socket)
        self.gone = SERVER_GONE
        self._fail(list(self._streams), SERVER_GONE, now_ns())
        self.when_gone()
