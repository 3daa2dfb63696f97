"""What passes between clients and server: frames of msgpack over a stream socket, four bytes of length first."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from simqueue.record import Known

_LENGTH = struct.Struct("<I")


class Submit(msgspec.Struct, frozen=True, tag=True, array_like=True, gc=False):
    """A request, by the client's own number. Instants are of `simqueue.live.executor.now_ns`.

    Attributes:
        arrival_ns, sent_ns: when it was meant to be sent, and when it was.
        prompt: token ids, int64 in the machine's order.
        output: tokens to emit; for the engine alone, as in the simulator.
        known: what policies and orders may look at.
        last: no further request comes from this client.
    """

    request: int
    arrival_ns: int
    sent_ns: int
    prompt: bytes
    output: int
    known: Known = Known()
    last: bool = False

    def __post_init__(self) -> None:
        if len(self.prompt) % 8:
            raise ValueError(f"a prompt of {len(self.prompt)} bytes is not one of int64")


class Cancel(msgspec.Struct, frozen=True, tag=True, array_like=True, gc=False):
    """The one who asked has gone away."""

    request: int


class Quiet(msgspec.Struct, frozen=True, tag=True, array_like=True, gc=False):
    """No request comes from this client before it has heard of more answers than these."""

    heard: int


class Bye(msgspec.Struct, frozen=True, tag=True, array_like=True, gc=False):
    """The client expects nothing any more."""


class Answer(msgspec.Struct, frozen=True, tag=True, array_like=True, gc=False):
    """Tokens of a step that ended at ``end_ns``, or of a whole batch: by request, those that are new."""

    end_ns: int
    requests: list[int]
    tokens: list[list[int]]


class Failed(msgspec.Struct, frozen=True, tag=True, array_like=True, gc=False):
    """These requests get no further tokens, and why."""

    requests: list[int]
    reason: str


Message = Submit | Cancel | Quiet | Bye | Answer | Failed
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


def packed(message: Message) -> bytes:
    """The message as one frame."""
    body = _encode(message)
    return _LENGTH.pack(len(body)) + body


class Unpacker:
    """Frames out of a stream, however it is cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Message]:
        """The messages that are whole now."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(buffer, at)
            if len(buffer) - at - _LENGTH.size < size:
                break
            yield _decode(memoryview(buffer)[at + _LENGTH.size : at + _LENGTH.size + size])
            at += _LENGTH.size + size
        del buffer[:at]
