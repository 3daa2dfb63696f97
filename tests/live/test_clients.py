"""The clients before a server made of a bare socket: what they send and when they stop listening, to the message."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing

import numpy as np
import pytest

from simqueue.live.clients import Account
from simqueue.live.crowd import InProcess, InThread
from simqueue.live.executor import now_ns
from simqueue.live.job import Job
from simqueue.live.streams import SERVER_GONE
from simqueue.live.wire import Answer, Bye, Cancel, Failed, Message, Submit, Unpacker, packed

pytestmark = pytest.mark.usefixtures("nothing_stays")
HOUR = 3600 * 10**9
Where = type[InThread] | type[InProcess]


class Bare:
    """A server that says what it is told to."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket, self._unpacker = sock, Unpacker()

    def say(self, *messages: Message) -> None:
        """All of it at once."""
        self._socket.sendall(b"".join(map(packed, messages)))

    def hear(self) -> list[Message]:
        """What is there once there is something."""
        return list(self._unpacker.feed(self._socket.recv(1 << 18)))

    def hear_all(self) -> list[Message]:
        """Until the clients say goodbye."""
        heard = []
        while Bye() not in heard:
            heard += self.hear()
        return heard

    def hang_up(self) -> None:
        """Gone."""
        self._socket.close()


@pytest.fixture
def asked() -> Iterator[Callable[..., tuple[Bare, Callable[[], Account]]]]:
    """Starts clients; gives their server, and waits for their account."""
    with ExitStack() as stack:

        def start(job: Job, where: Where = InThread) -> tuple[Bare, Callable[[], Account]]:
            ours, theirs = socket.socketpair()
            stack.enter_context(ours)
            crowd = stack.enter_context(closing(where(theirs, job)))
            crowd.begin(now_ns())
            return Bare(ours), crowd.account

        yield start


def job(output: Sequence[int], arrival: Sequence[int] | None = None, leaves: dict[int, int] | None = None) -> Job:
    arrival = [0] * len(output) if arrival is None else arrival
    return Job([bytes(8)] * len(output), list(output), arrival=list(arrival), leaves=leaves or {})


def test_all_that_are_due_are_on_the_wire_at_once(asked) -> None:
    """One message after another, each stamped when it is made, in a single piece."""
    server, account = asked(job([1] * 50))
    heard = server.hear()
    assert [message.request for message in heard] == list(range(50))
    sent = [message.sent_ns for message in heard]
    assert sent == sorted(sent)
    assert len(set(sent)) > 1
    assert [message.last for message in heard] == [False] * 49 + [True]
    server.say(Answer(0, list(range(50)), [[7]] * 50))
    assert server.hear_all() == [Bye()]
    assert account().tokens == [[7]] * 50


def test_more_than_the_socket_holds_arrives_whole(asked) -> None:
    prompts = [np.full(1000, row).tobytes() for row in range(300)]
    server, account = asked(Job(prompts, [1] * 300, arrival=[0] * 300))
    heard = server.hear()
    assert len(heard) < 300
    while len(heard) < 300:
        heard += server.hear()
    assert [message.prompt for message in heard] == prompts
    server.say(Answer(0, list(range(300)), [[7]] * 300))
    assert server.hear_all() == [Bye()]
    assert account().tokens == [[7]] * 300


def test_the_tokens_of_a_message_are_there_at_one_instant(asked) -> None:
    server, account = asked(job([3, 2, 1]))
    server.hear()
    begin = now_ns()
    server.say(Answer(0, [2, 0, 1], [[5], [1], [3]]))
    server.say(Answer(0, [1], [[]]), Failed([7], "nobody"), Answer(0, [1, 0], [[4], [2, 6]]))
    assert server.hear_all() == [Bye()]
    seen = account()
    assert seen.tokens == [[1, 2, 6], [3, 4], [5]]
    assert len(set(seen.first_ns)) == 1
    assert seen.last_ns[0] == seen.last_ns[1]
    assert begin < seen.first_ns[0] == seen.last_ns[2] <= seen.last_ns[0] < now_ns()


