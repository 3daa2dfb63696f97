"""Processes that are forked from one that has imported what they need, in a program of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
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
    with subprocess.Popen(
        [sys.executable, str(script)],
        cwd=tmp_path / "elsewhere",
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
