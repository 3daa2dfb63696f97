"""Where the clients run: in a thread beside the worker's, or in a process of their own."""

from __future__ import annotations

import contextlib
import io
import select
import socket
import subprocess
import sys
import threading
from typing import Literal, Protocol

import msgspec

from simqueue.errors import SimqueueError
from simqueue.live.clients import Account, converse
from simqueue.live.job import Job

Where = Literal["process", "thread"]
# Of the clients' process, and of nothing else: it finds what this one does, wherever that came from, and nothing that
# happens to lie in the folder in which it was started.
_START = "import sys; sys.path[:] = sys.argv[2:]; from simqueue.live.clients import main; main()"
# A process that is there and says nothing for so long, when all that it has to do is to speak, never will.
_READY_S = 60.0
_SILENT_S = 10.0
_CHUNK = 1 << 16


class Crowd(Protocol):
    """All clients of one run, ready to start."""

    def begin(self, origin_ns: int) -> None:
        """Start; time 0 is then."""

    def account(self) -> Account:
        """Wait until they have gone; what they saw. Raises SimqueueError if they died."""

    def close(self) -> None:
        """Whatever happened, nothing of them stays."""


class InThread:
    """They share the interpreter lock with the worker."""

    def __init__(self, sock: socket.socket, job: Job) -> None:
        self._socket, self._job = sock, job
        self._thread: threading.Thread | None = None
        self._account: Account | None = None

    def begin(self, origin_ns: int) -> None:
        """Start; time 0 is then."""

        def run() -> None:
            self._account = converse(self._socket, self._job, origin_ns)

        self._thread = threading.Thread(target=run, name="simqueue clients")
        self._thread.start()

    def account(self) -> Account:
        """Wait until they have gone; what they saw."""
        assert self._thread is not None
        self._thread.join()
        if self._account is None:
            raise SimqueueError("the clients died (the traceback above says why)")
        return self._account

    def close(self) -> None:
        """Their socket, if they have not: without a server they end themselves."""
        if self._thread is None:
            self._socket.close()


class InProcess:
    """They have an interpreter of their own; it is there and has read its job when this returns."""

    def __init__(self, sock: socket.socket, job: Job) -> None:
        command = [sys.executable, "-P", "-c", _START, str(sock.fileno()), *sys.path]
        pipe = subprocess.PIPE
        with sock:
            # In a group of its own: Ctrl-C is for whoever started this, who decides when it ends.
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, pass_fds=(sock.fileno(),), process_group=0
            )
        try:
            self._get_ready(job)
        except BaseException:
            self.close()
            raise

    def _get_ready(self, job: Job) -> None:
        body = msgspec.msgpack.encode(job)
        self._send(len(body).to_bytes(8, "little") + body)
        if not self._read(_READY_S):
            raise self._died()

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def begin(self, origin_ns: int) -> None:
        """Start; time 0 is then."""
        self._send(origin_ns.to_bytes(8, "little"))

    def account(self) -> Account:
        """Wait until they have gone; what they saw. The server has gone before, or they may be waiting for it."""
        body = b"".join(iter(lambda: self._read(_SILENT_S), b""))
        try:
            return msgspec.msgpack.decode(body, type=Account)
        except msgspec.DecodeError:
            raise self._died() from None

    def _read(self, patience_s: float) -> bytes:
        """What it says next; nothing if it has ended."""
        out = self._process.stdout
        assert isinstance(out, io.BufferedReader)
        if not select.select([out], [], [], patience_s)[0]:
            raise SimqueueError(
                f"the client process is there, but has said nothing for {patience_s:g} s, and was killed: was it "
                "stopped? Run again"
            )
        return out.read1(_CHUNK)

    def _died(self) -> SimqueueError:
        return SimqueueError(f"the client process died (exit status {self._process.wait()}): run again")

    def close(self) -> None:
        """Whatever happened, no process stays."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
