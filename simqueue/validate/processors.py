"""Processor time of this machine, used and stolen: what other guests of its host took from it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

# proc(5): user, nice, system, idle, iowait, irq, softirq, steal; the time of guests is within user and nice.
_USED, _STEAL = (0, 1, 2, 5, 6), 7


class Processors(NamedTuple):
    """Time since the start of the machine, over all its processors, in the kernel's units."""

    used: int
    stolen: int


def processors(stat: Path = Path("/proc/stat")) -> Processors | None:
    """What was used and stolen until now; None where the system does not count it (other than Linux)."""
    try:
        counts = [int(count) for count in stat.read_text().partition("\n")[0].split()[1:]]
        return Processors(sum(counts[i] for i in _USED), counts[_STEAL])
    except (OSError, ValueError, IndexError):
        return None


def stolen_share(before: Processors | None, after: Processors | None) -> float | None:
    """Stolen time between two instants as a share of the used time; None if it was not counted, or none was used."""
    if before is None or after is None or after.used == before.used:
        return None
    return (after.stolen - before.stolen) / (after.used - before.used)
