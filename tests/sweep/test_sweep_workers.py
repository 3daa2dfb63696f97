"""Sweeps on real processes, of loky and of Dask, that are ended while they work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import LocalCluster
from scenes import POLICIES, deadly, scenario

from simqueue.errors import ConfigError
from simqueue.pool import pool
from simqueue.sweep import Failure, Plan, Store, plan, run
from simqueue.sweep.dask import connected
from simqueue.sweep.each import each

LOADS = "load = [0.1, 0.3, 0.4, 0.5, 0.6, 0.8]\n"


@pytest.fixture(scope="module")
def swept() -> tuple[Plan, dict[int, Any]]:
    made = plan(scenario(POLICIES + LOADS), Path("scene.toml"))
    return made, dict(run(made))


def kill_one() -> None:
    """A process of loky that simulates."""
    workers = [child for child in psutil.Process().children() if any("popen_loky" in part for part in child.cmdline())]
    workers[0].kill()


def test_who_kills_its_worker_is_told_from_who_was_there(tmp_path: Path) -> None:
    with pool(2) as executor:
        found = dict(each(executor, deadly, ((n, (n, tmp_path)) for n in range(8)), ahead=4))
    failed = found.pop(3)
    assert isinstance(failed, Failure)
    assert failed.reason.startswith("the process that ran it died, 3 times out of 3")
    assert found == {n: n**2 for n in (0, 1, 2, 4, 5, 6, 7)}


def test_a_loky_worker_that_is_killed_is_replaced(tmp_path: Path, swept: tuple[Plan, dict[int, Any]]) -> None:
    made, rows = swept
    found: dict[int, Any] = {}
    with pool(2) as executor:
        for number, row in run(made, executor, Store(tmp_path)):
            found[number] = row
            if len(found) == 5:
                kill_one()
    assert found == rows


def test_any_executor_will_do(swept: tuple[Plan, dict[int, Any]]) -> None:
    made, rows = swept
    with ThreadPoolExecutor(2) as threads:
        assert dict(run(made, threads, ahead=3)) == rows


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as started:
        yield started


def test_dask_has_the_same_rows_also_when_a_worker_is_killed(
    tmp_path: Path, cluster: LocalCluster, swept: tuple[Plan, dict[int, Any]]
) -> None:
    made, rows = swept
    found: dict[int, Any] = {}
    with connected(cluster.scheduler_address, tmp_path) as (executor, tasks):
        assert tasks == 2
        for number, row in run(made, executor, Store(tmp_path), ahead=4):
            found[number] = row
            if len(found) == 6:
                os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)
    assert found == rows


@contextmanager
def strange_worker(cluster: LocalCluster, folder: Path) -> Iterator[None]:
    """One more, that finds first what is in ``folder``."""
    command = (sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address)
    how = ("--name", "strange", "--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(folder))
    path = os.pathsep.join((str(folder), os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen([*command, *how], cwd=folder, env=environment, stderr=subprocess.DEVNULL) as worker:
        try:
            while not any(one.name == "strange" for one in cluster.scheduler.workers.values()):
                assert worker.poll() is None
                time.sleep(0.02)
            yield
        finally:
            worker.kill()


def test_a_worker_of_another_version_is_refused(tmp_path: Path, cluster: LocalCluster) -> None:
    installed = tmp_path / "simqueue-9.9.9.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: simqueue\nVersion: 9.9.9\n")
    said = rf"worker tcp://.* has simqueue 9\.9\.9, and here it is {version('simqueue')}: install the same on both"
    with (
        strange_worker(cluster, tmp_path),
        pytest.raises(ConfigError, match=said),
        connected(cluster.scheduler_address, tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("address", "said"),
    [("nowhere", "it is no tcp://HOST:PORT"), ("tcp://127.0.0.1:1", "Connection refused")],
)
def test_a_cluster_that_cannot_be_reached_is_refused(address: str, said: str) -> None:
    with (
        pytest.raises(ConfigError, match=f"--cluster {address}: cannot be reached .*{said}"),
        connected(address, Path()),
    ):
        pass
