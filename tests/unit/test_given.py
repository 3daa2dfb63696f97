"""Arguments of the wrong type are refused in a line that says what would do."""

from __future__ import annotations

from typing import Any

import pytest

import simqueue as sq
from simqueue.cluster.saturation import cluster_saturation_rps
from simqueue.errors import ConfigError
from simqueue.policy import Vllm
from simqueue.workload import Fixed, Poisson

SPEC = sq.WorkloadSpec(
    requests=5, arrivals=Poisson(rate=1.0), prompt_tokens=Fixed(value=10), output_tokens=Fixed(value=2)
)
WORKLOAD = sq.make_workload(SPEC, seed=0)
SYSTEM = sq.System(sq.NoBatching(), sq.Affine(base_s=1e-3))
CLUSTER = sq.Cluster((SYSTEM,))
PAGED = sq.Cluster((sq.System(Vllm(), sq.Affine(base_s=1e-3), memory=sq.Memory(num_blocks=100)),))
POOLS = sq.Disaggregation(PAGED, PAGED, sq.Transfer(gib_per_s=50.0, kv_bytes_per_token=1e5))
DRAW = "a WorkloadSpec is given where a Workload is needed: draw its requests with make_workload(spec, seed)"


@pytest.mark.parametrize(
    ("run", "given", "said"),
    [
        *((run, (SPEC, SYSTEM), DRAW) for run in (sq.simulate, sq.saturation_rps)),
        (sq.simulate_cluster, (SPEC, CLUSTER), DRAW),
        (sq.simulate_disaggregated, (SPEC, POOLS), DRAW),
        (sq.simulate, (WORKLOAD, CLUSTER), "a Cluster is given where a System is needed: use simulate_cluster"),
        (sq.simulate, (WORKLOAD, POOLS), "a Disaggregation is given where a System is needed: use simulate_disagg"),
        (sq.simulate, (SYSTEM, WORKLOAD), "a System is given where a Workload is needed: make one with simqueue.Work"),
        (sq.simulate_cluster, (WORKLOAD, SYSTEM), "a System is given where a Cluster is needed: use simulate"),
        (sq.simulate_cluster, (WORKLOAD, POOLS), "a Disaggregation is given where a Cluster is needed: use simulate_d"),
        (sq.simulate_disaggregated, (WORKLOAD, CLUSTER), "a Cluster is given where a Disaggregation is needed: use"),
    ],
)
def test_what_is_run_is_of_its_type(run: Any, given: tuple[Any, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        run(*given)
    assert str(refused.value).startswith(f"run: {said}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("policy", "vllm"), ("policy", sq.Continuous), ("policy", None), ("cost", 0.1), ("cost", sq.Affine)],
)
def test_the_parts_of_a_system_are_objects(key: str, value: Any) -> None:
    parts = {"policy": sq.NoBatching(), "cost": sq.Affine(base_s=1e-3)} | {key: value}
    with pytest.raises(ConfigError) as refused:
        sq.System(**parts)
    assert str(refused.value).startswith(f"system: {key} = {value!r} is no {key}: give an object, such as simqueue.")


def test_the_replicas_of_a_cluster_are_systems() -> None:
    policy: Any = sq.NoBatching()
    with pytest.raises(ConfigError, match="run: a NoBatching is given where a System is needed: make one with"):
        cluster_saturation_rps(WORKLOAD, sq.Cluster((policy,)))
