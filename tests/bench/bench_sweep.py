"""What a sweep costs beside its simulations: processor time and memory of whoever drives it, with tiny real cells.

    python tests/bench/bench_sweep.py                      # 10,000 cells, on all executors
    python tests/bench/bench_sweep.py --cells 1000 --on loky

Every part is run in a process of its own, whose processor time counts, that of its workers apart. "Again" is the same
sweep once more, with every cell finished.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench_sweep_kills import dask
from loky import ProcessPoolExecutor

from simqueue.pool import cpus, pool
from simqueue.sweep import Plan, Store, plan, run
from simqueue.sweep.dask import connected
from simqueue.sweep.table import table, write

SCENARIO: dict[str, Any] = {
    "workload": {
        "requests": 9,
        "arrivals": {"kind": "poisson", "rate": 1.0},
        "prompt_tokens": {"kind": "fixed", "value": 60},
        "output_tokens": {"kind": "fixed", "value": 4},
    },
    "system": {
        "policy": {"kind": "continuous"},
        "cost": {"kind": "profile", "name": "gpt2-h200-bf16-graph"},
    },
    "run": {"replications": 1, "warmup": 0},
}
POLICIES = [{"kind": "none"}, *({"kind": "continuous", "max_seqs": seats} for seats in (8, 16, 32, 64))]
EXECUTORS = ("this process", "threads", "loky", "dask")


def planned(cells: int) -> Plan:
    """5 policies at so many loads."""
    loads = [0.9 * (n + 1) / (cells // 5) for n in range(cells // 5)]
    return plan(SCENARIO | {"sweep": {"system.policy": POLICIES, "load": loads}}, Path("bench.toml"))


@contextmanager
def executor(name: str) -> Iterator[Executor | None]:
    """One of `EXECUTORS` with as many workers as there are CPUs."""
    if name == "this process":
        yield None
    elif name == "threads":
        with ThreadPoolExecutor(cpus()) as threads:
            yield threads
    elif name == "loky":
        with pool(max(2, cpus())) as processes:
            yield processes
    else:
        with dask() as (address, _), connected(address, Path()) as (there, _):
            yield there


def measured(name: str, cells: int) -> str:
    """One line of the table."""
    begin = time.process_time()
    made = planned(cells)
    plan_s = time.process_time() - begin
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        with executor(name) as where:
            begin, wall = time.process_time(), time.perf_counter()
            rows = dict(run(made, where, store))
            run_s, wall_s = time.process_time() - begin, time.perf_counter() - wall
        begin = time.process_time()
        again = dict(run(made, None, store))
        again_s = time.process_time() - begin
        assert again == rows
        begin = time.process_time()
        write(table(made, [rows[number] for number in range(cells)]), Path(folder))
        table_s = time.process_time() - begin
    each_ms = [1e3 * part / cells for part in (plan_s, run_s, again_s, table_s, wall_s)]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return f"{name:<13}" + "".join(f"{ms:>9.2f}" for ms in each_ms) + f"{peak_mb:>9.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--on", choices=EXECUTORS, action="append")
    given = parser.parse_args()
    print(
        f"{'ms a cell:':<13}" + "".join(f"{head:>9}" for head in ("plan", "run", "again", "table", "wall", "peak MB"))
    )
    for name in given.on or EXECUTORS:
        with ProcessPoolExecutor(1) as fresh:
            print(fresh.submit(measured, name, given.cells).result(), flush=True)


if __name__ == "__main__":
    main()
