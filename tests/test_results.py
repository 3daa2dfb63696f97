"""Results on disk: what is loaded is what was saved, and nothing is half-written."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from simqueue import (
    Affine,
    Continuous,
    Dynamic,
    EmpiricalNoise,
    LognormalNoise,
    Measured,
    NoBatching,
    NoNoise,
    Overheads,
    Result,
    Static,
    System,
    Workload,
    WorkloadSpec,
    make_workload,
    simulate,
)
from simqueue.errors import OutputError
from simqueue.plan import Step, Wait
from simqueue.profile import load_profile, save_profile
from simqueue.results import refuse_unusable
from simqueue.workload import ExponentialThink, Geometric, Lognormal, Poisson, Users

NAMES = ["requests.parquet", "steps.parquet", "summary.json"]
GRAPH = "gpt2-h200-bf16-graph"
AFFINE = Affine(base_s=0.8e-3, per_row_s=8e-6, per_new_token_s=8e-6, per_context_token_s=2e-9)
SPEC = WorkloadSpec(
    requests=600,
    arrivals=Poisson(rate=60.0),
    prompt_tokens=Lognormal(mean=60, cv=0.66, max=300),
    output_tokens=Geometric(mean=12, max=100),
)
POLICIES = [
    NoBatching(),
    Static(4, release="request"),
    Dynamic(8, max_wait_s=math.inf, min_batch=2),
    Continuous(16),
    Continuous(16, max_tokens=64),
]


def result_of(system: System, workload: Workload | None = None) -> Result:
    return simulate(workload or make_workload(SPEC, 7), system, seed=5, warmup=50)


def same(mine: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Whether two tables have the same columns, types and values."""
    return list(mine) == list(theirs) and all(
        column.dtype == theirs[name].dtype and np.array_equal(column, theirs[name], equal_nan=column.dtype.kind == "f")
        for name, column in mine.items()
    )


def assert_same(loaded: Result, result: Result) -> None:
    assert loaded.summary() == result.summary()
    assert same(loaded.requests(), result.requests())
    assert same(loaded.steps(), result.steps())
    assert same(dict(loaded.leaps), dict(result.leaps))
    assert loaded.provenance == result.provenance
    assert loaded.workload == result.workload
    assert loaded.workload.meta == result.workload.meta
    for name in ("grid", "with_batch", "warmup", "unstable"):
        assert getattr(loaded, name) == getattr(result, name)


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize(
    ("cost", "noise"),
    [
        (AFFINE, NoNoise()),
        (AFFINE, LognormalNoise(cv=0.3)),
        (Measured(name=GRAPH), NoNoise()),
        (Measured(name=GRAPH, curve=True), LognormalNoise(cv=0.3)),
        (Measured(name=GRAPH, extrapolate=True), EmpiricalNoise()),
    ],
    ids=["affine", "affine, noise", "table", "curve, noise", "empirical"],
)
def test_what_is_loaded_is_what_was_saved(tmp_path: Path, policy: Any, cost: Any, noise: Any) -> None:
    result = result_of(System(policy, cost, noise, Overheads(request_path_s=0.001, response_path_s=0.002)))
    result.save(tmp_path / "a" / "b")
    loaded = Result.load(tmp_path / "a" / "b")
    assert_same(loaded, result)
    loaded.save(tmp_path / "again")
    assert_same(Result.load(tmp_path / "again"), result)
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == NAMES


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@pytest.mark.parametrize("noise", [NoNoise(), LognormalNoise(cv=0.3)], ids=["no noise", "noise"])
def test_a_closed_loop_comes_back_with_the_arrivals_that_it_had(tmp_path: Path, policy: Any, noise: Any) -> None:
    spec = msgspec.structs.replace(SPEC, arrivals=Users(users=9, think_s=ExponentialThink(0.05)))
    overheads = Overheads(request_path_s=0.001, response_path_s=0.002)
    result = result_of(System(policy, AFFINE, noise, overheads), make_workload(spec, 7))
    result.save(tmp_path / "out")
    loaded = Result.load(tmp_path / "out")
    assert_same(loaded, result)
    assert loaded.workload.closed_loop
    assert not loaded.unstable
    assert np.array_equal(loaded.workload.arrival_s, result.grid.seconds(result.arrival))
    assert same(simulate(loaded.workload, System(policy, AFFINE, noise, overheads), seed=5).steps(), result.steps())


