"""`Question`: what `simqueue capacity` is asked, read and checked before anything runs."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from simqueue.capacity.evidence import evidence
from simqueue.capacity.rate import Highest, highest_rate
from simqueue.capacity.slo import Limit, limits_of
from simqueue.capacity.trial import Case, Trial
from simqueue.capacity.trials import Trials
from simqueue.capacity.values import Holding, Value, fewest_replicas, values_that_hold
from simqueue.checks import at_least
from simqueue.config import Scenario, load, named
from simqueue.errors import ConfigError
from simqueue.pool import cpus, pool
from simqueue.workload import Users

RATE, REPLICAS = "rate", "cluster.replicas"
_RANGE = re.compile(r"(?P<key>[^=]+)=(?P<low>[^=]+?)\.\.(?P<high>[^=]+)")


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        file: the scenario.
        overrides: ``key=value``, of the scenario.
        scenario: as it stands; with the first of the values, where some are looked through.
        limits: that all shall hold.
        vary: what may change, as it was written.
        precision: see `highest_rate` and `values_that_hold`.
        max_requests: to simulate in all.
    """

    file: Path
    overrides: tuple[str, ...]
    scenario: Scenario
    limits: tuple[Limit, ...]
    vary: str
    precision: float
    max_requests: int

    @property
    def fewest(self) -> bool:
        """Whether the fewest replicas are looked for."""
        return self.vary == REPLICAS

    @property
    def name(self) -> str:
        """Of what varies."""
        return self.vary.partition("=")[0].strip()

    @property
    def caption(self) -> str:
        """The scenario and the limits in one line."""
        changed = f", with {', '.join(self.overrides)}" if self.overrides else ""
        return f"{self.file.name}{changed}, seed {self.scenario.run.seed}: {', '.join(map(str, self.limits))}"

    def case(self, value: Value | None = None) -> Case:
        """What is asked about; with this value of what varies. Raises SimqueueError where that cannot be."""
        scenario = self.scenario
        if value is not None:
            scenario = load(self.file, [*self.overrides, f"{self.name}={value!r}"])
        warmup = scenario.run.warmup
        return Case(
            scenario.workload,
            scenario.cluster or scenario.system,
            scenario.path.parent,
            scenario.run.seed,
            warmup if isinstance(warmup, int) else 0,
        )

    def answered(self, told: Callable[[Trial, int], None]) -> tuple[Highest | Holding, list[Trial]]:
        """The answer and every trial; ``told`` hears of each, and how many requests were simulated so far.

        Raises:
            SimqueueError: a trial cannot be run.
        """
        try:
            with named(self.file), pool(cpus()) as processes:
                trials = Trials(self.limits, processes, self.max_requests, told)
                return self._answer(trials), trials.done
        except BrokenProcessPool:
            raise ConfigError(
                f"{self.file}: a process was ended before its run was over, most likely for want of memory: give less "
                "--max-requests"
            ) from None

    def _answer(self, trials: Trials) -> Highest | Holding:
        if self.vary == RATE:
            return highest_rate(self.case(), self.limits, trials, self.precision)
        if self.fewest:
            return fewest_replicas(self.case, self.limits, trials, self.precision)
        _, low, high = _range(self.vary)
        return values_that_hold(self.case, self.limits, trials, low, high, self.precision)

    def told(self, answer: Highest | Holding, trials: Sequence[Trial]) -> dict[str, Any]:
        """Question, answer and evidence, and who says so, in JSON's types."""
        return {
            "question": {
                "file": self.file.name,
                "overrides": list(self.overrides),
                "slo": [str(limit) for limit in self.limits],
                "vary": self.vary,
                "precision": self.precision,
                "max_requests": self.max_requests,
                "seed": self.scenario.run.seed,
            },
            **evidence(answer, self.limits, trials),
            "simqueue": version("simqueue"),
            "python": platform.python_version(),
        }


def asked(
    file: Path, slo: Sequence[str], vary: str, precision: float, max_requests: int, overrides: Sequence[str] = ()
) -> Question:
    """Read a question.

    Raises:
        SimqueueError: in one line, what is wrong, where, and what would do.
    """
    if not 0 < precision < 0.5:
        raise ConfigError(f"--precision {precision:g} is no share of the answer: give 0.01, say, for 1 %")
    at_least("capacity", "--max-requests", max_requests, 1)
    vary = vary.strip()
    name, *ends = (RATE,) if vary == RATE else (REPLICAS, 1) if vary == REPLICAS else _range(vary)
    scenarios = [load(file, [*overrides, f"{name}={end!r}"]) for end in ends] or [load(file, overrides)]
    if vary == RATE:
        _refuse_users(scenarios[0], file)
    limits = limits_of(slo, scenarios[0].workload)
    return Question(file, tuple(overrides), scenarios[0], limits, vary, precision, max_requests)


def _refuse_users(scenario: Scenario, file: Path) -> None:
    if isinstance(scenario.workload.arrivals, Users):
        raise ConfigError(
            f"{file}: users send as fast as they are answered and have no rate: --vary workload.arrivals.users=1..100, "
            "say, finds how many there may be"
        )


def _range(vary: str) -> tuple[str, Value, Value]:
    """``KEY=LOW..HIGH``."""
    match = _RANGE.fullmatch(vary)
    if match is None:
        raise ConfigError(
            f"--vary {vary!r} is neither {RATE!r} nor {REPLICAS!r} nor a range of a number: write "
            "system.policy.max_batch=1..256"
        )
    low, high = (_number(match[end], vary) for end in ("low", "high"))
    if not low < high:
        raise ConfigError(f"--vary {vary!r}: {low:g} is not below {high:g}: give the lower end first")
    return match["key"].strip(), low, high


def _number(text: str, vary: str) -> Value:
    try:
        return int(text) if re.fullmatch(r"\s*[-+]?\d+\s*", text) else float(text)
    except ValueError:
        raise ConfigError(f"--vary {vary!r}: {text.strip()!r} is no number: write KEY=1..256") from None
