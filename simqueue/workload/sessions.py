"""Sessions: conversations of several turns, each of which waits for the answer before."""

from __future__ import annotations

from typing import Self

import msgspec

from simqueue.workload.checks import require_positive, require_whole
from simqueue.workload.counts import Count, GeometricCount, mean_count, require_count
from simqueue.workload.users import Think, require_think, think_of

BLOCK_TOKENS = 16
"""Tokens in a block of ``hash_ids``."""


class Sessions(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="kind", tag="sessions"
):
    """Conversations that start as a Poisson process of ``rate`` sessions per second and have ``turns`` turns, a number
    or geometric.

    A turn's prompt is all that was said before (``shared_prefix_tokens`` of a system prompt that all sessions have in
    common, earlier prompts and answers) and new tokens of the user, of the workload's ``prompt_tokens``; its answer is
    of ``output_tokens``. The next turn comes a think time after the whole answer was at the client: ``think_s`` is a
    number of seconds or a distribution.

    When turns come depends on when answers do, hence on the system: only a run finds it out. At 0 there are as many
    sessions under way as there would be if sessions had started for ever and every answer had come at once, so that the
    rate is the same from the start.
    """

    rate: float
    turns: Count
    think_s: float | Think = 0.0
    shared_prefix_tokens: int = 0

    def __post_init__(self) -> None:
        what = "sessions arrivals"
        require_positive(what, "rate", self.rate, "give the mean sessions that start per second")
        require_count(what, "turns", self.turns, "give how many turns a session has")
        require_think(what, "think_s", self.think_s)
        require_whole(what, "shared_prefix_tokens", self.shared_prefix_tokens, "give tokens", at_least=0)

    @property
    def think(self) -> Think:
        """The distribution of the think times."""
        return think_of(self.think_s)

    @property
    def mean_rate(self) -> float:
        """Mean requests, that is turns, per second."""
        return self.rate * mean_count(self.turns)

    @property
    def mean_under_way(self) -> float:
        """Mean number of sessions in which somebody thinks at 0 (Little's law; every turn but the first is thought
        about)."""
        return self.rate * (mean_count(self.turns) - 1) * self.think.mean

    @property
    def mean_before(self) -> float:
        """Mean number of turns before a turn in its session: ``E[T (T - 1)] / (2 E[T])``."""
        mean = mean_count(self.turns)
        return mean - 1 if isinstance(self.turns, GeometricCount) else (mean - 1) / 2

    def scaled(self, factor: float) -> Self:
        """The same sessions, ``factor`` times as many per second; think times are what they were."""
        return msgspec.structs.replace(self, rate=self.rate * factor)
