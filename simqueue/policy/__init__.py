"""Batching policies, one a file."""

from simqueue.policy.base import BatchingPolicy, Decider, View
from simqueue.policy.bentoml import BentoML
from simqueue.policy.continuous import Continuous
from simqueue.policy.dynamic import Dynamic
from simqueue.policy.litserve import LitServe
from simqueue.policy.mosec import Mosec
from simqueue.policy.none import NoBatching
from simqueue.policy.ray_serve import RayServe
from simqueue.policy.static import Static
from simqueue.policy.triton import Triton

SHIPPED = (NoBatching, Static, Dynamic, Continuous, Triton, Mosec, LitServe, RayServe, BentoML)

__all__ = [
    "SHIPPED",
    "BatchingPolicy",
    "BentoML",
    "Continuous",
    "Decider",
    "Dynamic",
    "LitServe",
    "Mosec",
    "NoBatching",
    "RayServe",
    "Static",
    "Triton",
    "View",
]
