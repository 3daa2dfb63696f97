"""`simqueue trace` as a user runs it: figures, a picture, a line to paste, refusals."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from simqueue.cli.main import app
from simqueue.cli.trace import _scenario_line
from simqueue.config import load
from simqueue.workload import Gamma, Workload
from simqueue.workload.fit import Candidate, RateCurve
from simqueue.workload.streams import streams

SIMQUEUE = shutil.which("simqueue", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
SYSTEM = """
[system]
policy = { kind = "continuous", max_seqs = 8 }
cost = { kind = "affine", base_s = 5e-4 }
"""


def command(*words: object) -> subprocess.CompletedProcess[str]:
    assert SIMQUEUE is not None
    return subprocess.run([SIMQUEUE, *map(str, words)], capture_output=True, text=True, check=False, timeout=60)


def invoke(*words: str) -> Any:
    """In this process, which is quicker; whatever is not refused in order fails the test."""
    return CliRunner().invoke(app, words, catch_exceptions=False, prog_name="simqueue")


@pytest.fixture
def azure(tmp_path: Path) -> Path:
    """A request every 2 s for two minutes, then silence for 40 s, then one more."""
    rows = [f"2024-05-10 00:{2 * i // 60:02d}:{2 * i % 60:02d}.0000000,{100 + i},{1 + i % 4}" for i in range(61)]
    path = tmp_path / "azure.csv.gz"
    text = "\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows, "2024-05-10 00:02:40,900,200"])
    path.write_bytes(gzip.compress(text.encode()))
    return path


def test_stats_of_a_trace_that_was_counted_by_hand(azure: Path, tmp_path: Path) -> None:
    done = command("trace", "stats", azure, "--context", 150, "--out", tmp_path / "new" / "out")
    assert (done.returncode, done.stderr) == (0, "")
    for line in (
        "requests     62 in 160 s, 0.3812 requests/s in the mean",
        "gap CV       1.84 (coefficient",
        "in 60 s      p10 0, p50 0, p90 0 (the same inside each of 2 windows with 20 gaps or more)",
        "dispersion   0.6188 at 1 s, 1.122 at 10 s, 0 at 60 s (variance",
        "gaps > 5 s   1, 40 s in all; gap CV without them 0\n",
        "gaps > 30 s  1, 40 s in all",
        "longest gap  40 s",
    ):
        assert f"  {line}" in done.stdout
    tokens = {
        row.split()[0]: row.split()[1:] for row in done.stdout.splitlines() if re.match(r"  (prompt|outp|both)", row)
    }
    assert tokens["prompt"] == ["142.4", "130", "155", "449", "900"]
    assert tokens["output"][-1] == "200"
    assert "77.42 % of requests fit a context of 150 tokens" in done.stdout
    figures = sorted((tmp_path / "new" / "out").iterdir())
    assert [path.name for path in figures] == ["azure-arrivals.png", "azure-arrivals.svg"]
    assert done.stdout.count("wrote ") == 2
    for text in ("Arrivals of azure", "62 requests in 160 s", "seconds since the first arrival", "Poisson", "mean"):
        assert text in figures[1].read_text()


def test_stats_of_a_part(azure: Path) -> None:
    done = invoke("trace", "stats", str(azure), "--begin-s", "20", "--requests", "10")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "  requests     10 in 18 s, 0.5 requests/s in the mean\n" in done.stdout


@pytest.mark.parametrize("stamps", [[5], [5, 5, 5]], ids=["one", "at once"])
def test_stats_of_almost_nothing(stamps: list[int], tmp_path: Path) -> None:
    rows = (json.dumps({"timestamp": stamp, "input_length": 7, "output_length": 2}) + "\n" for stamp in stamps)
    (tmp_path / "t.jsonl").write_text("".join(rows))
    done = invoke("trace", "stats", str(tmp_path / "t.jsonl"), "--out", str(tmp_path))
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"requests     {len(stamps)} in 0 s, no rate: all come at one instant\n" in done.stdout
    assert "dispersion   - at 1 s" in done.stdout
    assert (tmp_path / "t-arrivals.png").stat().st_size > 1000


def test_the_line_of_a_fit_is_a_scenario(tmp_path: Path) -> None:
    arrival_s = Gamma(5.0, cv=3.0).times(3000, streams(77))
    Workload.from_columns(arrival_s, np.full(3000, 9), np.full(3000, 2)).save(tmp_path / "t.csv")
    done = invoke("trace", "fit", str(tmp_path / "t.csv"))
    assert (done.exit_code, done.stderr) == (0, "")
    assert "nearest: gamma (the simplest that could have made them)\n" in done.stdout
    assert re.search(r"^ +trace +Poisson +gamma +MMPP\(2\) +rate curve *$", done.stdout, re.MULTILINE)
    line = done.stdout.splitlines()[-1]
    table = tomllib.loads(line)["arrivals"]
    assert table["kind"] == "gamma"
    assert (table["rate"], table["cv"]) == pytest.approx((5.0, 3.0), rel=0.1)
    lengths = 'prompt_tokens = { kind = "fixed", value = 9 }\noutput_tokens = { kind = "fixed", value = 2 }\n'
    (tmp_path / "s.toml").write_text(f"[workload]\nrequests = 100\n{line}\n{lengths}{SYSTEM}")
    assert load(tmp_path / "s.toml").workload.arrivals == Gamma(table["rate"], cv=table["cv"])


def test_the_line_of_a_rate_curve_has_its_steps() -> None:
    curve = RateCurve(2.0, np.array([3, 8, 1]), 4.5)
    line = _scenario_line(Candidate("rate curve", curve, (1.0,), 0.1, 0.5))
    points = [[0, 1.5], [2, 1.5], [2, 4], [4, 4]]
    assert tomllib.loads(line) == {"arrivals": {"kind": "varying", "points": points}}


def test_every_verb_says_in_a_line_each_what_is_changed_in_a_trace(tmp_path: Path) -> None:
    stamps = [9000, *(3000 * (i // 8) for i in range(96)), 36000]
    rows = [{"timestamp": stamp, "input_length": 7, "output_length": int(stamp < 36000)} for stamp in stamps]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "s.toml").write_text(f'[workload]\narrivals = {{ kind = "trace", path = "t.jsonl" }}\n{SYSTEM}')
    done = command("simulate", tmp_path / "s.toml")
    assert done.returncode == 0
    lost, disorder, spread = done.stderr.splitlines()
    said = f"simqueue: warning: {tmp_path / 't.jsonl'}: "
    assert lost == f"{said}1 of 98 rows have 0 prompt or output tokens (failures) and are left out"
    assert disorder == f"{said}1 of 97 rows come before the row above; the rows are sorted by time"
    assert spread.startswith(f"{said}88.5 % of rows share the stamp of the row before and no other stamps are closer")


@pytest.fixture
def bad(azure: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a trace and one whose third line is bad."""
    monkeypatch.chdir(tmp_path)
    stamp = "2023-11-16 18:17:03"
    (tmp_path / "bad.csv").write_text(f"TIMESTAMP,ContextTokens,GeneratedTokens\n{stamp},1,1\n{stamp},many,1\n")


@pytest.mark.usefixtures("bad")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("trace stat t.csv", "No such command 'stat'. Did you mean 'stats'?"),
        ("trace stats azure.csv.gz --contxt 9", "No such option: --contxt"),
        ("trace stats none.csv", "none.csv: no such file"),
        ("trace stats bad.csv", "bad.csv, line 3, column ContextTokens: 'many' is no length"),
    ],
)
def test_the_command_itself_refuses_in_one_line(words: str, said: str) -> None:
    done = command(*words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("simqueue: error: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


@pytest.mark.usefixtures("bad")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("trace fit none.csv", "none.csv: no such file; check the path"),
        ("trace stats .", ".: no file chunk-...-trace.csv; give a trace's file, or the folder"),
        ("trace stats azure.csv.gz --out bad.csv", "bad.csv is no folder: give another one"),
        ("trace fit azure.csv.gz", "62 arrivals in 160 s cannot be fitted; give at least 1000"),
    ],
)
def test_refusals(words: str, said: str) -> None:
    done = invoke(*words.split())
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"simqueue: error: {said}")
    assert done.stderr.count("\n") == 1
