"""How long the everyday figure takes, from a cold start: ``python tests/bench/bench_figure.py`` prints the numbers of
docs/performance.md, "The everyday figure".

It runs ``simqueue sweep experiments/latency_vs_load_quick.toml`` in a process of its own, on as many processors as
``--workers`` says, and looks at the table that it wrote: every half-width of the p99 of response times must be as
narrow as was asked, and to be believed.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pyarrow import parquet

SCENARIO = Path(__file__).parents[2] / "experiments" / "latency_vs_load_quick.toml"
FIGURE = "response_s_p99"
# PR_SET_CHILD_SUBREAPER of prctl(2): Linux only.
_BECOME_A_REAPER = 36


def spent_s(command: list[str]) -> tuple[float, float]:
    """Seconds on the clock, and of processors, those of all its processes included."""
    # They are waited for here if whoever started them is gone.
    ctypes.CDLL(None).prctl(_BECOME_A_REAPER, 1)
    before, begun = os.times(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    took_s = time.perf_counter() - begun
    with suppress(ChildProcessError):
        while True:
            os.wait()
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return took_s, used


def worst(folder: Path) -> tuple[float, int, int]:
    """The largest relative half-width of any cell; how many cells there are; requests in figures."""
    rows = parquet.read_table(next(folder.glob("*.parquet"))).to_pylist()
    doubtful = [row["label"] for row in rows if "response_s.p99" in row["too_short"].split()]
    if doubtful:
        raise SystemExit(f"too short to believe: {', '.join(doubtful)}")
    widths = [row[f"{FIGURE}_half_width"] / row[FIGURE] for row in rows]
    return max(widths), len(rows), sum(row["requests"] for row in rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", type=float, nargs="+", default=[0.07, 0.05])
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(argv)
    print("| asked, % | cells | widest, % | requests, million | seconds | CPU seconds |\n|---|---|---|---|---|---|")
    for precision in given.precision:
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "out"
            simqueue = [sys.executable, "-c", "from simqueue.cli.main import main; main()"]
            how = ["--workers", str(given.workers), "--set", f"run.precision={precision}", "--out", str(out)]
            wall_s, used_s = spent_s([*simqueue, "sweep", str(SCENARIO), *how])
            width, cells, requests = worst(out)
        if width > precision:
            raise SystemExit(f"{100 * width:.2g} % is more than the {100 * precision:.2g} % that were asked")
        told = (f"{100 * precision:.3g}", str(cells), f"{100 * width:.1f}", f"{requests / 1e6:.1f}")
        print(f"| {' | '.join((*told, f'{wall_s:.1f}', f'{used_s:.1f}'))} |", flush=True)


if __name__ == "__main__":
    main()
