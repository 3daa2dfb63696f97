"""The bookkeeping of slots alone, against a cache of plain lists, in random order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simqueue.live.device.buckets import bucket
from simqueue.live.device.slots import Slots

COUNT, WINDOW, ROWS = 7, 12, (1, 2, 4, 7)


class Device:
    """Does what is launched to a cache of ``(request, position)``; -1 is noise."""

    def __init__(self):
        self.store = np.full((COUNT + 1, WINDOW), -1)
        self.at = np.zeros(COUNT + 1, np.int64)

    def prefill(self, slot, request, before, tokens):
        self.store[slot, before : before + tokens] = 100 * request + np.arange(before, before + tokens)
        self.at[slot] = min(before + tokens, WINDOW - 1)

    def decode(self, rows, owners):
        for slot in range(rows):
            at = self.at[slot]
            self.store[slot, at] = 100 * owners[slot] + at if slot in owners else -1
            self.at[slot] = min(at + 1, WINDOW - 1)

    def copy(self, source, target, tokens):
        self.store[target, :tokens] = self.store[source, :tokens]
        self.at[target] = self.at[source]


@given(st.integers(0, 2**32 - 1))
def test_every_row_keeps_its_tokens_wherever_it_moves(seed):
    rng = np.random.default_rng(seed)
    slots, device = Slots(COUNT, WINDOW), Device()
    length, prompt, begun, held = {}, {}, 0, set()
    for _ in range(60):
        if len(slots) < COUNT and rng.random() < 0.6:
            prompt[begun], length[begun] = int(rng.integers(1, WINDOW + 1)), 0
            slots.begin(begun, np.arange(prompt[begun]))
            begun += 1
        if slots.decoding:
            rows = bucket(ROWS, len(slots.decoding))
            for copy in slots.compact(rows):
                device.copy(*copy)
            assert max(slots.decoding.values()) < rows
            device.decode(rows, {slot: request for request, slot in slots.decoding.items()})
            assert slots.decode() == min(WINDOW - 1, max(length[request] for request in slots.decoding))
            for request in slots.decoding:
                length[request] += 1
        for request in [r for r in slots.decoding if length[r] < WINDOW and rng.random() < 0.2]:
            # Its last token is not in the cache.
            known = np.arange(length[request] + 1)
            assert slots.hold(request, known) == (slots.prompts[request].slot, length[request])
            held.add(request)
        for request in [r for r in held if rng.random() < 0.5]:
            slot, token, device.at[slot] = slots.go_on(request)
            assert (token, device.at[slot]) == (length[request], length[request])
            held.remove(request)
        for request in [r for r in slots.prompts if r not in held and rng.random() < 0.5]:
            tokens = int(rng.integers(1, prompt[request] - length[request] + 1))
            slot, new, before = slots.take(request, tokens)
            assert (new.tolist(), before) == (list(range(before, before + tokens)), length[request])
            device.prefill(slot, request, before, tokens)
            length[request] += tokens
            assert (request in slots.decoding) == (length[request] == prompt[request])
        where = {**slots.decoding, **{r: p.slot for r, p in slots.prompts.items() if p.slot >= 0}}
        assert len(set(where.values())) == len(where)
        for request, slot in where.items():
            kept = min(length[request], WINDOW - 1)
            assert device.store[slot, :kept].tolist() == [100 * request + k for k in range(kept)]
        for request in [r for r in length if rng.random() < 0.1]:
            slots.end(request)
            held.discard(request)
            del length[request]
    assert begun > COUNT


def test_nothing_moves_while_the_bucket_stays():
    slots = Slots(COUNT, WINDOW)
    for request in range(4):
        slots.begin(request, np.arange(2))
        slots.take(request, 2)
    slots.end(0)
    assert slots.compact(bucket(ROWS, 3)) == ()
    slots.end(1)
    assert list(slots.compact(bucket(ROWS, 2))) == [(2, 0, 2), (3, 1, 2)]


def test_the_order_is_one_object_until_somebody_joins_or_leaves():
    slots = Slots(COUNT, WINDOW)
    for request in (5, 6):
        slots.begin(request, np.arange(3))
        slots.take(request, 3)
    order = slots.order()
    slots.decode()
    assert slots.order() is order
    assert order.requests == [5, 6]
    slots.end(5)
    assert slots.order().requests == [6]
    assert order.requests == [5, 6]


def test_who_was_never_there_cannot_end():
    with pytest.raises(KeyError):
        Slots(COUNT, WINDOW).end(3)
