"""docs/compare.md shows what its command prints, of results that are what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner
from written import answers, vllm_bench

from simqueue import make_workload, simulate
from simqueue.cli.main import app
from simqueue.config import load

ROOT = Path(__file__).parents[2]
SCENARIO, RESULTS = "experiments/compare/scenario.toml", "experiments/compare/vllm_bench.json"
BEHIND = "system.overheads={request_path_s=0.0008, response_path_s=0.0004}"


def test_the_page_shows_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "80")
    done = CliRunner().invoke(app, ["compare", SCENARIO, RESULTS])
    assert done.exit_code == 0, done.stderr
    page = Path("docs/compare.md").read_text()
    shown = page.partition(f"simqueue compare {SCENARIO} {RESULTS}\n\n```\n")[2].partition("```\n")[0]
    assert [line.rstrip() for line in done.stdout.splitlines()] == [line.rstrip() for line in shown.splitlines()]


def test_the_results_are_simulated_behind_a_network() -> None:
    scenario = load(ROOT / SCENARIO, [BEHIND])
    run = answers(simulate(make_workload(scenario.workload, 11), scenario.system, seed=11))
    written = vllm_bench(run, 300.0, detailed=False)
    committed = json.loads((ROOT / RESULTS).read_text())
    assert committed.pop("synthetic")
    for key, value in committed.items():
        assert value == (pytest.approx(written[key], rel=1e-5) if isinstance(value, float) else written[key]), key
