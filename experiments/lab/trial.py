"""One way of serving one workload, run live and simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.machine import Machine
from simqueue.errors import SimqueueError
from simqueue.live.serve import Served, serve
from simqueue.policy import BatchingPolicy
from simqueue.result import Result
from simqueue.sim.simulate import simulate
from simqueue.validate.measure import figures
from simqueue.workload import Workload

SEED = 1
NOISE_SEEDS = 10
# Short runs are repeated: one alone may have met anything.
_SHORT_S, REPEATS = 1.0, 3
Figures = dict[str, float]


@dataclass(frozen=True)
class Case:
    """What serves, by which policy, and what it meets."""

    machine: Machine
    policy: BatchingPolicy
    workload: Workload

    @property
    def kind(self) -> str:
        """The policy's name."""
        return str(type(self.policy).__struct_config__.tag)  # type: ignore[attr-defined]

    def live(self) -> Served:
        """Run it. Raises KeyboardInterrupt when it was stopped, and SimqueueError when nothing was answered."""
        served = serve(self.workload, self.machine.system(self.policy), self.machine.executor, seed=SEED)
        if served.interrupted:
            raise KeyboardInterrupt
        if served.outcomes["completed"] < len(self.workload):
            raise SimqueueError(f"not every request was answered: {served.outcomes}")
        return served

    def simulated(self, seed: int = SEED) -> Figures:
        """What a simulation of it gives; the seed is the noise's."""
        return summary(simulate(self.workload, self.machine.system(self.policy), seed=seed))


@dataclass(frozen=True)
class Trial:
    """A case by its name.

    Attributes:
        executor: what ran.
        total_s: of each live run.
        live: figures of the run whose total is the median.
        simulated: the mean over noise seeds, on the same workload.
        requests: of that live run, by request: see `by_request`.
        answers: what each request was answered.
    """

    name: str
    case: Case
    total_s: Sequence[float]
    live: Figures
    simulated: Figures
    requests: dict[str, list[float]]
    answers: Sequence[Sequence[int]]
    held: float

    @property
    def executor(self) -> str:
        return self.case.machine.executor.describe()["runner"]


def attempt(name: str, case: Case) -> Trial:
    """Run a case live, more than once if it is short, and simulate it."""
    runs = [case.live()]
    while len(runs) < REPEATS and _total_s(runs[0]) < _SHORT_S:
        runs.append(case.live())
    typical = sorted(runs, key=_total_s)[len(runs) // 2]
    result = _result(typical)
    steps = result.steps()
    held = float(steps["held_rows"].sum() / steps["batch_size"].sum())
    simulated = mean([case.simulated(seed) for seed in range(NOISE_SEEDS)])
    totals = [_total_s(run) for run in runs]
    return Trial(name, case, totals, summary(result), simulated, by_request(result), typical.answers, held)


def summary(result: Result) -> Figures:
    """What the lab looks at: seconds, tokens per second, and the batch as a request sees it on average."""
    found = figures(result)
    total_s = float(result.grid.seconds(result.finished.max() - result.arrival.min()))
    picked: dict[str, Any] = {
        "total_s": total_s,
        "tokens_per_s": int(result.workload.output_tokens.sum()) / total_s,
        "queueing_s": found["queueing_s"]["mean"],
        "service_s": found["service_s"]["mean"],
        "response_s": found["response_s"]["mean"],
        "response_p99_s": found["response_s"]["p99"],
        "ttft_s": found["ttft_s"]["mean"],
        "batch_size": found["batch_size"]["mean_per_request"],
    }
    return picked


def by_request(result: Result) -> dict[str, list[float]]:
    """Of every request: tokens, when it asked, queueing, service, response, and the mean size of its steps' batches."""
    ends, rows = result.step_ends, result.steps()["batch_size"]
    passed = np.concatenate([[0], np.cumsum(rows)])
    first = np.searchsorted(ends, result.scheduled, "right")
    last = np.searchsorted(ends, result.finished - result.delivery, "right")
    columns = {
        "prompt_tokens": result.workload.prompt_tokens,
        "output_tokens": result.workload.output_tokens,
        "arrival_s": result.grid.seconds(result.arrival - result.arrival.min()),
        "queueing_s": result.grid.seconds(result.queueing),
        "service_s": result.grid.seconds(result.service),
        "response_s": result.grid.seconds(result.response),
        "batch_size": (passed[last] - passed[first]) / np.maximum(1, last - first),
    }
    return {name: column.tolist() for name, column in columns.items()}


def mean(every: Sequence[Figures]) -> Figures:
    """Figure by figure."""
    return {name: float(np.mean([one[name] for one in every])) for name in every[0]}


def same_tokens(trial: Trial, other: Trial) -> float:
    """The share of tokens that two trials have in common, position by position."""
    pairs = [
        (a, b) for one, two in zip(trial.answers, other.answers, strict=True) for a, b in zip(one, two, strict=True)
    ]
    return float(np.mean([a == b for a, b in pairs]))


def _result(run: Served) -> Result:
    assert run.result is not None
    return run.result


def _total_s(run: Served) -> float:
    return summary(_result(run))["total_s"]
