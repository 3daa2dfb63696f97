"""Kills with SIGKILL, at random moments, whoever works on a sweep, and compares what comes out in the end byte by byte
with the sweep that nobody disturbed: ``python tests/bench/bench_sweep_kills.py --kills 50`` (some minutes).

- driver: `simqueue sweep`, which is then run again;
- loky: one of its processes, while it goes on;
- dask: a worker, which its nanny replaces, while `simqueue sweep --cluster` goes on.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

SCENARIO = """
[workload]
requests = 300
arrivals = { kind = "poisson", rate = 20.0 }
prompt_tokens = { kind = "lognormal", mean = 60, cv = 0.66 }
output_tokens = { kind = "geometric", mean = 10 }
[system]
policy = { kind = "none" }
cost = { kind = "affine", base_s = 0.8e-3, per_row_s = 8e-6, per_new_token_s = 8e-6 }
noise = { kind = "lognormal", cv = 0.2 }
[run]
replications = 1
warmup = 50
[sweep]
load = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
"system.policy" = [{ kind = "none" }, { kind = "static", batch = 4 }, { kind = "continuous", max_seqs = 16 }]
"""
SIMQUEUE = (sys.executable, "-c", "from simqueue.cli.main import main; main()")
VICTIMS = ("driver", "loky", "dask")
TABLES = ("sweep.parquet", "sweep.csv")
# 27 cells, and the saturation throughputs of 3 systems.
_FILES = 30
_KILLS_A_SWEEP = 10


def sweep(path: Path, out: Path, *options: str) -> subprocess.Popen[bytes]:
    command = (*SIMQUEUE, "sweep", str(path), "--out", str(out), *options)
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def workers(parent: int, marks: tuple[str, ...]) -> list[psutil.Process]:
    """Processes below this one whose command has one of these words."""
    found = []
    for child in psutil.Process(parent).children(recursive=True):
        try:
            command = " ".join(child.cmdline())
        except psutil.NoSuchProcess:
            continue
        if any(mark in command for mark in marks):
            found.append(child)
    return found


def kill_driver(path: Path, out: Path, kills: int, rng: random.Random) -> int:
    """Run until it ends by itself; how often it was killed before: at once, in the midst of its cells, a few further
    each time, or while it draws."""
    for killed in range(kills + 1):
        driver = sweep(path, out, "--workers", rng.choice("12"))
        if killed < kills and killed < _KILLS_A_SWEEP:
            there = finished(out) + rng.randrange(8)
            while driver.poll() is None and finished(out) < min(there, _FILES):
                time.sleep(0.01)
            time.sleep(rng.random() * (0.3 if there < _FILES else 4.0))
            driver.kill()
        driver.wait()
        if driver.returncode == 0:
            return killed
        assert driver.returncode == -signal.SIGKILL
    raise AssertionError("it never ends")


def finished(out: Path) -> int:
    return len(list(out.glob("cells/??/[0-9a-f]*.json")))


def kill_workers(
    driver: subprocess.Popen[bytes], out: Path, marks: tuple[str, ...], parent: int, rng: random.Random
) -> int:
    """One whenever some more cells are finished, until the sweep is over; how many. A cell whose process is killed
    three times while it runs alone would count as failed, and rightly."""
    killed = 0
    while driver.poll() is None:
        there = finished(out) + rng.randrange(1, 8)
        while driver.poll() is None and finished(out) < min(there, _FILES):
            time.sleep(0.01)
        time.sleep(rng.random())
        if driver.poll() is None and finished(out) < _FILES and (living := workers(parent, marks)):
            rng.choice(living).kill()
            killed += 1
    assert driver.returncode == 0, driver.returncode
    return killed


@contextmanager
def dask() -> Iterator[tuple[str, int]]:
    """The address of a cluster of two workers with nannies, and the process above them."""
    text = (
        "import sys, time\nfrom distributed import LocalCluster\nif __name__ == '__main__':\n"
        "    how = dict(threads_per_worker=1, dashboard_address=':0', silence_logs=50)\n"
        "    with LocalCluster(n_workers=2, **how) as cluster:\n"
        "        print(cluster.scheduler_address, flush=True)\n        sys.stdin.read()\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cluster.py").write_text(text)
        command = (sys.executable, f"{folder}/cluster.py")
        cluster = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert cluster.stdout
        try:
            yield cluster.stdout.readline().strip(), cluster.pid
        finally:
            cluster.communicate("")


def disturbed(victim: str, path: Path, out: Path, left: int, rng: random.Random) -> int:
    if victim == "driver":
        return kill_driver(path, out, left, rng)
    if victim == "loky":
        driver = sweep(path, out, "--workers", "2")
        return kill_workers(driver, out, ("popen_loky",), driver.pid, rng)
    with dask() as (address, cluster):
        return kill_workers(sweep(path, out, "--cluster", address), out, ("spawn_main",), cluster, rng)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--victim", choices=VICTIMS, action="append")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (path := folder / "scene.toml").write_text(SCENARIO)
        assert sweep(path, folder / "whole", "--workers", "2").wait() == 0
        for victim in given.victim or VICTIMS:
            rng, killed, sweeps = random.Random(given.seed), 0, 0
            while killed < given.kills:
                out = folder / f"{victim}-{sweeps}"
                killed += disturbed(victim, path, out, given.kills - killed, rng)
                sweeps += 1
                for table in TABLES:
                    assert (out / table).read_bytes() == (folder / "whole" / table).read_bytes(), (victim, out, table)
                print(f"{victim}: {killed} kills, {sweeps} sweeps, all like the undisturbed one", flush=True)


if __name__ == "__main__":
    main()
