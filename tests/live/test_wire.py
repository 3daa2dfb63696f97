"""Frames survive any stream, however it is cut; what is no frame is refused."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simqueue.live.wire import Answer, Bye, Cancel, Failed, Message, Submit, Unpacker, packed
from simqueue.record import Known

ids = st.integers(0, 2**63 - 1)
some = st.integers(1, 50)
tokens = st.lists(st.integers(0, 2**31), max_size=5)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Submit,
        request=ids,
        arrival_ns=ids,
        sent_ns=ids,
        prompt=tokens.map(lambda prompt: np.array(prompt, np.int64).tobytes()),
        output=some,
        known=st.builds(
            Known,
            max_output=st.none() | some,
            predicted_output=st.none() | some,
            priority=st.integers(-(2**53), 2**53),
            client=st.text(max_size=8),
            ttft_slo=ids,
        ),
        last=st.booleans(),
    ),
    st.builds(Cancel, ids),
    st.just(Bye()),
    st.lists(st.tuples(ids, tokens), max_size=6).flatmap(
        lambda pairs: st.builds(Answer, ids, st.just([i for i, _ in pairs]), st.just([new for _, new in pairs]))
    ),
    st.builds(Failed, st.lists(ids, max_size=4), st.text(max_size=40)),
)


@given(st.lists(MESSAGES, max_size=8), st.data())
def test_messages_come_out_whole_and_in_order(messages: list[Message], data: st.DataObject) -> None:
    stream = b"".join(packed(message) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    unpacker, read = Unpacker(), []
    ends = np.cumsum([len(packed(message)) for message in messages])
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        read += unpacker.feed(stream[begin:end])
        # Not one later than it could be.
        assert len(read) == np.searchsorted(ends, end, "right")
    assert read == messages


@given(st.lists(MESSAGES, min_size=1, max_size=3))
def test_byte_by_byte(messages: list[Message]) -> None:
    unpacker = Unpacker()
    stream = b"".join(packed(message) for message in messages)
    assert [message for i in range(len(stream)) for message in unpacker.feed(stream[i : i + 1])] == messages


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"hello",
        msgspec.msgpack.encode(["Nothing", 1]),
        msgspec.msgpack.encode(["Cancel", "one"]),
        msgspec.msgpack.encode(["Submit", 0, 0, 0, b"not whole words", 1]),
    ],
)
def test_what_is_no_message_is_refused(body: bytes) -> None:
    unpacker = Unpacker()
    with pytest.raises(msgspec.MsgspecError):
        list(unpacker.feed(len(body).to_bytes(4, "little") + body))


def test_what_is_read_stays_as_it_was() -> None:
    """No message looks into the buffer, which goes on to the next ones."""
    unpacker = Unpacker()
    prompt = np.arange(1000).tobytes()
    (first,) = unpacker.feed(packed(Submit(1, 2, 3, prompt, 4)))
    list(unpacker.feed(packed(Failed([], "\xff" * 9000))))
    assert isinstance(first, Submit)
    assert first.prompt == prompt
