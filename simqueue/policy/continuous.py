"""Continuous batching: requests join and leave at every step."""

from __future__ import annotations

import msgspec

from simqueue.checks import at_least
from simqueue.errors import ConfigError
from simqueue.plan import Step, Wait
from simqueue.policy.base import View
from simqueue.units import Grid

_IDLE = Wait()
_DECODE = Step()
_WHERE = "policy continuous"


class Continuous(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="continuous"):
    """Iteration-level scheduling (Yu et al., "Orca", OSDI 2022): running sequences first, in order of admission, then
    waiting ones, first come first served, while there are seats.

    With ``max_tokens`` a step computes at most so many tokens, and a prompt that does not fit is computed in chunks
    (the rule of vLLM's v1 scheduler; Agrawal et al., "Sarathi-Serve", OSDI 2024).
    """

    max_seqs: int
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        at_least(_WHERE, "max_seqs", self.max_seqs, 1)
        if self.max_tokens is not None and self.max_tokens < self.max_seqs:
            raise ConfigError(
                f"{_WHERE}: max_tokens = {self.max_tokens} is less than max_seqs = {self.max_seqs}, so running "
                "sequences could not all decode in a step: raise max_tokens or lower max_seqs"
            )

    def decider(self, grid: Grid) -> ContinuousDecider | ChunkedDecider:
        """The rule with or without a token budget."""
        return ContinuousDecider(self) if self.max_tokens is None else ChunkedDecider(self.max_seqs, self.max_tokens)


class ContinuousDecider:
    """Whole prompts: fill the free seats."""

    def __init__(self, policy: Continuous) -> None:
        self.max_seqs = policy.max_seqs

    def decide(self, view: View) -> Step | Wait:
        """Admit as many as there are seats for, else go on decoding."""
        waiting, running = view.waiting, view.running
        seats = self.max_seqs - running
        if waiting and seats:
            return Step(waiting if waiting < seats else seats)
        return _DECODE if running else _IDLE


class ChunkedDecider:
    """A token budget: the last prompt of a step may be cut."""

    def __init__(self, max_seqs: int, max_tokens: int) -> None:
        self.max_seqs, self.max_tokens = max_seqs, max_tokens

    def decide(self, view: View) -> Step | Wait:
        """Spend the budget on decoding, then on the prompt under way, then on new ones."""
        running, waiting = view.running, view.waiting
        if not waiting and not view.prefilling:
            return _DECODE if running else _IDLE
        left = self.max_tokens - running + len(view.prefilling)
        chunks: list[tuple[int, int]] = []
        cut = False
        for request, backlog in view.prefilling.items():
            take = min(backlog, left)
            left -= take
            cut = cut or take < backlog
            chunks.append((request, take))
        seats = min(self.max_seqs - running, waiting)
        for request in view.queue():
            if not seats or not left:
                break
            backlog = view.prompt_tokens(request)
            take = min(backlog, left)
            left -= take
            seats -= 1
            cut = cut or take < backlog
            chunks.append((request, take))
        # Seats that stayed empty for want of tokens are filled in the next step: ask again.
        return Step(prefill=tuple(chunks), lasts="step" if cut or seats else "change")
