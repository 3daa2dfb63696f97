"""How much sooner a sweep ends on two processors than on one: ``python tests/bench/bench_speedup.py`` prints the table
of docs/scale.md, "Speed-up".

Both sweeps take half a minute or more on two: runs of millions of requests, compiled, of which memory is shared; and
runs of an event loop. Each is run on one and on two, one after the other, several times, cold start and figures
included.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

QUICK = Path(__file__).parents[2] / "experiments" / "latency_vs_load_quick.toml"
MEMORY = """\
[workload]
requests = 10_000
arrivals = { kind = "poisson", rate = 1.0 }
prompt_tokens = { kind = "lognormal", mean = 60, cv = 0.66, max = 512 }
output_tokens = { kind = "geometric", mean = 40, max = 512 }

[system]
cost = { kind = "profile", name = "gpt2-h200-bf16-graph" }
policy = { kind = "vllm" }
memory = { num_blocks = 1024 }

[run]
seed = 1
replications = 4

[sweep]
"system.policy" = [{ kind = "vllm" }, { kind = "sarathi", chunk_size = 256 }, { kind = "tgi" }]
load = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
"""


def seconds(file: Path, how: Sequence[str], workers: int) -> float:
    """On the clock."""
    with tempfile.TemporaryDirectory() as scratch:
        simqueue = [sys.executable, "-c", "from simqueue.cli.main import main; main()"]
        command = [*simqueue, "sweep", str(file), *how, "--workers", str(workers), "--out", f"{scratch}/out"]
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begun


def told(values: Sequence[float], digits: int) -> str:
    """The mean, and the standard error of it."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{statistics.mean(values):.{digits}f} ± {error:.{digits}f}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=3)
    times = parser.parse_args(argv).times
    print("| sweep | times | one, s | two, s | speed-up |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        memory = Path(scratch) / "memory.toml"
        memory.write_text(MEMORY)
        for name, file, how in (
            ("compiled: the everyday figure to 2 %", QUICK, ("--set", "run.precision=0.02")),
            ("event loop: three policies with little memory", memory, ()),
        ):
            pairs = [(seconds(file, how, 1), seconds(file, how, 2)) for _ in range(times)]
            ones, twos = zip(*pairs, strict=True)
            ratios = [one / two for one, two in pairs]
            print(f"| {name} | {times} | {told(ones, 1)} | {told(twos, 1)} | {told(ratios, 2)} |", flush=True)


if __name__ == "__main__":
    main()
