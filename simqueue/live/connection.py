"""The server's end of one client's socket; it never waits, whatever the client does."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence

import msgspec

from simqueue.live.wire import Bye, Message, Quiet, Submit, Unpacker, packed

_CHUNK = 1 << 18
_LAST_WORDS_S = 2.0


class Connection:
    """Messages in and out of a non-blocking stream socket. What a client does not read yet waits here.

    Attributes:
        asked: the requests that are not answered yet, by the client's own number.
        last: the client has sent its last request (or has gone).
        answered: how many of its requests get nothing more.
        gone: it expects nothing any more: it said goodbye, or its end of the socket is closed.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._unpacker = Unpacker()
        self._out = bytearray()
        self.asked: dict[int, int] = {}
        self.last = self.gone = False
        self.answered = 0
        self._quiet = -1

    def fileno(self) -> int:
        """For `select`."""
        return self._socket.fileno()

    @property
    def quiet(self) -> bool:
        """Whether nothing comes from the client before it hears of an answer."""
        return self.last or self._quiet == self.answered

    @property
    def waiting(self) -> int:
        """Bytes that the client has not taken yet."""
        return len(self._out)

    def receive(self) -> Sequence[Message]:
        """What has come since. A client that talks nonsense has gone."""
        if self.gone:
            return ()
        try:
            data = self._socket.recv(_CHUNK)
            messages = list(self._unpacker.feed(data))
        except BlockingIOError:
            return ()
        except (OSError, msgspec.MsgspecError):
            data = b""
        if not data:
            self.drop()
            return ()
        for message in messages:
            if isinstance(message, Submit):
                self.last = self.last or message.last
            elif isinstance(message, Quiet):
                self._quiet = message.heard
            elif isinstance(message, Bye):
                self.drop()
        return messages

    def send(self, message: Message) -> None:
        """Hand over a message, at once if the client takes it."""
        if not self.gone:
            self._out += packed(message)
            self.flush()

    def flush(self) -> None:
        """As much as the client takes of what waits."""
        try:
            while self._out:
                del self._out[: self._socket.send(self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self.drop()

    def drop(self) -> None:
        """The client has gone, or it is as if it had: what waits for it waits no longer."""
        self.gone = self.last = True
        self._out.clear()

    def close(self) -> None:
        """Give the client a little time to take what waits, and hang up."""
        with contextlib.suppress(OSError):
            self._socket.settimeout(_LAST_WORDS_S)
            if self._out:
                self._socket.sendall(self._out)
        self._socket.close()
