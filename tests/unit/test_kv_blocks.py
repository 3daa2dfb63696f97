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
    for cached, _ in rows:
        blocks.join(clock - cached)
        assert blocks.grows(clock - cached, clock) == (cached % size == 0)
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


def found(cache: PrefixCache, *names: int) -> tuple[int, int]:
    units, idle = cache.hits(names)
    return len(units), idle


def test_a_prefix_is_counted_once_and_forgotten_last() -> None:
    cache = PrefixCache(4, 6, unit=1)
    # Twelve tokens: three full blocks, which this request fills and leaves.
    cache.take(3)
    mine = cache.keep((1, 2, 3))
    assert found(cache, 1, 2, 3, 9) == (3, 0)
    assert found(cache, 5, 2, 3) == (0, 0)  # a prefix, or nothing
    theirs, _ = cache.hits((1, 2))
    cache.use(theirs)
    assert cache.free == 3
    assert cache.alone(mine) == 1
    cache.release(mine)
    assert cache.free == 4
    cache.release(theirs)
    assert cache.free == 6
    # Three blocks are empty, three hold what is known; the end of the prefix goes first.
    cache.take(4)
    assert found(cache, 1, 2, 3) == (2, 2)
    cache.take(1)
    assert found(cache, 1, 2, 3) == (1, 1)
    cache.take(1)
    assert found(cache, 1, 2, 3) == (0, 0)


def test_of_two_units_alike_the_first_is_found_until_it_is_forgotten() -> None:
    cache = PrefixCache(4, 3, unit=1)
    cache.take(2)
    first, second = cache.keep((7,)), cache.keep((7,))
    assert cache.hits((7,))[0] == first
    cache.release(first)
    cache.release(second)
    cache.take(2)
    assert cache.hits((7,)) == (second, 1)
    cache.take(1)
    assert cache.hits((7,)) == ([], 0)
