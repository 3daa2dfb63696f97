"""One calibration from the model to the profile's file: load, check the machine, capture, measure, fit, write."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from calibration.build import build, cells_of
from calibration.measure import measure, unknown
from calibration.ramp import lengths_for, ramp, runs_of
from calibration.records import append, beside, recorded
from calibration.samples import Recorder
from calibration.watch import watched
from simqueue.checks import one_of
from simqueue.cost.profile import Measured
from simqueue.errors import ConfigError
from simqueue.live.device.eager import EagerExecutor
from simqueue.live.device.graph import GraphExecutor
from simqueue.live.device.load import DTYPES, Loaded, load
from simqueue.live.device.machine import describe, notes
from simqueue.live.device.make import captured
from simqueue.live.device.memory import cache_shape
from simqueue.live.log import log
from simqueue.live.serve import serve
from simqueue.profile import Profile, save_profile
from simqueue.system import System
from simqueue.workload import Lengths

Stepper = GraphExecutor | EagerExecutor

_LEAST_MINUTES = 0.05
_LOG_EVERY_S = 15.0
_FIT_S = 5.0
# Shares of the time: for serving, and of that for ramps of load (the rest starts clients and drains queues).
_SERVING, _RAMPS = 0.25, 0.85


@dataclass(frozen=True)
class Plan:
    """What to calibrate: a model, a way of running it, and how long it may take.

    ``lengths`` are those of prompts and answers in the serving runs; what suits the window unless given.

    Raises:
        ConfigError: a field cannot be used.
    """

    model: str
    runner: str
    dtype: str
    device: str
    out: Path
    name: str
    minutes: float
    max_rows: int
    max_context: int
    lengths: tuple[Lengths, Lengths] | None = None

    def __post_init__(self) -> None:
        one_of("calibrate", "runner", self.runner, ("graph", "eager"))
        one_of("calibrate", "dtype", self.dtype, tuple(DTYPES))
        if not (math.isfinite(self.minutes) and self.minutes >= _LEAST_MINUTES):
            raise ConfigError(f"minutes = {self.minutes} must be a finite number of at least {_LEAST_MINUTES}")
        if self.max_rows < 2:
            raise ConfigError(f"max rows = {self.max_rows} must be at least 2")
        if self.max_context < 32:
            raise ConfigError(f"max context = {self.max_context} must be at least 32")

    def command(self) -> str:
        """The command line that this is."""
        words = ["simqueue", "calibrate"]
        for field in ("model", "runner", "dtype", "device", "name", "max_rows", "max_context"):
            words += [f"--{field.replace('_', '-')}", str(getattr(self, field))]
        return shlex.join(words)


def calibrate(plan: Plan, executor: Stepper | None = None) -> Profile | None:
    """Measure cells and then serving runs, and write ``out/name.csv``, ``out/name-serving.csv`` and ``out/name.json``;
    None if there was no time to measure every cell.

    Files of samples that are there already are continued. ``executor`` is one of this plan, if there is one already.

    Raises:
        ConfigError: the model has a smaller window, or there is no such model or device.
        KeyboardInterrupt: it was stopped; what was measured is written.
    """
    deadline = time.monotonic() + 60 * plan.minutes - _FIT_S
    loaded = executor.loaded if executor else load(plan.model, plan.dtype, plan.device)
    loaded.check_window(plan.max_context)
    header = _header(plan, loaded)
    log(f"{header['model']} ({header['weights']} weights, {header['dtype']}) on {header['gpu']}, {header['attention']}")
    recorder = Recorder(plan.out / f"{plan.name}.csv", header)
    try:
        _measure(plan, executor or loaded, header, recorder, deadline)
    except KeyboardInterrupt:
        log(f"stopped; what was measured is in {plan.out}, and the same command goes on from there")
        _finish(plan, header, recorder)
        raise
    finally:
        recorder.close()
    return _finish(plan, header, recorder)


def _measure(plan: Plan, what: Stepper | Loaded, header: dict[str, str], recorder: Recorder, deadline: float) -> None:
    cells = cells_of(header)
    cells_end = deadline - _SERVING * (deadline - time.monotonic())
    with _bar(cells_end) as tell:
        executor = _executor(plan, what, tell) if isinstance(what, Loaded) else what
        measure(executor, cells, recorder, cells_end, tell)
    left = len(unknown(cells, recorder.samples))
    log(f"{len(cells) - left} of {len(cells)} medians are known to 1 %")
    serving_s = deadline - max(cells_end, time.monotonic())
    if serving_s > 0 and all(cell in recorder.samples for cell in cells):
        _serve(plan, executor, header, recorder, serving_s)


def _serve(plan: Plan, executor: Stepper, header: dict[str, str], recorder: Recorder, seconds: float) -> None:
    """The live testbed under ramps of load, every policy of `runs_of` once; on disk as each ends.

    Without a progress bar, whose thread would come between the steps.
    """
    profile, made = build(header, recorder.samples, plan.name, recorder.path.name), plan.out / f"{plan.name}.json"
    save_profile(profile, made)
    cost, runs, path = Measured(path=str(made)), runs_of(profile), beside(recorder.path)
    executor.forget()
    first = 1 + int(recorded(path, header).run.max(initial=-1))
    for number in range(first, first + len(runs)):
        run = runs[number % len(runs)]
        system = System(run.policy, cost)
        lengths = run.lengths(plan.lengths or lengths_for(executor.window))
        workload, stages_s = ramp(system, lengths, _RAMPS * run.share * seconds, number)
        log(f"serving {run.name}: {len(workload)} requests in {stages_s[-1] + stages_s[1]:.0f} s")
        served = serve(workload, system, executor, seed=number)
        if served.interrupted:
            raise KeyboardInterrupt
        append(path, header, watched(served, run.policy, stages_s, number))


def _finish(plan: Plan, header: dict[str, str], recorder: Recorder) -> Profile | None:
    cells = cells_of(header)
    done = sum(cell in recorder.samples for cell in cells)
    if done < len(cells):
        log(f"{done} of {len(cells)} cells are measured, too few for a profile: the same command goes on from there")
        return None
    records = recorded(beside(recorder.path), header)
    profile = build(header, recorder.samples, plan.name, recorder.path.name, records)
    if profile.serving is None:
        log("too few steps were served to say what serving adds: the same command goes on from there")
    save_profile(profile, plan.out / f"{plan.name}.json")
    log(f"wrote {plan.out / plan.name}.json")
    return profile


def _executor(plan: Plan, loaded: Loaded, tell: Callable[[str], None]) -> Stepper:
    def progress(done: int, of: int) -> None:
        tell(f"capturing graph {done} of {of}")

    if plan.runner == "eager":
        return EagerExecutor(loaded, plan.max_rows, plan.max_context)
    return captured(loaded, plan.max_rows, plan.max_context, progress)


@contextmanager
def _bar(deadline: float) -> Iterator[Callable[[str], None]]:
    """A progress bar with the time left; lines in place of it where nobody looks at a terminal."""
    begin, last = time.monotonic(), 0.0
    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("starting", total=max(1.0, deadline - begin))

        def tell(line: str) -> None:
            nonlocal last
            now = time.monotonic()
            progress.update(task, description=line, completed=now - begin)
            if not console.is_terminal and now - last > _LOG_EVERY_S:
                last = now
                log(f"{line}, at most {max(0.0, deadline - now):.0f} s to go")

        yield tell


def _header(plan: Plan, loaded: Loaded) -> dict[str, str]:
    config = loaded.model.config
    layers, heads, width = cache_shape(config)
    return {
        **describe(loaded, plan.runner),
        "max_rows": str(plan.max_rows),
        "max_context": str(plan.max_context),
        "parameters": str(loaded.parameters),
        "layers": str(layers),
        "hidden": str(config.hidden_size),
        "kv_hidden": str(heads * width),
        "command": plan.command(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "notes": notes(loaded.device),
    }
