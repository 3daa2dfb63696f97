"""The figures that are shown where two scenarios differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from simqueue.analysis.figures import TIMES
from simqueue.ranking.paired import Difference
from simqueue.ranking.ranking import Ranking

_STATISTICS = ("mean", "p50", "p99")
_OTHERS = {
    "throughput_rps": "throughput",
    "goodput_rps": "goodput",
    "utilisation": "utilisation",
    "waiting.mean": "waiting",
    "batch_size.mean_per_step": "batch size",
}
_ACRONYMS = ("ttft", "tpot", "itl")


class Shown(NamedTuple):
    """One figure of two scenarios: ``of`` what, which ``statistic`` of it ("" where it is no time)."""

    of: str
    statistic: str
    difference: Difference

    @property
    def is_time(self) -> bool:
        """Whether it is in seconds."""
        return bool(self.statistic)


def shown(ranking: Ranking) -> Iterator[Shown]:
    """Those that both of two scenarios have."""
    rows = [(f"{time}.{statistic}", _word(time), statistic) for time in TIMES for statistic in _STATISTICS]
    for figure, of, statistic in [*rows, *((name, word, "") for name, word in _OTHERS.items())]:
        if found := ranking.difference(figure, 0, 1):
            yield Shown(of, statistic, found)


def _word(time: str) -> str:
    word = time.removesuffix("_s")
    return word.upper() if word in _ACRONYMS else word
