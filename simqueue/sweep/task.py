"""What is done for a sweep wherever there is a processor: saturation throughputs and the figures of cells."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import get_ident
from typing import Any, NamedTuple

import msgspec

from simqueue.analysis.replications import replicate
from simqueue.config import Scenario
from simqueue.errors import ConfigError, OutputError, SimqueueError
from simqueue.metrics import PERCENTILES
from simqueue.result import Result
from simqueue.sim.simulate import fitted, saturation_rps
from simqueue.sweep import store
from simqueue.sweep.content import longest, surroundings
from simqueue.system import System
from simqueue.workload import TraceWarning, Workload, WorkloadSpec, make_workload

Row = dict[str, Any]
STATS = ("mean", *(f"p{p}" for p in PERCENTILES), "max")


@dataclass(frozen=True)
class Failure:
    """Why a cell has no figures, in one line."""

    reason: str


class Task(NamedTuple):
    """One cell, or the saturation throughput of one system.

    Attributes:
        scenario: what to simulate.
        seen: `surroundings` of whoever asks.
        load: the rate as a fraction of the saturation throughput, or None: the rate is the scenario's own.
        saturation_rps: None if that is what is asked for.
        requests: the file to leave the requests of the first replication in, or None.
    """

    scenario: Scenario
    seen: Mapping[str, str]
    load: float | None = None
    saturation_rps: float | None = None
    requests: Path | None = None


def done(task: Task) -> Row | Failure:
    """The figures that are asked for, or why there are none.

    Raises:
        ConfigError: this process would have other numbers than whoever asks.
        OutputError: requests cannot be written.
    """
    _refuse_strangers(task)
    try:
        # Whoever asks has made every trace, and has said what is to be said of it.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TraceWarning)
            return _cell(task) if task.saturation_rps is not None else _saturation(task)
    except OutputError:
        raise
    except Exception as error:
        return failure(error)


def failure(error: BaseException) -> Failure:
    """In one line."""
    reason = str(error).partition("\n")[0]
    return Failure(reason if isinstance(error, SimqueueError) else f"{type(error).__name__}: {reason}")


def made(scenario: Scenario, spec: WorkloadSpec, seen: Mapping[str, str]) -> Workload:
    """Cut to the model's context before its rate is set: what is dropped there is no load."""
    workload = _made(spec, scenario.run.seed, scenario.path.parent, frozenset(seen.items()))
    return fitted(workload, scenario.system)


# Both are kept for cells that have them in common, and by what is `seen` too: a worker may outlive the files' content.


@lru_cache(maxsize=2)
def _made(spec: WorkloadSpec, seed: int, base: Path, seen: frozenset[tuple[str, str]]) -> Workload:
    return make_workload(spec, seed, base)


@lru_cache(maxsize=16)
def _first_equal(cost: Any, seen: frozenset[tuple[str, str]], thread: int) -> Any:
    """Which keeps what it has read and worked out: each thread its own, for nothing there waits for another."""
    return cost


def _system(task: Task) -> System:
    system = task.scenario.system
    cost: Any = system.cost
    return msgspec.structs.replace(system, cost=_first_equal(cost, frozenset(task.seen.items()), get_ident()))


def _refuse_strangers(task: Task) -> None:
    """Numbers from another version, or of other files, are not mixed with ours."""
    ours = surroundings(task.scenario)
    for what in task.seen.keys() | ours.keys():
        here, there = ours.get(what, "none"), task.seen.get(what, "none")
        if here != there:
            raise ConfigError(f"a worker has {_named(what, here)}, and not {_named(what, there)} as here: {_REMEDY}")


_REMEDY = "start the workers with the same versions and the same files"


def _named(what: str, which: str) -> str:
    return f"{what} {which[:12]}"


def _saturation(task: Task) -> Row:
    workload = made(task.scenario, longest(task.scenario), task.seen)
    return {"saturation_rps": saturation_rps(workload, _system(task))}


def _cell(task: Task) -> Row:
    scenario, how = task.scenario, task.scenario.run
    assert task.saturation_rps is not None
    found = replicate(
        scenario.workload,
        _system(task),
        seed=how.seed,
        replications=how.replications,
        warmup=how.warmup,
        precision=how.asked_precision,
        base=scenario.path.parent,
        rate=None if task.load is None else task.load * task.saturation_rps,
        saturation_rps=task.saturation_rps,
    )
    if task.requests is not None:
        assert isinstance(found.first, Result)
        _leave_requests(found.first, task.requests)
    return _figures(task.load, found.summary())


def _leave_requests(result: Result, path: Path) -> None:
    from pyarrow import parquet

    from simqueue.results import requests_table

    content = io.BytesIO()
    parquet.write_table(requests_table(result), content)
    store.write(path, content.getvalue())


def _figures(load: float | None, summary: dict[str, Any]) -> Row:
    """A summary with its tables laid flat, and behind it the half-widths of the intervals."""
    half_width, short = summary.pop("half_width"), summary.pop("too_short")
    if "precision" in summary:
        summary["precision"] = {name: summary["precision"][name] for name in ("asked", "reached")}
    rate, saturation = summary.pop("offered_rps"), summary.pop("saturation_rps")
    return {
        "load": rate / saturation if load is None else load,
        "rate": rate,
        "saturation_rps": saturation,
        **_flat(_with_clients(summary)),
        **{f"{name}_half_width": _known(value) for name, value in _flat(_with_clients(half_width)).items()},
        "too_short": " ".join(one["figure"] for one in short),
    }


def _known(half_width: float) -> float | None:
    return None if math.isnan(half_width) else half_width


def _with_clients(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The rows of classes of clients as tables named after them."""
    named = {
        f"{told['client']}.{key}": value
        for told in summary.get("by_client", ())
        for key, value in told.items()
        if key != "client"
    }
    return {key: value for key, value in summary.items() if key not in ("by_client", "level", "note")} | named


def _flat(figures: Mapping[str, Any]) -> Row:
    row: Row = {}
    for key, value in figures.items():
        if value is None and key.endswith("_s"):
            value = dict.fromkeys(STATS)
        row |= {f"{key}_{name}": number for name, number in value.items()} if isinstance(value, dict) else {key: value}
    return row
