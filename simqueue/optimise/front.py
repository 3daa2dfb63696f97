"""Which trials are better than which: by what they are worth, and by the runs that they have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from simqueue.analysis.interval import LEVEL, Interval
from simqueue.analysis.student import student
from simqueue.optimise.goal import Goal
from simqueue.optimise.trial import Trial


@dataclass(frozen=True)
class Gap:
    """By what another trial is behind the best.

    Attributes:
        trial: the other one.
        figure: what decided between the two.
        relative: by which share of the best one's figure that of the other one differs, run by run, with its interval.
    """

    trial: Trial
    figure: str
    relative: Interval

    @property
    def told(self) -> bool:
        """Whether the two can be told apart."""
        return abs(self.relative.value) > self.relative.half_width


def score(goal: Goal, trial: Trial) -> float:
    """See `Goal.score`."""
    return goal.score(trial.figures[goal.objective].value)


def latency(goal: Goal, trial: Trial) -> float:
    """Of the trial, as it is."""
    return trial.figures[goal.latency].value


def dominated(goal: Goal, trial: Trial, others: Iterable[Trial]) -> bool:
    """Whether some other trial that keeps the limits is as good in both ways and better in one."""
    own = score(goal, trial), -latency(goal, trial)
    for other in others:
        theirs = score(goal, other), -latency(goal, other)
        if other.keeps(goal.limits) and theirs != own and theirs[0] >= own[0] and theirs[1] >= own[1]:
            return True
    return False


def front(goal: Goal, trials: Sequence[Trial]) -> list[Trial]:
    """Pareto's: those that keep the limits, and of which none is dominated; of equals the first; the best by the
    objective comes first."""
    kept = [trial for trial in trials if trial.keeps(goal.limits) and not dominated(goal, trial, trials)]
    first = {(-score(goal, trial), latency(goal, trial)): trial for trial in sorted(kept, key=lambda one: -one.number)}
    return [first[place] for place in sorted(first)]


def best(goal: Goal, trials: Sequence[Trial]) -> Trial:
    """Of those that are within the precision of the best one, the one with the least latency."""
    most = max(score(goal, trial) for trial in trials)
    equals = [trial for trial in trials if score(goal, trial) >= most + math.log1p(-goal.precision)]
    return min(equals, key=lambda trial: (latency(goal, trial), trial.number))


def in_order(goal: Goal, trials: Sequence[Trial]) -> list[Trial]:
    """The best, then the best of the others, and so on."""
    left, ordered = list(trials), list[Trial]()
    while left:
        ordered.append(best(goal, left))
        left.remove(ordered[-1])
    return ordered


def gap(goal: Goal, chosen: Trial, other: Trial, level: float = LEVEL) -> Gap:
    """In the objective, or where that is the same to the goal's precision in the latency."""
    same = abs(score(goal, chosen) - score(goal, other)) <= -math.log1p(-goal.precision)
    figure = goal.latency if same else goal.objective
    return Gap(other, figure, difference(figure, chosen, other, level))


def may_be_better(goal: Goal, trial: Trial, than: Trial) -> bool:
    """Whether its objective may be as good, to the goal's precision."""
    found = difference(goal.objective, than, trial)
    worse = -found.value if goal.price is None else found.value
    return worse - found.half_width <= goal.precision


def difference(figure: str, first: Trial, second: Trial, level: float = LEVEL) -> Interval:
    """By which share of the first one's figure that of the second differs. Run by run, since both met the same
    customers: the mean, and Student's interval of it (the paired t: Law, "Simulation Modeling and Analysis", 2015,
    section 10.2.1)."""
    pairs = zip(first.by_run[figure], second.by_run[figure], strict=False)
    differences = [theirs / own - 1 if own else math.nan for own, theirs in pairs]
    count = len(differences)
    mean = math.fsum(differences) / count
    spread = math.fsum((each - mean) ** 2 for each in differences) / (count * (count - 1))
    return Interval(mean, student(count - 1, level) * math.sqrt(spread))
