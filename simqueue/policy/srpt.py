"""Shortest remaining first, preemptive."""

from __future__ import annotations

from heapq import merge
from typing import ClassVar, Literal

import msgspec

from simqueue.checks import at_least
from simqueue.kv import Preemption, Reserve
from simqueue.order.ranked import Ranked
from simqueue.plan import Step, Wait
from simqueue.policy.base import PagedView
from simqueue.policy.preemptive import seat
from simqueue.units import Grid

_IDLE = Wait()


class PreemptiveSrpt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="srpt"):
    """x"""
