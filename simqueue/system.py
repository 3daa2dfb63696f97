"""What is evaluated: a policy, the cost of its steps, their noise, and what a server costs beside the model."""

from __future__ import annotations

import warnings
from typing import Any, Protocol, Self

import msgspec

from simqueue.checks import at_least, positive, seconds
from simqueue.cost.base import StepCost
from simqueue.cost.exposed import ExposedCost
from simqueue.cost.noise import NoNoise
from simqueue.cost.profile import Measured
from simqueue.errors import ConfigError
from simqueue.lag import Lag, check_lag
from simqueue.order import Fcfs, Order
from simqueue.policy.base import BatchingPolicy, launches_ahead
from simqueue.profile import ProfileWarning
from simqueue.units import Grid


class Overheads(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a server costs beside the model, in seconds.

    Attributes:
        request_path_s: from the client to the queue.
        handover_s, handover_per_request_s: between a run-to-completion batch and the next decision, the second times
            the requests in the finished batch.
        response_path_s, response_per_row_s: from the end of a step to the client, for every token, the second times the
            rows of the step, whose tokens leave together; part of the service time.
        timer_late_s: how late a timer fires.
        wake_s: from a request's coming to the queue until a server that waits looks there, by how long it has waited.
        start_s: what a step in which nothing decodes takes beyond its cost, by how long ago a step that prefilled has
            begun (or the run): with nothing on the device there is nothing that what the host does hides behind.
        exposed_s, exposed_per_row_s: what a step in which somebody decodes takes beyond its cost where the server does
            not launch it before the last one has ended: then the device waits for the host. The second times its rows.
        pause_s, pause_per_row_s: what a step that stops those who decode takes beyond its cost and ``start_s``; the
            second times those it stops.

    ``wake_s`` and ``start_s`` are numbers, or pairs (since, taken): see `simqueue.lag`.
    """

    request_path_s: float = 0.0
    handover_s: float = 0.0
    handover_per_request_s: float = 0.0
    response_path_s: float = 0.0
    timer_late_s: float = 0.0
    response_per_row_s: float = 0.0
    wake_s: Lag = 0.0
    start_s: Lag = 0.0
    exposed_s: float = 0.0
    exposed_per_row_s: float = 0.0
    pause_s: float = 0.0
    pause_per_row_s: float = 0.0

    def __post_init__(self) -> None:
        for key in self.__struct_fields__:
            check = check_lag if key in ("wake_s", "start_s") else seconds
            check("overheads", key, getattr(self, key))

    @classmethod
    def measured(cls, policy: BatchingPolicy, cost: Measured) -> Self:
        """As the profile's serving runs found them: the hand-over only where the policy's batches run to completion,
        and what the device does not hide only where nothing is launched ahead
        (`simqueue.policy.base.launches_ahead`); with a `simqueue.profile.ProfileWarning` if that is not known.

        Raises:
            ConfigError: the profile has no serving run.
        """
        over = msgspec.structs.asdict(cost.serving("overheads").paths)
        if getattr(policy, "iteration_level", True):
            over |= {"handover_s": 0.0, "handover_per_request_s": 0.0}
        ahead = launches_ahead(policy)
        if ahead or over["exposed_s"] is None:
            over |= {"exposed_s": 0.0, "exposed_per_row_s": 0.0, "pause_s": 0.0, "pause_per_row_s": 0.0}
            if not ahead:
                _warn_of_hidden(policy, cost)
        return cls(**over)

    def around(self, cost: StepCost, grid: Grid) -> StepCost:
        """The cost with what passes before each of its steps."""
        added = self.exposed_s, self.exposed_per_row_s, self.pause_s, self.pause_per_row_s
        return ExposedCost(cost, *map(grid.ticks, added)) if any(added) else cost


def _warn_of_hidden(policy: BatchingPolicy, cost: Measured) -> None:
    name = cost.profile.name
    warnings.warn(
        f"profile {name} does not know what steps take where nothing is launched ahead, as under "
        f"{type(policy).__name__}, whose times come out too short (by 10 to 15 % of a decoding step on an H200): "
        "calibrate again",
        ProfileWarning,
        stacklevel=4,
    )


class CostSpec(Protocol):
    """A cost model as configured, in seconds."""

    def coefficients(self) -> tuple[float, ...]:
        """What must survive rounding to a grid."""

    def on(self, grid: Grid) -> StepCost:
        """The same cost in whole ticks."""


class Memory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The key/value cache of a replica, in blocks of ``block_size`` tokens.

    Attributes:
        num_blocks: how many there are; or
        gpu_memory_gib: the GPU's memory, of which ``gpu_memory_utilization`` holds the weights and the cache: how many
            follows from the profile's model.
        kv_bytes_per_token: of keys and values in all layers; None: by the shape of the profile's model.
        prefix_caching: requests that begin with the same blocks (``hash_ids`` of the workload) share them.
        swap_gib_per_s: how fast blocks go to the host's memory and back, for policies that swap.
    """

    block_size: int = 16
    num_blocks: int | None = None
    gpu_memory_gib: float | None = None
    gpu_memory_utilization: float = 0.9
    kv_bytes_per_token: float | None = None
    prefix_caching: bool = False
    swap_gib_per_s: float | None = None

    def __post_init__(self) -> None:
        at_least("memory", "block_size", self.block_size, 1)
        if (self.num_blocks is None) == (self.gpu_memory_gib is None):
            raise ConfigError("memory: give either num_blocks or gpu_memory_gib")
        if self.num_blocks is not None:
            at_least("memory", "num_blocks", self.num_blocks, 1)
        for key in ("gpu_memory_gib", "kv_bytes_per_token", "swap_gib_per_s"):
            if getattr(self, key) is not None:
                positive("memory", key, getattr(self, key))
        if not 0 < self.gpu_memory_utilization <= 1:
            raise ConfigError(
                f"memory: gpu_memory_utilization = {self.gpu_memory_utilization} must be more than 0 and at most 1"
            )


class Admission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom the server turns away as they come to its queue.

    Attributes:
        max_queue: whoever finds so many requests waiting, those that were preempted among them.
        max_predicted_ttft_s: whoever's predicted TTFT is more. The prediction is how long the head of the queue has
            waited so far, who is the first to come of those who never ran, and 0 where nobody waits: the head-of-line
            delay of Ibrahim and Whitt (2009), "Real-time delay estimation based on delay history", Manufacturing &
            Service Operations Management 11. It looks at the past alone, learns nothing, and is late where the queue
            grows fast.
    """

    max_queue: int | None = None
    max_predicted_ttft_s: float | None = None

    def __post_init__(self) -> None:
        if self.max_queue is not None:
            at_least("admission", "max_queue", self.max_queue, 1)
        if self.max_predicted_ttft_s is not None:
            seconds("admission", "max_predicted_ttft_s", self.max_predicted_ttft_s)
        if self.max_queue is None and self.max_predicted_ttft_s is None:
            raise ConfigError("admission: give max_queue, max_predicted_ttft_s or both, or leave admission out")


# What the parts that anyone may write have to have, and an example of each.
_PARTS: dict[str, tuple[tuple[str, ...], str]] = {
    "policy": (("decider",), "simqueue.Continuous(max_seqs=64)"),
    "cost": (("coefficients", "on"), 'simqueue.Measured(name="gpt2-h200-bf16-graph")'),
}


class System(msgspec.Struct, frozen=True):
    """One way to serve: hand it to `simqueue.simulate` with a workload.

    ``max_context_tokens`` bounds prompt + output of a request; None takes the profile's bound, if the cost is one.
    Without ``memory`` the key/value cache never fills. ``order`` is who is next in the queue, for policies that start
    whom they find at its head. Without ``admission`` nobody is turned away at the door.
    """

    policy: BatchingPolicy
    cost: CostSpec
    noise: Any = NoNoise()
    overheads: Overheads = Overheads()
    max_context_tokens: int | None = None
    memory: Memory | None = None
    order: Order = Fcfs()
    admission: Admission | None = None

    def __post_init__(self) -> None:
        for key, (methods, remedy) in _PARTS.items():
            part = getattr(self, key)
            if isinstance(part, type) or not all(hasattr(part, method) for method in methods):
                raise ConfigError(f"system: {key} = {part!r} is no {key}: give an object, such as {remedy}")
        if self.max_context_tokens is not None:
            at_least("system", "max_context_tokens", self.max_context_tokens, 2)
