"""`EagerExecutor`: Hugging Face's forward with a growing cache, a step at a time, run to completion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from simqueue.live.device.clock import Clock
from simqueue.live.device.load import Loaded
from simqueue.live.device.machine import describe
from simqueue.live.device.memory import cache_shape, fitting
from simqueue.live.device.prompts import checked
from simqueue.live.executor import Emitted, Tokens, now_ns
from simqueue.plan import Work


def padded(prompts: Sequence[Tokens]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Token ids and mask ``[rows, widest]`` of prompts padded on the left."""
    width = max(map(len, prompts))
    ids, mask = np.zeros((2, len(prompts), width), np.int64)
    for i, prompt in enumerate(prompts):
        ids[i, width - len(prompt) :], mask[i, width - len(prompt) :] = prompt, 1
    return ids, mask


class EagerExecutor:
    """One batch at a time, left-padded to its widest row: its requests begin together, and their rows stay until all
    of them have ended."""

    iteration_level = False
    streams = True

    def __init__(self, loaded: Loaded, max_rows: int, window: int) -> None:
        self.loaded, self.max_rows, self.window = loaded, max_rows, window
        self.vocabulary = int(loaded.model.config.vocab_size)
        self.clock = Clock(loaded.device)
        self._device, self._keyword = loaded.device, loaded.cache_keyword
        self._prompts: dict[int, Tokens] = {}
        self._rows: dict[int, int] = {}
        with fitting(loaded, max_rows, window):
            self._received = torch.zeros(max_rows, dtype=torch.int64, pin_memory=self.clock.cuda)
        self._cache: Any = None
        self._next: Any = None
        self._mask: Any = None
        self._at: Any = None

    def begin(self, request: int, prompt: Tokens) -> None:
        """A request is on the device; nothing of its prompt is computed yet."""
        self._prompts[request] = checked(self, request, prompt, len(self._prompts) + len(self._rows))

    def launch(self, chunks: Sequence[tuple[int, int]], work: Work) -> None:
        """Start a batch with its whole prompts, or its next step."""
        self.clock.start()
        if chunks:
            self._rows = {request: i for i, (request, _) in enumerate(chunks)}
            self._start([self._prompts.pop(request) for request in self._rows])
        else:
            self._step()
        self.clock.stop()

    def ahead(self, leaving: Sequence[int]) -> None:
        """Nothing: it waits for each step."""

    def collect(self, stopped: Callable[[], bool]) -> list[Emitted]:
        """Wait for the step's token ids."""
        if self.clock.cuda:
            torch.cuda.current_stream().synchronize()
        end, tokens = now_ns(), self._received.tolist()
        return [Emitted(end, list(self._rows), [tokens[row] for row in self._rows.values()])]

    def end(self, requests: Sequence[int]) -> None:
        """These requests leave the device; their rows do once all have."""
        for request in requests:
            if self._prompts.pop(request, None) is None:
                del self._rows[request]
        if not self._rows:
            self._cache = None

    def describe(self) -> Mapping[str, str]:
        """What runs here."""
        return describe(self.loaded, "eager")

    @torch.inference_mode()
    def _start(self, prompts: Sequence[Tokens]) -> None:
        ids, mask = padded(prompts)
        with fitting(self.loaded, *ids.shape):
            self._mask = torch.from_numpy(mask).to(self._device)
            self._at = (self._mask.cumsum(-1) - 1).clamp(min=0)
            self._cache = DynamicCache()
            self._forward(torch.from_numpy(ids).to(self._device))

    @torch.inference_mode()
    def _step(self) -> None:
        """Every row, ended ones included, decodes a token."""
        with fitting(self.loaded, len(self._mask), self._mask.shape[1] + 1):
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._mask), 1)], dim=-1)
            # a held row goes on past the window; its tokens mean nothing any more
            self._at = (self._at[:, -1:] + 1).clamp(max=self.loaded.window - 1)
            self._forward(self._next)

    def _forward(self, ids: Any) -> None:
        logits = self.loaded.model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=self._at,
            use_cache=True,
            logits_to_keep=1,
            **{self._keyword: self._cache},
        ).logits
        self._next = logits[:, -1].argmax(-1, keepdim=True)
        self._received[: len(ids)].copy_(self._next[:, 0], non_blocking=True)

    @torch.inference_mode()
    def pretend(self, rows: int, longest: int, shortest: int) -> Callable[[], None]:
        """Be in the middle of a batch with that many tokens in the cache, the last row's ``longest - shortest``
        leftmost ones padding. Returns what puts the batch back there after a step."""
        self.forget()
        layers, heads, width = cache_shape(self.loaded.model.config)
        shape, dtype = (rows, heads, longest, width), self.loaded.model.dtype
        with fitting(self.loaded, rows, longest):
            noise = [
                tuple(torch.empty(shape, dtype=dtype, device=self._device).normal_() for _ in range(2))
                for _ in range(layers)
            ]
        mask = torch.ones((rows, longest), dtype=torch.int64, device=self._device)
        mask[-1, : longest - shortest] = 0
        at = (mask.cumsum(-1) - 1).clamp(min=0)[:, -1:]
        ids = torch.ones((rows, 1), dtype=torch.int64, device=self._device)

        def rewind() -> None:
            cache: Any = DynamicCache()
            for i, (key, value) in enumerate(noise):
                cache.update(key[:, :, :0], value[:, :, :0], i)
                cache.layers[i].keys, cache.layers[i].values = key, value
            self._rows = {row: row for row in range(rows)}
            self._cache, self._mask, self._at, self._next = cache, mask, at, ids

        return rewind

    def forget(self) -> None:
        """Nobody is on the device any more; give memory back before batches of another size have split it up."""
        self._cache, self._next = None, None
        self._prompts, self._rows = {}, {}
        if self.clock.cuda and torch.cuda.memory_reserved() > torch.cuda.get_device_properties(0).total_memory / 2:
            torch.cuda.empty_cache()
