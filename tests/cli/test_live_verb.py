"""`simqueue live` as a user runs it: a table or JSON, files, an interrupt, refusals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from simqueue import Result

SIMQUEUE = shutil.which("simqueue", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))

SCENARIO = """\
[workload]
requests = 60
arrivals = { kind = "poisson", rate = 400.0 }
prompt_tokens = { kind = "fixed", value = 8 }
output_tokens = { kind = "geometric", mean = 5 }
[system]
policy = { kind = "continuous", max_seqs = 8 }
cost = { kind = "affine", base_s = 0.5e-3, per_row_s = 5e-6 }
[run]
seed = 1
[live]
executor = "sleep"
"""


@pytest.fixture
def scenario(tmp_path):
    path = tmp_path / "scenario.toml"
    path.write_text(SCENARIO)
    return path


def live(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SIMQUEUE, "live", *map(str, words)], capture_output=True, text=True, timeout=60)


def test_the_table_of_simulate_and_its_files(scenario, tmp_path):
    done = live(scenario, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "TTFT" in done.stdout
    assert "throughput" in done.stdout
    loaded = Result.load(tmp_path / "out")
    assert len(loaded.workload) == 60
    assert loaded.provenance["live"]["executor"]["runner"] == "sleep"


def test_json(scenario):
    summary = json.loads(live(scenario, "--json").stdout)
    assert summary["requests"] == 60
    assert summary["unstable"] is False
    assert summary["response_s"]["p50"] > summary["ttft_s"]["p50"] > 0


def test_an_interrupt_keeps_what_is_finished(scenario):
    # Nobody comes for hours after the first few, who are answered at once.
    far = 'workload.arrivals={kind="mmpp", rates=[1000.0, 0.0001], mean_stay_s=[0.01, 1e6]}'
    command = [SIMQUEUE, "live", str(scenario), "--set", far, "--set", "workload.requests=1000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not _has_child(process.pid):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "requests were not completed" in said or "interrupted" in said
    assert "nan" not in out


def _has_child(pid: int) -> bool:
    """Whether the clients' process is there."""
    return bool(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("[live]", "[lve]"), "did you mean"),
        (('executor = "sleep"', 'executor = "slep"'), "live.executor = 'slep' is unknown"),
        (("[live]\n" + 'executor = "sleep"\n', ""), "the table [live] is missing"),
        (('executor = "sleep"', 'executor = "sleep"\nmax_context = 8'), "max_context = 8 must be at least 32"),
        (('executor = "sleep"', 'executor = "sleep"\nmax_rows = 2'), "live.max_rows"),
    ],
)
def test_refusals_in_one_line(scenario, change, said):
    text = SCENARIO.replace(*change)
    assert text != SCENARIO
    scenario.write_text(text)
    done = live(scenario)
    assert done.returncode == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert said in line


def test_a_file_that_is_not_there(tmp_path):
    done = live(tmp_path / "none.toml")
    assert done.returncode == 2
    assert "cannot be read" in done.stderr
