"""The figure that decides which scenario is best."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from simqueue.analysis.figures import FIGURES, TIMES, Path
from simqueue.errors import ConfigError

# Of these more is better; of times, and of how many wait, less is. Of others, such as batch sizes, nobody can say.
_MORE = ("throughput_rps", "goodput_rps", "slo_attainment")
_LESS = (*(name for name in FIGURES if name.partition(".")[0] in TIMES), "waiting.mean")
CRITERIA = (*_LESS, *_MORE)
_TIMES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "itl_s": "ITL", "handover_s": "hand-over time"}
_OTHERS = {
    "waiting.mean": "mean number waiting",
    "throughput_rps": "throughput",
    "goodput_rps": "goodput",
    "slo_attainment": "share of requests that met their limits",
}


@dataclass(frozen=True)
class Criterion:
    """One figure, by its place in the summary: ``response_s.p99``."""

    name: str

    def __post_init__(self) -> None:
        if self.name in CRITERIA:
            return
        if self.name in FIGURES:
            raise ConfigError(
                f"--by {self.name}: neither more of it nor less is better by itself: name a time, waiting.mean, "
                f"{' or '.join(_MORE)}"
            )
        near = difflib.get_close_matches(self.name, CRITERIA, 1, cutoff=0.0)[0]
        raise ConfigError(f"--by {self.name}: there is no such figure; did you mean {near!r}?")

    @property
    def path(self) -> Path:
        """Where a summary has it."""
        return tuple(self.name.split("."))

    @property
    def more_is_better(self) -> bool:
        """Whether the best has the most of it; otherwise the least."""
        return self.name in _MORE

    @property
    def is_time(self) -> bool:
        """Whether it is in seconds."""
        return self.path[0] in TIMES

    @property
    def words(self) -> str:
        """``p99 of response time``."""
        if not self.is_time:
            return _OTHERS[self.name]
        time, statistic = self.path
        return f"{statistic} of {_TIMES.get(time, time.removesuffix('_s') + ' time')}"
