"""Runs whose course follows from their columns alone, without an event loop."""

from __future__ import annotations

from simqueue.policy import Continuous
from simqueue.record import Leaps, Requests
from simqueue.sim.bulk import bulk_run
from simqueue.sim.given import Bound, delays_of, limits_of
from simqueue.sim.seated import seated_run
from simqueue.source import Columns, Source


def shortcut(bound: Bound, requests: Requests, source: Source) -> Leaps | None:
    """What `simqueue.sim.driver.drive` does, to the tick, in a part of its time, where nothing is random, nobody gives
    up, is turned away or waits for an answer, the server does nothing beside its steps, and the policy is one of those
    that are known here; None elsewhere. Fills in ``requests``."""
    # What is added to the rows of a step is for those who hear of their answers.
    delays = delays_of(bound)._replace(response_per_row=0)
    waits = not isinstance(source, Columns) or requests.patience is not None
    if waits or any(delays) or any(limits_of(bound)) or bound.spread is not None:
        return None
    policy = bound.system.policy
    # Of these very classes: one that is derived from them may decide otherwise.
    if type(policy) is Continuous:
        return seated_run(requests, bound.cost, policy.max_seqs) if policy.max_tokens is None else None
    return bulk_run(policy, bound.grid, requests, bound.cost)
