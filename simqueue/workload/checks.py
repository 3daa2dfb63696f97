"""Refusals of single values, and of requests by the billion."""

from __future__ import annotations

import os
from pathlib import Path

from simqueue.errors import WorkloadError

MAX_TOKENS = 2**31 - 1
"""The longest prompt or output; sums over steps and requests then stay far inside 64 bits."""

MAX_CV = 1e6
"""The largest coefficient of variation; its square still leaves a double all its digits."""

_BYTES_A_REQUEST = 200
_ALWAYS_THERE = 1 << 26
_MEMINFO = Path("/proc/meminfo")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def require_positive(what: str, key: str, value: float, remedy: str) -> None:
    """Refuse everything but a finite number above 0; beyond 1e-12 to 1e12 it is 0 or infinite in effect."""
    if not is_number(value) or not 1e-12 <= value <= 1e12:
        raise WorkloadError(f"{what}: {key} = {value!r} is not a positive, finite number (1e-12 to 1e12); {remedy}")


def require_within(what: str, key: str, value: float, low: float, high: float, remedy: str) -> None:
    """Refuse everything but a number from ``low`` to ``high``, both included."""
    if not is_number(value) or not low <= value <= high:
        raise WorkloadError(f"{what}: {key} = {value!r} is not a number from {low:g} to {high:g}; {remedy}")


def require_whole(what: str, key: str, value: int, remedy: str, at_least: int = 1, at_most: int = MAX_TOKENS) -> None:
    """Refuse everything but a whole number from ``at_least`` to ``at_most``."""
    if not isinstance(value, int) or isinstance(value, bool) or not at_least <= value <= at_most:
        raise WorkloadError(f"{what}: {key} = {value!r} is not a whole number from {at_least} to {at_most}; {remedy}")


def refuse_if_too_many(requests: int, what: str = "requests") -> None:
    """Refuse a count of requests whose columns and results (about 200 bytes each) would not fit the memory; ``what``
    names it.

    Raises:
        WorkloadError: with the estimate, what is available, and how many would fit.
    """
    needed = requests * _BYTES_A_REQUEST
    # To ask takes as long as a short run.
    if needed > _ALWAYS_THERE and needed > (available := available_bytes()):
        raise WorkloadError(
            f"{what} = {requests} would take about {needed / 1e9:.3g} GB of memory and "
            f"{available / 1e9:.3g} GB are available; ask for at most {available // _BYTES_A_REQUEST}"
        )


def available_bytes() -> int:
    """Memory that can still be had: what the kernel says, or this container's limit where that is lower."""
    limits = [_meminfo_bytes(), _cgroup_bytes()]
    return min([limit for limit in limits if limit is not None], default=_physical_bytes())


def _meminfo_bytes() -> int | None:
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _cgroup_bytes() -> int | None:
    try:
        return int(_CGROUP_LIMIT.read_text())
    except (OSError, ValueError):  # no cgroup v2 here, or the limit is the word "max"
        return None


def _physical_bytes() -> int:
    """All memory of the machine, for systems that do not say what is free; 8 GB where they say nothing."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 8 * 10**9
