"""`Answer`: what a search found, and what that is worth."""

from __future__ import annotations

from dataclasses import dataclass

from simqueue.analysis.interval import LEVEL
from simqueue.optimise.front import Gap, best, front, in_order
from simqueue.optimise.race import Race
from simqueue.optimise.trial import Trial


@dataclass(frozen=True)
class Answer:
    """What was found.

    Attributes:
        chosen: the best point that keeps every limit; None if none does.
        searched: the same point as the search saw it.
        gaps: by what the other finalists that keep every limit are behind it, the second best first. Intervals are wide
            enough for all of them to hold together with 95 % (Bonferroni).
        front: Pareto's, the best by the objective first.
        nearest: where none keeps every limit, the point that is the least beyond them.
        confirmed: whether this is of runs with fresh seeds; else of the search alone, which was interrupted.
    """

    chosen: Trial | None
    searched: Trial | None
    gaps: tuple[Gap, ...]
    front: tuple[Trial, ...]
    nearest: Trial | None
    confirmed: bool


def answer_of(race: Race) -> Answer:
    """What a race, ended or not, has found."""
    goal, kept = race.goal, race.kept
    confirmed = race.ended or bool(kept)
    if not confirmed:
        kept = race.candidates()
    if not kept:
        tried = race.last or race.searched
        nearest = min(tried, key=lambda one: (one.violation(goal.limits), one.number)) if tried else None
        return Answer(None, None, (), (), nearest, confirmed)
    chosen = best(goal, kept)
    searched = next(one for one in race.searched if one.number == chosen.number)
    others = in_order(goal, [one for one in kept if one is not chosen]) if confirmed else []
    level = 1 - (1 - LEVEL) / max(1, len(others))
    gaps = tuple(race.gap(chosen, other, level) for other in others)
    return Answer(chosen, searched, gaps, tuple(front(goal, kept)), None, confirmed)
