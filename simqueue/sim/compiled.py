"""The compiled module, where it could be compiled; without it everything goes through the event loop."""

from __future__ import annotations

__all__ = ["recursions"]

try:
    from simqueue.sim import recursions
except ImportError:  # pragma: no cover
    recursions = None  # type: ignore[assignment]
