"""Sweeps on real processes, of loky and of Dask, that are ended while they work."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
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
from hypothesis import given, settings
from hypothesis import strategies as st
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
    """A process that simulates, whoever started it."""
    children = psutil.Process().children(recursive=True)
    started = [child for child in children if any("popen_loky" in part for part in child.cmdline())]
    forked = [child for child in children if child.ppid() != os.getpid()]
    [*started, *forked][0].kill()


def test_who_kills_its_worker_is_told_from_who_was_there(tmp_path: Path) -> None:
    """Also where they are in the midst of batches."""
    numbers = [*range(8, 40), *range(8), *range(40, 60)]
    with pool(2) as executor:
        found = dict(each(executor, deadly, ((n, (n, tmp_path)) for n in numbers), ahead=4))
    failed = found.pop(3)
    assert isinstance(failed, Failure)
    assert failed.reason.startswith("the process that ran it died, 3 times out of 3")
    assert found == {n: n**2 for n in numbers if n != 3}


class Counting(ThreadPoolExecutor):
    """How often it was asked, and for how much at a time at most."""

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.asked, self.together, self._under_way = 0, 0, 0
        self._lock = threading.Lock()

    def submit(self, *task: Any, **how: Any) -> Any:
        with self._lock:
            self.asked, self._under_way = self.asked + 1, self._under_way + 1
            self.together = max(self.together, self._under_way)
        future = super().submit(*task, **how)
        future.add_done_callback(self._one_less)
        return future

    def _one_less(self, _: object) -> None:
        with self._lock:
            self._under_way -= 1


@given(count=st.integers(0, 300), workers=st.integers(1, 3), ahead=st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_each_is_done_once_and_quick_ones_go_in_batches(count: int, workers: int, ahead: int) -> None:
    with Counting(workers) as executor:
        found = list(each(executor, abs, ((n, -n) for n in range(count)), ahead))
    assert sorted(found) == [(n, n) for n in range(count)]
    assert executor.together <= ahead
    # Each of `ahead` doubles until its share is smaller; then they take a share of what waits, which so falls by 1/e
    # with every `ahead` of them.
    assert executor.asked <= ahead * (4 + 2 * math.log2(1 + count / ahead))


def busy(processor_s: float) -> float:
    end = time.thread_time() + processor_s
    while time.thread_time() < end:
        pass
    return processor_s


def test_long_ones_go_alone() -> None:
    with Counting(2) as executor:
        found = list(each(executor, busy, enumerate([0.11] * 6), ahead=2))
    assert len(found) == executor.asked == 6


def inverse(number: int) -> float:
    if number == -1:
        raise ConfigError("no such number")
    return 1 / number


def test_one_that_fails_does_not_take_its_batch_with_it() -> None:
    with Counting(2) as executor:
        found = dict(each(executor, inverse, ((n, n) for n in [*range(1, 60), 0, *range(60, 90)]), ahead=2))
        assert executor.asked < 90
        with pytest.raises(ConfigError, match="no such number"):
            list(each(executor, inverse, enumerate([1, 2, 3, -1, 4]), ahead=2))
    assert found.pop(0) == Failure("ZeroDivisionError: division by zero")
    assert found == {n: 1 / n for n in range(1, 90)}


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
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
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
