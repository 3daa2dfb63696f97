"""The ``[live]`` table of a scenario: what really runs, and where."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Literal, get_args

import msgspec

from simqueue.checks import one_of, within
from simqueue.cost.profile import Measured
from simqueue.errors import ConfigError
from simqueue.live.crowd import Where
from simqueue.live.serve import check_rows
from simqueue.live.sleep import NOWHERE, SleepExecutor
from simqueue.sim.steps import spread_of
from simqueue.system import System

if TYPE_CHECKING:
    from simqueue.live.executor import Executor

Kind = Literal["graph", "eager", "naive", "sleep"]
Dtype = Literal["bf16", "fp32"]
Device = Literal["cuda", "cpu"]
# Of rows, and of tokens in one: beyond all devices.
_MOST = 1 << 20


class Live(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What serves a live run.

    Attributes:
        executor: "graph" (static cache, CUDA graphs), "eager" (a plain forward pass a step), "naive" (Hugging Face's
            ``generate``, a call a batch), or "sleep" (no model: takes the time that ``system.cost`` says).
        model: "gpt2", "tiny", or a folder with a Hugging Face causal language model.
        dtype, device: of the model.
        clients: in a "process" of their own, or in a "thread" beside the worker's.
        max_rows: the most requests on the device at a time.
        max_context: the most tokens, prompt and output, of a request.
    """

    executor: Kind = "graph"
    model: str = "gpt2"
    dtype: Dtype = "bf16"
    device: Device = "cuda"
    clients: Where = "process"
    max_rows: int = 128
    max_context: int = 1024

    def __post_init__(self) -> None:
        for key, allowed in (("executor", Kind), ("dtype", Dtype), ("device", Device), ("clients", Where)):
            one_of("live", key, getattr(self, key), get_args(allowed))
        within("live", "max_rows", self.max_rows, 1, _MOST)
        within("live", "max_context", self.max_context, 32, _MOST)


def open_executor(live: Live, system: System, seed: int = 0) -> Executor:
    """Load the model and get the device ready: some seconds, and with CUDA graphs some more.

    Raises:
        ConfigError: torch is not installed, there is no such device or model, the table asks for what there is not, or
            the policy for more rows than it gives.
        DeviceError: it does not fit the device.
    """
    check_rows(system.policy, live.max_rows)
    if live.executor == "sleep":
        spread = spread_of(system.cost, system.noise)
        window = _window(system, live.max_context)
        return SleepExecutor(system.cost, spread, seed=seed, max_rows=live.max_rows, window=window)
    made: Executor = _devices(live).executor(
        live.executor, live.model, live.dtype, live.device, live.max_rows, live.max_context
    )
    return made


def before_loading(live: Live) -> Mapping[str, str]:
    """What `open_executor` will run on, as its ``describe`` says it but for the weights; nothing is loaded.

    Raises:
        ConfigError: torch is not installed, or there is no such device.
    """
    if live.executor == "sleep":
        return NOWHERE
    found: Mapping[str, str] = _devices(live).before_loading(live.executor, live.model, live.dtype, live.device)
    return found


def _devices(live: Live) -> ModuleType:
    try:
        from simqueue.live.device import make
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("torch", "transformers"):
            raise
        raise ConfigError(f"the {live.executor} executor needs {error.name}: pip install 'simqueue[gpu]'") from None
    return make


def _window(system: System, most: int) -> int:
    limit = system.cost.profile.model.max_context if isinstance(system.cost, Measured) else math.inf
    return int(min(most, limit))
