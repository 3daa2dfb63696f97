"""`StaticModel`: a model on a static cache with a slot per row, run by launches of bucketed sizes, as CUDA graphs."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, Cache
from transformers.activations import NewGELUActivation
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from simqueue.live.device.buckets import Buckets
from simqueue.live.device.load import Loaded
from simqueue.live.device.memory import cache_shape
from simqueue.live.executor import Tokens
from simqueue.live.log import log

LaunchKind = Literal["decode", "prefill", "chunk"]
Launch = tuple[LaunchKind, int, int]
Progress = Callable[[int, int], None]

_cuda: Any = torch.cuda
_ATTENTION = "simqueue_slots"
# A captured launch has one shape, so that cuDNN plans its attention once, before the capture; with the whole window in
# the cache it reads two to eight times as fast as the memory-efficient kernel (one query row leaves that few blocks).
_CAPTURED_BACKENDS = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


def _attend(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, *, seen: Any = None, **kwargs: Any
) -> Any:
    # said outright, for older versions of GPT-2 conclude it from ``attention_mask``, which is always None here
    kwargs["is_causal"] = seen is None and query.shape[2] > 1
    return sdpa_attention_forward(module, query, key, value, seen, **kwargs)


# no mask function goes with the name, so that transformers builds no mask of its own
AttentionInterface.register(_ATTENTION, _attend)


@dataclass(frozen=True)
class _View:
    """Of the launch that is being computed: where its keys and values go, and which slots its rows attend to."""

    where: Any
    slots: Any = None
    first: tuple[int, int] | None = None


class _Slots(Cache):
    """What the model's layers call to store keys and values and to get those they attend to."""

    def __init__(self, store: Any) -> None:
        super().__init__(layers=[])
        self.store = store
        self.view = _View(None)

    def update(self, key_states: Any, value_states: Any, layer_idx: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Store new keys and values ``[rows, heads, tokens, width]``; give those the rows attend to."""
        view, both = self.view, []
        for new, store in zip((key_states, value_states), self.store[layer_idx], strict=True):
            store.view(-1, *store.shape[2:]).index_copy_(0, view.where, new.transpose(1, 2).flatten(0, 1))
            if view.first:
                both.append(store[: view.first[0], : view.first[1]].transpose(1, 2))
            elif view.slots is not None:
                both.append(store.index_select(0, view.slots).transpose(1, 2))
            else:
                both.append(new)
        return both[0], both[1]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0


class StaticModel:
    """The model, its cache, and on the device of every slot the last token and the number of tokens.

    A launch feeds every row its last token from the device and leaves the next one there, so that decoding needs
    nothing from the host. Of slots that do not decode, a decode launch spoils what lies behind their tokens, where the
    next prefill writes.
    """

    def __init__(self, loaded: Loaded, sizes: Buckets) -> None:
        self.sizes, self.device = sizes, loaded.device
        self.rows, self.window = sizes.rows[-1], sizes.slots[-1]
        self._graphs: dict[Launch, Any] = {}
        self._adopt(loaded)
        self._allocate(loaded)

    def _adopt(self, loaded: Loaded) -> None:
        model = loaded.copy()
        model.set_attn_implementation(_ATTENTION)
        for module in list(model.modules()):
            for name, child in module.named_children():
                if isinstance(child, NewGELUActivation):  # the same function, in one kernel in place of eight
                    setattr(module, name, torch.nn.GELU("tanh"))
        self._base, self._head = model.base_model, model.get_output_embeddings()
        self._keyword = loaded.cache_keyword

    def _allocate(self, loaded: Loaded) -> None:
        layers, heads, width = cache_shape(loaded.model.config)
        shape = (layers, 2, self.rows + 1, self.window, heads, width)
        on: dict[str, Any] = {"device": self.device}
        cuda = self.device.type == "cuda"
        # not zeros: chips run faster on them; the slot beyond the last takes what padding writes
        self._cache = _Slots(torch.empty(shape, dtype=loaded.model.dtype, **on).normal_())
        self._state = torch.zeros((2, self.rows + 1), dtype=torch.int64, **on)
        self._ids, self._at = self._state
        self._inbox = torch.zeros(self.sizes.launch_tokens + self.window + 3 * self.rows, dtype=torch.int64, **on)
        self._sent = torch.zeros(2 * self.rows * (self.window + 4), dtype=torch.int64, pin_memory=cuda)
        self._received = torch.zeros(self.rows + 1, dtype=torch.int64, pin_memory=cuda)
        self._fetched = _cuda.Event() if cuda else None
        self._numbers, self._used = self._sent.numpy(), 0
        self._begins = torch.arange(self.rows, **on) * self.window
        self._columns = torch.arange(self.window, **on)[None, :]
        hidden = torch.full((self.window, self.window), -torch.inf, dtype=loaded.model.dtype, **on)
        self._seen = hidden.triu(1)  # row n: what a token at position n sees

    def run(self, launch: Launch) -> None:
        """Launch, without waiting."""
        graph = self._graphs.get(launch)
        if graph is None:
            self._compute(launch)
        else:
            graph.replay()

    def prefill(self, fresh: bool, rows: int, width: int, group: Sequence[tuple[int, Tokens, int]]) -> None:
        """Launch a prefill of ``(slot, new tokens, tokens before)``, padded to ``rows`` of ``width``."""
        size = rows * (width + 3)
        begin, self._used = self._used, self._used + size
        out = self._numbers[begin : self._used]
        ids, (slots, before, new) = out[: rows * width].reshape(rows, width), out[rows * width :].reshape(3, rows)
        ids[:], slots[:], before[:], new[:] = 0, self.rows, 0, 0
        for i, (slot, tokens, context) in enumerate(group):
            n = len(tokens)
            ids[i, :n], slots[i], before[i], new[i] = tokens, slot, context, n
        self._inbox[:size].copy_(self._sent[begin : self._used], non_blocking=True)
        self.run(("prefill" if fresh else "chunk", rows, width))

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Copy a slot to another, without waiting; the spare one is the one behind the last."""
        store = self._cache.store
        store[:, :, target, :tokens].copy_(store[:, :, source, :tokens])
        self._state[:, target].copy_(self._state[:, source])

    def aim(self, slot: int, token: int, tokens: int) -> None:
        """A slot's next launch feeds it this token, behind so many."""
        self._ids[slot] = token
        self._at[slot] = tokens

    def to_host(self, slot: int, tokens: int) -> Any:
        """Copy a slot's keys and values to the host's memory, without waiting."""
        cache = self._cache.store[:, :, slot, :tokens]
        there = torch.empty(cache.shape, dtype=cache.dtype, pin_memory=self.device.type == "cuda")
        return there.copy_(cache, non_blocking=True)

    def from_host(self, slot: int, cache: Any) -> None:
        """Copy them to a slot, without waiting."""
        self._cache.store[:, :, slot, : cache.shape[2]].copy_(cache, non_blocking=True)

    def fetch(self) -> None:
        """Behind what was launched, bring every slot's last token to the host, without waiting."""
        self._received.copy_(self._ids, non_blocking=True)
        if self._fetched is not None:
            self._fetched.record()

    def wait(self) -> NDArray[np.int64]:
        """Until the last `fetch` is done, and with it all launches before it: what was sent for them may then be
        overwritten. Returns the last token of every slot, good until the next `fetch`."""
        if self._fetched is not None:
            self._fetched.synchronize()
        self._used = 0
        return np.asarray(self._received.numpy())

    def pretend(self, lengths: Sequence[int]) -> None:
        """The first slots have so many tokens, of noise."""
        self._at[: len(lengths)] = torch.tensor(lengths, dtype=torch.int64)
        self._ids.random_(0, self._head.weight.shape[0])

    @torch.inference_mode()
    def _compute(self, launch: Launch) -> None:
        kind, rows, size = launch
        with sdpa_kernel(_CAPTURED_BACKENDS, set_priority=True):
            if kind == "decode":
                self._decode(rows, size)
            else:
                self._prefill(rows, size, fresh=kind == "prefill")

    def _decode(self, rows: int, slots: int) -> None:
        ids, at = self._ids[:rows], self._at[:rows]
        self._cache.view = _View(self._begins[:rows] + at, first=(rows, slots))
        seen = self._seen[:, :slots].index_select(0, at)[:, None, None]
        torch.argmax(self._logits(self._forward(ids[:, None], at[:, None], seen)[:, -1]), -1, out=ids)
        at.add_(1).clamp_(max=self.window - 1)

    def _prefill(self, rows: int, width: int, *, fresh: bool) -> None:
        ids = self._inbox[: rows * width].view(rows, width)
        slots, before, new = self._inbox[rows * width : rows * (width + 3)].view(3, rows)
        columns = self._columns[:, :width]
        at = (before[:, None] + columns).clamp(max=self.window - 1)
        slot = slots[:, None].expand(rows, width).masked_fill(columns >= new[:, None], self.rows)
        self._cache.view = _View((slot * self.window + at).flatten(), None if fresh else slots)
        seen = None if fresh else self._seen.index_select(0, at.flatten()).view(rows, 1, width, self.window)
        hidden = self._forward(ids, at, seen)
        ends = hidden.gather(1, (new - 1).clamp(min=0)[:, None, None].expand(-1, 1, hidden.shape[-1]))[:, 0]
        self._ids.index_copy_(0, slots, self._logits(ends).argmax(-1))
        self._at.index_copy_(0, slots, (before + new).clamp(max=self.window - 1))

    def _forward(self, ids: Any, at: Any, seen: Any) -> Any:
        past = {self._keyword: self._cache}
        return self._base(input_ids=ids, position_ids=at, use_cache=True, seen=seen, **past).last_hidden_state

    def _logits(self, hidden: Any) -> Any:
        return self._head(hidden)

    def launches(self) -> list[Launch]:
        """Every launch there is, the largest first, so that the graphs' shared memory is laid out once."""
        decode: list[Launch] = [("decode", r, s) for s in self.sizes.slots for r in self.sizes.rows]
        kinds: tuple[LaunchKind, ...] = ("chunk", "prefill")
        chunks: list[Launch] = [(kind, r, w) for kind in kinds for r, w in self.sizes.prefills()]
        return sorted(chunks, key=lambda launch: -launch[1] * launch[2]) + decode[::-1]

    @torch.inference_mode()
    def capture(self, progress: Progress) -> None:
        """Capture every launch as a CUDA graph, all in one memory pool. Without a GPU there is nothing to do."""
        if self.device.type != "cuda":
            return
        began, launches = time.perf_counter(), self.launches()
        stream, pool = _cuda.Stream(), torch.cuda.graph_pool_handle()
        gc.collect()
        gc.freeze()  # torch collects garbage before each capture, which takes long with so much loaded
        try:
            for i, launch in enumerate(launches):
                self._graphs[launch] = self._captured(launch, stream, pool)
                progress(i + 1, len(launches))
        finally:
            gc.unfreeze()
        torch.cuda.synchronize()
        used = torch.cuda.memory_reserved() / 2**30
        log(f"captured {len(launches)} graphs in {time.perf_counter() - began:.1f} s, {used:.1f} GiB reserved")

    def _captured(self, launch: Launch, stream: Any, pool: Any) -> Any:
        # padding rows and zero lengths are a valid input of every launch
        self._inbox.zero_()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self._compute(launch)
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, stream=stream):
            self._compute(launch)
        return graph
