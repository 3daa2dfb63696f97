"""Closed forms and exact numerical solvers for queues, independent of the simulator.

Rates are requests per second, times are seconds. Parameters that leave a queue without a steady state, or
that are no numbers of the kind asked for, raise :class:`simqueue.errors.ConfigError`.

| queue | here |
|---|---|
| one at a time, exponential, constant or general service | `MM1`, `MD1`, `MG1` |
| bursty arrivals, exponential service | `GIM1` (renewal), `MMPPM1` (Markov-modulated) |
| several servers with one queue; with little room; with impatience | `MMC`, `erlang_b`, `erlang_c`; `MMCK`; `ErlangA` |
| priorities; shortest job first; processor sharing | `PriorityMG1`, `ShortestJobFirst`, `ProcessorSharing` |
| two servers, the shortest queue; many servers, the shortest of d | `JoinShortestQueue`, `PowerOfChoices` |
| users who wait for their answers, exponential service | `MachineRepairman` |
| batches of at least a and at most b | `bulk_service` |
| batches without a cap, greedy or with a timeout | `unlimited_batching`, `inoue_response_bound_s` |
| iteration-level (continuous) batching | `continuous_batching` |
"""

from simqueue.theory.batch import BatchQueue, ServiceTime
from simqueue.theory.bulk import bulk_service
from simqueue.theory.choices import PowerOfChoices
from simqueue.theory.continuous import continuous_batching
from simqueue.theory.exponential import GIM1, MM1
from simqueue.theory.finite import MMCK
from simqueue.theory.impatience import ErlangA
from simqueue.theory.inoue import inoue_response_bound_s
from simqueue.theory.md1 import MD1
from simqueue.theory.mg1 import MG1
from simqueue.theory.mmpp import MMPPM1
from simqueue.theory.multiserver import MMC, erlang_b, erlang_c
from simqueue.theory.priority import PriorityMG1
from simqueue.theory.repairman import MachineRepairman
from simqueue.theory.sharing import ProcessorSharing
from simqueue.theory.shortest_job import ShortestJobFirst
from simqueue.theory.shortest_queue import JoinShortestQueue
from simqueue.theory.unlimited import unlimited_batching

__all__ = [
    "GIM1",
    "MD1",
    "MG1",
    "MM1",
    "MMC",
    "MMCK",
    "MMPPM1",
    "BatchQueue",
    "ErlangA",
    "JoinShortestQueue",
    "MachineRepairman",
    "PowerOfChoices",
    "PriorityMG1",
    "ProcessorSharing",
    "ServiceTime",
    "ShortestJobFirst",
    "bulk_service",
    "continuous_batching",
    "erlang_b",
    "erlang_c",
    "inoue_response_bound_s",
    "unlimited_batching",
]
