"""What a batching policy is to the engine, and what it may see."""

from __future__ import annotations

from collections.abc import Iterator, KeysView, Mapping
from typing import Any, Protocol, runtime_checkable

from simqueue.plan import Refusals, Step, Wait
from simqueue.units import Grid


class View(Protocol):
    """What a policy may read of an engine. Ticks for time; request ids count from 0 in order of arrival."""

    @property
    def now(self) -> int:
        """The instant of the decision."""

    @property
    def waiting(self) -> int:
        """Requests that have arrived and never ran."""

    @property
    def running(self) -> int:
        """Seats taken: sequences that decode or are partly prefilled."""

    @property
    def prefilling(self) -> Mapping[int, int]:
        """Partly prefilled sequences in order of admission: id to prompt tokens still to compute."""

    @property
    def closed(self) -> bool:
        """Whether nobody can come before somebody has been answered: the last request has arrived, or every user of a
        closed loop waits."""

    @property
    def arrived(self) -> int:
        """Requests that have arrived so far: those with ids below, of which some may have gone away since."""

    def arrival(self, request: int) -> int:
        """When a request that has arrived came to the queue."""

    def oldest(self) -> int:
        """Arrival of the request that has waited longest (only while ``waiting`` is not 0)."""

    def queue(self) -> Iterator[int]:
        """Ids of the waiting requests, first come first."""

    def prompt_tokens(self, request: int) -> int:
        """Length of a request's prompt."""

    def max_output_tokens(self, request: int) -> int | None:
        """The most tokens that a request asks for, if it says so."""

    def predicted_output_tokens(self, request: int) -> int | None:
        """A prediction of a request's output length, if the workload has one."""

    def priority(self, request: int) -> int:
        """The smaller the more urgent; 0 where the workload has none."""

    def client(self, request: int) -> str:
        """Whose it is; one name for all where the workload has none."""

    def ttft_slo(self, request: int) -> int:
        """Ticks within which its first token is wanted; endless where the workload does not say."""


class PagedView(View, Protocol):
    """What a policy may read besides of an engine that counts blocks of key/value cache (``paged = True``).

    Waiting are then also those who were preempted. Without `simqueue.Memory` there is always room.
    """

    @property
    def seats(self) -> KeysView[int]:
        """Who runs, decoding or partly prefilled, in order of admission."""

    @property
    def free_blocks(self) -> int:
        """Blocks that nobody holds."""

    @property
    def total_blocks(self) -> int:
        """Blocks there are."""

    @property
    def block_size(self) -> int:
        """Tokens in a block."""

    @property
    def clock(self) -> int:
        """Steps so far in which those who decode went on."""

    def most_tokens(self, request: int) -> int:
        """Prompt and output together at most: by what the request asks for, or by the model's context."""

    @property
    def growth(self) -> int:
        """Blocks that those who decode take in the next step."""

    def grows(self, request: int) -> bool:
        """Whether somebody who runs takes one of those."""

    def blocks(self, request: int) -> int:
        """Blocks that become free when somebody who runs loses the seat."""

    def needs(self, request: int, tokens: int) -> int:
        """Blocks that computing so many more tokens of a waiting or partly prefilled request takes from the free ones;
        of one whose cache is still there or on the host, what resuming it takes."""

    def demand(self, request: int) -> tuple[int, int]:
        """Of a waiting request ``backlog`` and what it ``needs`` for all of that."""

    def demands(self) -> Iterator[tuple[int, int, int]]:
        """Who waits, in the order of ``queue``: the request and its ``demand``."""

    def whole(self, request: int) -> int:
        """Blocks that somebody who runs would take if it were preempted and admitted again."""

    def backlog(self, request: int) -> int:
        """Tokens to compute before the next one comes; of a waiting request those that no prefix cache spares it."""

    def emitted(self, request: int) -> int:
        """Output tokens so far."""

    def preempted(self, request: int) -> bool:
        """Whether a waiting request has run before."""


class Decider(Protocol):
    """A policy at work on one engine; deterministic, and all that the policy remembers."""

    def decide(self, view: Any) -> Step | Wait:
        """The next step, or how long to wait. Called once each time the replica is free.

        ``view``: a `View`, or a `PagedView` where the policy is ``paged``.
        """


class Refusing(Decider, Protocol):
    """The decider of a policy that turns requests away (``turns_away``). What it does while the replica is busy it
    catches up with when it is asked, each at its own instant: at the next decision, or before, where somebody waits to
    hear of it."""

    @property
    def looks(self) -> int | None:
        """When it may next turn somebody away, if nothing happens before; later than when it was asked last."""

    def refuse(self, view: View) -> Refusals:
        """Whom it has turned away up to and including ``view.now``, where that is no decision; not told before."""


@runtime_checkable
class BatchingPolicy(Protocol):
    """A frozen dataclass (or ``msgspec.Struct``) of knobs that makes fresh deciders.

    Optional attributes: ``release`` (``"request"`` unless given) says when the answers of a run-to-completion
    batch leave, ``iteration_level`` (True unless given) says that requests may join and leave between steps.
    ``paged`` (False unless given) says that it looks at memory or preempts: it is shown a `PagedView`. Then ``reserve``
    (`simqueue.kv.Reserve`, ``"computed"`` unless given) says what a request holds blocks for, and ``preemption``
    (`simqueue.kv.Preemption`, ``"recompute"`` unless given) what becomes of the cache of one that loses its seat;
    ``prefixes`` (False unless given) says that it knows a prefix cache, ``mixes`` (True unless given) that no step
    stops those who decode, ``ordered`` (False unless given) that it starts whom it finds at the head of
    ``view.queue()``, so that an order (`simqueue.order`) decides who is next, ``headroom`` (0 unless given) how many
    blocks are free before any step that it does not want to be asked about; and ``fits(view, request, most)``, if it
    has that, whether a request that takes so many blocks can ever be served.

    Where it is not paged ``turns_away`` (False unless given) says that it may turn requests away (`Step.refuse`): its
    decider is a `Refusing` one, and ``lenient`` is the same policy that turns nobody away.
    """

    def decider(self, grid: Grid) -> Decider:
        """A fresh decider for one engine whose time is counted on ``grid``."""


def launches_ahead(policy: BatchingPolicy) -> bool:
    """Whether a server can launch what the next step decodes before this one has ended: not where that step may stop
    all who decode (``mixes``), nor where one that loses its seat keeps its cache and may be back in the next."""
    return getattr(policy, "mixes", True) and getattr(policy, "preemption", "recompute") == "recompute"
