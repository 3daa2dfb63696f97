"""When memory does not suffice: which batch needed it, and how many rows would fit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from simqueue.errors import DeviceError
from simqueue.live.device.load import Loaded


@contextmanager
def fitting(loaded: Loaded, rows: int, tokens: int) -> Iterator[None]:
    """Turn a lack of memory into a DeviceError that names the batch and about how many rows of that length fit."""
    try:
        yield
    except RuntimeError as error:
        # torch.OutOfMemoryError is one of these; a CPU's allocator raises a plain one
        if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
            raise
        fits = max(0, room(loaded) // (tokens * _token_bytes(loaded)))
        raise DeviceError(
            f"out of memory: a batch of {rows} rows of {tokens} tokens does not fit the device; about {fits} rows of "
            "that length do: use a smaller batch or window"
        ) from None


def room(loaded: Loaded) -> int:
    """Bytes on the device beside the weights, as far as no other process has them."""
    if loaded.device.type != "cuda":
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    free, _ = torch.cuda.mem_get_info()
    return int(free) + torch.cuda.memory_reserved() - weight_bytes(loaded)


def weight_bytes(loaded: Loaded) -> int:
    """Bytes of all parameters."""
    return sum(p.numel() * p.element_size() for p in loaded.model.parameters())


def cache_bytes(loaded: Loaded) -> int:
    """Bytes of the keys and values of one token."""
    layers, heads, width = cache_shape(loaded.model.config)
    return int(2 * layers * heads * width * loaded.model.dtype.itemsize)


def cache_shape(config: Any) -> tuple[int, int, int]:
    """Layers, heads that have keys and values, and the width of each."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return config.num_hidden_layers, heads, width


def _token_bytes(loaded: Loaded) -> int:
    """With what a layer holds of a new token while it is computed: queries, keys, values and four times the width."""
    return cache_bytes(loaded) + int(16 * loaded.model.config.hidden_size * loaded.model.dtype.itemsize)
