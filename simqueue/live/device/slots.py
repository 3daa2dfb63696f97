"""`Slots`: which request is in which slot of a static cache, and how many tokens it has there; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simqueue.live.executor import Tokens

_FREE = -1
Copy = tuple[int, int, int]


@dataclass(slots=True)
class Prompt:
    """A prompt that is not complete: ``done`` tokens of it are computed, in ``slot`` if there are any.

    One that is held is prompt and output so far, all computed but the last token.
    """

    tokens: Tokens
    done: int = 0
    slot: int = _FREE


class Order(NamedTuple):
    """The requests that decode, their slots, the highest of these, and the origin of the longest row."""

    requests: list[int]
    slots: NDArray[np.int64]
    highest: int
    origin: int


class Slots:
    """The rows of a static cache with ``count`` slots and a spare one behind the last.

    A decode launch covers the slots from 0 to the highest that decodes, and writes behind what each of them has: the
    others may be free, or partly prefilled. All decoding rows grow together, so a row's length is kept as the count of
    decode launches less what that was when the row had no tokens, and a step that changes nothing updates one number.
    """

    def __init__(self, count: int, window: int) -> None:
        self.prompts: dict[int, Prompt] = {}
        self.decoding: dict[int, int] = {}
        self._count, self._window = count, window
        self._owner = [_FREE] * count
        self._origin = np.zeros(count, np.int64)
        self._launches = 0
        self._order: Order | None = None

    def __len__(self) -> int:
        return len(self.prompts) + len(self.decoding)

    def begin(self, request: int, prompt: Tokens, done: int = 0) -> None:
        """A request is there, without a slot yet; so many of its tokens need no computing."""
        self.prompts[request] = Prompt(prompt, done)

    def end(self, request: int) -> None:
        """The request is there no longer."""
        slot = self.decoding.pop(request, _FREE)
        if slot == _FREE:
            slot = self.prompts.pop(request).slot
        else:
            self._order = None
        if slot != _FREE:
            self._owner[slot] = _FREE

    def take(self, request: int, tokens: int) -> tuple[int, Tokens, int]:
        """Slot, new tokens, and how many were there before, for so many further tokens of a prompt."""
        prompt = self.prompts[request]
        slot = self._slot(request, prompt)
        before, prompt.done = prompt.done, prompt.done + tokens
        if prompt.done == len(prompt.tokens):
            self._joins(request, prompt)
        return slot, prompt.tokens[before : prompt.done], before

    def hold(self, request: int, known: Tokens) -> tuple[int, int]:
        """A row that decodes does so no more; all of ``known`` but the last token is there. Returns its slot and how
        many that are."""
        slot, done = self.decoding.pop(request), len(known) - 1
        self.prompts[request] = Prompt(known, done, slot)
        self._order = None
        return slot, done

    def go_on(self, request: int) -> tuple[int, int, int]:
        """One that was held decodes again. Returns its slot, its last token, and how many are there before it."""
        prompt = self.prompts[request]
        slot = self._slot(request, prompt)
        self._joins(request, prompt)
        return slot, int(prompt.tokens[-1]), prompt.done

    def _slot(self, request: int, prompt: Prompt) -> int:
        if prompt.slot == _FREE:
            prompt.slot = self._owner.index(_FREE)
            self._owner[prompt.slot] = request
        return prompt.slot

    def _joins(self, request: int, prompt: Prompt) -> None:
        """It decodes from now on."""
        del self.prompts[request]
        self.decoding[request] = prompt.slot
        self._origin[prompt.slot] = self._launches - prompt.done
        self._order = None

    def order(self) -> Order:
        """Who decodes (at least one does); the same object until that changes."""
        if self._order is None:
            slots = np.fromiter(self.decoding.values(), np.int64, len(self.decoding))
            self._order = Order(list(self.decoding), slots, int(slots.max()), int(self._origin[slots].min()))
        return self._order

    def decode(self) -> int:
        """Every row that decodes gets one token more. Returns the most tokens that any had; a full row stays full."""
        longest = self._launches - self.order().origin
        self._launches += 1
        return min(longest, self._window - 1)

    def compact(self, below: int) -> Sequence[Copy]:
        """Move the rows that decode to slots below ``below``, where there is room for all of them.

        Returns ``(source slot, target slot, tokens)`` of each copy, to be made in this order.
        """
        if self.order().highest < below:
            return ()
        high = [request for request, slot in self.decoding.items() if slot >= below]
        low = [slot for slot in range(below) if self._owner[slot] not in self.decoding]
        self._order = None
        return [copy for request, slot in zip(high, low, strict=False) for copy in self._move(request, slot)]

    def _move(self, request: int, target: int) -> list[Copy]:
        source, displaced = self.decoding[request], self._owner[target]
        move = (source, target, min(self._launches - int(self._origin[source]), self._window))
        self.decoding[request] = target
        self._origin[target] = self._origin[source]
        self._owner[source], self._owner[target] = displaced, request
        if displaced == _FREE:
            return [move]
        prompt = self.prompts[displaced]
        prompt.slot = source
        return [(target, self._count, prompt.done), move, (self._count, source, prompt.done)]
