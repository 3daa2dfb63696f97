"""`NaiveExecutor`: Hugging Face's `generate`, one call for a whole batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from simqueue.live.device.eager import padded
from simqueue.live.device.load import Loaded
from simqueue.live.device.machine import describe
from simqueue.live.device.memory import fitting
from simqueue.live.device.prompts import checked
from simqueue.live.device.reference import greedy
from simqueue.live.executor import Emitted, Tokens, now_ns
from simqueue.plan import Work


class _Steps(StoppingCriteria):
    """Notes the tokens of every step and when they were on the host; ends the call once ``stopped()``."""

    def __init__(self, requests: Mapping[int, int], stopped: Callable[[], bool]) -> None:
        self._requests, self._rows = list(requests), list(requests.values())
        self._stopped = stopped
        self.emitted: list[Emitted] = []

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        tokens = input_ids[:, -1].tolist()  # waits for the device, as generate does itself after every step
        self.emitted.append(Emitted(now_ns(), self._requests, [tokens[row] for row in self._rows]))
        return torch.full((len(input_ids),), self._stopped(), device=input_ids.device)


class NaiveExecutor:
    """A request alone, or a batch padded on the left, runs to its last token in one call, and nobody hears of any
    token before."""

    iteration_level = False
    streams = False

    def __init__(self, loaded: Loaded, max_rows: int, window: int) -> None:
        self.loaded, self.max_rows, self.window = loaded, max_rows, window
        self.vocabulary = int(loaded.model.config.vocab_size)
        self._model = _clamped(loaded)
        self._prompts: dict[int, Tokens] = {}
        self._rows: dict[int, int] = {}
        self._steps = 0

    def begin(self, request: int, prompt: Tokens) -> None:
        """A request is on the device; nothing of its prompt is computed yet."""
        self._prompts[request] = checked(self, request, prompt, len(self._prompts))

    def launch(self, chunks: Sequence[tuple[int, int]], work: Work) -> None:
        """Note the batch and how many steps it runs; the call is made where it is waited for."""
        self._rows = {request: i for i, (request, _) in enumerate(chunks)}
        self._steps = work.steps

    @torch.inference_mode()
    def ahead(self, leaving: Sequence[int]) -> None:
        """Nothing: a call runs a whole batch."""

    def collect(self, stopped: Callable[[], bool]) -> list[Emitted]:
        """Call `generate`; one entry for each of its steps."""
        ids, mask = padded([self._prompts[request] for request in self._rows])
        steps = _Steps(self._rows, stopped)
        with fitting(self.loaded, len(ids), ids.shape[1] + self._steps):
            self._model.generate(
                torch.from_numpy(ids).to(self.loaded.device),
                attention_mask=torch.from_numpy(mask).to(self.loaded.device),
                stopping_criteria=StoppingCriteriaList([steps]),
                **greedy(self._steps),
            )
        return steps.emitted

    def end(self, requests: Sequence[int]) -> None:
        """These requests leave the device."""
        for request in requests:
            del self._prompts[request]
            self._rows.pop(request, None)

    def describe(self) -> Mapping[str, str]:
        """What runs here."""
        return describe(self.loaded, "naive")


def _clamped(loaded: Loaded) -> Any:
    """The model; positions past its window, where only rows that are finished can be, are the window's last."""
    model = loaded.copy()
    prepare, last = model.prepare_inputs_for_generation, loaded.window - 1

    def clamped(*args: Any, **kwargs: Any) -> Any:
        inputs = prepare(*args, **kwargs)
        inputs["position_ids"] = inputs["position_ids"].clamp(max=last)
        return inputs

    model.prepare_inputs_for_generation = clamped
    return model
