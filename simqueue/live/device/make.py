"""An executor by its name."""

from __future__ import annotations

import torch

from simqueue.errors import ConfigError
from simqueue.live.device import machine
from simqueue.live.device.buckets import buckets
from simqueue.live.device.eager import EagerExecutor
from simqueue.live.device.graph import GraphExecutor
from simqueue.live.device.load import DTYPES, Loaded, check_device, load, name_of
from simqueue.live.device.naive import NaiveExecutor
from simqueue.live.device.static import Progress

KINDS = ("graph", "eager", "naive")
Device = GraphExecutor | EagerExecutor | NaiveExecutor


def executor(kind: str, model: str, dtype: str, device: str, max_rows: int, max_context: int) -> Device:
    """Load a model and put an executor around it: ``graph``, ``eager`` or ``naive``.

    Raises:
        ConfigError: there is no such executor, model, dtype or device here.
        DeviceError: the device has too little memory.
    """
    if kind not in KINDS:
        raise ConfigError(f"executor = {kind!r} is not one of {', '.join(KINDS)}")
    return around(load(model, dtype, device), kind, max_rows, max_context)


def before_loading(kind: str, model: str, dtype: str, device: str) -> dict[str, str]:
    """What the executor will say of itself (`describe`), but for the weights. Raises ConfigError as `executor` does."""
    check_device(dtype, device)
    return machine.before_loading(kind, name_of(model), DTYPES[dtype], torch.device(device))


def around(loaded: Loaded, kind: str, max_rows: int, max_context: int) -> Device:
    """An executor of that kind around a loaded model."""
    loaded.check_window(max_context)
    if kind == "naive":
        return NaiveExecutor(loaded, max_rows, max_context)
    if kind == "eager":
        return EagerExecutor(loaded, max_rows, max_context)
    return captured(loaded, max_rows, max_context, lambda done, of: None)


def captured(loaded: Loaded, max_rows: int, max_context: int, progress: Progress) -> GraphExecutor:
    """A `GraphExecutor` with the usual buckets and, on a GPU, every launch captured."""
    graph = GraphExecutor(loaded, buckets(max_rows, max_context))
    graph.capture(progress)
    return graph
