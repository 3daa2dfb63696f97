"""A slow, obvious simulator of one server: what the real engine must equal, request by request, to the tick.

It is written from the rules alone and shares no code with the package. It goes step by step through whole
ticks, visits every row in every step, and keeps no running sums. The rules:

* A request is seen by the scheduler at ``arrival + request_path``; whoever is seen at or before *now* takes
  part in the decision at *now*.
* Its first pass, over the prompt, yields its first token; each of its other ``output - 1`` tokens takes one
  pass with one new token. The last token is never fed back.
* A batch that runs to completion prefills all its prompts whole in its first step. Finished rows are held:
  they go on with one new token a step and a growing context until the batch ends.
* A step that prefills while no row decodes or is held takes its price and ``start``, by how long ago a step that
  prefilled, or the run, has begun. One in which rows decode or are held takes its price and what is ``exposed``,
  fixed and for each of them.
* When the last request has been seen, the source is closed and nobody waits for company that cannot come:
  ``Static``, and ``Dynamic`` with an infinite wait, start what is left. It is also closed for as long as every user of
  a closed loop waits for an answer.
* ``Continuous`` decides anew at every step boundary: running sequences in order of admission, then waiting
  ones first come first served while seats and tokens last. A prompt that exceeds what is left of the budget is
  cut, and a chunk that does not complete its prompt yields no token.
* A user of a closed loop thinks, asks, hears the whole answer ``response_path`` after its last token has left, and
  thinks again. Everybody begins to think at 0. The next think time belongs to whoever hears next (of those who hear at
  one instant: whose request has the smaller id), the next lengths to whoever asks next (of those who ask at one
  instant: who began to think first). When all lengths are used up, no more is asked; think times are used from the
  first again.
* A conversation begins with a turn at its start, whatever the server does; each further turn comes its think time after
  the whole answer to the one before was heard (``response_path`` after its last token has left). A prompt is everything
  that was said and answered before and what is said now. Of turns that come at one instant those that begin a
  conversation are first, then whoever began to think first (of those who hear at one instant: whose request has the
  smaller id).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise


@dataclass(frozen=True)
class Request:
    """One request: its arrival in ticks, its prompt tokens and the tokens it will emit (both at least 1)."""

    id: int
    arrival: int
    prompt: int
    output: int


@dataclass(frozen=True)
class StepShape:
    """What one forward pass computes; contexts are tokens in the cache before the step."""

    decode_rows: int = 0
    decode_context: int = 0
    held_rows: int = 0
    held_context: int = 0
    prefill_rows: int = 0
    new_tokens: int = 0
    prefill_context: int = 0
    widest: int = 0
    longest: int = 0


Price = Callable[[StepShape], int]
NO_LIMIT = 10**30


@dataclass(frozen=True)
class Affine:
    """Step cost in ticks, linear in rows, computed tokens and cached tokens, all kinds of rows alike."""

    base: int = 0
    per_row: int = 0
    per_new_token: int = 0
    per_context_token: int = 0

    def __call__(self, step: StepShape) -> int:
        rows = step.decode_rows + step.held_rows + step.prefill_rows
        computed = step.decode_rows + step.held_rows + step.new_tokens
        context = step.decode_context + step.held_context + step.prefill_context
        per_token = self.per_new_token * computed + self.per_context_token * context
        return self.base + self.per_row * rows + per_token


@dataclass(frozen=True)
class Overheads:
    """What the server costs beside the model, in ticks."""

    request_path: int = 0
    wake: int | tuple[tuple[int, int], ...] = 0
    handover: int = 0
    handover_per_request: int = 0
    response_path: int = 0
    response_per_row: int = 0
    timer_late: int = 0
    start: int | tuple[tuple[int, int], ...] = 0
    exposed: int = 0
    exposed_per_row: int = 0


@dataclass(frozen=True)
class Alone:
    """The policy ``none``: one request at a time."""


@dataclass(frozen=True)
class Static:
    """Exactly ``batch`` at a time; ``release`` is "batch" or "request"."""

    batch: int
    release: str


@dataclass(frozen=True)
class Dynamic:
    """Up to ``max_batch`` at a time, once ``min_batch`` wait or the oldest has waited ``max_wait`` ticks.

    ``max_batch=None``: no limit; ``max_wait=None``: infinite; ``min_batch=None``: the same as ``max_batch``.
    """

    max_batch: int | None
    max_wait: int | None
    min_batch: int | None
    release: str


@dataclass(frozen=True)
class Continuous:
    """At most ``max_seqs`` sequences, and ``max_tokens >= max_seqs`` tokens (None: no limit), in a step."""

    max_seqs: int
    max_tokens: int | None


RunToCompletion = Alone | Static | Dynamic
Policy = RunToCompletion | Continuous


@dataclass(frozen=True)
class Times:
    """When a request entered its first step, and when its first and its last token were at the client."""

    scheduled: int
    first_token: int
    finished: int


@dataclass(frozen=True)
class StepRecord:
    """One forward pass."""

    start: int
    end: int
    shape: StepShape


@dataclass(frozen=True)
class Outcome:
    """The times of every request by id, every step in order, and when each request was sent."""

    requests: dict[int, Times]
    steps: list[StepRecord]
    arrivals: dict[int, int] = field(default_factory=dict)


@dataclass
class Row:
    """A request on its way: its tokens in the cache, and of each of its tokens when it left the server and in how many
    rows."""

    request: Request
    visible: int
    cached: int = 0
    scheduled: int | None = None
    tokens: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    @property
    def prefilling(self) -> bool:
        return self.cached < self.request.prompt

    @property
    def done(self) -> bool:
        return len(self.tokens) == self.request.output

    def there(self, token: int, overheads: Overheads) -> int:
        """When a token is at the client: those of a step go out together, and are taken apart one by one."""
        return self.tokens[token] + overheads.response_path + overheads.response_per_row * self.sizes[token]


@dataclass(frozen=True)
class ClosedLoop:
    """``users`` who wait for their answers; lengths by request, and think times in ticks."""

    users: int
    lengths: Sequence[tuple[int, int]]
    thinks: Sequence[int]


@dataclass(frozen=True)
class Turn:
    """What is said after so many ticks of thought, in tokens, and how long the answer will be."""

    think: int
    said: int
    answer: int


@dataclass(frozen=True)
class Conversation:
    """Its first turn comes at ``start``, without thought. ``context`` tokens stand before all that is said."""

    start: int
    turns: Sequence[Turn]
    context: int = 0


@dataclass(frozen=True)
class Conversations:
    """All of them, in order of their starts."""

    all: Sequence[Conversation]


Work = list[tuple[Row, int]]  # the rows of one step, each with the tokens that it computes


def simulate(
    requests: Iterable[Request] | ClosedLoop | Conversations,
    policy: Policy,
    price: Price,
    overheads: Overheads = Overheads(),
    noise: Sequence[float] | None = None,
) -> Outcome:
    """Serve all requests with one server; ``noise[n]`` multiplies the price of the n-th step, from 0."""
    model = Model(price, noise, overheads)
    clients = clients_of(requests, overheads)
    everyone: list[Row] = []
    waiting: list[Row] = []
    running: list[Row] = []
    now = 0
    while clients.next_visible() is not None or waiting or running:
        while (visible := clients.next_visible()) is not None and visible <= now:
            row = clients.send()
            everyone.append(row)
            waiting.append(row)

        if isinstance(policy, Continuous):
            work = continuous_work(policy, running, waiting)
            if work:
                now = model.step(work, now)
                running = [row for row, _ in work if not row.done]
                clients.hear([row for row, _ in work if row.done])
                continue
        else:
            size = batch_size(policy, waiting, now, closed=clients.next_visible() is None)
            if size > 0:
                batch, waiting = waiting[:size], waiting[size:]
                now = run_batch(model, batch, now)
                if not isinstance(policy, Alone) and policy.release == "batch":
                    for row in batch:
                        row.tokens = [now] * row.request.output
                        row.sizes = [size] * row.request.output
                clients.hear(batch)
                now += overheads.handover + overheads.handover_per_request * size
                continue

        # Nothing starts now: sleep until the next request has been seen, or the deadline fires.
        visible = clients.next_visible()
        wakes = [] if visible is None else [visible + lag(overheads.wake, visible - now)]
        if isinstance(policy, Dynamic) and policy.max_wait is not None and waiting:
            wakes.append(waiting[0].visible + policy.max_wait + overheads.timer_late)
        now = min(wakes)

    return Outcome(
        {row.request.id: times(row, overheads) for row in everyone},
        model.steps,
        {row.request.id: row.request.arrival for row in everyone},
    )


def lag(taken: int | tuple[tuple[int, int], ...], since: int) -> int:
    """How long something takes that was last done so long ago: on the line between two pairs, rounded down."""
    if isinstance(taken, int):
        return taken
    if since <= taken[0][0]:
        return taken[0][1]
    for (x0, y0), (x1, y1) in pairwise(taken):
        if x0 <= since <= x1:
            return y0 + math.floor(Fraction((y1 - y0) * (since - x0), x1 - x0))
    return taken[-1][1]


class Crowd:
    """Clients who ask when they want to, answered or not."""

    def __init__(self, requests: Iterable[Request], overheads: Overheads) -> None:
        in_order = sorted(requests, key=lambda request: (request.arrival, request.id))
        self.coming = [Row(request, request.arrival + overheads.request_path) for request in in_order]

    def next_visible(self) -> int | None:
        """When the scheduler sees the next request, if one is on its way."""
        return self.coming[0].visible if self.coming else None

    def send(self) -> Row:
        """The next request."""
        return self.coming.pop(0)

    def hear(self, done: list[Row]) -> None:
        """These answers are whole."""


@dataclass
class User:
    """Somebody who thinks until an instant, for the n-th think of all, or else waits for the answer to a request."""

    until: int
    nth: int
    waits_for: Row | None = None


class Users:
    """Clients who do not ask again before they have been answered."""

    def __init__(self, loop: ClosedLoop, overheads: Overheads) -> None:
        self.loop, self.overheads = loop, overheads
        self.thinks = self.sent = 0
        self.users = [User(self.think(), nth) for nth in range(loop.users)]

    def think(self) -> int:
        """The next think time."""
        self.thinks += 1
        return self.loop.thinks[(self.thinks - 1) % len(self.loop.thinks)]

    def next_user(self) -> User | None:
        """Who asks next, if anybody thinks and there is still something to ask."""
        thinking = [user for user in self.users if user.waits_for is None]
        if not thinking or self.sent == len(self.loop.lengths):
            return None
        return min(thinking, key=lambda user: (user.until, user.nth))

    def next_visible(self) -> int | None:
        """When the scheduler sees the next request, if one is on its way."""
        user = self.next_user()
        return None if user is None else user.until + self.overheads.request_path

    def send(self) -> Row:
        """The next request."""
        user = self.next_user()
        assert user is not None
        prompt, output = self.loop.lengths[self.sent]
        request = Request(self.sent, user.until, prompt, output)
        self.sent += 1
        user.waits_for = Row(request, request.arrival + self.overheads.request_path)
        return user.waits_for

    def hear(self, done: list[Row]) -> None:
        """These answers are whole."""
        for row in sorted(done, key=lambda row: (row.tokens[-1], row.request.id)):
            for user in self.users:
                if user.waits_for is row:
                    user.waits_for = None
                    user.nth = self.thinks
                    user.until = row.there(-1, self.overheads) + self.think()


@dataclass
class Talk:
    """A conversation that goes on with its ``turn``-th turn at ``until``, ``nth`` of all to have begun to think, or
    that waits for an answer."""

    conversation: Conversation
    until: int
    nth: int
    turn: int = 0
    waits_for: Row | None = None


class Talkers:
    """Clients whose conversations begin when they want to, and go on when they have been answered."""

    def __init__(self, conversations: Conversations, overheads: Overheads) -> None:
        self.talks = [Talk(each, each.start, nth) for nth, each in enumerate(conversations.all)]
        self.overheads = overheads
        self.thinks, self.sent = len(self.talks), 0

    def next_talk(self) -> Talk | None:
        """Which goes on next, if any does without hearing something."""
        going_on = [talk for talk in self.talks if talk.waits_for is None and talk.turn < len(talk.conversation.turns)]
        return min(going_on, key=lambda talk: (talk.until, talk.nth), default=None)

    def next_visible(self) -> int | None:
        """When the scheduler sees the next request, if one is on its way."""
        talk = self.next_talk()
        return None if talk is None else talk.until + self.overheads.request_path

    def send(self) -> Row:
        """The next request."""
        talk = self.next_talk()
        assert talk is not None
        *before, turn = talk.conversation.turns[: talk.turn + 1]
        prompt = talk.conversation.context + sum(past.said + past.answer for past in before) + turn.said
        request = Request(self.sent, talk.until, prompt, turn.answer)
        self.sent += 1
        talk.waits_for = Row(request, request.arrival + self.overheads.request_path)
        return talk.waits_for

    def hear(self, done: list[Row]) -> None:
        """These answers are whole."""
        for row in sorted(done, key=lambda row: (row.tokens[-1], row.request.id)):
            for talk in self.talks:
                if talk.waits_for is row:
                    talk.waits_for = None
                    talk.turn += 1
                    if talk.turn < len(talk.conversation.turns):
                        talk.until = row.there(-1, self.overheads) + talk.conversation.turns[talk.turn].think
                        talk.nth = self.thinks
                        self.thinks += 1


def clients_of(
    requests: Iterable[Request] | ClosedLoop | Conversations, overheads: Overheads
) -> Crowd | Users | Talkers:
    """Whoever sends these."""
    if isinstance(requests, ClosedLoop):
        return Users(requests, overheads)
    return Talkers(requests, overheads) if isinstance(requests, Conversations) else Crowd(requests, overheads)


def batch_size(policy: RunToCompletion, waiting: list[Row], now: int, closed: bool) -> int:
    """How many of the waiting requests a free server starts now, to run them to completion."""
    n = len(waiting)
    if n == 0:
        return 0
    if isinstance(policy, Alone):
        return 1
    if isinstance(policy, Static):
        return min(n, policy.batch) if n >= policy.batch or closed else 0

    enough = policy.max_batch if policy.min_batch is None else policy.min_batch
    overdue = closed if policy.max_wait is None else now - waiting[0].visible >= policy.max_wait
    if overdue or (enough is not None and n >= enough):
        return n if policy.max_batch is None else min(n, policy.max_batch)
    return 0


def continuous_work(policy: Continuous, running: list[Row], waiting: list[Row]) -> Work:
    """The rows of the next step, in order of admission; those admitted now are taken out of ``waiting``."""
    budget = NO_LIMIT if policy.max_tokens is None else policy.max_tokens
    work: Work = []
    for row in running:
        new = min(row.request.prompt - row.cached if row.prefilling else 1, budget)
        assert new > 0, "max_tokens >= max_seqs leaves every running sequence a token"
        work.append((row, new))
        budget -= new
    while waiting and len(work) < policy.max_seqs and budget > 0:
        row = waiting.pop(0)
        new = min(row.request.prompt, budget)
        work.append((row, new))
        budget -= new
    return work


def run_batch(model: Model, batch: list[Row], now: int) -> int:
    """Run the batch from now until its last row is done, nobody joining or leaving; return when it ends."""
    while not all(row.done for row in batch):
        now = model.step([(row, row.request.prompt if row.prefilling else 1) for row in batch], now)
    return now


@dataclass
class Model:
    """Forward passes one after another, and the record of them."""

    price: Price
    noise: Sequence[float] | None
    overheads: Overheads
    steps: list[StepRecord] = field(default_factory=list)
    prefilled: int = 0

    def step(self, work: Work, now: int) -> int:
        """Run one forward pass from now, let its tokens out at its end, and return that end."""
        shape = shape_of(work)
        cost = max(1, self.price(shape))
        if rows := shape.decode_rows + shape.held_rows:
            cost += self.overheads.exposed + self.overheads.exposed_per_row * rows
        if self.noise is not None:
            cost = int(cost * self.noise[len(self.steps)] + 0.5)
        end = now + max(1, cost)
        if shape.prefill_rows:
            if not shape.decode_rows and not shape.held_rows:
                end += lag(self.overheads.start, now - self.prefilled)
            self.prefilled = now
        self.steps.append(StepRecord(now, end, shape))
        for row, new in work:
            if row.scheduled is None:
                row.scheduled = now
            row.cached += new
            if not row.prefilling and not row.done:
                row.tokens.append(end)
                row.sizes.append(len(work))
        return end


def shape_of(work: Work) -> StepShape:
    """What a cost model sees of this step, before it runs."""
    prefill = [(row, new) for row, new in work if row.prefilling]
    decode = [row for row, _ in work if not row.prefilling and not row.done]
    held = [row for row, _ in work if not row.prefilling and row.done]
    return StepShape(
        decode_rows=len(decode),
        decode_context=sum(row.cached for row in decode),
        held_rows=len(held),
        held_context=sum(row.cached for row in held),
        prefill_rows=len(prefill),
        new_tokens=sum(new for _, new in prefill),
        prefill_context=sum(row.cached for row, _ in prefill),
        widest=max((new for _, new in prefill), default=0),
        longest=max((row.cached for row in decode + held), default=0),
    )


def times(row: Row, overheads: Overheads) -> Times:
    """What the client sees of a finished request, tokens in their order."""
    assert row.scheduled is not None
    first = row.there(0, overheads)
    return Times(row.scheduled, first, max(first, row.there(-1, overheads)))
