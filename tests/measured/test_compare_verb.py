"""`simqueue compare`: what it prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result
from written import SCENARIO, Answer, vllm_bench

from simqueue.cli.main import app


@pytest.fixture
def folder(run: list[Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a scenario and results of the very run that it begins with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "s.toml").write_text(SCENARIO)
    (tmp_path / "r.json").write_text(json.dumps(vllm_bench(run, 25.0, detailed=False)))
    return tmp_path


def compared(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["compare", "s.toml", "r.json", *arguments])


def test_a_table_that_fits_80_columns(folder: Path) -> None:
    done = compared("--set", "run.replications=3")
    assert done.exit_code == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    rows = [line.split() for line in done.stdout.splitlines()]
    [first] = [row for row in rows if row[:2] == ["TTFT", "mean"]]
    assert "to" in first
    assert "  TPOT             (last token - first token) / (output tokens - 1), by request\n" in done.stdout
    assert done.stderr == ""


def test_a_json_object_and_a_file(folder: Path) -> None:
    done = compared("--json", "--out", "out")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert json.loads((folder / "out/comparison.json").read_text()) == found
    assert [path.name for path in (folder / "out").iterdir()] == ["comparison.json"]
    assert found["tool"] == "vllm bench serve"
    assert (found["completed"], found["failed"], found["replications"]) == (150, 0, 1)
    assert all(abs(figure["error"]) < 1e-9 for figure in found["figures"])
    assert {figure["range"] for figure in found["figures"]} == {None}
    assert found["definitions"]["ttft"] == "first token - sent"


def test_another_load_is_warned_of(folder: Path) -> None:
    done = compared("--set", "workload.requests=140", "--set", "workload.arrivals.rate=30")
    assert done.exit_code == 0
    said = done.stderr.splitlines()
    assert said[0] == "warning: another load than what was measured: requests: 140 in the scenario, 150 measured"
    assert said[1] == "warning: another load than what was measured: requests/s: 30 in the scenario, 25 measured"
    assert "simulated        140 requests at 30 requests/s" in done.stdout
    assert "measured         150 requests at 25 requests/s" in done.stdout


def test_answers_as_a_whole_have_no_gaps(folder: Path) -> None:
    whole = ("--set", 'system.policy={kind="static", batch=4, release="batch"}')
    done = compared("--json", *whole)
    assert done.exit_code == 0, done.stderr
    itl = [figure for figure in json.loads(done.stdout)["figures"] if figure["metric"] == "itl"]
    assert itl
    assert all(figure["predicted"] is None and figure["error"] is None for figure in itl)
    assert compared(*whole).exit_code == 0


def test_clusters_and_users_are_compared_too(folder: Path) -> None:
    cluster = ("--set", "cluster={replicas=2, router={kind='round-robin'}}")
    users = ("--set", "workload.arrivals={kind='users', users=8, think_s=0.01}")
    for more in (cluster, users):
        done = compared("--json", *more)
        assert done.exit_code == 0, done.stderr
        assert all(figure["predicted"] > 0 for figure in json.loads(done.stdout)["figures"])


def test_refusals_are_one_line(folder: Path) -> None:
    (folder / "r.json").write_text("{")
    done = compared()
    assert done.exit_code == 2
    assert done.stderr.startswith("simqueue: error: r.json: is no whole JSON")
    assert len(done.stderr.splitlines()) == 1
    assert CliRunner().invoke(app, ["compare", "absent.toml", "r.json"]).exit_code == 2
