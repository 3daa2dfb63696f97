"""Cells: the figures of `simulate`, the same customers for all, the same numbers whatever the workers."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet
from scenes import POLICIES, scenario

from simqueue.analysis.replications import replicate
from simqueue.errors import OutputError, WorkloadError
from simqueue.pool import pool
from simqueue.sim import saturation_rps, simulate
from simqueue.sweep import Failure, Plan, plan, run
from simqueue.sweep.folder import refuse_unusable, written_aside
from simqueue.sweep.table import table, write
from simqueue.workload import make_workload

PATH = Path("scene.toml")


def rows_of(made: Plan, workers: int = 1) -> list[dict[str, Any]]:
    with pool(workers) as executor:
        found = dict(run(made, executor))
    assert not [outcome for outcome in found.values() if isinstance(outcome, Failure)]
    return [found[number] for number in range(len(made.cells))]  # type: ignore[misc]


@pytest.fixture(scope="module")
def swept() -> tuple[Plan, list[dict[str, Any]]]:
    made = plan(scenario(POLICIES + "load = [0.3, 0.8, 4.0]"), PATH)
    return made, rows_of(made)


def test_a_cell_is_what_simulate_says(swept: tuple[Plan, list[dict[str, Any]]]) -> None:
    made, rows = swept
    for cell, row in zip(made.cells, rows, strict=True):
        base = make_workload(cell.scenario.workload, 3)
        saturation = saturation_rps(base, cell.scenario.system)
        workload = base.at_rate(cell.load * saturation)
        summary = simulate(workload, cell.scenario.system, seed=3, warmup=50).summary()
        assert (row["saturation_rps"], row["rate"]) == (saturation, cell.load * saturation)
        for metric in ("queueing_s", "service_s", "response_s", "ttft_s", "tpot_s", "itl_s"):
            for name in ("mean", "p50", "p90", "p95", "p99", "max"):
                assert row[f"{metric}_{name}"] == (summary[metric][name] if summary[metric] else None)
        for name in ("unstable", "throughput_rps", "utilisation", "requests"):
            assert row[name] == summary[name]
        assert row["batch_size_mean_per_step"] == summary["batch_size"]["mean_per_step"]


def test_cells_have_the_intervals_of_replications() -> None:
    made = plan(scenario(POLICIES + "load = [0.5]\n'run.replications' = [4]\n'workload.requests' = [300]"), PATH)
    rows = rows_of(made)
    for cell, row in zip(made.cells, rows, strict=True):
        found = replicate(
            cell.scenario.workload, cell.scenario.system, seed=3, replications=4, warmup=50, rate=row["rate"]
        ).summary()
        assert (row["requests"], row["replications"]) == (4 * 250, 4)
        for figure in ("response_s", "ttft_s"):
            for name in ("mean", "p50", "p99"):
                assert row[f"{figure}_{name}"] == found[figure][name]
                half_width = row[f"{figure}_{name}_half_width"]
                assert half_width == found["half_width"][figure][name] > 0
        assert row["throughput_rps_half_width"] == found["half_width"]["throughput_rps"]
        assert row["too_short"].split() == [one["figure"] for one in found["too_short"]]
        assert row["too_short"]
    assert rows_of(made, workers=2) == rows


def test_load_of_1_or_more_is_unstable(swept: tuple[Plan, list[dict[str, Any]]]) -> None:
    assert [row["unstable"] for row in swept[1]] == [row["load"] >= 1 for row in swept[1]]


def test_what_an_overloaded_system_gets_through_is_its_saturation() -> None:
    made = plan(scenario(POLICIES + 'load = [4.0]\n"workload.requests" = [5000]'), PATH)
    for row in rows_of(made):
        # Filling and draining count here.
        assert row["throughput_rps"] == pytest.approx(row["saturation_rps"], rel=0.02)


def test_static_batching_has_no_tpot_where_answers_leave_with_the_batch(
    swept: tuple[Plan, list[dict[str, Any]]],
) -> None:
    for row in swept[1]:
        assert (row["tpot_s_mean"] is None) == row["series"].startswith("static")


def test_the_same_numbers_whatever_the_workers(swept: tuple[Plan, list[dict[str, Any]]]) -> None:
    made, rows = swept
    assert rows_of(made, workers=2) == rows


def test_without_load_the_rate_is_the_scenarios(tmp_path: Path) -> None:
    made = plan(scenario('"workload.arrivals.rate" = [10.0, 40.0]'), PATH)
    for rate, row in zip((10.0, 40.0), rows_of(made), strict=True):
        assert row["rate"] == row["workload.arrivals.rate"] == rate
        assert row["load"] == rate / row["saturation_rps"]


def test_users_are_a_column_and_never_unstable() -> None:
    tables = scenario(POLICIES + '"workload.arrivals.users" = [1, 50]')
    tables["workload"]["arrivals"] = {"kind": "users"}
    rows = rows_of(plan(tables, PATH))
    assert [row["workload.arrivals.users"] for row in rows] == [row["users"] for row in rows] == [1, 50] * 3
    assert not any(row["unstable"] for row in rows)
    for row in rows:
        assert row["load"] == row["rate"] / row["saturation_rps"]
        # 50 users who do not think keep every server as busy as it can be.
        if row["users"] == 50:
            assert row["load"] == pytest.approx(1, rel=0.05)


def test_a_trace_keeps_its_load_where_rows_are_dropped(tmp_path: Path) -> None:
    lines = [f"{second},{9 if second % 3 else 900},5" for second in range(60)]
    (tmp_path / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n" + "\n".join(lines) + "\n")
    tables = scenario("load = [0.5]")
    tables["workload"] = {"arrivals": {"kind": "trace", "path": "t.csv", "overlong": "drop"}}
    tables["system"]["max_context_tokens"] = 100
    tables["run"]["warmup"] = 0
    row = rows_of(plan(tables, tmp_path / "scene.toml"))[0]
    assert row["dropped"] == 20
    assert row["rate"] == pytest.approx(0.5 * row["saturation_rps"], rel=1e-12)


def test_a_missing_trace_is_refused_before_anything_runs(tmp_path: Path) -> None:
    tables = scenario("load = [0.5]")
    tables["workload"] = {"arrivals": {"kind": "trace", "path": "none.csv"}}
    with pytest.raises(WorkloadError, match=r"^.*scene\.toml: .*none\.csv.*\(in the sweep's cell"):
        next(run(plan(tables, tmp_path / "scene.toml")))


def test_the_files_hold_the_table_and_where_it_comes_from(
    tmp_path: Path, swept: tuple[Plan, list[dict[str, Any]]]
) -> None:
    made, rows = swept
    files = write(table(made, rows), tmp_path)
    assert [file.name for file in files] == ["sweep.parquet", "sweep.csv"]
    stored = parquet.read_table(files[0])
    assert stored.to_pylist() == [{**dict.fromkeys(stored.column_names), **row} for row in rows]
    about = json.loads(stored.schema.metadata[b"simqueue.sweep"])
    assert about["scenario"]["sweep"]["load"] == [0.3, 0.8, 4.0]
    with files[1].open() as file:
        for text, row in zip(csv.DictReader(file), rows, strict=True):
            assert float(text["response_s_p99"]) == row["response_s_p99"]
            assert text["label"] == row["label"]


def test_infinite_waits_are_told_in_the_files(tmp_path: Path) -> None:
    made = plan(scenario('"system.policy" = [{kind="dynamic", max_wait_s=inf, min_batch=2}]'), PATH)
    stored = table(made, rows_of(made))
    about = json.loads(stored.schema.metadata[b"simqueue.sweep"])
    assert about["scenario"]["sweep"]["system.policy"][0]["max_wait_s"] == "inf"


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sweep.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"holds 'sweep\.csv', which no sweep wrote"):
        refuse_unusable(tmp_path)
    with pytest.raises(OutputError, match="is no folder"):
        refuse_unusable(tmp_path / "sweep.csv" / "below")


def test_a_folder_of_cells_is_a_sweeps_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "cells" / "0a").mkdir(parents=True)
    (tmp_path / "batch_size.svg").write_text("drawn")
    refuse_unusable(tmp_path)
    (tmp_path / "cells" / "notes").mkdir()
    with pytest.raises(OutputError, match=r"holds 'batch_size\.svg' and 1 more, which no sweep wrote"):
        refuse_unusable(tmp_path)


def test_a_former_sweep_is_replaced_and_a_failed_one_leaves_it(
    tmp_path: Path, swept: tuple[Plan, list[dict[str, Any]]]
) -> None:
    made, rows = swept
    folder = tmp_path / "a" / "b"
    with written_aside(folder) as aside:
        write(table(made, rows), aside)
        (aside / "batch_size.svg").write_text("drawn")
    with pytest.raises(OutputError, match="cannot be written"), written_aside(folder) as aside:
        write(table(made, rows[:1]), aside / "nowhere")
    assert parquet.read_table(folder / "sweep.parquet").num_rows == len(rows)
    with written_aside(folder) as aside:
        write(table(made, rows[:1]), aside)
    assert sorted(path.name for path in folder.iterdir()) == ["sweep.csv", "sweep.parquet"]
    assert parquet.read_table(folder / "sweep.parquet").num_rows == 1


def test_nothing_is_left_where_nothing_was_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError), written_aside(tmp_path / "a" / "b") as aside:
        (aside / "nowhere" / "file").touch()
    assert not list(tmp_path.iterdir())


def test_cells_that_have_other_things_to_tell_share_a_table() -> None:
    """Only one of them can preempt, and it does so at one load only."""
    systems = """
"system.policy" = [
    { kind = "continuous", max_seqs = 16 },
    { kind = "vllm", max_num_seqs = 16, max_num_batched_tokens = 512 },
]
"system.memory" = [{ num_blocks = 60 }]
load = [0.01, 0.95]
"""
    made = plan(scenario(systems.replace('    { kind = "continuous", max_seqs = 16 },\n', "")), PATH)
    made_too = plan(scenario(systems.replace('"system.memory" = [{ num_blocks = 60 }]\n', "")), PATH)
    short = table(made, rows_of(made)).to_pydict()
    assert [count > 0 for count in short["preemptions"]] == [False, True]
    assert [mean is not None for mean in short["resume_to_next_token_s_mean"]] == [False, True]
    both = table(made_too, rows_of(made_too)).to_pydict()
    assert both["preemptions"] == [None, None, 0, 0]
