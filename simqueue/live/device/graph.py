"""`GraphExecutor`: a static cache with a slot per row, any policy, and CUDA graphs over bucketed sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from simqueue.live.device.buckets import Buckets, bucket
from simqueue.live.device.clock import Clock
from simqueue.live.device.load import Loaded
from simqueue.live.device.machine import describe
from simqueue.live.device.memory import fitting
from simqueue.live.device.prompts import checked
from simqueue.live.device.slots import Slots
from simqueue.live.device.static import Progress, StaticModel
from simqueue.live.executor import Emitted, Tokens, now_ns
from simqueue.plan import Work


class GraphExecutor:
    """Requests join and leave between any two steps, whole prompts or in chunks.

    A step is one decode launch over slots 0 to the highest that decodes, padded to a bucket of rows and of cache slots,
    then its prefill launches (as many as the rows at their bucketed width need; with any chunk on a context, all of
    them attend to the whole window), and one synchronisation. On a GPU the next step's decode launch is behind them
    before they are done (`ahead`), so that the host's part of a step passes while the device decodes. Rows move to
    lower slots only where the launch would otherwise be of a larger bucket than their number needs.
    """

    iteration_level = True
    streams = True

    def __init__(self, loaded: Loaded, sizes: Buckets) -> None:
        self.loaded, self.sizes = loaded, sizes
        self.max_rows, self.window = sizes.rows[-1], sizes.slots[-1]
        self.vocabulary = int(loaded.model.config.vocab_size)
        self.clock = Clock(loaded.device)
        with self._fitting():
            self._model = StaticModel(loaded, sizes)
        self._slots = Slots(self.max_rows, self.window)
        self.overlaps = self.clock.cuda
        self._begun = False
        self._left: set[int] = set()
        # Whose cache is on the host: what is known of each, and its keys and values.
        self._away: dict[int, tuple[Tokens, Any]] = {}
        self._requests: Sequence[int] = ()
        self._where = np.zeros(0, np.int64)

    def _fitting(self) -> AbstractContextManager[None]:
        return fitting(self.loaded, self.max_rows, self.window)

    def capture(self, progress: Progress) -> None:
        """Capture every launch as a CUDA graph, which takes half a minute. Without a GPU there is nothing to do."""
        with self._fitting():
            self._model.capture(progress)

    def begin(self, request: int, prompt: Tokens) -> None:
        """A request is on the device; nothing of its prompt is computed yet."""
        self._slots.begin(request, checked(self, request, prompt, len(self._slots)))

    def launch(self, chunks: Sequence[tuple[int, int]], work: Work) -> None:
        """Start the step without waiting for it: decoding first, unless that has begun, whose launch needs nothing from
        the host."""
        decodes = bool(self._slots.decoding) and not work.paused
        if not self._begun:
            self.clock.start()
            if decodes:
                self._decode()
        self._begun = False
        self._requests, self._where = self._slots.order()[:2] if decodes else ([], self._where[:0])
        if chunks:
            self._prefill(chunks)
        self._model.fetch()
        self.clock.stop()

    def ahead(self, leaving: Sequence[int]) -> None:
        """Start what the next step decodes. Without a GPU nothing runs beside the host, and this does nothing."""
        if self.overlaps:
            self._end(leaving)
            self._left.update(leaving)
            self.clock.start()
            if self._slots.decoding:
                self._decode()
            self._begun = True

    def collect(self, stopped: Callable[[], bool]) -> list[Emitted]:
        """Wait for the step's token ids."""
        tokens = self._model.wait()
        return [Emitted(now_ns(), self._requests, tokens[self._where].tolist())]

    def end(self, requests: Sequence[int]) -> None:
        """These requests leave the device."""
        self._end([request for request in requests if request not in self._left])
        self._left.difference_update(requests)

    def hold(self, request: int, known: Tokens, *, on_host: bool) -> None:
        """It decodes no more, and keeps its slot, or its cache is copied to the host's memory."""
        slot, tokens = self._slots.hold(request, known)
        if on_host:
            self._away[request] = known, self._model.to_host(slot, tokens)
            self._slots.end(request)

    def go_on(self, request: int) -> None:
        """It decodes again. What launches have written to its slot meanwhile lies behind its tokens."""
        away = self._away.pop(request, None)
        if away is not None:
            self._slots.begin(request, away[0], len(away[0]) - 1)
        slot, token, tokens = self._slots.go_on(request)
        if away is not None:
            self._model.from_host(slot, away[1])
        self._model.aim(slot, token, tokens)

    def describe(self) -> Mapping[str, str]:
        """What runs here."""
        return describe(self.loaded, "graph")

    def forget(self) -> None:
        """Nobody is on the device any more."""
        self._slots = Slots(self.max_rows, self.window)
        self._begun = False
        self._left.clear()
        self._away.clear()

    def pretend(self, rows: Iterable[tuple[int, Tokens, int]]) -> None:
        """Forget who is on the device; now these are: ``(request, prompt, tokens of it computed)``, from noise."""
        self.forget()
        slots, lengths = self._slots, []
        for request, prompt, done in rows:
            slots.begin(request, prompt)
            slots.take(request, done)
            lengths.append(done)
        self._model.pretend(lengths)

    def _end(self, requests: Iterable[int]) -> None:
        for request in requests:
            if self._away.pop(request, None) is None:
                self._slots.end(request)

    def _decode(self) -> None:
        slots = self._slots
        rows = bucket(self.sizes.rows, len(slots.decoding))
        for source, target, tokens in slots.compact(rows):
            self._model.copy(source, target, tokens)
        self._model.run(("decode", rows, bucket(self.sizes.slots, slots.decode() + 1)))

    def _prefill(self, chunks: Sequence[tuple[int, int]]) -> None:
        slots, sizes = self._slots, self.sizes
        rows = [slots.take(request, tokens) for request, tokens in chunks]
        width = bucket(sizes.widths, max(tokens for _, tokens in chunks))
        fresh = not any(before for _, _, before in rows)
        most = sizes.launch_rows(width)
        for i in range(0, len(rows), most):
            group = rows[i : i + most]
            self._model.prefill(fresh, bucket(sizes.prefill_rows, len(group)), width, group)
        joined = [request for request, _ in chunks if request in slots.decoding]
        self._requests = [*self._requests, *joined]
        self._where = np.append(self._where, np.array([slots.decoding[request] for request in joined], np.int64))
