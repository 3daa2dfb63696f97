"""`Race`: short runs of many points, longer ones of those that matter, and of the best few some with fresh seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simqueue.analysis.interval import LEVEL
from simqueue.optimise.front import Gap, best, dominated, front, gap, in_order, may_be_better, score
from simqueue.optimise.goal import Goal
from simqueue.optimise.search import Search, Worth
from simqueue.optimise.space import Point
from simqueue.optimise.trial import GROWTH, Failure, Task, Trial, tried
from simqueue.pool import submit

BATCH = 8
"""So many points are asked for at once, whatever the number of processes: it is the same search on every machine."""
LONGEST = 2
"""The greatest length of runs in the search (`simqueue.optimise.trial.Task`)."""
# At the end runs are so long at first, and at most.
_BEGIN, _LAST = 1, 4
# So many of the best are tried again at once, and so many more of the front; and so often others, if none will do.
_FINALISTS, _OF_FRONT, _ROUNDS = 4, 6, 4
# A search may simulate so much of all that may be.
_SHARE = 0.5
_NOWHERE = Worth(-800.0, 1e9, 1e3)


@dataclass
class Race:
    """One search.

    Attributes:
        table, path: the scenario before anything is chosen.
        search: who says which points to try.
        trials: how many to try.
        max_requests: to simulate in all; the first batch, and the last runs at their shortest, are made whatever it is.
        processes: where to run; None: in this one.
        told: hears of it after every point.
        asked: how many points were asked for; one that was tried before is not run again.
        found: the last that was found of each point, in order of their numbers.
        finalists: of the best few what runs with fresh seeds have found, each longer than the one before.
        spent: requests simulated.
        ended: whether it was not interrupted.
    """

    table: Mapping[str, Any]
    path: Path
    goal: Goal
    search: Search
    trials: int
    max_requests: int
    processes: Executor | None = None
    told: Callable[[Race], None] = lambda race: None
    asked: int = 0
    found: dict[str, Trial | Failure] = field(default_factory=dict)
    finalists: dict[str, list[Trial]] = field(default_factory=dict)
    spent: int = 0
    ended: bool = False
    _at: list[dict[str, Trial]] = field(default_factory=lambda: [{} for _ in range(LONGEST + 1)])

    @property
    def searched(self) -> list[Trial]:
        """Every point that could be run."""
        return [one for one in self.found.values() if isinstance(one, Trial)]

    @property
    def failures(self) -> list[Failure]:
        """Every point that could not."""
        return [one for one in self.found.values() if isinstance(one, Failure)]

    # The search.

    def look(self) -> None:
        """Batch after batch: all points with the shortest runs; those that may be the best, as far as is known at that
        length, with longer ones. All have the same seeds, so that at one length they are compared on the same customers
        (successive halving, of two objectives: Schmucker et al., "Multi-objective asynchronous successive halving",
        arXiv 2106.12639, 2021; in place of a fixed share those go on that may be the best)."""
        while self.asked < self.trials and (not self.asked or self.spent < _SHARE * self.max_requests):
            points = self.search.ask(min(BATCH, self.trials - self.asked))
            if not points:
                return
            self.asked += len(points)
            self._run_all(points)
            if not self.searched and len({failure.reason for failure in self.failures}) == 1:
                return
            self.search.tell([self._worth(self.found[point.key]) for point in points])

    def _run_all(self, points: Sequence[Point]) -> None:
        new = {point.key: point for point in points if point.key not in self.found}
        numbers = range(len(self.found), len(self.found) + len(new))
        tasks = [
            Task(number, point, self.table, self.path, self.goal)
            for number, point in zip(numbers, new.values(), strict=True)
        ]
        for length in range(LONGEST + 1):
            self._keep(tasks, length)
            tasks = [
                self._longer(trial) for key in new if (trial := self._at[length].get(key)) and self._matters(trial)
            ]

    def _keep(self, tasks: Sequence[Task], length: int) -> None:
        for one in self._run(tasks):
            self.found[one.point.key] = one
            if isinstance(one, Trial):
                self._at[length][one.point.key] = one

    def _matters(self, trial: Trial) -> bool:
        """Whether it may be the best: it may keep the limits, nothing that was run as long is better in every way, and
        its objective may be that of the best."""
        goal, alike = self.goal, list(self._at[trial.length].values())
        if not trial.more or trial.breaks(goal.limits) or dominated(goal, trial, alike):
            return False
        kept = [one for one in alike if one.keeps(goal.limits)]
        return not kept or may_be_better(goal, trial, max(kept, key=lambda one: score(goal, one)))

    def _longer(self, trial: Trial) -> Task:
        return self._task(trial, trial.length + 1)._replace(fresh=False)

    def _task(self, trial: Trial, length: int) -> Task:
        """The same point again, with fresh seeds."""
        return Task(trial.number, trial.point, self.table, self.path, self.goal, length, True, trial.saturation_rps)

    def _worth(self, one: Trial | Failure) -> Worth:
        if isinstance(one, Failure):
            return _NOWHERE
        # What is the same to the precision is told to be the same.
        told = round(score(self.goal, one) / self.goal.precision)
        return Worth(told, one.figures[self.goal.latency].value, one.violation(self.goal.limits))

    # The end.

    def settle(self) -> None:
        """Run the best few again with fresh seeds, for the best of many is the luckiest too; and those of them longer
        that may be the best, until it is clear whether they are. If none keeps the limits, others are looked at."""
        left = self.candidates()
        for _ in range(_ROUNDS):
            chosen = self._chosen(left)
            left = [trial for trial in left if trial not in chosen]
            self._final([self._task(trial, _BEGIN if trial.more else 0) for trial in chosen])
            self._lengthen()
            if self.kept or not left:
                break
        self.ended = True

    def candidates(self) -> list[Trial]:
        """Those that keep the limits: first those that were run longest, the best of them first; and so on."""
        ordered = list[Trial]()
        for length in range(LONGEST, -1, -1):
            alike = [trial for trial in self.searched if trial.length == length and trial.keeps(self.goal.limits)]
            ordered += in_order(self.goal, alike)
        return ordered

    def _chosen(self, ordered: Sequence[Trial]) -> list[Trial]:
        """The best few, half of them surely within the limits if there are so many, and some of the front, from end to
        end."""
        few = list(ordered[: _FINALISTS // 2])
        rest = sorted(ordered[len(few) :], key=lambda trial: not trial.meets(self.goal.limits))
        few += rest[: _FINALISTS - len(few)]
        begun = {*self.finalists, *(one.point.key for one in few)}
        others = [one for one in front(self.goal, self.searched) if one.point.key not in begun]
        last = len(others) - 1
        places = {round(i * last / (_OF_FRONT - 1)) for i in range(_OF_FRONT)} if others else set()
        return [*few, *(others[place] for place in sorted(places))]

    def _final(self, tasks: Sequence[Task]) -> None:
        for one in self._run(tasks):
            if isinstance(one, Trial):
                self.finalists.setdefault(one.point.key, []).append(one)

    @property
    def last(self) -> list[Trial]:
        """What the longest runs say of each finalist."""
        return [trials[-1] for trials in self.finalists.values()]

    @property
    def kept(self) -> list[Trial]:
        """Finalists that keep every limit with 95 % confidence."""
        return [trial for trial in self.last if trial.meets(self.goal.limits)]

    def gap(self, chosen: Trial, other: Trial, level: float = LEVEL) -> Gap:
        """Between two finalists, at the greatest length that both have been run at."""
        pair = [self.finalists[one.point.key] for one in (chosen, other)]
        length = min(trials[-1].length for trials in pair)
        first, second = (next(one for one in trials if one.length == length) for trials in pair)
        return gap(self.goal, first, second, level)

    def _lengthen(self) -> None:
        while going := [trial for trial in self.last if self._open(trial)]:
            if self.spent + GROWTH * sum(trial.requests for trial in going) > self.max_requests:
                return
            self._final([self._task(trial, trial.length + 1) for trial in going])

    def _open(self, trial: Trial) -> bool:
        """Whether longer runs may make it the best one, or tell better what the best one is worth."""
        goal, kept = self.goal, self.kept
        if not trial.more or trial.length == _LAST or trial.breaks(goal.limits):
            return False
        if not kept:
            return True
        top = best(goal, kept)
        if trial not in kept:
            return score(goal, trial) > score(goal, top) + goal.precision
        if trial is top:
            return trial.figures[goal.objective].relative > goal.precision or bool(trial.doubts)
        apart = self.gap(top, trial)
        return apart.figure == goal.objective and not apart.told and apart.relative.half_width > goal.precision

    # Both.

    def _run(self, tasks: Sequence[Task]) -> Iterator[Trial | Failure]:
        """In the order of the tasks, whichever is done first."""
        futures = None if self.processes is None else submit(self.processes, tried, tasks)
        for one in map(tried, tasks) if futures is None else (future.result() for future in futures):
            self.spent += one.requests if isinstance(one, Trial) else 0
            yield one
            self.told(self)
