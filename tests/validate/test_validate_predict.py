"""The simulator's side: elasticities that can be told by hand, scaled costs, the steps of live runs."""

from __future__ import annotations

import numpy as np
import pytest
from profiles import measured
from rehearsals import lived, planned, quiet

from simqueue import Affine, NoBatching, System, Workload, simulate
from simqueue.errors import ConfigError
from simqueue.units import Grid
from simqueue.validate.measure import LEVELS, measure
from simqueue.validate.predict import SEEDS, Task, elasticity, predict, scaled
from simqueue.validate.steps import steps

SECOND = System(policy=NoBatching(), cost=Affine(base_s=1.0))


def _task(*arrival_s: float) -> Task:
    ones = [1] * len(arrival_s)
    return Task(Workload.from_columns(arrival_s, ones, ones), SECOND, 0, 10.0)


def test_alone_one_per_cent_of_service_is_one_per_cent_of_response() -> None:
    task = _task(0.0, 5.0)
    grown = elasticity(task, predict(task, None), None)
    assert grown["response_s"] == {name: pytest.approx(1.0) for name in ("mean", "p50", "p95", "p99")}


def test_who_waits_feels_the_service_of_others_too() -> None:
    # Responses of 1 and 1.5 s become 1.01 and 1.52 s, and 0.99 and 1.48 s.
    task = _task(0.0, 0.5)
    grown = elasticity(task, predict(task, None), None)
    assert grown["response_s"] == {
        "mean": pytest.approx(100 * (2.53 / 2.5 - 1)),
        "p50": pytest.approx(1.0),
        **{name: pytest.approx(100 * (1.52 / 1.5 - 1), rel=1e-3) for name in ("p95", "p99")},
    }
    assert grown["ttft_s"] == grown["response_s"]


def test_where_waiting_begins_both_sides_count() -> None:
    # Responses of 1 and 1 s become 1.01 and 1.02 s, but 0.99 and 0.99 s.
    task = _task(0.0, 1.0)
    assert elasticity(task, predict(task, None), None)["response_s"]["mean"] == pytest.approx(1.25)


def test_a_scaled_measured_cost_is_the_same_times_the_factor() -> None:
    cost = measured(
        (1, 2), (1, 100), ((100, 400), (200, 600)), (1, 50), (((90, 90), (130, 200)),) * 2, "linear", 7, 1e-6
    )
    grid = Grid()
    plain, slow = cost.on(grid), scaled(cost, 1.25).on(grid)
    one = (2, 20, 10, 30, 1 << 100)
    assert slow.leap(*one)[1] == pytest.approx(1.25 * plain.leap(*one)[1], rel=1e-9)
    assert scaled(cost, 1.25).profile is cost.profile  # type: ignore[attr-defined]


def test_a_cost_of_ones_own_cannot_be_scaled() -> None:
    class Mine:
        def coefficients(self) -> tuple[float, ...]:
            return ()

    with pytest.raises(ConfigError, match="cost Mine: only an affine or a measured cost can be scaled"):
        scaled(Mine(), 2.0)  # type: ignore[arg-type]


def test_noise_is_averaged_over_its_seeds_and_none_needs_one() -> None:
    [case] = planned()
    noisy, system = case.scenario.system, quiet(case).scenario.system
    task = Task(case.workload, noisy, 20, 1.0)
    predicted = predict(task, None)
    assert len(predicted) == SEEDS
    means = [m.figures["response_s"]["mean"] for m in predicted]
    assert len(set(means)) == SEEDS
    assert means[7] == simulate(case.workload, noisy, seed=7, warmup=20).summary()["response_s"]["mean"]
    assert len(predict(task._replace(system=system), None)) == 1


def test_the_queue_over_time_and_the_quantiles() -> None:
    # Three at once: two wait in the first second, one in the second.
    result = simulate(Workload.from_columns([0.0] * 3, [1] * 3, [1] * 3), SECOND)
    found = measure(result, SECOND.policy, 120.0)
    assert found.waiting.tolist() == [2.0, 1.0, *[0.0] * 118]
    expected = np.repeat([1.0, 2.0, 3.0], [33, 34, 33])
    assert found.quantiles["response_s"].tolist() == expected.tolist()
    assert found.saturation_rps == pytest.approx(1.0)
    assert len(LEVELS) == 100


@pytest.mark.parametrize("policy", ['{ kind = "continuous", max_seqs = 8 }', '{ kind = "dynamic", max_batch = 4 }'])
def test_steps_show_by_how_much_each_kind_is_off(policy: str) -> None:
    [case] = planned(f'"system.policy" = [{policy}]')
    case = quiet(case)
    live = lived(case, 1.25)
    found = steps(live, case.scenario.system)
    assert found.keys() == {"decode", "prefill"} | ({"mixed"} if "continuous" in policy else set())
    for kind in found.values():
        assert kind.error == pytest.approx(1 / 1.25 - 1, abs=1e-6)
    assert sum(kind.share for kind in found.values()) == pytest.approx(1.0)
    assert sum(kind.count for kind in found.values()) == sum(len(result.leaps["start"]) for result in live)
