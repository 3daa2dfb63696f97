"""`Study`: what `simqueue sensitivity` is asked, read and checked before anything runs, and its answer."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from simqueue.analysis.figures import FIGURES
from simqueue.checks import at_least
from simqueue.config import Scenario, load, named, read_table
from simqueue.errors import ConfigError
from simqueue.pool import cpus
from simqueue.sensitivity import morris, sobol
from simqueue.sensitivity.calibration import coefficients, not_known
from simqueue.sensitivity.defaults import CV, Reader, found, settings
from simqueue.sensitivity.effect import Array, Effect, require_salib
from simqueue.sensitivity.effort import effort_of
from simqueue.sensitivity.parameter import RATE, Parameter, Value, given
from simqueue.sensitivity.runs import Effort, Outcome, Point, outcomes
from simqueue.tables import unknown
from simqueue.workload import Users

METHODS: dict[str, ModuleType] = {"morris": morris, "sobol": sobol}


@dataclass(frozen=True)
class Study:
    """What is asked.

    Attributes:
        file: the scenario.
        overrides: ``key=value``, of the scenario.
        scenario: as it stands.
        figures: that are looked at, by their place in the summary.
        parameters: what varies.
        method: ``morris`` or ``sobol``.
        effort: of each point.
        width: how far what was not measured is varied, as a share of its value; None where ranges were given.
    """

    file: Path
    overrides: tuple[str, ...]
    scenario: Scenario
    figures: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    method: str
    effort: Effort
    width: float | None

    @property
    def names(self) -> list[str]:
        """Of the parameters."""
        return [parameter.name for parameter in self.parameters]

    @property
    def shares(self) -> Array:
        """``(points, parameters)``: where in its range each parameter is at each point."""
        return np.asarray(METHODS[self.method].design(self.names, self.scenario.run.seed))

    def values(self, shares: Sequence[float]) -> tuple[Value, ...]:
        """Of the parameters at a point."""
        return tuple(one.at(share) for one, share in zip(self.parameters, shares, strict=True))

    def point(self, values: Sequence[Value]) -> Point:
        """The scenario with these values. Raises SimqueueError where it cannot have them."""
        overrides, rate = list(self.overrides), None
        # First what may replace all of the arrivals.
        ordered = sorted(zip(self.parameters, values, strict=True), key=lambda pair: pair[0].name != CV)
        for parameter, value in ordered:
            if parameter.name == RATE:
                rate = float(value)
            overrides += settings(self.scenario, parameter, value)
        pairs = zip(self.names, values, strict=True)
        label = ", ".join(f"{name} = {value:.6g}" for name, value in pairs)
        return Point(load(self.file, overrides), rate, label)

    def answered(self, told: Callable[[int, int], None]) -> Answer:
        """Run every point, and the scenario as it stands; ``told`` hears how many of how many are done.

        Raises:
            SimqueueError: a point cannot be run, or too many have no steady state.
        """
        shares = self.shares
        values = [self.values(row.tolist()) for row in shares]
        points = [Point(self.scenario, None, "the scenario as it stands"), *map(self.point, values)]
        paths = [tuple(figure.split(".")) for figure in self.figures]
        with named(self.file):
            base, *at_points = outcomes(points, self.effort, paths, cpus(), lambda done: told(done, len(points)))
            self._refuse_missing(base)
            kept = self._kept(at_points)
            effects = {
                figure: self._effects(shares[kept], [at_points[i] for i in np.flatnonzero(kept)], number)
                for number, figure in enumerate(self.figures)
            }
        return Answer(base, tuple(values), tuple(at_points), tuple(kept.tolist()), effects)

    def _effects(self, shares: Array, kept: list[Outcome], number: int) -> tuple[Effect, ...]:
        """Of one figure, the largest first."""
        whole = np.array([outcome.values[number] for outcome in kept])
        if missing := int(np.count_nonzero(~np.isfinite(whole))):
            raise ConfigError(f"--of {self.figures[number]}: {missing} of {len(whole)} points have no such figure")
        parts = np.array([outcome.parts[number] for outcome in kept]).T
        known = METHODS[self.method].effects(self.names, shares, whole, parts, self.scenario.run.seed)
        return tuple(sorted(known, key=lambda effect: -effect.size))

    def _kept(self, at_points: Sequence[Outcome]) -> NDArray[np.bool_]:
        """Points of groups (trajectories, rows) that have a steady state throughout: the percentile of an unstable
        system depends on how long one looks."""
        size, fewest = METHODS[self.method].groups(len(self.parameters))
        unstable = np.array([outcome.unstable for outcome in at_points])
        stable = np.logical_not(unstable.reshape(-1, size).any(axis=1))
        if stable.sum() < fewest:
            raise ConfigError(
                f"{unstable.sum()} of {len(at_points)} points are unstable, so that of {len(stable)} groups of points "
                f"that belong together {stable.sum()} are left, of {fewest} that it takes: give ranges that stay below "
                "saturation, such as --vary rate=LOW..HIGH"
            )
        return np.repeat(stable, size)

    def _refuse_missing(self, base: Outcome) -> None:
        for figure, value in zip(self.figures, base.values, strict=True):
            if not np.isfinite(value):
                raise ConfigError(f"--of {figure}: these runs have no such figure: name another")

    @property
    def not_known(self) -> list[str]:
        """Costs whose error their profile does not tell."""
        return not_known(coefficients(self.scenario))

    def told(self, answer: Answer) -> dict[str, Any]:
        """Question, answer and evidence, and who says so, in JSON's types."""
        return {
            "question": {
                "file": self.file.name,
                "overrides": list(self.overrides),
                "figures": list(self.figures),
                "method": self.method,
                "parameters": [_range(parameter) for parameter in self.parameters],
                "effort": self.effort._asdict(),
                "seed": self.scenario.run.seed,
            },
            "base": dict(zip(self.figures, answer.base.values, strict=True)),
            "load": answer.base.load,
            "unstable_points": answer.unstable,
            "points_left_out": answer.left_out,
            "effects": {
                figure: [{**msgspec.to_builtins(effect), "seen": effect.seen} for effect in effects]
                for figure, effects in answer.effects.items()
            },
            "error_not_known": self.not_known,
            "points": answer.rows(self),
            "simqueue": version("simqueue"),
            "python": platform.python_version(),
        }


