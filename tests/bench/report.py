"""Print the table of docs/performance.md: ``python tests/bench/report.py``.

Every row alternates our event loop and the bare loop, five times, and takes the best of each, since other work on the
machine only ever adds time; "compiled" is the same run where it needs no event loop. Time is that of the processor: a
run keeps one core busy from its beginning to its end.

``memory`` prints the rows with memory alone; ``affine`` and ``profile`` the peak memory of a long run.
"""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from cases import AZURE, CASES, COSTS, LOOKED, PAGED, TRACE, azure, hashed, ours, workload

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
    print("| case | cost | compiled | event loop | bare loop | ratio | to reach | noise on every step | step by step |")
    print("|---|---|---|---|---|---|---|---|---|")
    for index, case in enumerate(CASES):
        for cost in COSTS:
            made, plain = workload(index, cost), workload(index, "affine")
            run = partial(ours, case, made, cost)
            (compiled,) = best(run)
            loop, *bare = best(partial(run, looping=True), *([partial(case.bare, plain)] if case.bare else []))
            (noisy,), (stepped,) = (best(partial(run, **{how: True}), turns=1) for how in ("noise", "stepping"))
            n = len(made)
            beside = [rate(n, bare[0]), f"{bare[0] / loop:.2f}"] if bare else ["-", "-"]
            least = f"{case.least:,}" if case.least else "-"
            cells = (*beside, least, rate(n, noisy), rate(n, stepped))
            print("|", " | ".join((case.name, cost, rate(n, compiled), rate(n, loop), *cells)), "|", flush=True)
    if TRACE.exists():
        for cost in COSTS:
            run = partial(ours, AZURE, azure(cost), cost)
            rates = [rate(len(azure(cost)), taken) for taken in best(run, partial(run, looping=True))]
            print(f"| {AZURE.name} | {cost} | {' | '.join(rates)} | - | - | {AZURE.least:,} | - | - |", flush=True)


def paged() -> None:
    """Each beside the event loop of the core without memory on the same workload, in turn."""
    print("| case | requests/s | continuous, 64 seats | share |")
    print("|---|---|---|---|")
    for case in PAGED:
        shares = case.memory and case.memory.prefix_caching
        made = hashed("affine", PAGED_REQUESTS) if shares else workload(LOOKED, "affine", PAGED_REQUESTS)
        plain = partial(ours, CASES[LOOKED], made, "affine", looping=True)
        mine, fast = best(partial(ours, case, made, "affine"), plain)
        cells = (case.name, rate(len(made), mine), rate(len(made), fast), f"{fast / mine:.2f}")
        print("|", " | ".join(cells), "|", flush=True)


def memory(cost: str) -> None:
    """One million requests, continuous, load 0.8, in a process of its own."""
    million = workload(LOOKED, cost, 1_000_000)
    result = ours(CASES[LOOKED], million, cost)
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