@pytest.mark.parametrize(
    ("leaves", "read"),
    [(0, []), (1, [1]), (2, [1, 2, 3]), (3, [1, 2, 3]), (4, [1, 2, 3, 4]), (5, [1, 2, 3, 4, 5]), (9, [1, 2, 3, 4, 5])],
)
def test_who_has_read_enough_cancels_and_reads_no_more(asked, leaves: int, read: list[int]) -> None:
    """Though all of it has come in one piece; whose answer is whole has nothing to cancel."""
    server, account = asked(job([5, 1], leaves={0: leaves}))
    heard = server.hear()
    server.say(*(Answer(0, [0], [new]) for new in ([1], [2, 3], [4], [5])), Answer(0, [1], [[8]]))
    heard += server.hear_all()
    assert heard[2:] == ([Bye()] if leaves >= 5 else [Cancel(0), Bye()])
    assert account().tokens == [read, [8]]


def test_who_fails_has_what_was_read(asked) -> None:
    """Whose answer is whole by then does not fail."""
    server, account = asked(job([3, 3, 1]))
    server.hear()
    server.say(Answer(0, [0, 2], [[1], [2]]), Failed([0, 1, 2], "no more"), Answer(0, [0], [[9]]))
    assert server.hear_all() == [Bye()]
    seen = account()
    assert seen.tokens == [[1], [], [2]]
    assert seen.failed == {0: "no more", 1: "no more"}
    assert [bool(at) for at in seen.last_ns] == [True, False, True]


def test_users_think_from_the_instant_of_their_last_token(asked) -> None:
    """Two whose last tokens come together; whoever leaves thinks as well."""
    think = [0, 0, 10**6, 3 * 10**6]
    server, account = asked(Job([bytes(8)] * 4, [2, 9, 1, 1], think=think, users=2, leaves={1: 1}))
    first = server.hear()
    server.say(Answer(0, [1, 0], [[1], [1, 2]]))
    heard = [message for message in first if isinstance(message, Submit)]
    while len(heard) < 4:
        heard += [message for message in server.hear() if isinstance(message, Submit)]
    server.say(Answer(0, [2, 3], [[1], [1]]))
    assert server.hear_all() == [Bye()]
    seen = account()
    assert seen.last_ns[0] == seen.last_ns[1]
    assert [message.arrival_ns - seen.last_ns[0] for message in heard[2:]] == think[2:]
    assert all(message.sent_ns >= message.arrival_ns for message in heard)


def test_users_come_in_order_whenever_their_answers_do(asked) -> None:
    """Nobody asks before an answer that has come has been heard, which may bring somebody earlier."""
    think = np.random.default_rng(0).integers(0, 200_000, 2000).tolist()
    server, account = asked(Job([bytes(8)] * 2000, [1] * 2000, think=think, users=20))
    arrival: list[int] = []
    while len(arrival) < 2000:
        new = server.hear()
        server.say(*(Answer(0, [message.request], [[1]]) for message in new))
        arrival += [message.arrival_ns for message in new]
    assert arrival == sorted(arrival)
    assert server.hear_all() == [Bye()]
    assert account().tokens == [[1]] * 2000


@pytest.mark.parametrize("where", [InThread, InProcess])
@pytest.mark.parametrize("answered", [0, 2, 3])
@pytest.mark.parametrize("closed", [False, True])
def test_nobody_waits_to_ask_a_server_that_has_gone(asked, where: Where, answered: int, closed: bool) -> None:
    """Three have asked, all others will in an hour: whose answer is not whole hears of it, the rest never ask."""
    if closed:
        mine = Job([bytes(8)] * 9, [1] * 9, think=[0] * 3 + [HOUR] * 6, users=3)
    else:
        mine = job([1] * 9, [0] * 3 + [HOUR] * 6)
    server, account = asked(mine, where)
    heard = []
    while len(heard) < 3:
        heard += server.hear()
    server.say(Answer(0, list(range(answered)), [[5]] * answered))
    server.hang_up()
    seen = account()
    assert seen.tokens == [[5]] * answered + [[]] * (9 - answered)
    assert seen.failed == dict.fromkeys(range(answered, 3), SERVER_GONE)
    assert np.count_nonzero(seen.last_ns) == answered


def test_nobody_ever_asks_a_server_that_has_gone_before(asked) -> None:
    server, account = asked(job([1] * 3, [HOUR] * 3))
    server.hang_up()
    assert account() == Account([0] * 3, [0] * 3, [[]] * 3, {}, {})