def test_further_columns_come_back_under_their_own_names(tmp_path: Path) -> None:
    count = 40
    workload = Workload.from_columns(
        np.arange(count) / 10,
        np.full(count, 5),
        np.full(count, 3),
        request_id=np.array([f"r{i}" for i in range(count)]),
        weight=np.linspace(0, 1, count),
        paid=np.arange(count) % 2 == 0,
        max_output_tokens=np.full(count, 9),
    )
    result = simulate(workload, System(Continuous(4), AFFINE))
    assert result.requests()["request_id"].tolist() == list(range(count))
    assert result.requests()["request_id_given"][3] == "r3"
    result.save(tmp_path / "out")
    loaded = Result.load(tmp_path / "out")
    assert_same(loaded, result)
    assert list(loaded.workload.extra) == ["request_id", "weight", "paid", "max_output_tokens"]


@dataclass(frozen=True)
class Mine:
    """All that wait."""

    size: int = 4
    iteration_level = False

    def decider(self, grid: Any) -> Mine:
        return self

    def decide(self, view: Any) -> Step | Wait:
        return Step(admit=min(view.waiting, self.size), lasts="batch") if view.waiting else Wait()


def test_neither_the_policy_nor_the_profile_is_needed_to_load(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    save_profile(load_profile(GRAPH), path)
    result = result_of(System(Mine(), Measured(path=str(path)), EmpiricalNoise()))
    result.save(tmp_path / "out")
    path.unlink()
    expected = result.summary()
    code = (
        "import json, sys, simqueue\n"
        "loaded = simqueue.Result.load(sys.argv[1])\n"
        "print(json.dumps([loaded.summary(), loaded.provenance, float(loaded.step_ends.sum())]))"
    )
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "out"], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == [expected, result.provenance, float(result.step_ends.sum())]


def test_files_say_where_they_come_from(tmp_path: Path) -> None:
    result = result_of(System(Dynamic(8, max_wait_s=math.inf, min_batch=2), AFFINE))
    result.save(tmp_path)
    for name in NAMES[:2]:
        about = json.loads(parquet.read_schema(tmp_path / name).metadata[b"simqueue"])
        assert about["provenance"] == result.provenance
    assert parquet.read_table(tmp_path / NAMES[0]).column_names == list(result.requests())
    assert parquet.read_metadata(tmp_path / NAMES[1]).num_rows == len(result.leaps["start"])


