"""What keeps scenarios from meeting the same customers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simqueue.analysis.server import Server
from simqueue.cluster.cluster import Cluster
from simqueue.cluster.disaggregation import Disaggregation
from simqueue.cost.profile import Measured
from simqueue.ranking.runs import Competitor


def unlike(competitors: Sequence[Competitor]) -> Iterator[str]:
    """In what the others ask for something else than the first, in sentences."""
    first = competitors[0]
    for other in competitors[1:]:
        if keys := _differing(first, other):
            yield (
                f"{other.name} has other {' and '.join(keys)} than {first.name}: they do not meet the same customers, "
                "and pairing may save nothing; differences are right all the same"
            )
        one, another = _model(first.server), _model(other.server)
        if one and another and one != another:
            yield f"{other.name} serves {another}, {first.name} {one}: the differences are of models too"


def _differing(first: Competitor, other: Competitor) -> list[str]:
    keys = [key for key in first.spec.__struct_fields__ if getattr(first.spec, key) != getattr(other.spec, key)]
    if first.recorded and first.base != other.base and "arrivals" not in keys:
        keys.append("arrivals")
    return [f"workload.{key}" for key in keys]


def _model(server: Server) -> str | None:
    """The name of the measured model, if it is one."""
    pool = server.prefill if isinstance(server, Disaggregation) else server
    cost = (pool.systems[0] if isinstance(pool, Cluster) else pool).cost
    return cost.profile.model.name if isinstance(cost, Measured) else None
