"""Print the table of docs/performance.md: ``python tests/bench/report.py``.

Every row alternates our run and the bare loop, five times, and takes the best of each, since other work on the machine
only ever adds time. Time is that of the processor: a run keeps one core busy from its beginning to its end.

``memory`` prints the rows with memory alone; ``affine`` and ``profile`` the peak memory of a long run.
"""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from cases import AZURE, CASES, COSTS, PAGED, TRACE, azure, hashed, ours, workload

TURNS = 5
PAGED_REQUESTS = 60_000


def seconds(run: Callable[[], object]) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin


def best(*runs: Callable[[], object], turns: int = TURNS) -> list[float]:
    timed = [[seconds(run) for run in runs] for _ in range(turns)]
    return [min(column) for column in zip(*timed, strict=True)]


def rate(requests: int, time_s: float) -> str:
    return f"{requests / time_s:,.0f}"


def leaping() -> None:
    print("| case | cost | simqueue, requests/s | bare loop | ratio | to reach | noise on every step | step by step |")
    print("|---|---|---|---|---|---|---|---|")
    for index, case in enumerate(CASES):
        bare_run = case.bare
        assert bare_run is not None
        for cost in COSTS:
            made, plain = workload(index, cost), workload(index, "affine")
            mine, bare = best(lambda c=case, m=made, k=cost: ours(c, m, k), lambda b=bare_run, p=plain: b(p))
            (noisy,) = best(lambda c=case, m=made, k=cost: ours(c, m, k, noise=True), turns=1)
            (stepped,) = best(lambda c=case, m=made, k=cost: ours(c, m, k, stepping=True), turns=1)
            n = len(made)
            cells = (
                case.name,
                cost,
                rate(n, mine),
                rate(n, bare),
                f"{bare / mine:.2f}",
                f"{case.least:,}" if case.least else "-",
            )
            print("|", " | ".join((*cells, rate(n, noisy), rate(n, stepped))), "|", flush=True)
    if TRACE.exists():
        for cost in COSTS:
            made = azure(cost)
            (mine,) = best(lambda m=made, k=cost: ours(AZURE, m, k))
            print(f"| {AZURE.name} | {cost} | {rate(len(made), mine)} | - | - | {AZURE.least:,} | - | - |", flush=True)


def paged() -> None:
    """Each beside the fast core's run of the same workload, in turn."""
    print("| case | requests/s | continuous, 64 seats | share |")
    print("|---|---|---|---|")
    for case in PAGED:
        shares = case.memory and case.memory.prefix_caching
        made = hashed("affine", PAGED_REQUESTS) if shares else workload(len(CASES) - 1, "affine", PAGED_REQUESTS)
        mine, fast = best(lambda c=case, m=made: ours(c, m, "affine"), lambda m=made: ours(CASES[-1], m, "affine"))
        cells = (case.name, rate(len(made), mine), rate(len(made), fast), f"{fast / mine:.2f}")
        print("|", " | ".join(cells), "|", flush=True)


def memory(cost: str) -> None:
    """One million requests, continuous, load 0.8, in a process of its own."""
    million = workload(len(CASES) - 1, cost, 1_000_000)
    result = ours(CASES[-1], million, cost)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"one million requests, continuous, load 0.8, {cost}: peak {peak:.0f} MiB", result is not None)


if __name__ == "__main__":
    if sys.argv[1:] == ["memory"]:
        paged()
    elif sys.argv[1:]:
        memory(sys.argv[1])
    else:
        print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}\n")
        leaping()
        print()
        paged()
        print()
        for cost in COSTS:
            subprocess.run([sys.executable, __file__, cost], check=True)
