"""Replications: the first is the run of `simulate`, all together are their pooled requests, whoever runs them."""

from __future__ import annotations

import math
import pickle
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import simqueue as sq
from simqueue import Affine, Continuous, ExponentialNoise, NoBatching, System, WorkloadSpec, make_workload, simulate
from simqueue.analysis import replications
from simqueue.analysis.figures import Pooled, at, estimates
from simqueue.analysis.replicated import Precision, Replicated
from simqueue.analysis.replications import is_stationary, replicate, seed_of
from simqueue.config import scenario_from
from simqueue.errors import ConfigError
from simqueue.workload import Fixed, Geometric, Poisson, Trace, Varying

ONE = Fixed(value=1)
SPEC = WorkloadSpec(requests=600, arrivals=Poisson(rate=0.6), prompt_tokens=ONE, output_tokens=Geometric(mean=4))
SYSTEM = System(policy=Continuous(max_seqs=4), cost=Affine(base_s=0.5, per_row_s=0.05), noise=ExponentialNoise())
EVEN = System(policy=NoBatching(), cost=Affine(base_s=1.0))
P99 = ("response_s.p99",)


@pytest.fixture(scope="module")
def found() -> Replicated:
    return replicate(SPEC, SYSTEM, seed=5, replications=4, warmup=50)


@pytest.fixture(scope="module")
def alone() -> list[sq.Result]:
    """The same replications, each by itself."""
    seeds = [seed_of(5, i) for i in range(4)]
    return [simulate(make_workload(SPEC, seed), SYSTEM, seed=seed, warmup=50) for seed in seeds]


def test_one_replication_is_a_run_bit_for_bit(alone: list[sq.Result]) -> None:
    one = replicate(SPEC, SYSTEM, seed=5, replications=1, warmup=50)
    own = alone[0].summary()
    assert one.figures == own
    assert {key: value for key, value in one.summary().items() if key in own} == own


def test_the_first_of_several_is_that_run_too(found: Replicated, alone: list[sq.Result]) -> None:
    assert found.first.summary() == alone[0].summary()
    for name, column in alone[0].requests().items():
        np.testing.assert_array_equal(found.first.requests()[name], column)


def test_statistics_are_of_all_requests_together(found: Replicated, alone: list[sq.Result]) -> None:
    figures = found.figures
    for name in ("queueing", "service", "response", "ttft"):
        times = np.concatenate([one.grid.seconds(getattr(one, name)[50:]) for one in alone])
        for share in (50, 90, 95, 99):
            exact = np.quantile(times, share / 100, method="inverted_cdf")
            assert figures[f"{name}_s"][f"p{share}"] == pytest.approx(exact, rel=1e-12)
        assert figures[f"{name}_s"]["mean"] == pytest.approx(times.mean())
        assert figures[f"{name}_s"]["max"] == times.max()
    gaps = np.concatenate([np.repeat(*(one.gaps(np.arange(50, 600)) or ())) / one.grid.ticks_per_s for one in alone])
    assert figures["itl_s"]["p95"] == pytest.approx(np.quantile(gaps, 0.95, method="inverted_cdf"), rel=1e-12)
    assert figures["itl_s"]["mean"] == pytest.approx(gaps.mean())


def test_ratios_are_those_of_sums(found: Replicated, alone: list[sq.Result]) -> None:
    figures, each = found.figures, [one.summary() for one in alone]
    spans = np.array([(one.window[1] - one.window[0]) / one.grid.ticks_per_s for one in alone])
    assert figures["requests"] == 4 * 550
    assert figures["span_s"] == pytest.approx(spans.sum())
    assert figures["throughput_rps"] == pytest.approx(4 * 550 / spans.sum())
    assert figures["utilisation"] == pytest.approx(np.dot([one["utilisation"] for one in each], spans) / spans.sum())
    waited = sum(one.grid.seconds(one.queueing[50:]).sum() for one in alone)
    assert figures["waiting"]["mean"] == pytest.approx(waited / spans.sum())
    sizes = [one.steps()["batch_size"][one.steps()["start_s"] >= one.window[0] / one.grid.ticks_per_s] for one in alone]
    rows = np.concatenate(sizes)
    assert figures["batch_size"]["mean_per_step"] == pytest.approx(rows.mean())
    assert figures["batch_size"]["mean_per_request"] == pytest.approx((rows**2).sum() / rows.sum())
    assert figures["waiting"]["max"] == max(one["waiting"]["max"] for one in each)
    assert figures["saturation_rps"] == each[0]["saturation_rps"]


