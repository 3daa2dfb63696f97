"""What each request holds of the key/value cache, and what it would take."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from simqueue.kv import Blocks, PrefixCache, Reserve, Unit
from simqueue.record import Requests


class BlockTables:
    """Of all requests of one replica. Rows that decode and hold what they compute are in the sums of `Blocks`; here is
    what anybody else holds, and which units of the prefix cache.

    ``reserve``: what a request holds blocks for. ``most_tokens``: its prompt and output together at most.

    Attributes:
        reserves: whether a request holds from its start all that it takes at most.
    """

    def __init__(self, blocks: Blocks, requests: Requests, reserve: Reserve, most_tokens: Callable[[int], int]) -> None:
        self._blocks, self._reserve, self._most_tokens = blocks, reserve, most_tokens
        self.reserves = reserve in ("max_cached", "max_output")
        self._hashes = requests.hashes
        self._prefixes = blocks if isinstance(blocks, PrefixCache) and requests.hashes is not None else None
        self._unit_tokens = self._prefixes.unit * blocks.size if self._prefixes else 0
        self._held: dict[int, int] = {}
        self._units: dict[int, list[Unit]] = {}
        # For those who wait: units that were found, and blocks that these spare, until something changes.
        self._found: dict[int, tuple[list[Unit], int]] = {}

    @property
    def shares(self) -> bool:
        """Whether requests may find tokens computed for others."""
        return self._prefixes is not None

    # What it would take.

    def wanted(self, request: int, known: int, computed: int) -> int:
        """Blocks that a request of ``known`` tokens holds when so many of them have been computed."""
        if self._reserve == "computed":
            return self._blocks.of(computed)
        if self._reserve == "prompt":
            return self._blocks.of(known)
        return self._blocks.of(max(known, self._most_tokens(request) - (self._reserve == "max_cached")))

    def demand(self, request: int, known: int) -> tuple[int, int]:
        """Tokens to compute of somebody who waits, and blocks that this takes from the free ones."""
        blocks = self.wanted(request, known, known)
        if self._prefixes is None:
            return known, blocks
        units, spared = self._hits(request, known)
        return known - len(units) * self._unit_tokens, blocks - spared

    def needs(self, request: int, known: int, tokens: int) -> int:
        """Blocks that so many tokens of somebody who waits take from the free ones."""
        if self._prefixes is None:
            return self.wanted(request, known, tokens)
        units, spared = self._hits(request, known)
        return self.wanted(request, known, len(units) * self._unit_tokens + tokens) - spared

    def more(self, request: int, known: int, computed: int) -> int:
        """Blocks that somebody who prefills takes when so many tokens have been computed."""
        return self.wanted(request, known, computed) - self._held[request] if self._reserve == "computed" else 0

    def resuming(self, request: int, tokens: int) -> int:
        """Blocks that somebody with so many tokens takes who decodes again on the cache that it had."""
        return max(0, self.wanted(request, tokens, tokens) - self._held.get(request, 0))

    def _hits(self, request: int, known: int) -> tuple[list[Unit], int]:
        found = self._found.get(request)
        if found is None:
            assert self._prefixes is not None
            # The last token is always computed.
            units, idle = self._prefixes.hits(self._names(request, 0, (known - 1) // self._unit_tokens))
            found = self._found[request] = units, self._prefixes.unit * (len(units) - idle)
        return found

    def _names(self, request: int, begin: int, end: int) -> Sequence[Hashable]:
        """Of its units from ``begin`` to ``end``. What the workload has no hash of, nobody else can find."""
        assert self._hashes is not None
        hashes = self._hashes[request]
        if end <= len(hashes):
            return hashes[begin:end]
        return [*hashes[begin:], *((request, k) for k in range(max(begin, len(hashes)), end))]

    # What it holds.

    def grows(self, request: int) -> bool:
        """Whether somebody who decodes holds what it computes."""
        return request not in self._held

    def holds(self, request: int, computed: int) -> int:
        """All blocks of somebody with so many computed tokens, those that it shares too."""
        held = self._held.get(request)
        return self._blocks.of(computed) if held is None else held

    def alone(self, request: int, computed: int) -> int:
        """Of those, what becomes free when it lets go of them."""
        held = self.holds(request, computed)
        units = self._units.get(request) if self._prefixes else None
        if not units or self._prefixes is None:
            return held
        return held - self._prefixes.unit * len(units) + self._prefixes.alone(units)

    # What happens.

    def look(self) -> None:
        """What was found may be there no longer."""
        self._found.clear()

    def seat(self, request: int, known: int) -> int:
        """It has a seat; returns the tokens that the prefix cache spares it. All take what there is before `fill` makes
        anything be forgotten."""
        if self._prefixes is None:
            self._held[request] = 0
            return 0
        units = self._hits(request, known)[0]
        self._prefixes.use(units)
        del self._found[request]
        self._units[request] = units
        self._held[request] = self._prefixes.unit * len(units)
        return len(units) * self._unit_tokens

    def fill(self, request: int, known: int, computed: int) -> None:
        """It holds what it needs for so many computed tokens; full units are known to the prefix cache."""
        wanted, held = self.wanted(request, known, computed), self._held[request]
        if wanted > held:
            self._blocks.take(wanted - held)
            self._held[request] = wanted
        if self._prefixes:
            self._remember(self._prefixes, request, computed)

    def start(self, ids: Sequence[int], prompts: Sequence[int], clock: int) -> dict[int, int]:
        """Prompts are computed in the step that begins at ``clock``, and decode from then on; returns the tokens that
        the prefix cache spares some."""
        if self.reserves:
            for i, prompt in zip(ids, prompts, strict=True):
                self._held[i] = wanted = self.wanted(i, prompt, prompt)
                self._blocks.take(wanted)
        elif self._prefixes is None:
            self._blocks.start(prompts, clock)
        else:
            return self._start_sharing(self._prefixes, ids, prompts, clock)
        return {}

    def _start_sharing(
        self, prefixes: PrefixCache, ids: Sequence[int], prompts: Sequence[int], clock: int
    ) -> dict[int, int]:
        spared: dict[int, int] = {}
        for i, prompt in zip(ids, prompts, strict=True):
            self._units[i] = hit = self._hits(i, prompt)[0]
            if hit:
                prefixes.use(hit)
                spared[i] = len(hit) * self._unit_tokens
        self.look()
        for i, prompt in zip(ids, prompts, strict=True):
            prefixes.take(-(-prompt // prefixes.size) - len(self._units[i]) * prefixes.unit)
            self._remember(prefixes, i, prompt)
            prefixes.join(clock + 1 - prompt)
        return spared

    def decode(self, request: int, born: int) -> None:
        """It decodes from now on; ``born`` as in `Blocks`."""
        if not self.reserves:
            self._held.pop(request, None)
            self._blocks.join(born)

    def bring_back(self, request: int, tokens: int) -> int:
        """It decodes again on a cache of so many tokens; returns the blocks that come from elsewhere."""
        if request in self._held:
            return 0
        self._held[request] = wanted = self.wanted(request, tokens, tokens)
        self._blocks.take(wanted)
        self.look()
        return self._blocks.of(tokens)

    def pause(self, request: int, born: int) -> None:
        """It does not decode for a step."""
        if request not in self._held:
            self._blocks.leave(born)

    def go_on(self, request: int, born: int) -> None:
        """It does again."""
        if request not in self._held:
            self._blocks.join(born)

    def keep(self, request: int, born: int, computed: int) -> None:
        """It decodes no longer, and keeps what it holds."""
        if request not in self._held:
            self._blocks.leave(born)
            self._held[request] = self._blocks.of(computed)

    def leave(self, request: int, born: int, computed: int) -> None:
        """It lets go of everything, having computed so many tokens."""
        if self._prefixes:
            self._remember(self._prefixes, request, computed)
        elif request not in self._held:
            self._blocks.end(born, computed)
            return
        if request not in self._held:
            self._held[request] = self._blocks.of(computed)
            self._blocks.leave(born)
        self.drop(request)

    def drop(self, request: int) -> None:
        """It lets go of what it kept, if it did: others may find units of it."""
        held = self._held.pop(request, 0)
        if self._prefixes and (units := self._units.pop(request, None)):
            held -= self._prefixes.unit * len(units)
            self._prefixes.release(units)
            self.look()
        self._blocks.give(held)

    def _remember(self, prefixes: PrefixCache, request: int, computed: int) -> None:
        units, full = self._units.setdefault(request, []), computed // self._unit_tokens
        if len(units) < full:
            units += prefixes.keep(self._names(request, len(units), full))
