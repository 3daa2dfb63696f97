"""An answer and what it rests on, in JSON's types and as rows of a table."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from simqueue.capacity.evidence import verdict
from simqueue.optimise.answer import Answer
from simqueue.optimise.front import Gap
from simqueue.optimise.question import Question
from simqueue.optimise.race import Race
from simqueue.optimise.trial import Failure, Trial

Row = dict[str, Any]
FAILED = "failed"


def told(question: Question, race: Race, answer: Answer) -> dict[str, Any]:
    """Question, answer and evidence, and who says so."""
    goal = question.goal
    return {
        "question": {
            "file": question.path.name,
            "overrides": list(question.overrides),
            "vary": list(question.vary),
            "points": question.space.size,
            "slo": [str(limit) for limit in goal.limits],
            "objective": goal.objective,
            "latency": goal.latency,
            "price_per_gpu_hour": goal.price,
            "gpus_per_replica": goal.gpus,
            "trials": question.trials,
            "max_requests": question.max_requests,
            "seed": question.seed,
        },
        "answer": {
            "confirmed": answer.confirmed,
            "chosen": _told(question, answer.chosen),
            "in_the_search": _told(question, answer.searched),
            "others": [_gap(gap) for gap in answer.gaps],
            "front": [_told(question, trial) for trial in answer.front],
            "nearest": _told(question, answer.nearest),
        },
        "asked": race.asked,
        "requests": race.spent,
        "verdicts": verdicts(question, race),
        "failures": [{"settings": failure.point.named, "reason": failure.reason} for failure in race.failures],
        "simqueue": version("simqueue"),
        "python": platform.python_version(),
    }


def verdicts(question: Question, race: Race) -> dict[str, int]:
    """How many points of the search did what."""
    limits = question.goal.limits
    return dict(Counter(verdict(trial, limits) for trial in race.searched) + Counter({FAILED: len(race.failures)}))


def rows(question: Question, race: Race) -> list[Row]:
    """A row a point as the search saw it last, then a row a finalist."""
    tables = [_row(question, one, "search") for one in race.found.values()]
    tables += [_row(question, one, "final") for one in race.last]
    columns = dict.fromkeys(name for row in tables for name in row)
    return [{name: row.get(name) for name in columns} for row in tables]


def _row(question: Question, one: Trial | Failure, stage: str) -> Row:
    begin = {"trial": one.number, "stage": stage, **one.point.named}
    if isinstance(one, Failure):
        return begin | {"verdict": FAILED, "reason": one.reason}
    found = _told(question, one) or {}
    figures = found.pop("figures")
    flat = {name: value["value"] for name, value in figures.items()}
    flat |= {f"{name}_half_width": value["half_width"] for name, value in figures.items()}
    kept = {name: found[name] for name in ("rate_rps", "load", "replicas", "requests", "replications", "verdict")}
    return begin | kept | flat


def _told(question: Question, trial: Trial | None) -> dict[str, Any] | None:
    if trial is None:
        return None
    return {
        "trial": trial.number,
        "settings": trial.point.named,
        "rate_rps": trial.rate,
        "load": trial.load,
        "saturation_rps": trial.saturation_rps,
        "replicas": trial.replicas,
        "requests": trial.requests,
        "replications": trial.replications,
        "figures": {name: found._asdict() for name, found in trial.figures.items()},
        "verdict": verdict(trial, question.goal.limits),
        "doubts": dict(trial.doubts),
    }


def _gap(gap: Gap) -> Mapping[str, Any]:
    return {
        "trial": gap.trial.number,
        "settings": gap.trial.point.named,
        "figure": gap.figure,
        "relative_difference": gap.relative._asdict(),
        "told_apart": gap.told,
    }
