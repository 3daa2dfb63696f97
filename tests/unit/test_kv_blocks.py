"""The ledger of blocks: what rows take as they decode, counted one by one; and the prefix cache by its rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simqueue.errors import InvariantError
from simqueue.kv import Blocks, PrefixCache

ROWS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 30)), max_size=8)


@given(st.integers(1, 7), st.integers(0, 30), ROWS, st.integers(0, 40), st.integers(1, 40), st.integers(-2, 60))
def test_growth_row_by_row(
    size: int, clock: int, rows: list[tuple[int, int]], steps: int, more: int, free: int
) -> None:
    """A row of so many tokens in the cache takes a block in each step in which they fill all of its blocks."""
    blocks = Blocks(size, 1000)
    taken = [0] * (steps + more)
    for cached, left in rows:
        blocks.join(clock + left, cached + left)
        assert blocks.grows(clock + left, cached + left, clock) == (cached % size == 0)
        for step in range(steps + more):
            taken[step] += (cached + step) % size == 0
    assert blocks.growth(clock, steps) == sum(taken[:steps])
    assert blocks.growth(clock + steps, more) == sum(taken[steps:])
    blocks.free = free
    enough = [k for k in range(steps + 1) if sum(taken[:k]) <= max(free, 0)]
    assert blocks.lasting(clock, steps, 0) == (max(enough) if free >= 0 or not rows else 0)


def test_nobody_takes_what_is_not_there() -> None:
    blocks = Blocks(16, 3)
    blocks.take(2)
    with pytest.raises(InvariantError, match="takes 2 blocks of key/value cache, and 1 are free"):
        blocks.take(2)


def test_a_prefix_is_counted_once_and_forgotten_last() -> None:
    cache = PrefixCache(4, 6, unit=1)
    # Twelve tokens: three full blocks, which this request fills and leaves.
    cache.take(3)
    assert all(cache.keep(h) for h in (1, 2, 3))
    assert not cache.keep(2)
    assert cache.hits((1, 2, 3, 9), 17) == 3
    assert cache.hits((1, 2, 3), 12) == 2  # the last token is always computed
    assert cache.hits((5, 2, 3), 17) == 0  # a prefix, or nothing
    cache.use((1, 2))
    assert cache.free == 3
    assert cache.alone((1, 2, 3)) == 1
    cache.release((1, 2, 3))
    assert cache.free == 4
    cache.release((1, 2))
    assert cache.free == 6
    # Three blocks are empty, three hold what is known; the end of the prefix goes first.
    cache.take(4)
    assert [cache.hits((1, 2, 3), 99), cache.idle((1, 2))] == [2, 2]
    cache.take(1)
    assert cache.hits((1, 2, 3), 99) == 1
    cache.take(1)
    assert cache.hits((1, 2, 3), 99) == 0
