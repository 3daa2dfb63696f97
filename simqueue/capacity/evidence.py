"""An answer and what it rests on, in JSON's types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simqueue.capacity.rate import Highest
from simqueue.capacity.slo import Limit
from simqueue.capacity.trial import Trial
from simqueue.capacity.values import Holding


def evidence(answer: Highest | Holding, limits: Sequence[Limit], trials: Sequence[Trial]) -> dict[str, Any]:
    """``answer`` and, in order, all ``trials``."""
    said = _of_rate(answer) if isinstance(answer, Highest) else _of_values(answer)
    return {"answer": said, "trials": [trial_row(trial, limits) for trial in trials]}


def _of_rate(answer: Highest) -> dict[str, Any]:
    saturation = answer.saturation_rps
    return {
        "rate_rps": answer.rate,
        "load": answer.rate and answer.rate / saturation,
        "saturation_rps": saturation,
        "binds": answer.binds and str(answer.binds),
        "root_rps": answer.root_rps,
        "root_half_width_rps": answer.half_width_rps,
        "precise": answer.why is None,
        "why_not": answer.why,
    }


def _of_values(answer: Holding) -> dict[str, Any]:
    return {"holds": [list(ends) for ends in answer.ranges], "monotone": answer.monotone, "best": answer.best.value}


def trial_row(trial: Trial, limits: Sequence[Limit]) -> dict[str, Any]:
    """One trial, flat but for its figures and, by limit of a percentile, the share of times above its bound."""
    return {
        "value": trial.value,
        "rate_rps": trial.rate,
        "requests": trial.requests,
        "replications": trial.replications,
        "figures": {name: found._asdict() for name, found in trial.figures.items()},
        "above": {str(limit): trial.told[limit].of._asdict() for limit in limits if limit.share is not None},
        "verdict": verdict(trial, limits),
        "doubts": dict(trial.doubts),
    }


def verdict(trial: Trial, limits: Sequence[Limit]) -> str:
    """What a trial says of the limits together."""
    if trial.unstable:
        return "unstable"
    return "met" if trial.meets(limits) else "broken" if trial.breaks(limits) else "open"
