"""The key/value cache of one replica: how large it is, and who holds how much of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from simqueue.errors import InvariantError

Reserve = Literal["computed", "prompt", "max_cached", "max_output"]
"""What a request holds blocks for: the tokens computed so far; its whole prompt as soon as it is admitted; from the
start prompt and maximum output, less the last token, which is never fed back, or with it."""

Preemption = Literal["recompute", "swap", "keep"]
"""What becomes of the cache of a preempted request: it is dropped and computed again, it goes to the host's memory and
comes back, or it stays where it is."""

# As good as endless.
ENDLESS = 1 << 60


class Blocks:
    """How many blocks are taken, by the token counts of who decodes and who does not.

    Rows that decode together take a new block every ``size`` steps, each in a step of its own phase: so what a leap of
    many steps takes, and when memory runs out, follow from how many rows there are of each phase.

    Attributes:
        size: tokens in a block.
        total: blocks there are.
        free: blocks that nobody holds; the prefix cache may keep old contents in them.
    """

    def __init__(self, size: int, total: int) -> None:
        self.size, self.total, self.free = size, total, total
        self._phases = [0] * size
        self._growing = 0

    def of(self, tokens: int) -> int:
        """Blocks that so many tokens fill, the last perhaps in part."""
        return -(-tokens // self.size)

    def take(self, count: int) -> None:
        """Somebody holds so many more. Raises InvariantError if there are not so many."""
        if count > self.free:
            raise InvariantError(f"the policy takes {count} blocks of key/value cache, and {self.free} are free")
        self.free -= count

    def give(self, count: int) -> None:
        """Somebody holds so many less."""
        self.free += count

    # Rows that decode: `end` is the value of the decode clock when a row has all its tokens, `full` their number.

    def _phase(self, end: int, full: int) -> int:
        """At clock t it has ``full - end + t`` tokens in the cache; it takes a block in the steps where they fill all
        of theirs."""
        return (end - full) % self.size

    def join(self, end: int, full: int) -> None:
        """A row decodes from now on, and holds what it computes."""
        self._phases[self._phase(end, full)] += 1
        self._growing += 1

    def leave(self, end: int, full: int) -> None:
        """It does no longer."""
        self._phases[self._phase(end, full)] -= 1
        self._growing -= 1

    def grows(self, end: int, full: int, clock: int) -> bool:
        """Whether the row takes a block in the step that begins at ``clock``."""
        return clock % self.size == self._phase(end, full)

    def growth(self, clock: int, steps: int = 1) -> int:
        """Blocks that all rows take in so many steps from ``clock`` on."""
        cycles, rest = divmod(steps, self.size)
        phases, begin = self._phases, clock % self.size
        taken = cycles * self._growing
        if rest:
            ahead = phases[begin : begin + rest]
            taken += sum(ahead) + sum(phases[: rest - len(ahead)])
        return taken

    def lasting(self, clock: int, steps: int, kept: int) -> int:
        """How many of ``steps`` steps from ``clock`` on the free blocks, less so many, are enough for."""
        growing, free, size = self._growing, self.free - kept, self.size
        if not growing or growing * (steps // size + 1) <= free:
            return steps
        if free < 0:
            return 0
        done, left = divmod(free, growing)
        done *= size
        phases = self._phases
        for at in range(clock, clock + size):
            left -= phases[at % size]
            if left < 0 or done >= steps:
                break
            done += 1
        return min(done, steps)


class Unlimited(Blocks):
    """A cache that never fills: one endless block for everybody, of which nobody takes a second one."""

    def __init__(self) -> None:
        super().__init__(1, ENDLESS)

    def of(self, tokens: int) -> int:
        """None."""
        return 0

    def join(self, end: int, full: int) -> None:
        """Takes nothing."""

    def leave(self, end: int, full: int) -> None:
        """Gives nothing."""

    def grows(self, end: int, full: int, clock: int) -> bool:
        """Never."""
        return False


class PrefixCache(Blocks):
    """Blocks with a memory: what full blocks hold is known by a hash of all tokens up to their end, and a request that
    begins alike need not compute them again.

    Hashes are of units of ``unit`` blocks. A unit that somebody uses is counted once, however many do. Those that
    nobody uses are free, and forgotten, the least recently used first, when no empty block is left.
    """

    def __init__(self, size: int, total: int, unit: int) -> None:
        super().__init__(size, total)
        self.unit = unit
        self._users: dict[int, int] = {}
        self._idle: dict[int, None] = {}

    def hits(self, hashes: Sequence[int], tokens: int) -> int:
        """How many units of so many tokens are here, from the first on; the last token is always computed."""
        most = min(len(hashes), (tokens - 1) // (self.unit * self.size))
        users, idle = self._users, self._idle
        for k in range(most):
            if hashes[k] not in users and hashes[k] not in idle:
                return k
        return most

    def idle(self, hashes: Sequence[int]) -> int:
        """Blocks of these units that nobody uses: using them takes free blocks."""
        idle = self._idle
        return self.unit * sum(h in idle for h in hashes)

    def alone(self, hashes: Sequence[int]) -> int:
        """Blocks of these units that nobody else uses."""
        return self.unit * sum(self._users[h] == 1 for h in hashes)

    def use(self, hashes: Sequence[int]) -> None:
        """One more uses these units, which are here."""
        for h in hashes:
            if h in self._idle:
                del self._idle[h]
                self.free -= self.unit
                self._users[h] = 1
            else:
                self._users[h] += 1

    def keep(self, unit_hash: int) -> bool:
        """A request has filled one more unit of its own blocks: from now on others can use it too. False if there is
        such a unit already, so that this one stays its own."""
        if unit_hash in self._users or unit_hash in self._idle:
            return False
        self._users[unit_hash] = 1
        return True

    def release(self, hashes: Sequence[int]) -> None:
        """One less uses these units; the last are forgotten first."""
        for h in reversed(hashes):
            users = self._users[h] - 1
            if users:
                self._users[h] = users
            else:
                del self._users[h]
                self._idle[h] = None
                self.free += self.unit

    def take(self, count: int) -> None:
        """See `Blocks.take`; forgets what has to be."""
        super().take(count)
        self._forget()

    def _forget(self) -> None:
        idle, unit = self._idle, self.unit
        while len(idle) * unit > self.free:
            del idle[next(iter(idle))]
