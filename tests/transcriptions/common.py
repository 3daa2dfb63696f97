"""What every transcription of a published scheduling rule stands on: requests, memory, steps, and one plain loop.

The transcriptions say what real systems do, written from their sources alone and sharing no code with the package. They
are slow and obvious on purpose: lists, no heaps, no running sums. Each module has a scheduler and a ``run``. The world
is the same for all of them:

* A decision sees the requests with ``arrival <= now``, in order of id.
* A prompt's last chunk yields the first token at the step's end; the last token is never fed back; a request leaves at
  the end of the step that yields its last token.
* Preemption is by recomputation: the emitted tokens stay emitted and become part of the prompt to compute anew.
* When nothing can be scheduled, the server sleeps until the next arrival.
* A request that can never fit is left out from the start and appears in no step.
* A step is over before the next decision: no asynchronous scheduling, no pipeline.

Times are in ticks, lengths in tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

#: Ticks that a step takes, from: decoding rows, their tokens in the cache before the step, prefilling rows, the new
#: tokens of those, and the tokens that those have in the cache before the step.
Price = Callable[[int, int, int, int, int], int]


@dataclass(frozen=True)
class Req:
    """One request. ``max_output`` is what a client allows, ``output`` what it will get; a smaller priority goes
    first."""

    id: int
    arrival: int
    prompt: int
    output: int
    max_output: int | None = None
    priority: int = 0

    @property
    def limit(self) -> int:
        """The most output tokens that a scheduler has to expect."""
        return self.output if self.max_output is None else self.max_output


@dataclass(frozen=True)
class Memory:
    """A key/value cache of ``num_blocks`` usable blocks; ``watermark`` is the share that some rules keep free."""

    block_size: int
    num_blocks: int
    watermark: float = 0.0

    @property
    def watermark_blocks(self) -> int:
        return int(self.watermark * self.num_blocks)

    def blocks(self, tokens: int) -> int:
        """Blocks that hold so many tokens."""
        return -(-tokens // self.block_size)


#: Never full: what a rule sees that has no memory limit.
UNLIMITED = Memory(block_size=1, num_blocks=2**62)


@dataclass(frozen=True, eq=False)
class StepPlan:
    """One step: tokens computed by each request, in the order of scheduling, and who was preempted, in that order."""

    start: int
    end: int
    tokens: dict[int, int]
    preempted: tuple[int, ...] = ()

    def __eq__(self, other: object) -> bool:
        """Equal plans schedule in equal order; a dict alone would not look at it."""
        if not isinstance(other, StepPlan):
            return NotImplemented
        mine, others = ((p.start, p.end, list(p.tokens.items()), p.preempted) for p in (self, other))
        return mine == others


@dataclass(eq=False)
class Seq:
    """A request as the server knows it: tokens in the cache, tokens emitted, blocks held.

    ``target`` is how many tokens its prefill has to compute: the prompt, and after a preemption what was emitted too.
    """

    req: Req
    computed: int = 0
    emitted: int = 0
    blocks: int = 0
    target: int = 0

    def __post_init__(self) -> None:
        self.target = self.req.prompt

    @property
    def id(self) -> int:
        return self.req.id

    @property
    def tokens(self) -> int:
        """All tokens known so far, in the cache or not."""
        return self.req.prompt + self.emitted

    @property
    def prefilling(self) -> bool:
        return self.computed < self.target

    @property
    def done(self) -> bool:
        return self.emitted == self.req.output

    def preempt(self) -> None:
        """Forget the cache; everything known is to be computed anew."""
        self.computed = self.blocks = 0
        self.target = self.tokens


@dataclass
class Decision:
    """Who computes how many tokens, in the order of scheduling, and who was preempted, in that order."""

    tokens: dict[Seq, int]
    preempted: list[Seq]


class Scheduler(Protocol):
    """The rule of one system."""

    def fits(self, req: Req) -> bool:
        """Can it ever be served?"""

    def add(self, seq: Seq) -> None:
        """A request has arrived."""

    def schedule(self, now: int) -> Decision:
        """Decide on the step that begins now; take the memory that it needs."""

    def finish(self, seq: Seq) -> None:
        """A request has its last token: let go of it and of its memory."""

    def idle(self) -> bool:
        """Is nobody waiting and nobody running?"""


def replay(requests: Iterable[Req], scheduler: Scheduler, price: Price) -> list[StepPlan]:
    """Serve the requests, one step after the other, until all have left.

    Raises:
        RuntimeError: the rule is stuck: somebody is there, nobody is scheduled and nobody comes any more.
    """
    coming = [request for request in sorted(requests, key=lambda r: r.id) if scheduler.fits(request)]
    now, steps = 0, []
    while True:
        while coming and coming[0].arrival <= now:
            scheduler.add(Seq(coming.pop(0)))
        decision = scheduler.schedule(now)
        if decision.tokens:
            steps.append(_step(now, decision, price))
            now = steps[-1].end
            _advance(decision, scheduler)
        elif decision.preempted:
            raise RuntimeError(f"at {now} requests were preempted for nobody")
        elif coming:
            now = coming[0].arrival
        elif scheduler.idle():
            return steps
        else:
            raise RuntimeError(f"stuck at {now}: somebody waits and can never be scheduled")


def _step(now: int, decision: Decision, price: Price) -> StepPlan:
    decoding = [seq for seq in decision.tokens if not seq.prefilling]
    prefilling = [seq for seq in decision.tokens if seq.prefilling]
    duration = price(
        len(decoding),
        sum(seq.computed for seq in decoding),
        len(prefilling),
        sum(decision.tokens[seq] for seq in prefilling),
        sum(seq.computed for seq in prefilling),
    )
    return StepPlan(
        start=now,
        end=now + duration,
        tokens={seq.id: count for seq, count in decision.tokens.items()},
        preempted=tuple(seq.id for seq in decision.preempted),
    )


def _advance(decision: Decision, scheduler: Scheduler) -> None:
    """The step is over: whoever has computed all known tokens has one more, and leaves with the last."""
    for seq, count in decision.tokens.items():
        seq.computed += count
        if seq.computed == seq.tokens:
            seq.emitted += 1
        if seq.done:
            scheduler.finish(seq)
