"""`EagerRunner`: Hugging Face's forward with a growing cache, run to completion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from simqueue.live.device.clock import Clock
from simqueue.live.device.load import Loaded
from simqueue.live.executor import Tokens


class EagerRunner:
    """Hugging Face's forward with a growing cache: one batch at a time, left-padded to its widest row."""

    iteration_level = False

    def __init__(self, loaded: Loaded) -> None:
        self.loaded, self.device = loaded, loaded.device
        self.clock = Clock(self.device)
        self._keyword = loaded.cache_keyword
        loaded.model.set_attn_implementation("sdpa")
        self._cache: Any = None
        self._next: Any = None
        self._mask: Any = None
        self._at: Any = None

    @torch.inference_mode()
    def start(self, prompts: Sequence[Tokens]) -> list[int]:
        """Forget the batch before and prefill another. Returns each row's first token id."""
        width = max(map(len, prompts))
        ids, mask = np.zeros((2, len(prompts), width), np.int64)
        for i, prompt in enumerate(prompts):
            ids[i, width - len(prompt) :], mask[i, width - len(prompt) :] = prompt, 1
        self.clock.start()
        self._mask = torch.from_numpy(mask).to(self.device)
        self._at = (self._mask.cumsum(-1) - 1).clamp(min=0)
        self._cache = DynamicCache()
        return self._forward(torch.from_numpy(ids).to(self.device))

    @torch.inference_mode()
    def next(self) -> list[int]:
        """One decode step of the whole batch, finished rows included. Returns each row's next token id."""
        self.clock.start()
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._mask), 1)], dim=-1)
        # a held row goes on past the window; its tokens mean nothing any more
        self._at = (self._at[:, -1:] + 1).clamp(max=self.loaded.window - 1)
        return self._forward(self._next)

    def _forward(self, ids: Any) -> list[int]:
        logits = self.loaded.model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=self._at,
            use_cache=True,
            logits_to_keep=1,
            **{self._keyword: self._cache},
        ).logits
        self._next = logits[:, -1].argmax(-1, keepdim=True)
        self.clock.stop()
        tokens: list[int] = self._next[:, 0].tolist()  # the copy waits for the device, and that ends the step
        return tokens

    @torch.inference_mode()
    def pretend(self, rows: int, longest: int, shortest: int) -> Callable[[], None]:
        """Be in the middle of a batch with that many tokens in the cache, the last row's ``longest - shortest``
        leftmost ones padding. Returns what puts the batch back there after a step."""
        config = self.loaded.model.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = (rows, heads, longest, width)
        dtype = self.loaded.model.dtype
        self._cache, self._next = None, None
        self._tidy()
        layers = [
            tuple(torch.empty(shape, dtype=dtype, device=self.device).normal_() for _ in range(2))
            for _ in range(config.num_hidden_layers)
        ]
        mask = torch.ones((rows, longest), dtype=torch.int64, device=self.device)
        mask[-1, : longest - shortest] = 0
        at = (mask.cumsum(-1) - 1).clamp(min=0)[:, -1:]
        ids = torch.ones((rows, 1), dtype=torch.int64, device=self.device)

        def rewind() -> None:
            cache: Any = DynamicCache()
            for i, (key, value) in enumerate(layers):
                cache.update(key[:, :, :0], value[:, :, :0], i)
                cache.layers[i].keys, cache.layers[i].values = key, value
            self._cache, self._mask, self._at, self._next = cache, mask, at, ids

        return rewind

    def _tidy(self) -> None:
        """Give cached memory back before batches of another size have split it up."""
        if self.clock.cuda and torch.cuda.memory_reserved() > torch.cuda.get_device_properties(0).total_memory / 2:
            torch.cuda.empty_cache()