@dataclass(frozen=True)
class Answer:
    """What came out.

    Attributes:
        base: the scenario as it stands.
        values: of the parameters, by point.
        outcomes: by point.
        kept: which points the effects are from.
        effects: by figure, the largest first.
    """

    base: Outcome
    values: tuple[tuple[Value, ...], ...]
    outcomes: tuple[Outcome, ...]
    kept: tuple[bool, ...]
    effects: dict[str, tuple[Effect, ...]]

    @property
    def unstable(self) -> int:
        """How many points have no steady state."""
        return sum(outcome.unstable for outcome in self.outcomes)

    @property
    def left_out(self) -> int:
        """How many points were left out, since one of their group has none."""
        return len(self.kept) - sum(self.kept)

    def effect_rows(self) -> list[dict[str, Any]]:
        """One a figure and parameter."""
        return [
            {"figure": figure, **msgspec.to_builtins(effect), "seen": effect.seen}
            for figure, effects in self.effects.items()
            for effect in effects
        ]

    def rows(self, study: Study) -> list[dict[str, Any]]:
        """One a point: its values, and what was found there."""
        return [
            {
                **dict(zip(study.names, values, strict=True)),
                **dict(zip(study.figures, outcome.values, strict=True)),
                "load": outcome.load,
                "unstable": outcome.unstable,
                "kept": kept,
            }
            for values, outcome, kept in zip(self.values, self.outcomes, self.kept, strict=True)
        ]


def _range(parameter: Parameter) -> dict[str, Any]:
    return {"name": parameter.name, "low": parameter.low, "high": parameter.high, "source": parameter.source}


def asked(
    file: Path,
    of: Sequence[str],
    vary: Sequence[str],
    method: str,
    max_requests: int | None = None,
    overrides: Sequence[str] = (),
) -> Study:
    """Read a question.

    Args:
        file: the scenario.
        of: figures.
        vary: ``KEY=LOW..HIGH``; if there is none, everything that `simqueue.sensitivity.defaults` finds.
        method: see `METHODS`.
        max_requests: to simulate in all; None: as many as the method needs.
        overrides: of the scenario.

    Raises:
        SimqueueError: in one line, what is wrong, where, and what would do.
    """
    require_salib()
    if method not in METHODS:
        raise ConfigError(f"--method {method!r} is none: give one of {', '.join(METHODS)}")
    if max_requests is not None:
        at_least("sensitivity", "--max-requests", max_requests, 1)
    for figure in of:
        if figure not in FIGURES:
            raise unknown("--of", "figure", figure, FIGURES)
    scenario = load(file, overrides)
    if vary:
        parameters, width = _given(vary, scenario), None
    else:
        reader = Reader(read_table(file, overrides), lambda more: load(file, [*overrides, *more]))
        parameters, width = found(reader)
    if len(parameters) < 2:
        raise ConfigError(f"{file}: one parameter alone cannot be compared with others: give two --vary, or none")
    points = 1 + len(METHODS[method].design([one.name for one in parameters], scenario.run.seed))
    effort = effort_of(scenario, METHODS[method].REQUESTS, points, max_requests)
    study = Study(file, tuple(overrides), scenario, tuple(dict.fromkeys(of)), tuple(parameters), method, effort, width)
    for share in (0.0, 1.0):
        study.point(study.values([share] * len(parameters)))
    return study


def _given(vary: Sequence[str], scenario: Scenario) -> list[Parameter]:
    parameters = [given(text) for text in vary]
    names = [parameter.name for parameter in parameters]
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ConfigError(f"--vary {vary[i]!r}: {name} has a range already: leave one of them out")
    if RATE in names and isinstance(scenario.workload.arrivals, Users):
        raise ConfigError(
            f"--vary {vary[names.index(RATE)]!r}: users send as fast as they are answered and have no rate: vary "
            "workload.arrivals.users"
        )
    return parameters
