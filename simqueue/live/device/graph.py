"""`GraphRunner`: a static cache with a slot per row, and CUDA graphs over bucketed sizes."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, Cache
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from simqueue.errors import ConfigError
from simqueue.live.device.buckets import Buckets, bucket
from simqueue.live.device.clock import Clock
from simqueue.live.device.load import Loaded
from simqueue.live.executor import Tokens
from simqueue.live.log import log

LaunchKind = Literal["decode", "prefill", "chunk"]
Launch = tuple[LaunchKind, int, int]

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
_NO_SLOTS: Tokens = np.zeros(0, np.int64)


class _Slots(Cache):
    """What the model's layers call to store keys and values and to get those they attend to."""

    def __init__(self, runner: GraphRunner) -> None:
        super().__init__(layers=[])
        self._runner = runner

    def update(self, key_states: Any, value_states: Any, layer_idx: int, *_: Any, **__: Any) -> tuple[Any, Any]:
        return self._runner.exchange(key_states, value_states, layer_idx)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0


@dataclass(frozen=True)
class _View:
    """Of the launch that is being computed: where its keys and values go, and what its rows attend to."""

    where: Any
    mask: Any = None
    slots: Any = None
    first: tuple[int, int] | None = None


class GraphRunner:
    """A static cache of ``max_rows`` slots and bucketed launches, captured as CUDA graphs where there is a GPU.

    A step is its prefill launches (as many as the rows at their bucketed width need; with any chunk on a context,
    all of them attend to the whole window), then one decode launch over slots 0 to the highest that decodes, then
    one synchronisation. Keep the decoding rows in the lowest slots: `move`.
    """

    iteration_level = True

    def __init__(self, loaded: Loaded, sizes: Buckets) -> None:
        self.loaded, self.sizes, self.device = loaded, sizes, loaded.device
        self.max_rows, self.window = sizes.rows[-1], sizes.slots[-1]
        self.clock = Clock(self.device)
        self.lengths = np.zeros(self.max_rows, np.int64)
        self.last = np.zeros(self.max_rows, np.int64)
        self._base, self._head = loaded.model.base_model, loaded.model.get_output_embeddings()
        self._past = {loaded.cache_keyword: _Slots(self)}
        self._view = _View(None)
        self._graphs: dict[Launch, Any] = {}
        self._register()
        self._allocate()

    def _register(self) -> None:
        def attend(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **kwargs: Any) -> Any:
            return sdpa_attention_forward(module, query, key, value, self._view.mask, **kwargs)

        # no mask function goes with the name, so that transformers builds no mask of its own
        AttentionInterface.register(_ATTENTION, attend)
        self.loaded.model.set_attn_implementation(_ATTENTION)

    def _allocate(self) -> None:
        config = self.loaded.model.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = (config.num_hidden_layers, 2, self.max_rows + 1, self.window, heads, width)
        # not zeros: chips run faster on them; the slot beyond the last takes what padding writes
        self._store = torch.empty(shape, dtype=self.loaded.model.dtype, device=self.device).normal_()
        inbox = self.sizes.launch_tokens + self.window + 3 * self.max_rows
        self._inbox = torch.zeros(inbox, dtype=torch.int64, device=self.device)
        self._outbox = torch.zeros(self.max_rows, dtype=torch.int64, device=self.device)
        pinned = self.device.type == "cuda"
        step = 2 * self.max_rows * (self.window + 4)
        self._sent = torch.zeros(step, dtype=torch.int64, pin_memory=pinned)
        self._received = torch.zeros(4 * self.max_rows, dtype=torch.int64, pin_memory=pinned)
        self._outgoing, self._incoming = self._sent.numpy(), self._received.numpy()

    @torch.inference_mode()
    def step(self, prefill: Sequence[tuple[int, Tokens]] = (), decode: Tokens = _NO_SLOTS) -> list[int]:
        """One step: rows ``(slot, new tokens)`` that prefill, and slots that decode the token they emitted last.

        Returns the token ids in that order; a row whose prompt is not complete yet gives one that means nothing.
        """
        self._used = self._got = 0
        groups = self._prefill(prefill) if prefill else []
        for slot, new in prefill:  # before the decode launch, which writes behind every slot it covers
            self.lengths[slot] += len(new)
        decoded = self._decode(decode) if len(decode) else None
        self.clock.stop()
        self.clock.wait()
        tokens: list[int] = []
        for slots, span in groups:
            tokens += self._note(slots, self._incoming[span][: len(slots)])
        if decoded:
            tokens += self._note(decode, self._incoming[decoded][decode])
            self.lengths[decode] += 1
        return tokens

    def _note(self, slots: Sequence[int] | Tokens, ids: Tokens) -> list[int]:
        self.last[slots] = ids
        tokens: list[int] = ids.tolist()
        return tokens

    def clear(self, slot: int) -> None:
        """The row has left."""
        self.lengths[slot] = 0

    def move(self, source: int, target: int) -> None:
        """Move a row to another slot, so that decoding rows stay in the lowest."""
        n = int(self.lengths[source])
        self._store[:, :, target, :n] = self._store[:, :, source, :n]
        self.lengths[target], self.last[target] = n, self.last[source]
        self.lengths[source] = 0

    def _prefill(self, rows: Sequence[tuple[int, Tokens]]) -> list[tuple[list[int], slice]]:
        fresh = not any(self.lengths[slot] for slot, _ in rows)
        width = bucket(self.sizes.widths, max(len(new) for _, new in rows))
        most = self.sizes.launch_rows(width)
        groups = [rows[i : i + most] for i in range(0, len(rows), most)]
        return [([slot for slot, _ in group], self._send_prefill(group, width, fresh)) for group in groups]

    def _send_prefill(self, group: Sequence[tuple[int, Tokens]], width: int, fresh: bool) -> slice:
        rows = bucket(self.sizes.prefill_rows, len(group))
        out = self._stage(rows * (width + 3))
        ids, (slots, context, new) = out[: rows * width].reshape(rows, width), out[rows * width :].reshape(3, rows)
        ids[:], slots[:], context[:], new[:] = 0, self.max_rows, 0, 0
        for i, (slot, tokens) in enumerate(group):
            n = len(tokens)
            ids[i, :n], slots[i], context[i], new[i] = tokens, slot, self.lengths[slot], n
        return self._run(("prefill" if fresh else "chunk", rows, width), out.size)

    def _decode(self, slots: Tokens) -> slice:
        rows = bucket(self.sizes.rows, int(slots.max()) + 1)
        longest = int(self.lengths[slots].max())
        if longest >= self.window:
            raise ConfigError(f"a row with {longest} tokens cannot decode in a window of {self.window}")
        out = self._stage(2 * rows)
        out[:rows] = self.last[:rows]
        np.minimum(self.lengths[:rows], self.window - 1, out=out[rows:])
        return self._run(("decode", rows, bucket(self.sizes.slots, longest + 1)), out.size)

    def _stage(self, size: int) -> Tokens:
        """Room for what the next launch is told; the copy to the device has its own until the step ends."""
        self._used += size
        return self._outgoing[self._used - size : self._used]

    def _run(self, launch: Launch, size: int) -> slice:
        """Send the staged numbers, launch, and ask for the token ids back, all without waiting."""
        if not self._got:
            self.clock.start()
        self._inbox[:size].copy_(self._sent[self._used - size : self._used], non_blocking=True)
        if launch in self._graphs:
            self._graphs[launch].replay()
        else:
            self._compute(launch)
        span = slice(self._got, self._got + launch[1])
        self._got = span.stop
        self._received[span].copy_(self._outbox[: launch[1]], non_blocking=True)
        return span

    def _compute(self, launch: Launch) -> None:
        kind, rows, size = launch
        with sdpa_kernel(_CAPTURED_BACKENDS, set_priority=True):
            if kind == "decode":
                self._compute_decode(rows, size)
            else:
                self._compute_prefill(rows, size, fresh=kind == "prefill")

    def _compute_decode(self, rows: int, slots: int) -> None:
        ids, at = self._inbox[: 2 * rows].view(2, rows, 1)
        keys = torch.arange(slots, device=self.device)
        mask = self._mask(keys[None, None, :] <= at[:, :, None])
        where = torch.arange(rows, device=self.device) * self.window + at[:, 0]
        self._view = _View(where, mask, first=(rows, slots))
        self._emit(self._forward(ids, at)[:, -1], rows)

    def _compute_prefill(self, rows: int, width: int, *, fresh: bool) -> None:
        ids = self._inbox[: rows * width].view(rows, width)
        slots, context, new = self._inbox[rows * width : rows * (width + 3)].view(3, rows)
        columns = torch.arange(width, device=self.device)[None, :]
        at = (context[:, None] + columns).clamp(max=self.window - 1)
        slot = slots[:, None].expand(rows, width).masked_fill(columns >= new[:, None], self.max_rows)
        where = (slot * self.window + at).flatten()
        if fresh:
            self._view = _View(where)
        else:
            keys = torch.arange(self.window, device=self.device)
            self._view = _View(where, self._mask(keys[None, None, :] <= at[:, :, None]), slots)
        hidden = self._forward(ids, at)
        last = (new - 1).clamp(min=0)
        self._emit(hidden[torch.arange(rows, device=self.device), last], rows)

    def _mask(self, seen: Any) -> Any:
        """An additive mask in the model's dtype, made once a launch and not once a layer."""
        mask = torch.zeros(seen.shape, dtype=self._store.dtype, device=self.device)
        return mask.masked_fill_(~seen, -torch.inf)[:, None]

    def _forward(self, ids: Any, at: Any) -> Any:
        return self._base(input_ids=ids, position_ids=at, use_cache=True, **self._past).last_hidden_state

    def _emit(self, hidden: Any, rows: int) -> None:
        self._outbox[:rows].copy_(self._head(hidden).argmax(-1))

    def exchange(self, key: Any, value: Any, layer: int) -> tuple[Any, Any]:
        """Store a layer's new keys and values ``[rows, heads, tokens, width]``; give those its rows attend to."""
        view = self._view
        both = []
        for new, store in zip((key, value), self._store[layer], strict=True):
            store.view(-1, *store.shape[2:]).index_copy_(0, view.where, new.transpose(1, 2).flatten(0, 1))
            if view.first:
                both.append(store[: view.first[0], : view.first[1]].transpose(1, 2))
            elif view.slots is not None:
                both.append(store.index_select(0, view.slots).transpose(1, 2))
            else:
                both.append(new)
        return both[0], both[1]

    def launches(self) -> list[Launch]:
        """Every launch there is, the largest first, so that the graphs' shared memory is laid out once."""
        decode: list[Launch] = [("decode", r, s) for s in self.sizes.slots for r in self.sizes.rows]
        kinds: tuple[LaunchKind, ...] = ("chunk", "prefill")
        chunks: list[Launch] = [(kind, r, w) for kind in kinds for r, w in self.sizes.prefills()]
        return sorted(chunks, key=lambda launch: -launch[1] * launch[2]) + decode[::-1]

    @torch.inference_mode()
    def capture(self, progress: Callable[[int, int], None] = lambda done, of: None) -> None:
        """Capture every launch as a CUDA graph, all in one memory pool. Without a GPU there is nothing to do."""
        if self.device.type != "cuda":
            return
        began, launches = time.perf_counter(), self.launches()
        stream, pool = _cuda.Stream(), torch.cuda.graph_pool_handle()
        gc.collect()
        gc.freeze()  # torch collects garbage before each capture, which takes long with so much loaded
        for i, launch in enumerate(launches):
            self._graphs[launch] = self._captured(launch, stream, pool)
            progress(i + 1, len(launches))
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
