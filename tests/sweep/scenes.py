"""A small scenario to sweep, as tables and as a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

COST = "{ kind = 'affine', base_s = 0.8e-3, per_row_s = 8e-6, per_new_token_s = 8e-6, per_context_token_s = 2e-9 }"
SCENARIO = f"""
[workload]
requests = 600
arrivals = {{ kind = "poisson", rate = 20.0 }}
prompt_tokens = {{ kind = "lognormal", mean = 60, cv = 0.66 }}
output_tokens = {{ kind = "geometric", mean = 10 }}
[system]
policy = {{ kind = "none" }}
cost = {COST}
noise = {{ kind = "lognormal", cv = 0.2 }}
[run]
seed = 3
warmup = 50
replications = 1
[sweep]
"""
POLICIES = """
"system.policy" = [
    { kind = "none" },
    { kind = "static", batch = 4 },
    { kind = "continuous", max_seqs = 16 },
]
"""
# What `simqueue` runs.
SIMQUEUE = (sys.executable, "-c", "from simqueue.cli.main import main; main()")


def scenario(sweep: str) -> dict[str, Any]:
    """The scenario's tables with these lines in ``[sweep]``."""
    return tomllib.loads(SCENARIO + sweep)


def write(folder: Path, sweep: str, text: str = SCENARIO) -> Path:
    """The scenario's file with these lines in ``[sweep]``."""
    path = folder / "scene.toml"
    path.write_text(text + sweep)
    return path


def simqueue(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run([*SIMQUEUE, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)


def deadly(task: tuple[int, Path]) -> int:
    """The square of a number: 3 ends its process whenever it is run, 5 the first time. Here, where nothing is imported
    that takes long."""
    number, folder = task
    (folder / f"{number}-{time.monotonic_ns()}").touch()
    if number == 3 or (number == 5 and len(list(folder.glob("5-*"))) == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2
