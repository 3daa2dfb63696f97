"""Whether a queue has a steady state."""

from __future__ import annotations

from simqueue.errors import ConfigError


def stable(where: str, load: float) -> None:
    """Refuse a ``load`` (arrival rate over the most the server can do) that is not below 1."""
    if not load < 1:
        raise ConfigError(f"{where}: load = {load:.6g} is not below 1, so there is no steady state: lower the rate")
