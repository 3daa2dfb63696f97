"""`simqueue sweep` as a user runs it: files, failures, interrupts, refusals."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import pytest
from pyarrow import parquet
from scenes import POLICIES, SIMQUEUE, simqueue, write

FIGURES = ("response_time", "queueing_and_service", "batch_size", "ttft_and_tpot")
OWN_POLICY = """
from dataclasses import dataclass
from simqueue.policy import Continuous

@dataclass(frozen=True)
class Mine:
    broken: bool = False
    def decider(self, grid):
        return self if self.broken else Continuous(8).decider(grid)
    def decide(self, view):
        raise ZeroDivisionError("no seats")
"""


def test_table_and_figures_are_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = write(tmp_path, POLICIES + "load = [0.4, 1.5]")
    done = simqueue("sweep", path, "--out", out, "--workers", "1", "--set", "run.replications=5")
    assert (done.returncode, done.stderr) == (0, "")
    names = {"cells", "sweep.parquet", "sweep.csv", *(f"{name}.{kind}" for name in FIGURES for kind in ("svg", "png"))}
    assert {path.name for path in out.iterdir()} == names
    assert done.stdout.count("unstable") == 3
    assert f"wrote {out}: sweep.parquet, sweep.csv, response_time.svg" in done.stdout


def test_a_failing_cell_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN_POLICY)
    sweep = '"system.policy" = [{kind="mine:Mine"}, {kind="mine:Mine", broken=true}]\nload = [0.3, 0.5]'
    out = tmp_path / "out"
    done = simqueue("sweep", write(tmp_path, sweep), "--out", out, "--workers", "2")
    assert done.returncode == 1
    first, *listed = done.stderr.splitlines()
    assert first == "simqueue: 2 of 4 cells failed:"
    assert [line.partition(": ")[0] for line in listed] == [f"  Mine(broken=true), load={load}" for load in (0.3, 0.5)]
    assert all("ZeroDivisionError: no seats" in line for line in listed)
    assert parquet.read_table(out / "sweep.parquet")["label"].to_pylist() == ["Mine, load=0.3", "Mine, load=0.5"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_interrupt_keeps_what_is_finished(tmp_path: Path, workers: str) -> None:
    loads = ", ".join(f"{0.01 * n:.2f}" for n in range(1, 100))
    path, out = write(tmp_path, POLICIES + f'load = [{loads}]\n"workload.requests" = [5000]'), tmp_path / "out"
    terminal, stderr = pty.openpty()
    command = [*SIMQUEUE, "sweep", str(path), "--out", str(out), "--workers", workers]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=stderr, env={**os.environ, "TERM": "xterm"}, start_new_session=True
    ) as process:
        os.close(stderr)
        said = b""
        # A bar that is drawn seldom may leave numbers out.
        while not re.search(rb" [1-9]\d*/297", said):
            said += os.read(terminal, 4096)
        # As a terminal does: to every process.
        os.killpg(process.pid, signal.SIGINT)
        said += _rest(terminal)
        assert process.wait() == 130
    [line] = [line for line in said.decode().splitlines() if "interrupted" in line]
    kept = parquet.read_table(out / "sweep.parquet").num_rows
    assert f"{kept} of 297 cells finished, written to {out}/sweep.parquet and {out}/sweep.csv" in line
    assert "; the same command again goes on from there" in line
    assert 1 <= kept < 297
    assert b"Traceback" not in said
    assert sorted(path.name for path in out.iterdir()) == ["cells", "sweep.csv", "sweep.parquet"]


def _rest(terminal: int) -> bytes:
    """All that is still written, until the last process that could write is gone."""
    said = b""
    while True:
        try:
            new = os.read(terminal, 4096)
        except OSError:
            new = b""
        if not new:
            os.close(terminal)
            return said
        said += new


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--set", "sweep.load=[]"), "leaves nothing to run"),
        (("--set", "sweep=3"), "is not a table"),
        (("--workers", "0"), "--workers"),
        (("--out", "."), "which no sweep wrote"),
        (("--workers", "2", "--cluster", "tcp://h:1"), "leave one of them out"),
    ],
)
def test_refusals_are_one_line_and_write_nothing(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    path = write(tmp_path, "load = [0.5]")
    done = simqueue("sweep", path, "--out", tmp_path / "out", *[str(tmp_path) if o == "." else o for o in options])
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["scene.toml"]
