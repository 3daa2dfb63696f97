"""Whether the executors compute what the model says, captured graphs included; run before measuring on a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simqueue.errors import SimqueueError
from simqueue.live.device.load import Loaded, load
from simqueue.live.device.make import around
from simqueue.live.device.reference import generate, regret
from simqueue.live.executor import Executor, Tokens
from simqueue.live.log import log
from simqueue.plan import Work

_PROMPTS = 40
_OUTPUT = 24
_ROWS = 16
# how far below the best logit emitted tokens may be on average, in standard deviations of the logits
_REGRET = {"float32": 1e-4, "bfloat16": 0.01}
_CONTROL = 5
# weights so large that the argmax depends on the whole context
INITIALIZER_RANGE = 0.2

Answers = list[list[int]]


@dataclass(frozen=True)
class Agreement:
    """Of the tokens that an executor emitted: the share that plain `generate` gives too, up to the first other token
    of each answer (``equal``); the share that are the model's own argmax after what was emitted before (``same``); and
    how far below that one the others are, on average and at worst, in standard deviations of the logits."""

    tokens: int
    equal: float
    same: float
    mean: float
    worst: float

    def __str__(self) -> str:
        return (
            f"of {self.tokens} tokens {self.equal:.1%} are those of generate, up to an answer's first other one; "
            f"{self.same:.1%} are the model's argmax after those before; regret {self.mean:.2g} on average, "
            f"{self.worst:.2g} at worst"
        )


def check(model: str, runner: str, dtype: str, device: str) -> Agreement:
    """Load a model, its weights large if they are random, and `examine` an executor around it."""
    return examine(load(model, dtype, device, INITIALIZER_RANGE), runner)


def examine(loaded: Loaded, runner: str) -> Agreement:
    """Serve some prompts in random order and compare every token with what the model says of each prompt alone.

    Raises:
        SimqueueError: a token is not what the model says, or the comparison could not tell.
    """
    dtype, device = str(loaded.model.dtype).removeprefix("torch."), loaded.device.type
    rng = np.random.default_rng(5)
    window = min(1024, loaded.window)
    vocabulary = int(loaded.model.config.vocab_size)
    prompts = [rng.integers(0, vocabulary, n) for n in rng.integers(1, window // 3, _PROMPTS)]
    outputs = rng.integers(1, 2 * _OUTPUT, _PROMPTS).tolist()
    emitted = serve(around(loaded, runner, _ROWS, window), prompts, outputs, rng)
    found = agreement(loaded, prompts, emitted)
    control = agreement(loaded, [np.roll(p, 1) for p in prompts], emitted)
    log(f"{runner} {dtype}: {found}")
    log(f"against other prompts (control): {control}")
    if not found.mean <= _REGRET[dtype]:
        raise SimqueueError(f"check failed: {runner} {dtype} on {device} does not compute what the model does: {found}")
    if control.mean < _CONTROL * _REGRET[dtype]:
        raise SimqueueError(f"check could not tell: tokens of other prompts fit about as well ({control})")
    log(f"{runner} {dtype} on {device}: the tokens are what the model says")
    return found


def serve(executor: Executor, prompts: Sequence[Tokens], outputs: Sequence[int], rng: np.random.Generator) -> Answers:
    """Serve every prompt, so many tokens each, in an order and in chunks that ``rng`` draws. Returns the answers."""
    run = _continuous if executor.iteration_level else _batches
    return run(executor, prompts, outputs, rng)


def _continuous(
    executor: Executor, prompts: Sequence[Tokens], outputs: Sequence[int], rng: np.random.Generator
) -> Answers:
    """Requests join when and as many as it happens, whole or in chunks, and leave as soon as they are done."""
    waiting = rng.permutation(len(prompts)).tolist()
    backlog: dict[int, int] = {}
    aboard: set[int] = set()
    emitted: Answers = [[] for _ in prompts]
    while waiting or aboard:
        for _ in range(min(int(rng.integers(0, 5)), len(waiting), executor.max_rows - len(aboard))):
            request = waiting.pop()
            aboard.add(request)
            backlog[request] = len(prompts[request])
            executor.begin(request, prompts[request])
        chunks = [(i, _part(left, rng)) for i, left in backlog.items() if rng.random() < 0.7]
        if not chunks and len(backlog) == len(aboard):
            continue
        for request, tokens in chunks:
            backlog[request] -= tokens
        backlog = {request: left for request, left in backlog.items() if left}
        executor.launch(chunks, Work())
        if rng.random() < 0.7:
            last = (i for i in aboard - backlog.keys() if len(emitted[i]) + 1 == outputs[i])
            executor.ahead(list(last))
        for step in executor.collect(lambda: False):
            _note(emitted, step.requests, step.tokens)
        done = [request for request in aboard if len(emitted[request]) == outputs[request]]
        aboard.difference_update(done)
        executor.end(done)
    return emitted


def _part(left: int, rng: np.random.Generator) -> int:
    """Half of the time all, else some."""
    return left if rng.random() < 0.5 else int(rng.integers(1, left + 1))


def _batches(
    executor: Executor, prompts: Sequence[Tokens], outputs: Sequence[int], rng: np.random.Generator
) -> Answers:
    """Batches of any size, each to its last token; who is done earlier is held."""
    waiting = rng.permutation(len(prompts)).tolist()
    emitted: Answers = [[] for _ in prompts]
    while waiting:
        size = int(rng.integers(1, executor.max_rows + 1))
        batch, waiting = waiting[:size], waiting[size:]
        for request in batch:
            executor.begin(request, prompts[request])
        steps = max(outputs[request] for request in batch)
        chunks = [(request, len(prompts[request])) for request in batch]
        while steps:
            executor.launch(chunks, Work(steps=steps))
            executor.ahead(batch if steps == 1 else ())
            for step in executor.collect(lambda: False):
                _note(emitted, step.requests, step.tokens)
                steps -= 1
            chunks = []
        executor.end(batch)
    return [answer[:n] for answer, n in zip(emitted, outputs, strict=True)]


def _note(emitted: Answers, requests: Sequence[int], tokens: Sequence[int]) -> None:
    for request, token in zip(requests, tokens, strict=True):
        emitted[request].append(token)


def agreement(loaded: Loaded, prompts: Sequence[Tokens], emitted: Sequence[Sequence[int]]) -> Agreement:
    """Compare with plain runs of the same model over each prompt alone."""
    pairs = list(zip(prompts, emitted, strict=True))
    equal = sum(_prefix(generate(loaded, prompt, len(tokens))[0], tokens) for prompt, tokens in pairs)
    regrets = np.concatenate([regret(loaded, prompt, tokens) for prompt, tokens in pairs])
    count = len(regrets)
    return Agreement(count, equal / count, float(np.mean(regrets == 0)), float(regrets.mean()), float(regrets.max()))


def _prefix(expected: Sequence[int], tokens: Sequence[int]) -> int:
    """How many tokens are equal before the first that is not."""
    same = np.array(expected) == np.array(tokens)
    return len(same) if same.all() else int(same.argmin())
