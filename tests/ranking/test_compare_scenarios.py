"""`simqueue compare` of scenarios: the answer in words, as a table, as JSON and as a figure; refusals in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from simqueue.cli.main import app

SCENARIO = """
[workload]
requests = 300
arrivals = { kind = "poisson", rate = 0.5 }
prompt_tokens = { kind = "fixed", value = 1 }
output_tokens = { kind = "fixed", value = 2 }
[system]
policy = { kind = "continuous", max_seqs = 1 }
cost = { kind = "affine", base_s = SECONDS }
noise = { kind = "exponential" }
[run]
seed = 1
warmup = 20
replications = 4
max_replications = 4
"""
SWEEP = """
[sweep]
"system.cost" = [
    { kind = "affine", base_s = 0.7 },
    { kind = "affine", base_s = 0.3 },
    { kind = "affine", base_s = 2.0 },
]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a slow and a fast scenario, and a sweep over both and one that is unstable."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for name, seconds in (("slow", "0.7"), ("fast", "0.3")):
        (tmp_path / f"{name}.toml").write_text(SCENARIO.replace("SECONDS", seconds))
    (tmp_path / "sweep.toml").write_text(SCENARIO.replace("SECONDS", "1.0") + SWEEP)
    return tmp_path


def compared(*words: str) -> Result:
    return CliRunner().invoke(app, ["compare", *words])


def test_two_in_words_and_figure_by_figure(folder: Path) -> None:
    done = compared("slow.toml", "fast.toml", "--by", "response_s.mean")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("fast's mean of response time is ")
    said = " ".join(line.strip() for line in lines[:3])
    assert "%) lower than slow's, between " in said
    assert "Without common random numbers it would take " in done.stdout
    [row] = [line.split() for line in lines if line.split()[:2] == ["response", "mean"]]
    assert row[-1] == "*"
    assert done.stderr == ""


def test_json_and_files_say_the_same(folder: Path) -> None:
    done = compared("slow.toml", "fast.toml", "--json", "--out", "out")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert json.loads((folder / "out/comparison.json").read_bytes()) == told
    assert {path.name for path in (folder / "out").iterdir()} == {
        f"comparison.{kind}" for kind in ("json", "svg", "png")
    }
    assert told["scenarios"] == ["slow.toml", "fast.toml"]
    assert told["by"] == "response_s.p99"
    assert told["best"] == "fast"
    assert [row["name"] for row in told["competitors"]] == ["slow", "fast"]
    [mean] = [row for row in told["differences"] if row["figure"] == "response_s.mean"]
    assert (mean["of"], mean["from"]) == ("fast", "slow")
    assert mean["difference"] == pytest.approx(mean["values"][0] - mean["values"][1])
    assert mean["relative_interval"][0] < mean["relative"] < mean["relative_interval"][1] < 0
    assert mean["variance_ratio"] > 1
    assert told["level_of_each_interval"] == 0.95
    with Image.open(folder / "out/comparison.png") as image:
        assert min(image.size) > 1000
    drawn = (folder / "out/comparison.svg").read_text()
    assert all(word in drawn for word in ("worse than the best by", "best, as it looks", "fast - slow, %", "TTFT p99"))


def test_the_cells_of_a_sweep(folder: Path) -> None:
    done = compared("sweep.toml", "--by", "response_s.mean", "--set", "workload.requests=900")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("cost=affine(base_s=0.3) is best with 95 % confidence.\n")
    assert "cost=affine(base_s=0.7) is" in done.stdout
    assert "UNSTABLE: cost=affine(base_s=2): the queue grows." in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_who_is_the_same_is_said_to_be(folder: Path) -> None:
    (folder / "other").mkdir()
    (folder / "other/fast.toml").write_text((folder / "fast.toml").read_text())
    done = compared("fast.toml", "other/fast.toml")
    assert done.exit_code == 0, done.stderr
    assert " ".join(done.stdout.split()).startswith(
        "other/fast's p99 of response time is the same as fast's in every replication."
    )


def test_what_cannot_be_told_apart_is_said_not_to_be(folder: Path) -> None:
    other = SCENARIO.replace("SECONDS", "0.3").replace('"poisson", rate', '"gamma", cv = 1.02, rate')
    (folder / "other.toml").write_text(other.replace("seed = 1", "seed = 2"))
    done = compared("fast.toml", "other.toml")
    assert done.exit_code == 0, done.stderr
    assert "Not told apart after 4 replications: other's p99 of response time is between" in " ".join(
        done.stdout.split()
    )
    said = done.stderr.splitlines()
    assert said[0].startswith("warning: other: seed = 2 is not used: all are run as fast")
    assert said[1].startswith(
        "warning: other has other workload.arrivals than fast: they do not meet the same customers"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("slow.toml",), "slow.toml: is one scenario: give a second one"),
        (("slow.toml", "slow.toml"), "slow.toml: is given twice"),
        (("slow.toml", "nowhere.toml"), "nowhere.toml: cannot be read"),
        (("slow.toml", "fast.toml", "results.json"), "results.json: is no scenario by its name"),
        (("results.json", "slow.toml"), "results.json: is no scenario by its name"),
        (("slow.toml", "fast.toml", "--by", "ttft_s.p98"), "--by ttft_s.p98: there is no such figure"),
        (("slow.toml", "fast.toml", "--by", "goodput_rps"), "the runs of slow have no such figure"),
        (("slow.toml", "fast.toml", "--indifference", "0"), "--indifference 0 is no share"),
        (("slow.toml", "fast.toml", "--run", "1"), "--run 1: is of results"),
        (("slow.toml", "results.json", "--by", "ttft_s.p99"), "--by ttft_s.p99: is of several scenarios"),
        (("slow.toml", "fast.toml", "--set", "system.policy.seats=2"), "slow.toml: system.policy: unknown key 'seats'"),
        (("slow.toml", "fast.toml", "--out", "/dev/null"), "/dev/null is no folder"),
        (("sweep.toml", "--set", "sweep.load=[0.5]"), "sweep: load gives each system a rate of its own"),
        (("slow.toml", "fast.toml", "--set", "workload.requests=0"), "requests = 0"),
    ],
)
def test_refusals_are_one_line(folder: Path, words: tuple[str, ...], said: str) -> None:
    done = compared(*words)
    assert done.exit_code == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("simqueue: error: ")
    assert said in line


def test_ctrl_c_ends_it_in_one_line(folder: Path) -> None:
    more = ("--set", "workload.requests=3000", "--set", "run.max_replications=4000", "--indifference", "1e-9")
    (folder / "close.toml").write_text(SCENARIO.replace("SECONDS", "0.30001").replace("seed = 1", "seed = 2"))
    words = [sys.executable, "-c", "from simqueue.cli.main import main; main()", "compare", "fast.toml", "close.toml"]
    with subprocess.Popen([*words, *more], stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stderr.read().splitlines()
        assert process.wait(60) == 130
    assert first.startswith("warning: close: seed = 2")
    assert rest == ["simqueue: interrupted"]
