"""How near to the best point of a space samplers come: `python tests/optimise/bench_samplers.py`.

GPT-2 on an H200 with four policies, their knobs and the load: 779 points, each of them run once. Then every sampler
goes through the table that this makes, with several seeds, in batches as `simqueue optimise` does it. Printed are the
best objective found within the limit, as a share of the best that there is (in the mean, and in the worst tenth of
the cases), and the area that the front found covers, as a share of what the whole front does (objective by logarithm of
latency).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simqueue.capacity.slo import Limit
from simqueue.optimise.goal import Goal
from simqueue.optimise.race import BATCH
from simqueue.optimise.search import Sampled, Search, Worth, violation_of
from simqueue.optimise.space import Choice, Option, Point, Range, Setting, Space
from simqueue.optimise.trial import Task, Trial, tried
from simqueue.pool import pool, submit

LIMIT = Limit("response_s.p99", True, 0.25)
GOAL = Goal((LIMIT,), LIMIT.figure)
LOADS = tuple(round(0.05 * i, 2) for i in range(1, 20))
SIZES, WAITS = (1, 2, 4, 8, 16, 32, 64, 128), (0.0, 0.005, 0.02)
TABLE: dict[str, Any] = {
    "workload": {
        "requests": 10_000,
        "arrivals": {"kind": "poisson", "rate": 1.0},
        "prompt_tokens": {"kind": "lognormal", "mean": 60, "cv": 0.66, "max": 512},
        "output_tokens": {"kind": "geometric", "mean": 40, "max": 512},
    },
    "system": {"cost": {"kind": "profile", "name": "gpt2-h200-bf16-graph-128"}, "policy": {"kind": "none"}},
    "run": {"seed": 1},
}
SIZE, WAIT, LOAD = Range(0, len(SIZES) - 1), Range(0, len(WAITS) - 1), Range(0, len(LOADS) - 1)
# Numbers stand for their places in the lists above.
SPACE = Space(
    {
        "load": LOAD,
        "system.policy": Choice(
            (
                Option("none", None, {}),
                Option("static", None, {"size": SIZE}),
                Option("dynamic", None, {"size": SIZE, "wait": WAIT}),
                Option("continuous", None, {"size": SIZE}),
            )
        ),
    }
)


class Found(NamedTuple):
    """What is known of a point."""

    objective: float
    latency: float
    violation: float


def policy(named: dict[str, Any]) -> dict[str, Any]:
    """The table of the policy of a point."""
    kind, size = named["system.policy"], SIZES[named.get("system.policy.size", 0)]
    knobs = {
        "none": {},
        "static": {"batch": size, "release": "request"},
        "dynamic": {"max_batch": size, "max_wait_s": WAITS[named.get("system.policy.wait", 0)], "release": "request"},
        "continuous": {"max_seqs": size},
    }
    return {"kind": kind, **knobs[kind]}


def simulated(point: Point) -> Found:
    """By the simulator, in short runs."""
    load = LOADS[point.named["load"]]
    settings = (Setting("load", load, load), Setting("system.policy", policy(point.named), ""))
    trial = tried(Task(0, Point(settings), TABLE, Path("bench.toml"), GOAL))
    assert isinstance(trial, Trial)
    figures = trial.figures
    return Found(figures[GOAL.objective].value, figures[GOAL.latency].value, trial.violation(GOAL.limits))


def whole(workers: int) -> dict[str, Found]:
    """Every point of the space."""
    points = list(SPACE.each())
    with pool(workers) as processes:
        found = [one.result() for one in submit(processes, simulated, points)] if processes else map(simulated, points)
        return dict(zip((point.key for point in points), found, strict=True))


class Random(Sampled):
    """No learning."""

    def _made(self, optuna: Any, seed: int) -> Any:
        sampler = optuna.samplers.RandomSampler(seed=seed)
        return optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)


class Genetic(Sampled):
    """NSGA-II, four batches a generation."""

    def _made(self, optuna: Any, seed: int) -> Any:
        sampler = optuna.samplers.NSGAIISampler(population_size=4 * BATCH, constraints_func=violation_of, seed=seed)
        return optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)


class One(Sampled):
    """One objective before the other, in place of both apart."""

    def _made(self, optuna: Any, seed: int) -> Any:
        return optuna.create_study(direction="maximize", sampler=super()._made(optuna, seed).sampler)

    @staticmethod
    def _values(worth: Worth) -> list[float]:
        return [worth.score - worth.latency / (1 + worth.latency)]


SAMPLERS: dict[str, Callable[[Space, int], Search]] = {
    "random": Random,
    "NSGA-II": Genetic,
    "TPE, one": One,
    "TPE": Sampled,
}


def searched(sampler: Callable[[Space, int], Search], found: dict[str, Found], trials: int, seed: int) -> list[Found]:
    """What the sampler finds in the table."""
    search, seen = sampler(SPACE, seed), list[Found]()
    while len(seen) < trials:
        batch = [found[point.key] for point in search.ask(min(BATCH, trials - len(seen)))]
        worths = [Worth(round(GOAL.score(one.objective) / GOAL.precision), one.latency, one.violation) for one in batch]
        search.tell(worths)
        seen += batch
    return seen


def best(found: Sequence[Found]) -> float:
    """The objective within the limit."""
    return max((one.objective for one in found if not one.violation), default=0.0)


def area(found: Sequence[Found]) -> float:
    """Below the front: for each latency the most that is got for it."""
    kept = sorted((one.latency, one.objective) for one in found if not one.violation)
    total, most = 0.0, 0.0
    for (latency, objective), (following, _) in itertools.pairwise([*kept, (LIMIT.bound, 0.0)]):
        most = max(most, objective)
        total += most * math.log(following / latency)
    return total


def main() -> None:
    """Make the table, or read it, and try the samplers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=Path, default=Path("samplers.json"), help="where the table is kept")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    words = parser.parse_args()
    if not words.table.exists():
        words.table.write_text(json.dumps(whole(words.workers)))
    found = {key: Found(*row) for key, row in json.loads(words.table.read_text()).items()}
    top, all_of_it = best(list(found.values())), area(list(found.values()))
    print(
        f"{len(found)} points, the best {top:.4g} requests/s; {sum(not one.violation for one in found.values())} keep"
    )
    for name, sampler in SAMPLERS.items():
        for trials in (40, 100):
            runs = [searched(sampler, found, trials, seed) for seed in range(words.seeds)]
            shares = np.sort([best(run) / top for run in runs])
            tenth = float(np.mean(shares[: max(1, len(shares) // 10)]))
            areas = float(np.mean([area(run) / all_of_it for run in runs]))
            print(f"{name:8} {trials:4} trials: best {shares.mean():.3f} ({tenth:.3f}), front {areas:.3f}", flush=True)


if __name__ == "__main__":
    main()