def test_every_estimate_has_an_interval(found: Replicated) -> None:
    summary = found.summary()
    paths = {".".join(path) for path, _ in estimates(found.figures)}
    assert {"throughput_rps", "utilisation", "batch_size.mean_per_step", "waiting.mean", "itl_s.p50"} <= paths
    assert not paths & {"requests", "span_s", "steps", "response_s.max", "waiting.max", "saturation_rps", "users"}
    for path, _ in estimates(found.figures):
        assert at(summary["half_width"], path) > 0
    assert (summary["replications"], summary["sections"], summary["warmup"]) == (4, None, 50)


def test_the_same_numbers_whatever_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the warm-up is found, and where further runs follow."""
    monkeypatch.setattr(replications, "_WORTH_PROCESSES", 1)
    never = Precision(1e-6, P99, 9)
    one, two = (
        replicate(SPEC, SYSTEM, seed=2, replications=3, warmup="auto", precision=never, workers=n) for n in (1, 2)
    )
    assert one.summary() == two.summary()
    assert one.figures["requests"] > 3 * 2 * 500
    np.testing.assert_array_equal(one.averaged_s, two.averaged_s)


def test_seeds_depend_on_the_scenarios_and_the_number_alone() -> None:
    seeds = [seed_of(7, i) for i in range(1000)]
    assert seeds[0] == 7
    assert len(set(seeds)) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert not set(seeds) & {seed_of(8, i) for i in range(1000)}


def test_at_one_seed_everybody_meets_the_same_customers() -> None:
    """A service that takes a tenth longer is slower in every replication, by far less than replications differ."""
    slower = System(policy=NoBatching(), cost=Affine(base_s=1.1))
    both = [replicate(SPEC, system, seed=1, replications=5, warmup=0).parts for system in (EVEN, slower)]
    gaps = [float((slow.response_s - quick.response_s).min()) for quick, slow in zip(*both, strict=True)]
    assert min(gaps) >= 0.1 - 1e-9


class TestSections:
    def test_they_are_all_of_the_run(self) -> None:
        one = replicate(SPEC, SYSTEM, seed=5, replications=1, warmup=50)
        whole, parts = one.figures, [part.summary for part in one.parts]
        assert len(parts) == 10
        assert sum(part["requests"] for part in parts) == whole["requests"]
        assert sum(part["steps"] for part in parts) == whole["steps"]
        spans = [part["span_s"] for part in parts]
        assert sum(spans) == pytest.approx(whole["span_s"])
        busy = sum(part["utilisation"] * span for part, span in zip(parts, spans, strict=True))
        assert busy == pytest.approx(whole["utilisation"] * whole["span_s"])
        assert Pooled(parts, [part.samples for part in one.parts])["response_s"] == pytest.approx(whole["response_s"])
        assert one.summary()["sections"] == 10

    def test_a_recorded_trace_is_run_once(self, tmp_path: Path) -> None:
        made = make_workload(SPEC, 3)
        made.save(tmp_path / "t.csv")
        spec = WorkloadSpec(arrivals=Trace(path="t.csv"))
        one = replicate(spec, EVEN, base=tmp_path)
        assert (one.replications, one.warmup.requests, one.note) == (1, 0, None)
        assert one.figures["requests"] == 600
        again = replicate(spec, EVEN, base=tmp_path, replications=3)
        assert again.figures == one.figures
        assert again.note is not None
        assert again.note.startswith("nothing here is random")

    def test_too_few_requests_make_none(self) -> None:
        one = replicate(
            WorkloadSpec(requests=4, arrivals=Poisson(rate=1), prompt_tokens=ONE, output_tokens=ONE),
            EVEN,
            replications=1,
        )
        assert len(one.parts) == 1
        assert math.isnan(one.summary()["half_width"]["response_s"]["mean"])


class TestPrecision:
    def test_runs_are_added_to_until_it_is_reached(self) -> None:
        asked = Precision(0.05, ("response_s.mean", "throughput_rps"), 1000)
        found, short = (replicate(SPEC, SYSTEM, seed=1, replications=3, precision=p) for p in (asked, None))
        summary = found.summary()
        assert max(found.relative(figure) for figure in asked.of) <= 0.05 < short.relative("response_s.mean")
        assert summary["precision"]["reached"]
        assert summary["replications"] == len(found.parts) > 3
        assert not {"response_s.mean", "throughput_rps"} & {one["figure"] for one in summary["too_short"]}
        assert summary["requests"] == sum(len(part.samples["response_s"].values) for part in found.parts) > 6000
        assert summary["saturation_rps"] == short.summary()["saturation_rps"]
        assert found.first.summary() == short.first.summary()

    def test_gaps_between_tokens_are_those_of_the_first_runs_unless_asked_for(self) -> None:
        short = replicate(SPEC, SYSTEM, seed=1, replications=3)
        for figure, same in (("response_s.mean", True), ("itl_s.mean", False)):
            asked = Precision(short.relative(figure) / 2, (figure,), 100)
            long = replicate(SPEC, SYSTEM, seed=1, replications=3, precision=asked)
            assert long.figures["requests"] > 1.5 * short.figures["requests"]
            assert (long.figures["itl_s"] == short.figures["itl_s"]) is same
            assert (long.interval(("itl_s", "p95")) == short.interval(("itl_s", "p95"))) is same

    @pytest.mark.parametrize("arrivals", [SPEC.arrivals, Varying(points=((0, 0.4), (500, 0.7), (1000, 0.4)))])
    def test_with_runs_added_it_is_as_if_so_many_had_been_asked_for(self, arrivals: Any) -> None:
        spec = msgspec.structs.replace(SPEC, arrivals=arrivals)
        asked = Precision(0.05, ("response_s.mean",), 1000)
        found = replicate(spec, SYSTEM, seed=1, replications=5, precision=asked)
        assert 5 < found.replications < 1000
        same = replicate(spec, SYSTEM, seed=1, replications=found.replications, warmup=found.warmup.requests)
        short = replicate(spec, SYSTEM, seed=1, replications=5)
        assert dict(found.figures) == {**same.figures, "itl_s": short.figures["itl_s"]}
        assert found.relative("response_s.mean") == same.relative("response_s.mean") <= 0.05
        assert short.relative("response_s.mean") > 0.05

    def test_longer_runs_take_the_place_of_those_that_are_too_few_by_far(self) -> None:
        """A look at 10 x 200 requests, then eight times as many in 32 runs, then as many of these as there may be."""
        far, spec = Precision(1e-6, ("response_s.mean",), 100), msgspec.structs.replace(SPEC, requests=200)
        long = replicate(spec, EVEN, seed=1, precision=far, warmup=50)
        assert [len(part.response_s) for part in long.parts] == [500] * (32 + 4)
        assert long.figures["requests"] == 36 * (500 - 50)
        assert long.figures["saturation_rps"] == long.first.saturation_rps() < math.inf
        # Where three times as many are left they are added to the first.
        near = replicate(spec, EVEN, seed=1, precision=far._replace(max_replications=40), warmup=50)
        assert near.figures["requests"] == 40 * 150

    def test_it_is_said_where_the_cap_came_first(self) -> None:
        found = replicate(SPEC, SYSTEM, seed=1, replications=2, precision=Precision(0.001, P99, 5), warmup=0)
        said = found.summary()["precision"]
        assert (found.figures["requests"], said["reached"], said["asked"]) == (5 * 600, False, 0.001)
        assert said["relative_half_width"]["response_s.p99"] == found.relative("response_s.p99") > 0.001

    @pytest.mark.parametrize(
        ("spec", "asked", "count", "words"),
        [
            (SPEC, Precision(0.1, P99, 9), 10, "max_replications = 9 is less than the 10 to begin with"),
            (SPEC, Precision(0.1, P99, 9), 1, "precision = 0.1, but replications = 1"),
            (WorkloadSpec(arrivals=Trace(path="t.csv")), Precision(0.1, P99, 9), None, "a recorded trace is run once"),
            (SPEC, Precision(0.1, ("transfer_s.p50",), 9), 3, "these runs have no transfer_s.p50"),
        ],
    )
    def test_what_cannot_be_asked(self, spec: WorkloadSpec, asked: Precision, count: int | None, words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            replicate(spec, SYSTEM, replications=count, precision=asked)


class TestWarmup:
    def test_it_is_found_for_all_together(self) -> None:
        """Ten users of a slow server come at once."""
        full = System(policy=NoBatching(), cost=Affine(base_s=1.5), noise=ExponentialNoise())
        found = replicate(SPEC, full, replications=8)
        assert found.warmup.requests > 0
        assert found.first.warmup == found.warmup.requests
        assert [part.summary["requests"] for part in found.parts] == [600 - found.warmup.requests] * 8

    @pytest.mark.parametrize(
        ("arrivals", "steady"),
        [
            ("{ kind = 'gamma', rate = 1.0, cv = 2.0 }", True),
            ("{ kind = 'mmpp', rates = [2.0, 0.0], mean_stay_s = [1.0, 1.0] }", True),
            ("{ kind = 'batches', of = { kind = 'poisson', rate = 1.0 }, size = 4 }", True),
            ("{ kind = 'varying', points = [[0, 1.0], [60, 8.0]] }", False),
            ("{ kind = 'batches', of = { kind = 'varying', points = [[0, 1.0], [60, 8.0]] }, size = 4 }", False),
            ("{ kind = 'users', users = 5 }", True),
            ("{ kind = 'users', users = 6 }", False),
            ("{ kind = 'sessions', rate = 1.0, turns = 3 }", True),
            ("{ kind = 'trace', path = 't.csv' }", False),
        ],
    )
    def test_it_is_looked_for_where_arrivals_go_on_as_they_began(self, arrivals: str, steady: bool) -> None:
        table = {"arrivals": tomllib.loads(f"x = {arrivals}")["x"], "requests": 100}
        lengths = {"prompt_tokens": {"kind": "fixed", "value": 1}, "output_tokens": {"kind": "fixed", "value": 1}}
        system = {"policy": {"kind": "continuous", "max_seqs": 4}, "cost": {"kind": "affine", "base_s": 1.0}}
        workload = table if "trace" in arrivals else table | lengths
        made = scenario_from({"workload": workload, "system": system}, Path("s.toml"))
        assert is_stationary(made.workload) is steady

    @pytest.mark.parametrize(
        ("warmup", "words"),
        [("long", 'neither "auto" nor a number'), (-1, "at least 0"), (600, "leaves none of 600 requests")],
    )
    def test_what_cannot_be_left_out(self, warmup: Any, words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            replicate(SPEC, SYSTEM, warmup=warmup)


CLUSTER = """
[[workload.classes]]
name = "chat"
arrivals = { kind = "poisson", rate = 2.0 }
prompt_tokens = { kind = "fixed", value = 1 }
output_tokens = { kind = "geometric", mean = 4 }
ttft_slo_s = 1.5
[[workload.classes]]
name = "batch"
arrivals = { kind = "poisson", rate = 0.5 }
prompt_tokens = { kind = "fixed", value = 1 }
output_tokens = { kind = "geometric", mean = 4 }
[system]
policy = { kind = "vllm", max_num_seqs = 2 }
cost = { kind = "affine", base_s = 0.2 }
[system.admission]
max_queue = 2
[cluster]
replicas = 2
router = { kind = "random" }
"""
APART = """
[workload]
requests = 300
arrivals = { kind = "poisson", rate = 1.0 }
prompt_tokens = { kind = "fixed", value = 4 }
output_tokens = { kind = "geometric", mean = 4 }
[cluster.prefill]
replicas = 1
[cluster.prefill.system]
policy = { kind = "vllm", max_num_seqs = 2 }
cost = { kind = "affine", base_s = 0.2 }
[cluster.decode]
replicas = 1
[cluster.decode.system]
policy = { kind = "vllm", max_num_seqs = 8 }
cost = { kind = "affine", base_s = 0.2 }
[cluster.transfer]
kv_bytes_per_token = 1000
gib_per_s = 0.001
"""


class TestClusters:
    def test_rows_of_clients_and_replicas_have_intervals_too(self) -> None:
        table = tomllib.loads(CLUSTER)
        table["workload"]["requests"] = 400
        made = scenario_from(table, Path("s.toml"))
        assert made.cluster is not None
        found = replicate(made.workload, made.cluster, replications=4, warmup=20)
        whole, half = found.figures, found.summary()["half_width"]
        assert sum(row["requests"] for row in whole["by_client"]) == 4 * 380
        assert sum(whole["outcomes"].values()) == 4 * 380
        assert sum(row["requests"] for row in whole["by_replica"]) == whole["requests"] < 4 * 380
        assert [row["client"] for row in half["by_client"]] == ["batch", "chat"]
        assert half["by_client"][1]["ttft_s"]["p90"] > 0
        assert half["by_client"][1]["slo_attainment"] > 0
        assert half["by_replica"][0]["utilisation"] > 0
        answered = [row["requests"] for row in (part.summary["by_client"][1] for part in found.parts)]
        met = [part.summary["by_client"][1]["slo_attainment"] for part in found.parts]
        assert whole["by_client"][1]["slo_attainment"] == pytest.approx(np.dot(met, answered) / sum(answered))

    def test_sections_say_nothing_of_what_is_that_of_the_whole_run(self) -> None:
        table = tomllib.loads(CLUSTER.partition("[system.admission]")[0])
        table["workload"]["requests"] = 400
        table["cluster"] = {"replicas": 2, "router": {"kind": "join-shortest-queue"}}
        for more, known in (({}, True), ({"failures": {"mean_up_s": 20.0, "mean_down_s": 2.0}}, False)):
            made = scenario_from({**table, "cluster": table["cluster"] | more}, Path("s.toml"))
            assert made.cluster is not None
            half = replicate(made.workload, made.cluster, replications=1).summary()["half_width"]["utilisation"]
            assert math.isfinite(half) is known

    def test_prefill_and_decode_apart(self) -> None:
        made = scenario_from(tomllib.loads(APART), Path("s.toml"))
        assert made.cluster is not None
        found = replicate(made.workload, made.cluster, replications=3)
        assert found.summary()["half_width"]["handover_s"]["p95"] > 0
        assert len(replicate(made.workload, made.cluster, replications=1).parts) == 10
        # What goes from one process to another.
        sent = replications.without_capacity(found.first)
        assert pickle.loads(pickle.dumps(sent)).summary()["response_s"] == found.first.summary()["response_s"]
