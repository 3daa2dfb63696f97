"""What is validated: the cells of scenario files, with the workload that both sides meet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from simqueue import sweep
from simqueue.config import Scenario, read_table
from simqueue.cost.noise import NoNoise
from simqueue.errors import ConfigError, SimqueueError
from simqueue.sim.simulate import fitted, saturation_rps, simulate
from simqueue.sweep.content import Content
from simqueue.testbed import Live
from simqueue.workload import Workload, make_workload


@dataclass(frozen=True)
class Case:
    """A cell to be run live and simulated.

    Attributes:
        file, label, series: as in `simqueue.validate.record.Cell`.
        scenario: what to run.
        load: the rate as a share of the predicted saturation; None in a closed loop.
        saturation_rps: that prediction.
        workload: what both sides meet.
        at_load: whether the rate was chosen for that load.
    """

    file: str
    label: str
    series: str
    scenario: Scenario
    load: float | None
    saturation_rps: float
    workload: Workload
    at_load: bool

    @property
    def name(self) -> str:
        """Unique among the cells of a validation."""
        return f"{self.file}: {self.label}"

    @property
    def live(self) -> Live:
        """What runs it."""
        assert self.scenario.live is not None
        return self.scenario.live

    @property
    def device(self) -> tuple[Any, ...]:
        """The same for all cases that one executor can run; a pretended device takes the time of one cost model."""
        system = self.scenario.system
        pretended = (system.cost, system.noise, system.max_context_tokens, self.scenario.run.seed)
        return (self.live, *(pretended if self.live.executor == "sleep" else ()))

    def expected_s(self) -> float:
        """Seconds that one live run takes, if the prediction holds."""
        quiet = msgspec.structs.replace(self.scenario.system, noise=NoNoise())
        result = simulate(self.workload, quiet)
        return float(result.grid.seconds(result.finished.max()))


def files_of(paths: Iterable[Path]) -> list[Path]:
    """The scenario files that are meant; of a folder all that end in ``.toml``, by name.

    Raises:
        ConfigError: a folder has none, or two files have one name, by which their cells are told apart.
    """
    files = [file for path in paths for file in _files(path)]
    stems = [file.stem for file in files]
    for i, file in enumerate(files):
        first = files[stems.index(file.stem)]
        if stems.index(file.stem) < i:
            raise ConfigError(f"{file}: its cells would have the names of those of {first}: rename one of the files")
    return files


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.toml"))
    if not files:
        raise ConfigError(f"{path}: has no scenario file (*.toml) in it: give one, or another folder")
    return files


def tables(paths: Iterable[Path], overrides: Iterable[str]) -> dict[Path, dict[str, Any]]:
    """The tables of every scenario file that is meant, overrides applied.

    Raises:
        ConfigError: a file cannot be read, or has no [live] table.
    """
    overrides = list(overrides)
    read = {file: read_table(file, overrides) for file in files_of(paths)}
    for file, table in read.items():
        if "live" not in table:
            raise ConfigError(f'{file}: has no [live] table, which says what runs: add [live] and executor = "graph"')
    return read


def cases(tables: Mapping[Path, Mapping[str, Any]]) -> list[Case]:
    """Every cell of every file, those that one executor can run next to each other.

    Raises:
        SimqueueError: a file, or a cell of it, is no scenario.
    """
    found = [case for file, table in tables.items() for case in _cases(table, file)]
    devices = [case.device for case in found]
    return [case for _, case in sorted(enumerate(found), key=lambda item: (devices.index(devices[item[0]]), item[0]))]


def _cases(table: Mapping[str, Any], path: Path) -> Iterator[Case]:
    capacity: dict[str, float] = {}
    for cell in _plan(table, path).cells:
        try:
            workload, alike = _workload(cell.scenario), Content.of(cell.scenario).saturation
            if alike not in capacity:
                capacity[alike] = saturation_rps(workload, cell.scenario.system)
        except SimqueueError as error:
            raise type(error)(f"{path}: {error} (in the cell {cell.label})") from None
        saturation = capacity[alike]
        if cell.load is not None:
            workload = workload.at_rate(cell.load * saturation)
        load = None if workload.closed_loop else workload.rate / saturation
        yield Case(path.stem, cell.label, cell.series, cell.scenario, load, saturation, workload, cell.load is not None)


def _plan(table: Mapping[str, Any], path: Path) -> sweep.Plan:
    """A scenario without a sweep is one cell: that of its own seed."""
    alone = {"run.seed": [table.get("run", {}).get("seed", 0)]}
    return sweep.plan(table if "sweep" in table else {**table, "sweep": alone}, path)


def _workload(scenario: Scenario) -> Workload:
    return fitted(make_workload(scenario.workload, scenario.run.seed, scenario.path.parent), scenario.system)
