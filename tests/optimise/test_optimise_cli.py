"""`simqueue optimise` on the terminal: words, JSON, files, figure; refusals in one line; Ctrl-C keeps what there is."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from pyarrow import csv, parquet
from questions import SCENARIO

from simqueue.cli.main import main
from simqueue.config import load


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *args: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["simqueue", "optimise", *map(str, args)])
    with pytest.raises(SystemExit) as end:
        main()
    out = capsys.readouterr()
    return int(end.value.code or 0), out.out, out.err


def test_words_and_files(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    words = ("--vary", "system.cost.base_s=[0.3, 0.2, 0.25, 2]", "--slo", "response_s.p99 <= 3")
    code, out, err = run(capsys, monkeypatch, scenario, *words, "--workers", 1, "--out", folder)
    assert code == 0
    assert out.startswith("Best: base_s = 0.2\n")
    assert "Second best: base_s = 0.25" in out
    assert "the objective is the same to 1 %; response_s.p99 +" in out
    assert "told apart." in out
    assert "4 points asked for: " in out
    names = ["optimise.json", "trials.parquet", "trials.csv", "best.toml", "pareto.svg", "pareto.png"]
    assert err.splitlines() == [f"written to {folder / name}" for name in names]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)

    told = json.loads((folder / "optimise.json").read_bytes())
    assert told["answer"]["chosen"]["settings"] == {"system.cost.base_s": 0.2}
    assert told["answer"]["confirmed"]
    assert told["question"]["points"] == 4
    table = parquet.read_table(folder / "trials.parquet")
    assert table.column_names == csv.read_csv(folder / "trials.csv").column_names
    assert table["stage"].to_pylist().count("search") == 4
    assert load(folder / "best.toml").system.cost.base_s == 0.2  # type: ignore[attr-defined]
    with Image.open(folder / "pareto.png") as image:
        assert min(image.size) > 500
    drawn = (folder / "pareto.svg").read_bytes()
    assert all(text in drawn for text in (b"requests per second and replica", b"response p99 (ms)", b"Pareto front"))


def test_json_is_all_that_is_printed(
    scenario: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--vary", "system.cost.base_s=[0.3, 0.2]", "--slo", "response_s.mean <= 100ms", "--price", 2)
    code, out, err = run(capsys, monkeypatch, scenario, *words, "--workers", 1, "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert told["answer"]["chosen"] is None
    assert told["answer"]["nearest"]["settings"] == {"system.cost.base_s": 0.2}
    assert told["answer"]["nearest"]["figures"]["cost_per_million_tokens"]["value"] > 0
    assert told["verdicts"] == {"broken": 2}


def test_no_point_that_will_do_is_said(
    scenario: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--vary", "system.cost.base_s=[0.3, 0.2]", "--slo", "response_s.mean <= 100ms", "--workers", 1)
    code, out, _ = run(capsys, monkeypatch, scenario, *words, "--out", scenario.parent / "out")
    assert code == 0
    assert out.startswith("No point that was tried keeps every limit with 95 % confidence. Nearest:\nbase_s = 0.2")
    assert not (scenario.parent / "out" / "best.toml").exists()
    assert (scenario.parent / "out" / "pareto.png").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing may be chosen"),
        (("--vary", "load"), "--vary 'load' is no KEY=LOW..HIGH"),
        (("--vary", "load=0.9..0.1"), "give the lower end first"),
        (("--vary", "system.cost.base_s=1..1"), "have one value each"),
        (("--vary", "system.cost.bas_s=1..2"), "did you mean 'base_s'"),
        (("--vary", "system.policy=[{kind='none'}, {kind='static', bach='1..4'}]"), "did you mean 'batch'"),
        (("--vary", "load=0.1..0.9"), "nothing limits it but saturation"),
        (("--vary", "load=0.1..0.9", "--slo", "tftt_s.p99 <= 1"), "did you mean 'ttft_s.p99'"),
        (("--vary", "load=0.1..0.9", "--slo", "goodput_rps >= 1"), "give requests limits of their own"),
        (("--vary", "load=0.1..0.9", "--set", "workload.arrivals={kind='users', users=2}"), "users send as fast"),
        (("--vary", "system.cost.base_s=1..2", "--latency", "respnse_s.p99"), "did you mean 'response_s.p99'"),
        (("--vary", "system.cost.base_s=1..2", "--latency", "throughput_rps"), "unknown figure"),
        (("--vary", "system.cost.base_s=1..2", "--price", "0"), "--price = 0.0 must be a positive"),
        (("--vary", "system.cost.base_s=1..2", "--gpus", "0"), "--gpus = 0 must be at least 1"),
        (("--vary", "system.cost.base_s=1..2", "--trials", "0"), "--trials = 0 must be at least 1"),
        (("--vary", "system.cost.base_s=1..2", "--max-requests", "0"), "--max-requests = 0"),
        (("--vary", "system.cost.base_s=1..2", "--out", "/dev/null"), "/dev/null is no folder"),
    ],
)
def test_refusals_are_one_line(
    words: tuple[str, ...],
    said: str,
    scenario: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, out, err = run(
        capsys, monkeypatch, scenario, *words, "--workers", "1", *(["--trials", "1"] * (len(words) < 3))
    )
    assert code == 2
    assert out == ""
    [refusal] = err.strip().splitlines()
    assert refusal.startswith("simqueue: error: ")
    assert said in refusal


def test_without_optuna_it_says_what_to_install(
    scenario: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, err = run(capsys, monkeypatch, scenario, "--vary", "system.cost.base_s=1..2.0")
    assert code == 2
    assert 'pip install "simqueue[study]"' in err


def test_other_verbs_leave_the_table_alone(scenario: Path) -> None:
    scenario.write_text(SCENARIO + '[optimise]\nload = "0.1..0.9"\n')
    assert load(scenario).sweep is None


def test_ctrl_c_keeps_what_was_found(tmp_path: Path) -> None:
    path, out = tmp_path / "one.toml", tmp_path / "out"
    path.write_text(SCENARIO)
    words = [sys.executable, "-c", "from simqueue.cli.main import main; main()", "optimise", str(path)]
    words += ["--vary", "system.cost.base_s=0.1..0.3", "--workers", "1", "--trials", "900", "--out", str(out)]
    master, terminal = pty.openpty()
    with subprocess.Popen(words, stderr=terminal, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        os.close(terminal)
        seen = b""
        # The bar says how many requests were simulated so far.
        while b"requests)" not in seen or b"(0 requests)" in seen[-200:]:
            chunk = _read(master)
            assert chunk, seen.decode()
            seen += chunk
        os.killpg(process.pid, signal.SIGINT)
        while chunk := _read(master):
            seen += chunk
        assert process.wait(30) == 130
    os.close(master)
    last = seen.decode().strip().splitlines()[-1]
    assert last.startswith("simqueue: interrupted: ")
    assert last.endswith("of 900 points tried, none was run again with fresh seeds")
    assert not json.loads((out / "optimise.json").read_bytes())["answer"]["confirmed"]
    assert load(out / "best.toml")


def _read(master: int) -> bytes:
    """What comes from a terminal; nothing when its last user has gone."""
    try:
        return os.read(master, 1000)
    except OSError:
        return b""