def test_the_summary_is_strict_json(tmp_path: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    one = Workload.from_columns([0.5], [3], [1])  # a single request has no rate
    result = simulate(one, System(Dynamic(max_wait_s=math.inf, min_batch=3), AFFINE))
    result.save(tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text(), parse_constant=refuse)
    assert math.isnan(result.summary()["offered_rps"])
    assert summary["offered_rps"] is None
    assert summary["provenance"]["system"]["policy"]["max_wait_s"] == "inf"
    assert {key: summary[key] for key in ("requests", "tpot_s")} == {"requests": 1, "tpot_s": None}


class TestFolder:
    @pytest.fixture
    def result(self) -> Result:
        return result_of(System(NoBatching(), AFFINE))

    def test_a_previous_result_is_replaced_and_an_empty_folder_used(self, result: Result, tmp_path: Path) -> None:
        result.save(tmp_path)
        other = result_of(System(Continuous(4), AFFINE))
        other.save(tmp_path)
        assert_same(Result.load(tmp_path), other)
        assert sorted(path.name for path in tmp_path.iterdir()) == NAMES

    @pytest.mark.parametrize(
        ("name", "content"),
        [("notes.txt", b"mine"), ("summary.json", b'{"mine": 1}'), ("summary.json", b"3"), ("steps.parquet", b"PAR1")],
    )
    def test_something_else_is_left_alone(self, result: Result, tmp_path: Path, name: str, content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OutputError, match=f"holds '{name}', which simqueue did not write"):
            result.save(tmp_path)
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, content)]

    def test_somebody_elses_parquet_is_left_alone(self, result: Result, tmp_path: Path) -> None:
        parquet.write_table(pyarrow.table({"a": [1]}), tmp_path / "requests.parquet")
        (tmp_path / "more").mkdir()
        with pytest.raises(OutputError, match="holds 'more' and 1 more"):
            result.save(tmp_path)

    def test_a_file_in_place_of_a_folder(self, result: Result, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        for folder in (tmp_path / "file", tmp_path / "file" / "out"):
            with pytest.raises(OutputError, match="file is no folder"):
                result.save(folder)

    def test_a_place_that_cannot_be_written_leaves_nothing(self, result: Result) -> None:
        with pytest.raises(OutputError, match="cannot be written"):
            result.save("/proc/simqueue/out")

    def test_a_failure_on_the_way_leaves_nothing(self, result: Result, tmp_path: Path) -> None:
        broken = replace(result, leaps={**result.leaps, "odd": np.array([object()])})
        with pytest.raises(pyarrow.ArrowInvalid):
            broken.save(tmp_path / "a" / "b")
        assert not list(tmp_path.iterdir())

    def test_a_failure_keeps_the_previous_result(self, result: Result, tmp_path: Path) -> None:
        result.save(tmp_path)
        with pytest.raises(pyarrow.ArrowInvalid):
            replace(result, leaps={**result.leaps, "odd": np.array([object()])}).save(tmp_path)
        assert_same(Result.load(tmp_path), result)
        assert sorted(path.name for path in tmp_path.iterdir()) == NAMES

    def test_what_a_killed_run_left_aside_is_in_nobodys_way(self, tmp_path: Path) -> None:
        (tmp_path / ".simqueue-1-requests.parquet").write_bytes(b"half")
        refuse_unusable(tmp_path)


class TestLoading:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        result_of(System(NoBatching(), AFFINE)).save(tmp_path / "out")
        return tmp_path / "out"

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match=r"requests\.parquet: no such file"):
            Result.load(tmp_path)

    @pytest.mark.parametrize("name", NAMES[:2])
    def test_a_truncated_file(self, folder: Path, name: str) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(OutputError, match=f"{name}: cannot be read"):
            Result.load(folder)

    def test_another_version(self, folder: Path) -> None:
        for name in NAMES[:2]:
            table = parquet.read_table(folder / name)
            about = json.loads(table.schema.metadata[b"simqueue"]) | {"schema": 99}
            parquet.write_table(table.replace_schema_metadata({"simqueue": json.dumps(about)}), folder / name)
        with pytest.raises(OutputError, match="schema 99, but this simqueue reads 3"):
            Result.load(folder)

    def test_a_file_of_somebody_else(self, folder: Path) -> None:
        parquet.write_table(pyarrow.table({"a": [1]}), folder / "steps.parquet")
        with pytest.raises(OutputError, match=r"steps\.parquet: was not written by simqueue"):
            Result.load(folder)

    def test_files_of_two_runs(self, folder: Path, tmp_path: Path) -> None:
        result_of(System(NoBatching(), Affine(base_s=0.001))).save(tmp_path / "other")
        (tmp_path / "other" / "steps.parquet").replace(folder / "steps.parquet")
        with pytest.raises(OutputError, match="of two different runs"):
            Result.load(folder)


class MyCost(msgspec.Struct):
    """A cost model of a user's own, by the affine one."""

    def coefficients(self) -> tuple[float, ...]:
        return AFFINE.coefficients()

    def on(self, grid: Any) -> Any:
        return AFFINE.on(grid)


def test_a_cost_of_ones_own_loads_but_for_single_steps(tmp_path: Path) -> None:
    result = result_of(System(Static(4), MyCost()))
    result.save(tmp_path)
    loaded = Result.load(tmp_path)
    assert loaded.summary() == result.summary()
    with pytest.raises(OutputError, match="need the cost and noise of this run"):
        loaded.steps()
