"""`Question`: what `simqueue optimise` is asked, read and checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simqueue.analysis.figures import FIGURES
from simqueue.capacity.slo import limits_of
from simqueue.capacity.trial import Case
from simqueue.checks import at_least, positive
from simqueue.config import named, read_table
from simqueue.errors import ConfigError, SimqueueError
from simqueue.optimise.goal import Goal
from simqueue.optimise.race import Race
from simqueue.optimise.search import Sampled, Search, Whole
from simqueue.optimise.space import LOAD, RATE, Space
from simqueue.optimise.trial import case_of, scenario_of
from simqueue.optimise.written import space_of
from simqueue.pool import pool
from simqueue.tables import unknown
from simqueue.workload import Trace, Users, WorkloadSpec

TABLE = "optimise"
_WHERE = "optimise"


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        path: the scenario's file.
        table: what it says, but for ``[optimise]``.
        overrides, vary: as they were written.
        space: what may be chosen.
        goal: what is wanted.
        seed: of every draw, of the sampler's too.
        trials, max_requests: see `simqueue.optimise.race.Race`.
    """

    path: Path
    table: Mapping[str, Any]
    overrides: tuple[str, ...]
    vary: tuple[str, ...]
    space: Space
    goal: Goal
    seed: int
    trials: int
    max_requests: int

    @property
    def caption(self) -> str:
        """The scenario and the limits in one line."""
        changed = f", with {', '.join(self.overrides)}" if self.overrides else ""
        limits = f": {', '.join(map(str, self.goal.limits))}" if self.goal.limits else ""
        return f"{self.path.name}{changed}, seed {self.seed}{limits}"

    def race(self, told: Callable[[Race], None] = lambda race: None) -> Race:
        """The search, not yet begun. A space of no more points than there are trials is gone through whole.

        Raises:
            ConfigError: Optuna is needed and not installed.
        """
        small = self.space.size <= self.trials
        search: Search = Whole(self.space) if small else Sampled(self.space, self.seed)
        return Race(self.table, self.path, self.goal, search, self.trials, self.max_requests, told=told)

    def run(self, race: Race, workers: int) -> None:
        """Run it to its end, in so many processes; what it found does not depend on how many.

        Raises:
            SimqueueError: nothing can be run at all.
        """
        try:
            with pool(workers) as race.processes:
                race.look()
                if not race.searched:
                    raise ConfigError(
                        f"{self.path}: none of {len(race.failures)} points can be run: {race.failures[0].reason}"
                    )
                race.settle()
        except BrokenExecutor:
            raise ConfigError(
                f"{self.path}: a process was ended before its run was over, most likely for want of memory: give less "
                "--max-requests"
            ) from None


def asked(
    file: Path,
    *,
    vary: Sequence[str] = (),
    slo: Sequence[str] = (),
    latency: str = "response_s.p99",
    price: float | None = None,
    gpus: int = 1,
    trials: int = 100,
    max_requests: int = 10_000_000,
    overrides: Sequence[str] = (),
) -> Question:
    """Read a question.

    Raises:
        SimqueueError: in one line, what is wrong, where, and what would do.
    """
    at_least(_WHERE, "--trials", trials, 1)
    at_least(_WHERE, "--max-requests", max_requests, 1)
    at_least(_WHERE, "--gpus", gpus, 1)
    if price is not None:
        positive(_WHERE, "--price", price)
    if latency not in FIGURES or "_s." not in latency:
        raise unknown("--latency", "figure", latency, [figure for figure in FIGURES if "_s." in figure])
    table = read_table(file, [*overrides, *map(_as_override, vary)])
    chosen = table.pop(TABLE, None)
    with named(file):
        space = space_of(chosen)
    case = _case(space, table, file)
    _refuse_endless(space, case.spec, slo, file)
    limits = limits_of(slo, case.spec) if slo else ()
    goal = Goal(limits, latency, price, gpus)
    return Question(file, table, tuple(overrides), tuple(vary), space, goal, case.seed, trials, max_requests)


def _as_override(vary: str) -> str:
    """``--vary KEY=VALUES`` is one more key of the table ``[optimise]``."""
    key, equals, values = vary.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--vary {vary!r} is no KEY=LOW..HIGH, such as system.policy.max_seqs=8..128")
    return f'{TABLE}."{key.strip()}"={values}'


def _case(space: Space, table: Mapping[str, Any], path: Path) -> Case:
    """What the first point asks about that is a scenario. An option that is none, and for the same reason at both ends
    of its ranges, is a mistake; other points are found out when they are tried.

    Raises:
        SimqueueError: that reason.
    """
    found = None
    for ends in space.corners():
        errors = list[SimqueueError]()
        for point in ends:
            try:
                found = found or case_of(scenario_of(point, table, path))
                scenario_of(point, table, path)
            except SimqueueError as error:
                errors.append(error)
        if len(errors) == len(ends) and len(set(map(str, errors))) == 1:
            raise errors[0]
    if found is None:
        raise errors[-1]
    return found


def _refuse_endless(space: Space, spec: WorkloadSpec, slo: Sequence[str], path: Path) -> None:
    """A rate that nothing bounds."""
    if not {RATE, LOAD} & space.dimensions.keys():
        return
    if isinstance(spec.arrivals, Users):
        raise ConfigError(
            f"{path}: users send as fast as they are answered and have no rate: vary workload.arrivals.users"
        )
    promised = any(part.ttft_slo_s or part.tpot_slo_s for part in spec.parts) or isinstance(spec.arrivals, Trace)
    if not (slo or promised):
        raise ConfigError(
            f"{path}: the rate may be chosen, and nothing limits it but saturation, where queues have no end: give a "
            'limit, such as --slo "ttft_s.p99 <= 0.2"'
        )
