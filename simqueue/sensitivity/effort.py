"""How long the runs at a point are, and how many."""

from __future__ import annotations

from simqueue.analysis.replications import REPLICATIONS, is_stationary
from simqueue.capacity.trial import Case
from simqueue.config import Scenario
from simqueue.errors import ConfigError
from simqueue.sensitivity.runs import Effort

# The fewest requests of a run that tell something of a p99.
_LEAST = 500
# Of each run, the share of its first requests that find the system empty, and are left out.
_LEFT_OUT = 0.1


def effort_of(scenario: Scenario, enough: int, points: int, max_requests: int | None) -> Effort:
    """Where arrivals go on as they began runs are as long as the scenario's, or shorter: as ``max_requests`` has it, or
    ``enough``, or as many replicas or users take. Else they are as long as the scenario's, and as many as that allows.

    Args:
        scenario: what is run.
        enough: requests of a run.
        points: how many there are.
        max_requests: to simulate in all; None if it does not matter.

    Raises:
        ConfigError: these are too few.
    """
    spec, own = scenario.workload, scenario.run.warmup
    case = Case(spec, scenario.cluster or scenario.system, scenario.path.parent, scenario.run.seed)
    if is_stationary(spec):
        assert spec.requests is not None
        enough = max(enough, case.first_effort.requests or 0)
        most = enough if max_requests is None else max_requests // (points * REPLICATIONS)
        if most < min(spec.requests, _LEAST):
            raise _too_few(points, points * REPLICATIONS * min(spec.requests, _LEAST))
        requests = min(spec.requests, most)
        return Effort(requests, int(_LEFT_OUT * requests), REPLICATIONS)
    requests, least = len(case.workload(case.seed)), 1 if case.recorded else 2
    runs = (enough * REPLICATIONS if max_requests is None else max_requests // points) // requests
    if max_requests is not None and runs < least:
        raise _too_few(points, points * requests * least)
    return Effort(None, own if isinstance(own, int) else 0, 1 if case.recorded else min(REPLICATIONS, max(least, runs)))


def _too_few(points: int, needed: int) -> ConfigError:
    return ConfigError(
        f"--max-requests is too few for {points} points: give {needed} or more, or fewer parameters (--vary)"
    )
