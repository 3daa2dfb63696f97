"""What passes between a policy, the engine and a cost model: `Wait`, `Step`, `Shape`, `Work`."""

from __future__ import annotations

from typing import Literal, final

import msgspec

Lasts = Literal["step", "change", "batch"]
Release = Literal["batch", "request"]
Refusals = tuple[tuple[int, int], ...]
"""Waiting requests that are turned away, and when: no earlier than each came, and no later than now."""


@final
class Wait(msgspec.Struct, frozen=True, gc=False):
    """Start nothing before a request arrives or tick ``until`` comes (None: only an arrival counts).

    ``refuse``: see `Step`.
    """

    until: int | None = None
    refuse: Refusals = ()


class Step(msgspec.Struct, frozen=True, gc=False):
    """Run a forward pass now. Sequences that decode go on and are not listed.

    Attributes:
        admit: that many of the waiting requests, first come first served, start with their whole prompts.
        prefill: or, one by one, ``(request id, tokens)`` of waiting or partly prefilled requests, in that order.
        preempt: running requests that lose their seats, in this order, before anything else; each goes to the head of
            the queue.
        resume: preempted requests whose cache is still there, or comes back from the host, and that decode again.
        skip: of those that decode, who does not go on in this step and keeps its seat.
        decode: False: of those that decode, nobody goes on in this step, which only prefills.
        at_most: so many steps, where it would hold longer.
        lasts: how long the decision holds. ``"step"``: ask again after this step. ``"change"``: plain decoding would
            follow until a request arrives or finishes, or memory is short. ``"batch"``: these rows run to completion
            whatever arrives.
        refuse: who is turned away before anything else, by a policy that says so (``turns_away``).
    """

    admit: int = 0
    prefill: tuple[tuple[int, int], ...] = ()
    preempt: tuple[int, ...] = ()
    resume: tuple[int, ...] = ()
    skip: tuple[int, ...] = ()
    decode: bool = True
    at_most: int | None = None
    lasts: Lasts = "change"
    refuse: Refusals = ()


class Shape(msgspec.Struct, frozen=True, gc=False):
    """What a cost model sees of one step; tokens are counted unpadded, contexts before the step.

    Attributes:
        decode_rows: rows that decode one token each.
        held_rows: finished rows of a run-to-completion batch, fed one token each.
        context: tokens in the cache, summed over decoding and held rows.
        longest: most tokens in the cache of any decoding or held row.
        prefill_rows: rows that compute prompt tokens.
        new_tokens: prompt tokens they compute.
        prefill_context: tokens they already have in the cache, summed.
        widest: most prompt tokens of any of them.
    """

    decode_rows: int = 0
    held_rows: int = 0
    context: int = 0
    longest: int = 0
    prefill_rows: int = 0
    new_tokens: int = 0
    prefill_context: int = 0
    widest: int = 0

    @property
    def rows(self) -> int:
        """Rows of every kind: the batch size of the step."""
        return self.decode_rows + self.held_rows + self.prefill_rows


class Work(Shape, frozen=True, gc=False):
    """A first step of this shape, and how far plain decoding may follow it.

    Attributes:
        steps: at most this many steps, the first included.
        cut: stop at the first step boundary at or after an arrival.
        path: the end of every step is wanted, since requests finish on the way.
        admitted: how many requests this takes from the head of the queue, with whole prompts.
        paused: rows that decode, but not in this step.
        moved: blocks of key/value cache that go to the host or come back before it.
    """

    steps: int = 1
    cut: bool = True
    path: bool = False
    admitted: int = 0
    paused: int = 0
    moved: int = 0
