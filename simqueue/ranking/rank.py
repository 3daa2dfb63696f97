"""`rank`: run several scenarios until it is clear which is best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor
from functools import partial

from simqueue.analysis.figures import at
from simqueue.analysis.replications import REPLICATIONS
from simqueue.checks import at_least
from simqueue.errors import ConfigError
from simqueue.pool import pool
from simqueue.ranking.criterion import Criterion
from simqueue.ranking.ranking import Contest, Ranking
from simqueue.ranking.runs import Competitor, begin, extend
from simqueue.ranking.selection import Gaps, level_each, looks, select

# Processes take longer to start than so many requests to simulate.
_WORTH_PROCESSES = 100_000


def rank(
    competitors: Sequence[Competitor],
    *,
    by: str = "response_s.p99",
    indifference: float = 0.01,
    seed: int = 0,
    replications: int | None = None,
    max_replications: int = 160,
    warmup: int | str | None = None,
    workers: int = 1,
    told: Callable[[int, int], None] = lambda replications, left: None,
) -> Ranking:
    """Which of several scenarios is best: all meet the same customers, those that are worse beyond doubt are left out,
    and the others get more replications until one is left or what is left does not matter.

    Args:
        competitors: two or more, each with a name of its own.
        by: the figure that decides (`simqueue.ranking.criterion.CRITERIA`). Times are better the lower they are,
            throughput and goodput the higher.
        indifference: up to which share of the figure a difference does not matter.
        seed: of every draw, the same for all.
        replications: how many to begin with; 10 if not given, or 1 (in sections, and no more) if a trace is among them.
        max_replications: how many there may be of each. Equal to ``replications``: one look, and each difference has a
            plain 95 % interval where there are two competitors.
        warmup: as in `simqueue.replicate`.
        workers: processes. Results do not depend on it.
        told: hears the number of replications of those that are left, and how many these are, before each look.

    Raises:
        ConfigError: there are fewer than two, two have one name, the figure is unknown or one of them does not have it.
        ConfigError, ProfileError, WorkloadError, InvariantError: as `simqueue.simulate` has them.
    """
    criterion = Criterion(by)
    _check(competitors, indifference, max_replications)
    count = replications or (1 if any(each.recorded for each in competitors) else REPLICATIONS)
    numbers = [count] if count == 1 else looks(count, max(count, max_replications))
    level = level_each(len(competitors), len(numbers))
    requests = sum(each.spec.requests or _WORTH_PROCESSES for each in competitors)
    worth = requests * (count - 1) >= _WORTH_PROCESSES
    try:
        with pool(workers if worth else 1) as processes:
            told(count, len(competitors))
            contest = Contest(criterion, begin(processes, competitors, seed, warmup, count), level)
            _refuse_missing(contest, count)
            look = partial(_look, processes, contest, told)
            selection = select(len(competitors), numbers, look, indifference)
    except BrokenExecutor:
        raise ConfigError(
            "run: a process was ended before its replication was over, most likely for want of memory: ask for fewer "
            "requests"
        ) from None
    return Ranking(contest, selection, indifference, numbers)


def _look(
    processes: Executor | None, contest: Contest, told: Callable[[int, int], None], left: Sequence[int], count: int
) -> Gaps:
    if contest.runs[left[0]].replicated and len(contest.runs[left[0]].parts) < count:
        told(count, len(left))
        extend(processes, [contest.runs[number] for number in left], count)
    return lambda one, other: contest.gap(one, other, count)


def _check(competitors: Sequence[Competitor], indifference: float, max_replications: int) -> None:
    if len(competitors) < 2:
        raise ConfigError(f"rank: {len(competitors)} scenarios: give at least two to compare")
    name, times = Counter(each.name for each in competitors).most_common(1)[0]
    if times > 1:
        raise ConfigError(f"rank: {times} scenarios have the name {name!r}: give each one of its own")
    if not 0 < indifference < 1:
        raise ConfigError(f"--indifference {indifference:g} is no share of the figure: give 0.01, say, for 1 %")
    at_least("run", "max_replications", max_replications, 1)


def _refuse_missing(contest: Contest, count: int) -> None:
    """Shares are of something: refuse what a competitor does not have, or has none of."""
    for each in contest.runs:
        value, name = at(each.found(count).figures, contest.criterion.path), contest.criterion.name
        if not isinstance(value, float):
            promise = "goodput" in name or "slo" in name
            why = (
                "requests are promised nothing: give the workload ttft_slo_s or tpot_slo_s"
                if promise
                else "name another"
            )
            raise ConfigError(f"--by {name}: the runs of {each.competitor.name} have no such figure: {why}")
        if not value > 0:
            raise ConfigError(
                f"--by {name}: it is {value:g} in {each.competitor.name}, and nothing is a share of that: name another"
            )
