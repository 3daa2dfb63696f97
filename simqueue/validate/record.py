"""What a validation found, as one JSON file: a line a cell, each with where it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from simqueue.errors import OutputError

# What later versions added may be missing: it is None then.
SCHEMA = 1
# An error within so many spreads of the live system cannot be told from none.
SPREADS = 2.0
Verdict = Literal["reached", "MISSED", "not told apart", "not judged"]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every part: unknown keys are refused."""


class Figure(_Strict, frozen=True):
    """One figure of merit, live and predicted.

    Attributes:
        live: of each repeat; None where a run has no such figure.
        simulated: the mean over the noise seeds.
        deviation: the standard deviation over the noise seeds.
        error: simulated / mean of live - 1; None where either is missing or the live mean is 0.
        spread: standard deviation over the repeats / their mean, the noise floor; None of a single repeat.
        target: what the size of the error may be; None where nothing is judged.
        verdict: whether it is as small as `allowed`, "not told apart" where the live runs scatter too widely to tell;
            ``why`` says what keeps it from being judged.
    """

    live: tuple[float | None, ...]
    simulated: float | None
    deviation: float | None
    error: float | None
    spread: float | None
    target: float | None = None
    verdict: Verdict = "not judged"
    why: str = ""

    @property
    def allowed(self) -> float | None:
        """The target, or the noise floor where that is larger."""
        return None if self.target is None else max(self.target, SPREADS * (self.spread or 0.0))

    @property
    def by_the_floor(self) -> bool:
        """Whether it is reached thanks to the noise floor alone."""
        return self.verdict == "reached" and abs(self.error or 0.0) > (self.target or 0.0)


class Curves(_Strict, frozen=True):
    """The drawn columns of one quantity: each live repeat, and over the noise seeds the lowest, mean and highest."""

    live: tuple[tuple[float, ...], ...]
    low: tuple[float, ...]
    mean: tuple[float, ...]
    high: tuple[float, ...]


class Steps(_Strict, frozen=True):
    """Live steps of one kind against what the cost model says of their shapes (see `simqueue.validate.steps`), without
    noise.

    Attributes:
        count: over all repeats.
        live_s, predicted_s: mean duration.
        share: of the time that all steps took.
        error: predicted / live - 1.
    """

    count: int
    live_s: float
    predicted_s: float
    share: float
    error: float


class Cell(_Strict, frozen=True):
    """One cell of a scenario.

    Attributes:
        file, label: its scenario's file name and its name there.
        series: the label without the load.
        key: a digest of all that it depends on: two cells with one key are the same experiment.
        load: the arrival rate as a share of the predicted saturation; above 1 everybody soon waits, and what the
            system gets through is its saturation. None in a closed loop, as ``rate_rps``.
        requests, counted: in a run, and those after the warm-up.
        seeds: noise seeds that were simulated.
        outcomes: of the requests of all repeats.
        saturation_rps: as predicted.
        figures: by metric and statistic, times in seconds.
        elasticity: by metric and statistic: by how many per cent it grows if every step takes one per cent longer.
        steps: by kind (``decode``, ``prefill``, ``mixed``): where an error of the cost model lies.
        client_s: mean, p50 and p99 of what only a live run has, such as how late requests were sent.
        host_s: mean seconds a step of each part of the live loop.
        quantiles: of response and TTFT at `simqueue.validate.measure.LEVELS`, seconds.
        waiting: mean number of waiting requests in equal parts of ``span_s`` seconds from the first arrival.
        provenance: machine, versions, profile, scenario, command.
        plans, differing_plans: that were made in all live runs, and those of them that a fresh engine, told the same,
            makes otherwise; None where the journals were not replayed.
        stolen: processor time that the hypervisor gave to others while the cell ran live, as a share of the time that
            was used; None where nobody counted.
    """

    file: str
    label: str
    series: str
    key: str
    load: float | None
    rate_rps: float | None
    requests: int
    counted: int
    seeds: int
    outcomes: dict[str, int]
    saturation_rps: float
    figures: dict[str, dict[str, Figure]]
    elasticity: dict[str, dict[str, float]]
    steps: dict[str, Steps]
    client_s: dict[str, dict[str, float]]
    host_s: dict[str, float]
    quantiles: dict[str, Curves]
    waiting: Curves
    span_s: float
    provenance: dict[str, Any]
    plans: int | None = None
    differing_plans: int | None = None
    stolen: float | None = None

    @property
    def name(self) -> str:
        """Unique in a validation."""
        return f"{self.file}: {self.label}"

    @property
    def repeats(self) -> int:
        """Live runs."""
        return len(self.waiting.live)

    def verdicts(self) -> dict[tuple[str, str], Figure]:
        """The figures that have a target, by metric and statistic."""
        return {
            (metric, statistic): figure
            for metric, statistics in self.figures.items()
            for statistic, figure in statistics.items()
            if figure.target is not None or figure.why
        }


class Validation(_Strict, frozen=True):
    """All cells of a folder."""

    schema: int = SCHEMA
    cells: tuple[Cell, ...] = ()


class _Version(msgspec.Struct):
    schema: int


def encode(validation: Validation) -> bytes:
    """As strict JSON, a cell on each line."""
    cells = b",\n".join(msgspec.json.encode(cell) for cell in validation.cells)
    return b'{"schema": %d, "cells": [\n%s\n]}\n' % (validation.schema, cells)


def decode(raw: bytes, path: Path) -> Validation:
    """What `encode` wrote. Raises OutputError."""
    try:
        version = msgspec.json.decode(raw, type=_Version).schema
        if version != SCHEMA:
            raise OutputError(f"{path}: schema {version}, but this simqueue reads {SCHEMA}: validate in another folder")
        return msgspec.json.decode(raw, type=Validation)
    except msgspec.MsgspecError as error:
        raise OutputError(
            f"{path}: is no validation of simqueue, or not whole ({error}): restore it, or move it away, after which "
            "all runs live again (the runs beside it can still be read), or give another folder"
        ) from None
