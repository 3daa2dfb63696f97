"""Whether the runners compute what the model says, captured graphs included; run before measuring on a new machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simqueue.errors import SimqueueError
from simqueue.live.device.buckets import buckets
from simqueue.live.device.eager import EagerRunner
from simqueue.live.device.graph import GraphRunner
from simqueue.live.device.load import Loaded, load
from simqueue.live.device.reference import regret
from simqueue.live.executor import Tokens
from simqueue.live.log import log

_OUTPUT = 16
_SEATS = 12
_BUDGET = 96
# how far below the best logit emitted tokens may be on average, in standard deviations of the logits
_REGRET = {"fp32": 1e-4, "bf16": 0.01}
_CONTROL = 5
# weights so large that the argmax depends on the whole context
_INITIALIZER_RANGE = 0.1


@dataclass(frozen=True)
class Agreement:
    """Of the tokens that a runner emitted: the share that are the reference's own argmax, mean and worst regret."""

    tokens: int
    same: float
    mean: float
    worst: float

    def __str__(self) -> str:
        regret = f"regret {self.mean:.2g} on average, {self.worst:.2g} at worst"
        return f"{self.same:.1%} of {self.tokens} tokens the same, {regret}"


def check(model: str, runner: str, dtype: str, device: str) -> None:
    """Serve some prompts and compare every token with a plain forward pass over all before it.

    Raises:
        SimqueueError: a token is not what the model says, or the comparison could not tell.
    """
    loaded = load(model, dtype, device, _INITIALIZER_RANGE)
    rng = np.random.default_rng(5)
    window = min(1024, loaded.window)
    most = int(loaded.model.config.vocab_size)
    prompts = [rng.integers(0, most, n) for n in rng.integers(1, window // 3, 30)]
    emitted = _graph(loaded, prompts, window) if runner == "graph" else _eager(loaded, prompts[:8])
    found = agreement(loaded, prompts, emitted)
    control = agreement(loaded, [np.roll(p, 1) for p in prompts], emitted)
    log(f"{runner} {dtype}: {found}; against other prompts (control): {control}")
    if not found.mean <= _REGRET[dtype]:
        raise SimqueueError(f"check failed: {runner} {dtype} on {device} does not compute what the model does: {found}")
    if control.mean < _CONTROL * _REGRET[dtype]:
        raise SimqueueError(f"check could not tell: tokens of other prompts fit about as well ({control})")
    log(f"{runner} {dtype} on {device}: the tokens are what the model says")


def _graph(loaded: Loaded, prompts: Sequence[Tokens], window: int) -> list[list[int]]:
    runner = GraphRunner(loaded, buckets(_SEATS + 4, window))
    runner.capture(lambda done, of: None)
    return serve(runner, prompts, _OUTPUT, _SEATS, _BUDGET)


def _eager(loaded: Loaded, prompts: Sequence[Tokens]) -> list[list[int]]:
    runner = EagerRunner(loaded)
    steps = [runner.start(prompts), *(runner.next() for _ in range(_OUTPUT - 1))]
    return np.array(steps).T.tolist()  # type: ignore[no-any-return]


def serve(runner: GraphRunner, prompts: Sequence[Tokens], output: int, seats: int, budget: int) -> list[list[int]]:
    """A small continuous batcher: prompts in chunks of up to ``budget`` tokens a step, seats used again at once."""
    waiting, seated = list(range(len(prompts))), list[int]()
    emitted: list[list[int]] = [[] for _ in prompts]
    while waiting or seated:
        while waiting and len(seated) < seats:
            seated.append(waiting.pop(0))
        chunks = _chunks(runner, seated, prompts, emitted, budget)
        decode = np.array([slot for slot, i in enumerate(seated) if emitted[i]], np.int64)
        tokens = runner.step(chunks, decode)
        for (slot, _), token in zip(chunks, tokens, strict=False):
            if runner.lengths[slot] == len(prompts[seated[slot]]):
                emitted[seated[slot]].append(token)
        for slot, token in zip(decode, tokens[len(chunks) :], strict=True):
            emitted[seated[slot]].append(token)
        _leave(runner, seated, [len(emitted[i]) >= output for i in seated])
    return emitted


def _chunks(
    runner: GraphRunner, seated: Sequence[int], prompts: Sequence[Tokens], emitted: Sequence[list[int]], budget: int
) -> list[tuple[int, Tokens]]:
    chunks = []
    for slot, i in enumerate(seated):
        done = int(runner.lengths[slot])
        if not emitted[i] and budget > 0:
            chunks.append((slot, prompts[i][done : done + budget]))
            budget -= len(chunks[-1][1])
    return chunks


def _leave(runner: GraphRunner, seated: list[int], finished: Sequence[bool]) -> None:
    """Who is finished leaves, and the last slot's row takes the place."""
    for slot in reversed(range(len(seated))):
        if finished[slot]:
            runner.clear(slot)
            last = seated.pop()
            if slot < len(seated):
                runner.move(len(seated), slot)
                seated[slot] = last


def agreement(loaded: Loaded, prompts: Sequence[Tokens], emitted: Sequence[Sequence[int]]) -> Agreement:
    """Compare with plain forward passes of the same model over each prompt and what was emitted, one by one."""
    regrets = np.concatenate([regret(loaded, prompt, tokens) for prompt, tokens in zip(prompts, emitted, strict=False)])
    return Agreement(len(regrets), float(np.mean(regrets == 0)), float(regrets.mean()), float(regrets.max()))
