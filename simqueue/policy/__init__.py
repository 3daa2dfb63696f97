"""Batching policies, one a file."""

from simqueue.policy.base import BatchingPolicy, Decider, View
from simqueue.policy.continuous import Continuous
from simqueue.policy.dynamic import Dynamic
from simqueue.policy.none import NoBatching
from simqueue.policy.static import Static

SHIPPED = (NoBatching, Static, Dynamic, Continuous)

__all__ = ["SHIPPED", "BatchingPolicy", "Continuous", "Decider", "Dynamic", "NoBatching", "Static", "View"]
