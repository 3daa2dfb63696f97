"""`simqueue capacity` on the terminal: the answer in words, as JSON and as a figure; refusals in one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from simqueue.capacity import question, trial
from simqueue.cli.main import main

SCENARIO = """
[workload]
requests = 1000
arrivals = { kind = "poisson", rate = 2.5 }
prompt_tokens = { kind = "fixed", value = 1 }
output_tokens = { kind = "fixed", value = 1 }
[system]
policy = { kind = "none" }
cost = { kind = "affine", base_s = 1.0 }
[run]
seed = 1
"""


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(trial, "_FIRST_REQUESTS", 100)
    monkeypatch.setattr(trial, "_SATURATING", 1000)
    monkeypatch.setattr(question, "cpus", lambda: 1)
    path = tmp_path / "one.toml"
    path.write_text(SCENARIO)
    return path


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *args: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["simqueue", "capacity", *map(str, args)])
    with pytest.raises(SystemExit) as end:
        main()
    out = capsys.readouterr()
    return int(end.value.code or 0), out.out, out.err


def test_the_highest_rate(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    slo = ("--slo", "response_s.mean <= 2", "--slo", "utilisation <= 0.99")
    code, out, err = run(capsys, monkeypatch, scenario, *slo, "--precision", "0.3", "--out", folder)
    assert code == 0
    assert out.startswith("At most 0.")
    assert "The limit that binds is response_s.mean <= 2, reached at 0." in out
    assert "requests so far)" in err
    told = json.loads((folder / "capacity.json").read_bytes())
    assert told["question"]["slo"] == ["response_s.mean <= 2", "utilisation <= 0.99"]
    assert told["answer"]["rate_rps"] == pytest.approx(2 / 3, rel=0.3)
    assert told["answer"]["binds"] == "response_s.mean <= 2"
    assert told["answer"]["precise"]
    assert err.count("so far)") == len(told["trials"])
    with Image.open(folder / "capacity.png") as image:
        assert min(image.size) > 500
    drawn = (folder / "capacity.svg").read_bytes()
    assert all(text in drawn for text in (b"saturation: 1/s", b"response time mean (s)", b">utilisation<"))


def test_json_is_all_that_is_printed(
    scenario: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = run(
        *(capsys, monkeypatch, scenario, "--slo", "service_s.mean <= 0.5", "--json", "--max-requests", 9000)
    )
    told = json.loads(out)
    assert code == 0
    assert told["answer"]["rate_rps"] is None
    assert {row["verdict"] for row in told["trials"]} == {"broken"}


def test_the_fewest_replicas_of_a_scenario_without_a_cluster(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--slo", "response_s.mean <= 1.5", "--vary", "cluster.replicas", "--precision", "0.2", "--out", tmp_path)
    # Round robin makes Erlang gaps of shape 4 or so: little waiting at load 0.6.
    assert run(capsys, monkeypatch, scenario, *words)[1].startswith("At least 4 replicas keep every limit")
    told = json.loads((tmp_path / "capacity.json").read_bytes())
    assert told["answer"]["holds"] == [[4, 10000]]


def test_a_range_of_a_setting(
    scenario: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--slo", "utilisation <= 0.5", "--vary", "system.cost.base_s=0.1..0.39", "--precision", "0.2")
    assert "Every limit holds for system.cost.base_s = 0.1 to 0.1" in run(capsys, monkeypatch, scenario, *words)[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--slo is missing"),
        (("--slo", "tftt_s.p99 <= 1"), "did you mean 'ttft_s.p99'"),
        (("--slo", "ttft_s.p99 <= 1", "--vary", "speed"), "--vary 'speed' is neither"),
        (("--slo", "ttft_s.p99 <= 1", "--vary", "system.cost.base_s=2..1"), "give the lower end first"),
        (("--slo", "ttft_s.p99 <= 1", "--vary", "system.cost.base_s=a..1"), "'a' is no number"),
        (("--slo", "ttft_s.p99 <= 1", "--vary", "system.cost.bas_s=1..2"), "did you mean 'base_s'"),
        (("--slo", "ttft_s.p99 <= 1", "--precision", "2"), "--precision 2 is no share"),
        (("--slo", "ttft_s.p99 <= 1", "--max-requests", "0"), "--max-requests = 0"),
        (("--slo", "goodput_rps >= 1"), "give the workload ttft_slo_s"),
        (("--slo", "ttft_s.p99 <= 1", "--set", "workload.arrivals={kind='users', users=2}"), "users send as fast"),
        (("--slo", "ttft_s.p99 <= 1", "--out", "/dev/null"), "/dev/null is no folder"),
    ],
)
def test_refusals_are_one_line(
    words: tuple[str, ...],
    said: str,
    scenario: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, out, err = run(capsys, monkeypatch, scenario, *words)
    assert code == 2
    assert out == ""
    *progress, refusal = err.strip().splitlines()
    assert not [line for line in progress if "so far)" not in line]
    assert refusal.startswith("simqueue: error: ")
    assert said in refusal


def test_ctrl_c_ends_it_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text(SCENARIO)
    words = [sys.executable, "-c", "from simqueue.cli.main import main; main()", "capacity", str(path)]
    words += ["--slo", "response_s.p99 <= 30", "--precision", "0.001"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        os.killpg(process.pid, signal.SIGINT)
        rest = process.stderr.read().splitlines()
        assert process.wait(20) == 130
    assert "so far)" in first
    assert rest[-1] == "simqueue: interrupted"
    assert not [line for line in rest[:-1] if "so far)" not in line]
