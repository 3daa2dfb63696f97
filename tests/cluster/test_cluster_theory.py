"""Clusters of single servers against what theory knows of them, within the error of independent replications.

Runs start empty; what that leaves after the warm-up is far below the errors seen. A service takes a second in the mean.
"""

from __future__ import annotations

import numpy as np
import pytest
from crude import agree

from simqueue import Affine, ExponentialNoise, NoBatching, NoNoise, System, WorkloadSpec, make_workload
from simqueue.cluster.choices import PowerOfChoices
from simqueue.cluster.cluster import Cluster
from simqueue.cluster.fleet import Router
from simqueue.cluster.random_split import RandomSplit
from simqueue.cluster.result import ClusterResult
from simqueue.cluster.shortest_queue import ShortestQueue
from simqueue.cluster.simulate import simulate_cluster
from simqueue.theory import MD1, MM1, JoinShortestQueue
from simqueue.theory import PowerOfChoices as MeanField
from simqueue.workload import Fixed, Poisson

EXPONENTIAL = System(policy=NoBatching(), cost=Affine(base_s=1.0), noise=ExponentialNoise())
CONSTANT = System(policy=NoBatching(), cost=Affine(base_s=1.0), noise=NoNoise())


def run(
    rng: np.random.Generator, rate: float, requests: int, system: System, replicas: int, router: Router
) -> tuple[np.ndarray, ClusterResult]:
    """Response times in seconds after the warm-up, a fifth, and the result."""
    one = Fixed(value=1)
    spec = WorkloadSpec(requests=requests, arrivals=Poisson(rate=rate), prompt_tokens=one, output_tokens=one)
    seed = int(rng.integers(2**32))
    cluster = Cluster.of(replicas, system, router)
    result: ClusterResult = simulate_cluster(make_workload(spec, seed), cluster, seed=seed)
    return result.grid.seconds(result.response)[requests // 5 :], result


@pytest.mark.statistical
@pytest.mark.parametrize(("rho", "requests", "precision"), [(0.5, 3000, 0.04), (0.75, 4000, 0.1)])
def test_the_shorter_of_two_queues(rho: float, requests: int, precision: float) -> None:
    exact = JoinShortestQueue(2 * rho, 1.0)

    def replicate(rng: np.random.Generator) -> dict[str, float]:
        return {"response": run(rng, 2 * rho, requests, EXPONENTIAL, 2, ShortestQueue())[0].mean()}

    agree({"response": exact.mean_response_s}, replicate, precision)


@pytest.mark.statistical
def test_two_choices_of_many_queues_are_their_mean_field() -> None:
    """Of 100: the difference of about 1 / 100 lies within what the test can see."""
    exact = MeanField(0.7, 1.0, 2)
    assert exact.mean_queueing_s < MM1(0.7, 1.0).mean_queueing_s / 2

    def replicate(rng: np.random.Generator) -> dict[str, float]:
        return {"response": run(rng, 70.0, 3000, EXPONENTIAL, 100, PowerOfChoices(2))[0].mean()}

    agree({"response": exact.mean_response_s}, replicate, 0.04)


@pytest.mark.statistical
@pytest.mark.parametrize("system", [EXPONENTIAL, CONSTANT], ids=["M/M/1", "M/D/1"])
def test_a_die_splits_poisson_arrivals_into_poisson_arrivals(system: System) -> None:
    """Each replica is a queue of its own, with its part of the rate."""
    exact = MM1(0.5, 1.0) if system is EXPONENTIAL else MD1(0.5, 1.0)

    def replicate(rng: np.random.Generator) -> dict[str, float]:
        _, result = run(rng, 1.5, 8_000, system, 3, RandomSplit())
        second = result.shares[1].result
        queueing_s = second.grid.seconds(second.queueing)[500:]
        return {"mean": queueing_s.mean(), "beyond 1 s": np.mean(queueing_s > 1.0)}

    agree({"mean": exact.mean_queueing_s, "beyond 1 s": exact.queueing_ccdf(1.0)}, replicate, 0.15)
