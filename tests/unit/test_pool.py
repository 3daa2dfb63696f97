"""Processes that are forked from one that has imported what they need, in a program of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

# As a script without a guard: nothing may run it a second time.
PROGRAM = """
import os, signal, sys, time
from simqueue.pool import get_ready, pool

def seen():
    deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return "simqueue.sweep.task" in sys.modules, deaf, os.getpid(), os.getppid()

print(os.getpid(), flush=True)
get_ready(2)
with pool(2) as executor:
    known, deaf, worker, server = executor.submit(seen).result()
    print(known, deaf, worker, server, flush=True)
    os.kill(worker, signal.SIGKILL)
    while True:
        try:
            print(executor.submit(seen).result()[2], flush=True)
            break
        except Exception as error:
            print(type(error).__name__, file=sys.stderr)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes may be started in another way")
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_they_know_what_was_imported_are_replaced_and_end_with_whoever_asked(
    tmp_path: Path, end: signal.Signals
) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    # In a folder where a module has a name that the standard library wants.
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "random.py").write_text("raise SystemExit('not this one')")
    # A socket's path is short.
    scratch = Path(tempfile.mkdtemp())
    with subprocess.Popen(
        [sys.executable, str(script)],
        cwd=tmp_path / "elsewhere",
        env={**os.environ, "TMPDIR": str(scratch)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as program:
        assert program.stdout is not None
        assert int(program.stdout.readline()) == program.pid
        known, deaf, worker, server = program.stdout.readline().split()
        assert known == deaf == "True"
        assert int(server) != program.pid
        replaced = program.stdout.readline().strip()
        assert replaced.isdigit()
        assert replaced != worker
        others = psutil.Process(program.pid).children(recursive=True)
        assert {int(server), int(replaced)} <= {other.pid for other in others}
        program.send_signal(end)
        program.wait(30)
    _, alive = psutil.wait_procs(others, timeout=30)
    assert not alive
    assert not list(scratch.glob("pymp-*"))
    shutil.rmtree(scratch)


def test_where_none_can_be_forked_they_start_by_themselves(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    program = "from simqueue.pool import get_ready, pool\nget_ready(2)\nwith pool(2) as executor:\n"
    program += "    print(executor.submit(abs, -7).result())\n"
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TMPDIR": str(deep)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (run.stdout, run.stderr) == ("7\n", "")
