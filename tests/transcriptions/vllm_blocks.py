"""The key/value blocks of vLLM v1, release 0.33.0: who holds which, which are free, which hold a known prefix.

Sources: ``vllm/v1/core/block_pool.py``, ``kv_cache_manager.py`` (``allocate_slots``, ``get_computed_blocks``) and
``single_type_kv_cache_manager.py`` of https://github.com/vllm-project/vllm/tree/v0.33.0.

A block's key stands for all tokens from the first to its last. A block gets its key when the step that fills it is
*scheduled*, and keeps it when it is free, until it is taken for something else. The free blocks are a queue: whoever
needs one takes the head; a freed block without a key goes to the head, one with a key to the tail, the last block of a
request before its first. Two blocks may have one key; the one that got it first is found.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from transcriptions.common import Memory, Seq


@dataclass(eq=False)
class Block:
    key: Hashable = None
    users: int = 0


class BlockPool:
    """``hashes`` names the full blocks of each prompt; None: no prefix caching, a block never gets a key."""

    def __init__(self, memory: Memory, hashes: Mapping[int, Sequence[Hashable]] | None) -> None:
        self.memory = memory
        self.hashes = hashes
        self.free = [Block() for _ in range(memory.num_blocks)]
        self.cached: list[Block] = []  # those with a key, in the order in which they got it
        self.held: dict[Seq, list[Block]] = {}

    def hits(self, seq: Seq) -> list[Block]:
        """``get_computed_blocks``: the longest known prefix that leaves at least one token to compute."""
        found: list[Block] = []
        for index in range((seq.tokens - 1) // self.memory.block_size if self.hashes is not None else 0):
            same = [block for block in self.cached if block.key == self._key(seq, index)]
            if not same:
                break
            found.append(same[0])
        return found

    def room(self, seq: Seq, tokens: int, hits: Sequence[Block], watermark: int) -> bool:
        """Are there blocks for so many tokens? Hits that nobody uses are among the free ones, and are so no more."""
        new = self.memory.blocks(tokens) - len(self.held.get(seq, [])) - len(hits)
        unused = sum(block.users == 0 for block in hits)
        return new + unused + watermark <= len(self.free)

    def take(self, seq: Seq, tokens: int, hits: Sequence[Block]) -> None:
        table = self.held.setdefault(seq, [])
        for block in hits:
            if block.users == 0:
                self.free.remove(block)
            block.users += 1
            table.append(block)
        while len(table) < self.memory.blocks(tokens):
            table.append(self._new())
        if self.hashes is not None:
            for index in range(tokens // self.memory.block_size):
                if table[index].key is None:
                    table[index].key = self._key(seq, index)
                    self.cached.append(table[index])

    def release(self, seq: Seq) -> None:
        unused = []
        for block in reversed(self.held.pop(seq)):
            block.users -= 1
            if block.users == 0:
                unused.append(block)
        head = [block for block in unused if block.key is None]
        tail = [block for block in unused if block.key is not None]
        self.free = head + self.free + tail

    def _new(self) -> Block:
        block = self.free.pop(0)
        if block.key is not None:
            self.cached.remove(block)
        block.key, block.users = None, 1
        return block

    def _key(self, seq: Seq, index: int) -> Hashable:
        """A block with emitted tokens in it is known to its request only."""
        assert self.hashes is not None
        names = self.hashes.get(seq.id, ())
        return names[index] if index < len(names) else (seq, index)
