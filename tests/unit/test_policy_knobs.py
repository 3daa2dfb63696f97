"""Knobs that make no sense are refused with the value, the place and the remedy."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

import simqueue
from simqueue import Affine, Continuous, Dynamic, NoBatching, Overheads, Static, System, Workload
from simqueue.errors import ConfigError
from simqueue.policy import SHIPPED

REFUSED = [
    (Static, {"batch": 0}, "policy static: batch = 0 must be at least 1"),
    (Static, {"batch": 2.0}, r"policy static: batch = 2\.0 is not a whole number"),
    (Static, {"batch": True}, "policy static: batch = True is not a whole number"),
    (Static, {"batch": 2, "release": "late"}, "policy static: release = 'late' is not one of batch, request"),
    (Dynamic, {"max_batch": 0}, "policy dynamic: max_batch = 0 must be at least 1"),
    (Dynamic, {"min_batch": 0}, "policy dynamic: min_batch = 0 must be at least 1"),
    (Dynamic, {"max_batch": 4, "min_batch": 5}, "min_batch = 5 is more than max_batch = 4.*lower min_batch"),
    (Dynamic, {"max_wait_s": -1.0}, r"max_wait_s = -1\.0 must be a finite number of seconds, 0 or more"),
    (Dynamic, {"max_wait_s": nan}, "max_wait_s = nan"),
    (Dynamic, {"max_wait_s": "1"}, "max_wait_s = '1' is not a number of seconds"),
    (Dynamic, {"max_wait_s": inf}, "never starts a batch: give min_batch or max_batch"),
    (Dynamic, {"release": "late"}, "policy dynamic: release = 'late'"),
    (Continuous, {"max_seqs": 0}, "policy continuous: max_seqs = 0 must be at least 1"),
    (Continuous, {"max_seqs": 8, "max_tokens": 7}, "max_tokens = 7 is less than max_seqs = 8.*raise max_tokens"),
    (Overheads, {"request_path_s": -1.0}, "overheads: request_path_s = -1.0"),
    (Overheads, {"timer_late_s": inf}, "overheads: timer_late_s = inf"),
]


@pytest.mark.parametrize(("kind", "knobs", "why"), REFUSED, ids=lambda value: getattr(value, "__name__", None))
def test_refused(kind: Any, knobs: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why) as refusal:
        kind(**knobs)
    assert "\n" not in str(refusal.value)


def test_accepted_to_the_edge() -> None:
    assert Dynamic(4, inf, 4)
    assert Dynamic(None, inf, 1)
    assert Dynamic(None, 0.0, 7)
    assert Continuous(8, 8)
    assert [policy.__struct_config__.tag for policy in SHIPPED] == [
        *("none", "static", "dynamic", "continuous"),
        *("fastertransformer", "triton", "mosec", "litserve", "ray-serve", "bentoml", "clipper"),
        *("vllm", "sarathi", "orca", "sglang", "tgi", "tensorrt-llm"),
        *("fastserve", "srpt"),
    ]


def test_policies_are_values() -> None:
    assert Continuous(4) == Continuous(4)
    assert len({Dynamic(4), Dynamic(4), NoBatching()}) == 2
    with pytest.raises(AttributeError):
        Static(3).batch = 4  # type: ignore[misc]


def run(policy: Any, *, warmup: int = 0, **parts: Any) -> simqueue.Result:
    workload = Workload.from_columns([0.0, 1.0], [3, 2], [2, 2])
    return simqueue.simulate(workload, System(policy, Affine(1.0), **parts), warmup=warmup)


def test_a_handover_stands_between_batches_only() -> None:
    with pytest.raises(ConfigError, match="handover_s and handover_per_request_s stand between run-to-completion"):
        run(Continuous(4), overheads=Overheads(handover_per_request_s=0.1))
    run(Static(2), overheads=Overheads(handover_s=0.1))


def test_a_warm_up_leaves_somebody() -> None:
    with pytest.raises(ConfigError, match="warmup = 2 leaves none of 2 requests: lower it"):
        run(NoBatching(), warmup=2)


@pytest.mark.parametrize(
    "parts",
    [
        {"cost": Affine(base_s=1e7)},
        {"overheads": Overheads(request_path_s=1e8)},
        {"overheads": Overheads(response_path_s=9_223_372.0)},
        {"overheads": Overheads(handover_s=1e12)},
    ],
    ids=repr,
)
def test_a_run_beyond_64_bit_time_is_refused(parts: Any) -> None:
    workload = Workload.from_columns([0.0, 1.0], [3, 2], [2, 2])
    with pytest.raises(ConfigError, match=r"the run lasts longer than the .* s that 64-bit time holds"):
        simqueue.simulate(workload, System(NoBatching(), **{"cost": Affine(1.0), **parts}))


def test_arrivals_beyond_64_bit_time_are_refused() -> None:
    workload = Workload.from_columns([0.0, 1e14], [3, 2], [2, 2])
    with pytest.raises(ConfigError, match=r"the last arrival, at 1e\+14 s, is beyond the"):
        simqueue.simulate(workload, System(NoBatching(), Affine(1.0)))
