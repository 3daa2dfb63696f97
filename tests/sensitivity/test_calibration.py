"""What profiles know of their own error, and what it does to figures: against M/D/1, where that is known."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from one_server import ERROR, FLAT, SERVICE_S, cell, written
from profiles import NORMAL, measured, serving

from simqueue.analysis.replicated import Precision
from simqueue.analysis.replications import replicate
from simqueue.config import load
from simqueue.cost.profile import Measured
from simqueue.cost.scale import Scale
from simqueue.errors import ConfigError
from simqueue.policy import Continuous, Tgi
from simqueue.profile import Errors
from simqueue.sensitivity.calibration import coefficients, half_widths
from simqueue.sensitivity.carried import Carried, carried, movable
from simqueue.theory.md1 import MD1

POLICY = Continuous(max_seqs=4)
P99, MEAN = ("response_s", "p99"), ("response_s", "mean")


def errors(p95: float) -> Errors:
    return Errors(median=p95 / 3, p95=p95, mean=0.0)


def test_of_a_serving_run_its_held_out_stages_tell() -> None:
    served = {"decode": 0.01, "prefill": 0.02, "chunk": 0.03, "start": 0.04, "exposed": 0.05, "pause": 0.06}
    run = serving(errors={sort: errors(p95) for sort, p95 in served.items()})
    cost = measured((1,), (64,), ((8,),), (16,), (((20, 25),),), "ceil", 0, 1e-4, serving=run)
    assert half_widths(cost, POLICY) == {"decode": 0.01, "prefill": 0.03, "start": 0.04}
    # Nothing is launched ahead under TGI.
    assert half_widths(cost, Tgi()) == {"decode": 0.05, "prefill": 0.03, "start": 0.06}


def test_without_one_its_held_out_cells_do() -> None:
    """Decode cells that are off by 0 to 2 per cent; means are half a per cent above medians."""
    noise = msgspec.structs.replace(NORMAL, mean_over_median=1.005)
    cells = tuple(
        cell("decode", 8e-4 * 1.005 / (1 + 0.001 * i), rows=0, width=0, decode_rows=1, longest=3) for i in range(21)
    )
    cost = measured((1,), (64,), ((8,),), (16,), (((20, 25),),), "ceil", 0, 1e-4, noise=noise, points=cells)
    known = half_widths(cost, POLICY)
    assert known == {"decode": pytest.approx(0.019, abs=1e-6)}
    # What a scenario makes of a profile makes it neither truer nor less true.
    eager = Measured(name="gpt2-h200-bf16-eager")
    assert half_widths(msgspec.structs.replace(eager, scale=Scale(decode=1.3)), POLICY) == half_widths(eager, POLICY)


def test_coefficients_by_their_keys(tmp_path: Path) -> None:
    (one,) = coefficients(load(written(tmp_path, cost=FLAT), ["system.cost.scale.total=1.1"]))
    assert (one.keys, one.profile, one.kind, one.value) == (("system.cost.scale.total",), "flat", "total", 1.1)
    assert one.half_width == pytest.approx(ERROR, abs=1e-9)
    assert one.ends == pytest.approx((1.1 / (1 + ERROR), 1.1 * (1 + ERROR)))
    assert coefficients(load(written(tmp_path))) == []


def test_pools_that_share_a_profile_share_its_error(tmp_path: Path) -> None:
    path = written(tmp_path)
    pool = '[cluster.{0}]\nreplicas = 2\n[cluster.{0}.system]\npolicy = {{ kind = "vllm" }}\n'
    pool += 'cost = {{ kind = "profile", name = "gpt2-h200-bf16-graph-128" }}\n'
    head, _, tail = path.read_text().partition("[system]")
    run = "[run]" + tail.partition("[run]")[2]
    transfer = "[cluster.transfer]\ngib_per_s = 10.0\nkv_bytes_per_token = 1000.0\n"
    path.write_text(head + pool.format("prefill") + pool.format("decode") + transfer + run)
    found = coefficients(load(path))
    assert [one.kind for one in found] == ["decode", "prefill", "start"]
    assert found[0].keys == ("cluster.prefill.system.cost.scale.decode", "cluster.decode.system.cost.scale.decode")


def test_replicas_that_differ_have_no_key(tmp_path: Path) -> None:
    path = written(tmp_path)
    head, _, tail = path.read_text().partition("[system]")
    systems = "".join(
        f'[[cluster.system]]\npolicy = {{ kind = "dynamic", max_batch = {most} }}\ncost = {FLAT}\n' for most in (1, 2)
    )
    path.write_text(f"{head}{systems}[run]{tail.partition('[run]')[2]}")
    with pytest.raises(ConfigError, match="belong to replicas that differ"):
        movable(load(path))


def _carried(path: Path) -> tuple[Carried, float, float]:
    scenario = load(path)
    found = replicate(scenario.workload, scenario.system, seed=scenario.run.seed, base=path.parent)
    return carried(scenario, [], found), found.interval(MEAN).value, found.interval(P99).value


@pytest.mark.statistical
@pytest.mark.parametrize("rho", [0.5, 0.8, 0.9])
def test_an_error_of_the_steps_grows_as_the_system_gets_full(rho: float, tmp_path: Path) -> None:
    """M/D/1 at both ends of the interval of the service time, exactly; 10 replications of 4,000 requests."""
    result, mean, p99 = _carried(written(tmp_path, rho, FLAT, 4000))
    low, high = (MD1(rho / SERVICE_S, SERVICE_S * factor) for factor in (1 / (1 + ERROR), 1 + ERROR))
    exact = {
        MEAN: (high.mean_response_s - low.mean_response_s) / 2,
        P99: (high.response_quantile_s(0.99) - low.response_quantile_s(0.99)) / 2,
    }
    for figure, half_width in exact.items():
        (error,) = result.noise[figure]
        assert result.shares[figure][0] == pytest.approx(half_width, abs=4 * error)
        assert result.half_width(figure) == pytest.approx(half_width, rel=0.3)
    # 2 % of the service are this many per cent of the response.
    assert exact[MEAN] / mean == pytest.approx({0.5: 0.033, 0.8: 0.086, 0.9: 0.188}[rho], rel=0.25)
    assert exact[P99] / p99 > exact[MEAN] / mean


def test_a_system_that_calibration_leaves_unstable(tmp_path: Path) -> None:
    result, _, _ = _carried(written(tmp_path, 0.995, FLAT))
    assert result.unstable == ("system.cost.scale.total",)
    assert result.half_width(MEAN) == float("inf")


def test_runs_that_a_precision_made_longer(tmp_path: Path) -> None:
    scenario = load(written(tmp_path, cost=FLAT, requests=200))
    wanted = Precision(0.05, ("response_s.mean",), 160)
    found = replicate(scenario.workload, scenario.system, seed=3, base=tmp_path, precision=wanted)
    assert found.precise
    queue = MD1(0.5 / SERVICE_S, SERVICE_S)
    # The elasticity of the mean response at load 0.5 is 5 / 3, since it is s + s rho / (2 (1 - rho)).
    expected = ERROR * queue.mean_response_s * 5 / 3
    assert carried(scenario, [], found).half_width(MEAN) == pytest.approx(expected, rel=0.1)


def test_what_chance_does_is_taken_off(tmp_path: Path) -> None:
    (one,) = coefficients(load(written(tmp_path, cost=FLAT)))
    both = Carried((one, one), {MEAN: (5.0, 1.0)}, {MEAN: (3.0, 2.0)}, (), ())
    assert both.half_width(MEAN) == pytest.approx(4.0)


def test_a_cost_that_was_not_measured_has_no_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="its costs were not measured"):
        _carried(written(tmp_path))
