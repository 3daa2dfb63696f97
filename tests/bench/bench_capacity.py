"""How right and how quick `simqueue capacity` is: ``python tests/bench/bench_capacity.py`` prints both tables of
docs/capacity.md.

Right: highest rates asked for with many seeds, of single servers whose root is known exactly, and of GPT-2 as measured
on an H200, whose root is found once with far longer runs. How often does the interval of the root cover it, and how
often is the answer not above it? Quick: the command itself, from a cold start, with its figure.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from bench_control import ALONE
from scipy.optimize import brentq

from simqueue import Affine, Continuous, Measured, System, WorkloadSpec
from simqueue.capacity.rate import Highest, highest_rate
from simqueue.capacity.slo import limits_of
from simqueue.capacity.trial import Case
from simqueue.capacity.trials import Trials
from simqueue.pool import cpus, pool
from simqueue.theory import MD1, MM1
from simqueue.workload import Fixed, Geometric, Lognormal, Poisson

ONE, STEPS = Fixed(value=1), 1000
# Service takes a second: always, or a geometric number of milliseconds, which is exponential to one in a thousand.
ALWAYS = System(policy=ALONE, cost=Affine(base_s=1.0))
RANDOM = System(policy=ALONE, cost=Affine(base_s=1 / STEPS))
GPT2 = System(policy=Continuous(max_seqs=64), cost=Measured(name="gpt2-h200-bf16-graph"))
# As `simqueue init` writes it.
PROMPTS, OUTPUTS = Lognormal(mean=60, cv=0.66, max=512), Geometric(mean=40, max=512)
QUEUES = {
    "M/M/1": (RANDOM, ONE, Geometric(mean=STEPS)),
    "M/D/1": (ALWAYS, ONE, ONE),
    "GPT-2 on an H200": (GPT2, PROMPTS, OUTPUTS),
}
# Exact rates at which figures are at their limits.
EXACT = {
    ("M/M/1", "response_s.mean <= 4"): lambda rate: MM1(rate, 1.0).mean_response_s - 4,
    ("M/M/1", "response_s.p99 <= 20"): lambda rate: MM1(rate, 1.0).response_quantile_s(0.99) - 20,
    ("M/D/1", "response_s.mean <= 3"): lambda rate: MD1(rate, 1.0).mean_response_s - 3,
    ("M/D/1", "response_s.p99 <= 8"): lambda rate: MD1(rate, 1.0).response_quantile_s(0.99) - 8,
}
COMMANDS = (
    "tpot_s.mean <= 1.4ms",
    "ttft_s.mean <= 5ms",
    "response_s.p99 <= 0.25",
    "ttft_s.p99 <= 20ms",
    "ttft_s.p99 <= 5ms",
)
_HEADINGS = (
    *("queue", "limit", "root", "precision", "seeds", "covered", "not above", "half-width", "off by", "not reached"),
    *("requests", "CPU s"),
)
_TRUTH_SEED, _TRUTH_PRECISION, _UNLIMITED = 10**6, 0.003, 10**9


class Question(NamedTuple):
    """A queue, its limit and how near the answer shall be."""

    queue: str
    slo: str
    precision: float


def answered(question: Question, seed: int) -> tuple[Highest, int, float]:
    """The answer, how many requests it took, and how many seconds of the processor."""
    system, prompts, outputs = QUEUES[question.queue]
    spec = WorkloadSpec(requests=1000, arrivals=Poisson(rate=0.5), prompt_tokens=prompts, output_tokens=outputs)
    limits = limits_of([question.slo], spec)
    trials, begun = Trials(limits, None, _UNLIMITED), time.process_time()
    found = highest_rate(Case(spec, system, None, seed), limits, trials, question.precision)
    return found, trials.spent, time.process_time() - begun


def chunk(question: Question, seeds: range) -> list[tuple[Highest, int, float]]:
    return [answered(question, seed) for seed in seeds]


def truth(queue: str, slo: str) -> tuple[float, float]:
    """The root, and how far that may be off, as a share of it."""
    if (queue, slo) in EXACT:
        return float(brentq(EXACT[queue, slo], 0.01, 0.99)), 0.0
    found, _, _ = answered(Question(queue, slo, _TRUTH_PRECISION), _TRUTH_SEED)
    assert found.root_rps is not None
    assert found.half_width_rps is not None
    return found.root_rps, found.half_width_rps / found.root_rps


def row(question: Question, root: float, doubt: float, found: Sequence[tuple[Highest, int, float]]) -> str:
    answers = [answer for answer, _, _ in found]
    roots = [(one.root_rps or math.nan, one.half_width_rps or math.nan) for one in answers]
    covered = np.mean([abs(crossing - root) <= half for crossing, half in roots])
    kept = np.mean([(one.rate or 0.0) <= root for one in answers])
    half = np.nanmedian([half / crossing for crossing, half in roots])
    off = np.nanstd([crossing / root for crossing, _ in roots])
    unreached = sum(one.why is not None for one in answers)
    spent, cpu_s = np.median([one[1] for one in found]), np.mean([one[2] for one in found])
    known = f"{root:.4g}" + (f" ± {100 * doubt:.1g} %" if doubt else "")
    return (
        f"| {question.queue} | `{question.slo}` | {known} | {100 * question.precision:g} % | {len(found)} | "
        f"{100 * covered:.1f} % | {100 * kept:.1f} % | {100 * half:.2g} % | {100 * off:.2g} % | {unreached} | "
        f"{spent:,.0f} | {cpu_s:.2f} |"
    )


def rights(seeds: int, workers: int, precisions: Sequence[float], queues: Sequence[str]) -> None:
    """The table of how often answers are right."""
    print("| " + " | ".join(_HEADINGS) + " |")
    print("|---" * len(_HEADINGS) + "|")
    asked = [*EXACT, *(("GPT-2 on an H200", slo) for slo in COMMANDS)]
    with pool(workers) as processes:
        for queue, slo in asked:
            if queue not in queues:
                continue
            root, doubt = truth(queue, slo)
            for precision in precisions:
                question = Question(queue, slo, precision)
                chunks = [range(i, min(i + 5, seeds)) for i in range(0, seeds, 5)]
                parts = [processes.submit(chunk, question, one) for one in chunks] if processes else []
                found = [part.result() for part in parts] or [chunk(question, one) for one in chunks]
                print(row(question, root, doubt, [one for part in found for one in part]), flush=True)


def commands() -> None:
    """The table of what the command takes."""
    print("| limit | answer, requests/s | load | requests | CPU s | on the clock, s |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        simqueue = str(Path(sys.executable).with_name("simqueue"))
        scenario = Path(folder) / "scenario.toml"
        subprocess.run([simqueue, "init", str(scenario)], check=True, stdout=subprocess.DEVNULL)
        for slo in COMMANDS:
            words = [simqueue, "capacity", str(scenario), "--slo", slo, "--out", f"{folder}/out", "--json"]
            before, begun = os.times(), time.perf_counter()
            said = subprocess.run(words, check=True, capture_output=True).stdout
            clock_s, after = time.perf_counter() - begun, os.times()
            cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
            print(told(slo, said, cpu_s, clock_s), flush=True)


def told(slo: str, said: bytes, cpu_s: float, clock_s: float) -> str:
    found = json.loads(said)
    answer, spent = found["answer"], sum(trial["requests"] for trial in found["trials"])
    return f"| `{slo}` | {answer['rate_rps']:.4g} | {answer['load']:.2f} | {spent:,} | {cpu_s:.1f} | {clock_s:.1f} |"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--precisions", type=float, nargs="+", default=[0.1, 0.03, 0.01])
    parser.add_argument("--queues", nargs="*", default=list(QUEUES), help="of the first table; none: only the second")
    parser.add_argument("--workers", type=int, default=cpus())
    given = parser.parse_args(argv)
    if given.queues:
        rights(given.seeds, given.workers, given.precisions, given.queues)
        print()
    commands()


if __name__ == "__main__":
    main()
