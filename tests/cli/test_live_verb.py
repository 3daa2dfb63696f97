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
from typer.testing import CliRunner

import simqueue
from simqueue import Result
from simqueue.cli.main import app

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


# Does a deed while the step of that number runs, and then goes on as the program does.
MEANWHILE = """
import os, signal, sys, threading, time
from pathlib import Path
from simqueue.cli.main import main
from simqueue.errors import DeviceError
from simqueue.live.sleep import SleepExecutor

collect, steps = SleepExecutor.collect, 0

def press(stopped):
    os.kill(os.getpid(), signal.SIGINT)
    while not stopped():  # before the main thread has its turn
        time.sleep(0.001)

def press_always():
    while True:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.002)

def keep_pressing():
    threading.Thread(target=press_always, daemon=True).start()

def kill_clients():
    clients = int(Path(f"/proc/self/task/{{os.getpid()}}/children").read_text())
    os.kill(clients, signal.SIGKILL)
    os.waitid(os.P_PID, clients, os.WEXITED | os.WNOWAIT)

def fails():
    raise DeviceError("out of memory: 8 rows")

def collects(self, stopped):
    global steps
    steps += 1
    if steps == {step}:
        {deed}
    return collect(self, stopped)

SleepExecutor.collect = collects
main()
"""


def meanwhile(step: int, deed: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", MEANWHILE.format(step=step, deed=deed), "live", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


# So few come that the run would last half a minute.
FAR = ("--set", "workload.arrivals.rate=30", "--set", "workload.requests=1000")


def test_an_interrupt_keeps_what_is_finished(scenario, tmp_path):
    done = meanwhile(15, "press(stopped)", scenario, "--out", tmp_path / "out", *FAR)
    assert done.returncode == 130, done.stderr
    assert "TTFT" in done.stdout
    assert "nan" not in done.stdout
    kept = Result.load(tmp_path / "out")
    assert len(kept.arrival) > 0
    *_, said = done.stderr.splitlines()
    assert said.startswith(f"simqueue: interrupted: {1000 - len(kept.arrival)} of 1000 requests were not completed: ")
    assert "never reached the server" in said


def test_one_who_presses_again_and_again_loses_nothing(scenario, tmp_path):
    done = meanwhile(15, "keep_pressing()", scenario, "--out", tmp_path / "out", *FAR)
    assert done.returncode in (130, -signal.SIGINT), done.stderr
    assert f"written to {tmp_path / 'out'}" in done.stderr
    assert len(Result.load(tmp_path / "out").arrival) > 0


def test_an_interrupt_within_the_warmup_keeps_all_of_it(scenario, tmp_path):
    done = meanwhile(15, "press(stopped)", scenario, "--out", tmp_path / "out", "--set", "run.warmup=900", *FAR)
    assert done.returncode == 130, done.stderr
    assert "ended within the warm-up of 900 requests: the figures are of all that were completed" in done.stderr
    kept = Result.load(tmp_path / "out")
    assert kept.warmup == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["requests"] == len(kept.arrival) > 0


def test_an_interrupt_before_anything_is_finished_says_so(scenario, tmp_path):
    done = meanwhile(
        1, "press(stopped)", scenario, "--out", tmp_path / "out", "--set", "workload.output_tokens.mean=90"
    )
    assert done.returncode == 130, done.stderr
    assert "no request was completed: there are no figures, and nothing is saved" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("fails()", "error: out of memory: 8 rows"),
        ("kill_clients()", "error: the client process died (exit status -9): run again"),
    ],
)
def test_what_breaks_keeps_what_is_finished(scenario, tmp_path, deed, said):
    done = meanwhile(40, deed, scenario, "--out", tmp_path / "out", "--set", "workload.arrivals.rate=1e5")
    assert done.returncode == 2, done.stderr
    *_, last = done.stderr.splitlines()
    assert last == f"simqueue: {said}"
    assert "requests were not completed" in done.stderr
    kept = Result.load(tmp_path / "out")
    assert 0 < len(kept.arrival) < 60
    assert kept.provenance["live"]["error"] == said.removeprefix("error: ")


def test_it_runs_beside_files_that_are_called_as_modules_are(scenario, tmp_path):
    folder = tmp_path / "here"
    folder.mkdir()
    for name in ("selectors", "asyncio", "msgspec"):
        (folder / f"{name}.py").write_text("raise SystemExit(3)")
    done = subprocess.run([SIMQUEUE, "live", scenario], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("by", ["folder", "environment"])
def test_the_clients_are_of_the_same_code_as_the_server(scenario, tmp_path, by):
    """A checkout that only the folder in which it is started says, or PYTHONPATH."""
    checkout = tmp_path / "checkout"
    shutil.copytree(Path(simqueue.__file__).parent, checkout / "simqueue")
    with (checkout / "simqueue" / "live" / "clients.py").open("a") as source:
        source.write('\nprint(f"{os.getpid()} is of the checkout", file=sys.stderr)\n')
    command = [sys.executable, "-c", "from simqueue.cli.main import main; main()", "live", str(scenario)]
    if by == "folder":
        where = {"cwd": checkout}
    else:
        where = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(checkout)}}
    done = subprocess.run(command, **where, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len({line.split()[0] for line in done.stderr.splitlines() if line.endswith("of the checkout")}) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("[live]", "[lve]"), "did you mean"),
        (('executor = "sleep"', 'executor = "slep"'), "live.executor = 'slep' is unknown"),
        (("[live]\n" + 'executor = "sleep"\n', ""), "the table [live] is missing"),
        (('executor = "sleep"', 'executor = "sleep"\nmax_context = 8'), "max_context = 8 must be at least 32"),
        (('executor = "sleep"', 'executor = "eager"\nmax_rows = 9999999999'), "max_rows = 9999999999 must be at most"),
        (
            ('executor = "sleep"', 'executor = "sleep"\nmax_rows = 2'),
            "system.policy.max_seqs = 8 is more requests than the executor has rows (live.max_rows = 2)",
        ),
        (
            ('executor = "sleep"', 'executor = "graph"\nmodel = "nosuch"\nmax_rows = 7'),
            "system.policy.max_seqs = 8 is more requests than the executor has rows (live.max_rows = 7)",
        ),
    ],
)
def test_refusals_in_one_line(scenario, change, said):
    text = SCENARIO.replace(*change)
    assert text != SCENARIO
    scenario.write_text(text)
    refused(scenario, said)


def test_a_file_that_is_not_there(tmp_path):
    refused(tmp_path / "none.toml", "cannot be read")


def refused(path, said):
    done = CliRunner().invoke(app, ["live", str(path)], catch_exceptions=False, prog_name="simqueue")
    assert done.exit_code == 2, done.stderr
    [line] = done.stderr.splitlines()
    assert said in line
