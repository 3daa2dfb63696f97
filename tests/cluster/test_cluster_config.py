"""The ``[cluster]`` table, and what `simqueue simulate` says of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from simqueue import Affine, Continuous, System, Workload
from simqueue.cli.main import app
from simqueue.cluster.choices import PowerOfChoices
from simqueue.cluster.cluster import Cluster
from simqueue.cluster.failures import Failures, Outage
from simqueue.cluster.round_robin import RoundRobin
from simqueue.cluster.shortest_queue import ShortestQueue
from simqueue.cluster.simulate import simulate_cluster
from simqueue.config import load
from simqueue.errors import ConfigError
from simqueue.workload import make_workload

WORKLOAD = """
[workload]
requests = 400
arrivals = { kind = "poisson", rate = 5.0 }
prompt_tokens = { kind = "fixed", value = 3 }
output_tokens = { kind = "geometric", mean = 4 }
"""
SYSTEM = """
[system]
policy = { kind = "continuous", max_seqs = 4 }
cost = { kind = "affine", base_s = 0.1 }
"""
EQUAL = WORKLOAD + SYSTEM + '[cluster]\nreplicas = 3\nrouter = { kind = "join-shortest-queue" }\n'
ONE = """
[[cluster.system]]
policy = { kind = "none" }
cost = { kind = "affine", base_s = 0.05 }
"""
UNEQUAL = (
    WORKLOAD
    + '[cluster]\nrouter = { kind = "power-of-choices", choices = 3 }\n'
    + ONE
    + SYSTEM.replace("[system]", "[[cluster.system]]")
)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.toml"
    path.write_text(EQUAL)
    return path


def test_equal_and_unequal_replicas(written: Path) -> None:
    scenario = load(written)
    assert scenario.cluster == Cluster.of(3, scenario.system, ShortestQueue())
    written.write_text(UNEQUAL)
    scenario = load(written)
    assert scenario.cluster is not None
    assert [type(system.policy).__name__ for system in scenario.cluster.systems] == ["NoBatching", "Continuous"]
    assert scenario.cluster.router == PowerOfChoices(3)
    assert scenario.system is scenario.cluster.systems[0]
    written.write_text(WORKLOAD + SYSTEM)
    assert load(written).cluster is None


def test_failures_and_the_router_that_is_not_named(written: Path) -> None:
    outages = "[{ replica = 1, at_s = 2, for_s = 0.5 }]"
    scenario = load(written, ["cluster={replicas=2}", f"cluster.failures={{then='lost', outages={outages}}}"])
    assert scenario.cluster is not None
    assert scenario.cluster.router == RoundRobin()
    assert scenario.cluster.failures == Failures("lost", (Outage(1, 2, 0.5),))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (EQUAL.replace("replicas = 3", ""), "cluster: give replicas = 4, say, or one table [[cluster.system]]"),
        (EQUAL.replace("replicas = 3", "replicas = 0"), "replicas = 0 must be at least 1"),
        (EQUAL.replace("join-shortest-queue", "jsq"), "cluster.router: unknown kind 'jsq'"),
        (EQUAL.replace('queue" }', 'queue", age = 1 }'), "cluster.router: unknown key 'age'"),
        (EQUAL + "size = 3\n", "cluster: unknown key 'size'"),
        (EQUAL + ONE, "so that cluster.replicas says it twice"),
        (UNEQUAL + SYSTEM, "so that [system] says it twice"),
        (UNEQUAL.replace("base_s = 0.05", "base = 1"), "cluster.system[0].cost: unknown key 'base'"),
        (EQUAL + "failures = {}\n", "cluster.failures: give outages = [...], or both mean_up_s and mean_down_s"),
        (EQUAL + "autoscaling = { target = 1 }\n", "cluster.autoscaling: the key 'every_s' is missing"),
        (EQUAL + "autoscaling = 3\n", "cluster.autoscaling = 3 is not a table"),
    ],
)
def test_refusals(written: Path, text: str, says: str) -> None:
    written.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(says)):
        load(written)


def test_a_run_beyond_64_bit_time_is_refused() -> None:
    workload = Workload.from_columns([0.0, 1.0], [3, 2], [2, 2])
    cluster = Cluster.of(2, System(Continuous(2), Affine(base_s=1e7)), ShortestQueue())
    with pytest.raises(ConfigError, match=r"the run lasts longer than the .* s that 64-bit time holds"):
        simulate_cluster(workload, cluster)


def test_what_knows_no_clusters_says_so(written: Path) -> None:
    written.write_text(EQUAL + '[sweep]\n"system.policy.max_seqs" = [1, 2]\n')
    result = CliRunner().invoke(app, ["sweep", str(written), "--out", str(written.parent / "out")])
    assert result.exit_code == 2
    assert "leave it out of a sweep" in result.output
    result = CliRunner().invoke(app, ["live", str(written)])
    assert "[cluster] is simulated only" in f"{result.output}{result.exception}"


def test_the_verb_prints_and_writes_what_python_finds(written: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    one_run = ("--set", "run.replications=1", "--set", "run.warmup=0")
    printed = CliRunner().invoke(app, ["simulate", str(written), "--json", "--out", str(folder), *one_run])
    assert printed.exit_code == 0, printed.output
    scenario = load(written)
    assert scenario.cluster is not None
    result = simulate_cluster(make_workload(scenario.workload, 0), scenario.cluster)
    summary = json.loads(json.dumps(result.summary()))
    # The verb says of each figure too how sure it is.
    assert summary.items() <= json.loads(printed.stdout).items()
    assert sum(row["requests"] for row in summary["by_replica"]) == summary["requests"] == 400
    requests = parquet.read_table(folder / "requests.parquet")
    assert requests["replica"].to_pylist() == result.replica.tolist()
    assert np.array_equal(requests["finished_ticks"], result.finished)
    steps = parquet.read_table(folder / "steps.parquet")
    assert set(steps["replica"].to_pylist()) == {0, 1, 2}
    table = CliRunner().invoke(app, ["simulate", str(written)]).stdout
    assert "replica-seconds" in table
    assert len(re.findall(r"^ +[012] +\d+ +[\d.]+ %", table, re.MULTILINE)) == 3
