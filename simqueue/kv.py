"""The key/value cache of one replica: how large it is, and who holds how much of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Sequence
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
        phases: how many rows take a block in the steps that begin when the decode clock, modulo ``size``, shows each
            number.
    """

    def __init__(self, size: int, total: int) -> None:
        self.size, self.total, self.free = size, total, total
        self.phases = [0] * size
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

    # A row that decodes has one more token in each step of the decode clock. `born` is what the clock would have shown
    # when it had none: at clock t it has ``t - born``, and it takes a block in steps where they fill all of its own.

    def join(self, born: int) -> None:
        """A row decodes from now on, and holds what it computes."""
        self.phases[born % self.size] += 1
        self._growing += 1

    def leave(self, born: int) -> None:
        """It does no longer."""
        self.phases[born % self.size] -= 1
        self._growing -= 1

    def start(self, prompts: Iterable[int], clock: int) -> None:
        """Prompts of so many tokens are computed in the step that begins at ``clock``, and decode from then on."""
        size, phases, taken, count = self.size, self.phases, 0, 0
        for tokens in prompts:
            taken -= -tokens // size
            phases[(clock + 1 - tokens) % size] += 1
            count += 1
        self._growing += count
        self.take(taken)

    def end(self, born: int, tokens: int) -> None:
        """A row leaves with so many tokens, and gives back what it holds."""
        self.phases[born % self.size] -= 1
        self._growing -= 1
        self.free -= -tokens // self.size

    def grows(self, born: int, clock: int) -> bool:
        """Whether the row takes a block in the step that begins at ``clock``."""
        return (clock - born) % self.size == 0

    def growth(self, clock: int, steps: int) -> int:
        """Blocks that all rows take in so many steps from ``clock`` on."""
        size, phases = self.size, self.phases
        cycles, rest = divmod(steps, size)
        begin = clock % size
        end = begin + rest
        if end <= size:
            return cycles * self._growing + sum(phases[begin:end])
        return (cycles + 1) * self._growing - sum(phases[end - size : begin])

    def lasting(self, clock: int, steps: int, kept: int) -> int:
        """How many of ``steps`` steps from ``clock`` on the free blocks, less so many, are enough for."""
        growing, free, size = self._growing, self.free - kept, self.size
        if not growing or growing * (steps // size + 1) <= free:
            return steps
        if free < 0:
            return 0
        done, left = divmod(free, growing)
        done *= size
        phases = self.phases
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

    def join(self, born: int) -> None:
        """Takes nothing."""

    def leave(self, born: int) -> None:
        """Gives nothing."""

    def start(self, prompts: Iterable[int], clock: int) -> None:
        """Takes nothing."""

    def end(self, born: int, tokens: int) -> None:
        """Gives nothing."""

    def grows(self, born: int, clock: int) -> bool:
        """Never."""
        return False

    def growth(self, clock: int, steps: int) -> int:
        """None."""
        return 0

    def lasting(self, clock: int, steps: int, kept: int) -> int:
        """All of them."""
        return steps


class Unit:
    """Some blocks in a row, and what is in them.

    Attributes:
        name: stands for all tokens up to its end.
        users: how many requests hold it.
    """

    __slots__ = ("name", "users")

    def __init__(self, name: Hashable) -> None:
        self.name, self.users = name, 1


class PrefixCache(Blocks):
    """Blocks with a memory: what full blocks hold is known by a name of all tokens up to their end, and a request that
    begins alike need not compute them again.

    Names are of units of ``unit`` blocks. A unit that somebody uses is counted once, however many do. Those that nobody
    uses are free; when no empty block is left they are forgotten in the order in which the last user let go of them, of
    a request the last unit first. There may be several of one name: the first to get it is found. This is the order of
    the free queue of vLLM v1 (``block_pool.py``).
    """

    def __init__(self, size: int, total: int, unit: int) -> None:
        super().__init__(size, total)
        self.unit = unit
        self._found: dict[Hashable, Unit] = {}
        # Others of the same name.
        self._copies: dict[Hashable, list[Unit]] = {}
        self._idle: OrderedDict[Unit, None] = OrderedDict()

    def hits(self, names: Sequence[Hashable]) -> tuple[list[Unit], int]:
        """The units of these names that are here, from the first on, and how many of them nobody uses."""
        units: list[Unit] = []
        idle, found = 0, self._found
        for name in names:
            unit = found.get(name)
            if unit is None:
                break
            units.append(unit)
            if not unit.users:
                idle += 1
        return units, idle

    def alone(self, units: Sequence[Unit]) -> int:
        """Blocks of these units that nobody else uses."""
        return self.unit * sum([unit.users == 1 for unit in units])

    def use(self, units: Sequence[Unit]) -> None:
        """One more uses these units, which are here."""
        for unit in units:
            if not unit.users:
                del self._idle[unit]
                self.free -= self.unit
            unit.users += 1

    def keep(self, names: Sequence[Hashable]) -> list[Unit]:
        """A request has filled these units of its own blocks: from now on others can use them too."""
        units, found = [], self._found
        for name in names:
            unit = Unit(name)
            units.append(unit)
            if found.setdefault(name, unit) is not unit:
                self._copies.setdefault(name, []).append(unit)
        return units

    def release(self, units: Sequence[Unit]) -> None:
        """One less uses these units; the last are forgotten first."""
        idle, freed = self._idle, 0
        for unit in reversed(units):
            unit.users -= 1
            if not unit.users:
                idle[unit] = None
                freed += self.unit
        self.free += freed

    def take(self, count: int) -> None:
        """See `Blocks.take`; forgets what has to be."""
        super().take(count)
        spare = self.free - len(self._idle) * self.unit
        while spare < 0:
            self._forget(self._idle.popitem(last=False)[0])
            spare += self.unit

    def _forget(self, unit: Unit) -> None:
        copies = self._copies.get(unit.name)
        if not copies:
            del self._found[unit.name]
            return
        if self._found[unit.name] is unit:
            self._found[unit.name] = copies.pop(0)
        else:
            copies.remove(unit)
        if not copies:
            del self._copies[unit.name]
