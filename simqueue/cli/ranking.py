"""`simqueue compare` for scenarios: which of them, and how they are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from simqueue.cli.standings import show, words

if TYPE_CHECKING:
    from simqueue.config import Scenario
    from simqueue.ranking.ranking import Ranking

_OF_RUN = ("seed", "warmup", "replications", "max_replications")


@dataclass(frozen=True)
class Told:
    """The answer, ready to be printed, written and drawn."""

    ranking: Ranking
    warnings: Sequence[str]
    files: Sequence[Path]
    about: str

    @cached_property
    def text(self) -> bytes:
        """As one JSON object."""
        from simqueue.results import strict_json

        named = {"scenarios": [str(file) for file in self.files], "words": list(words(self.ranking))}
        return strict_json({**named, **self.ranking.summary(), "warnings": list(self.warnings)})

    def show(self) -> None:
        """Words and tables."""
        show(self.ranking)

    def drawn(self, stem: Path) -> list[Path]:
        """The files of the figure."""
        from simqueue.plot.ranking import plot_ranking

        return plot_ranking(self.ranking, self.about, stem)


def between(files: Sequence[Path], by: str, indifference: float, overrides: Sequence[str]) -> Told:
    """Compare scenarios; what is to be warned of is printed before anything runs.

    Raises:
        SimqueueError: in one line, what is wrong, where, and what would do.
    """
    from simqueue.pool import cpus, get_ready

    get_ready(cpus())
    from simqueue.ranking.pairing import unlike
    from simqueue.ranking.rank import rank
    from simqueue.ranking.runs import Competitor

    scenarios = _scenarios(files, overrides)
    competitors = [
        Competitor(name, each.workload, each.cluster or each.system, each.path.parent)
        for name, each in scenarios.items()
    ]
    warnings = [*_runs_differ(scenarios), *unlike(competitors)]
    for warning in warnings:
        typer.echo(f"warning: {warning}", err=True)
    how = next(iter(scenarios.values())).run
    with _progress() as told:
        ranking = rank(
            competitors,
            by=by,
            indifference=indifference,
            seed=how.seed,
            replications=how.replications,
            max_replications=how.max_replications,
            warmup=how.warmup,
            workers=cpus(),
            told=told,
        )
    changed = f", with {', '.join(overrides)}" if overrides else ""
    about = f"{', '.join(file.name for file in files)}{changed}, seed {how.seed}"
    return Told(ranking, warnings, files, about)


def _scenarios(files: Sequence[Path], overrides: Sequence[str]) -> dict[str, Scenario]:
    """By name: those of the files, or the cells of a sweep."""
    from simqueue.config import load, read_table
    from simqueue.errors import ConfigError

    if len(files) == 1:
        return _cells(read_table(files[0], overrides), files[0])
    places = [file.resolve() for file in files]
    for i, file in enumerate(files):
        if places[i] in places[:i]:
            raise ConfigError(f"{file}: is given twice, and would not differ from itself: give it once")
    stems = [file.stem for file in files]
    names = stems if len(set(stems)) == len(stems) else [str(file.with_suffix("")) for file in files]
    scenarios = [load(file, overrides) for file in files]
    for file, scenario in zip(files, scenarios, strict=True):
        if scenario.sweep is not None:
            typer.echo(f"notice: {file}: [sweep] is ignored beside other files", err=True)
    return dict(zip(names, scenarios, strict=True))


def _cells(table: dict[str, Any], file: Path) -> dict[str, Scenario]:
    """Every combination of a sweep as a scenario."""
    from simqueue.config import scenario_from
    from simqueue.errors import ConfigError
    from simqueue.sweep import plan

    if not table.get("sweep"):
        scenario_from(table, file)
        raise ConfigError(
            f"{file}: is one scenario: give a second one, or results, or a [sweep] table whose cells are to be compared"
        )
    cells = plan(table, file).cells
    if cells[0].load is not None:
        raise ConfigError(
            f"{file}: sweep: load gives each system a rate of its own, and so other customers: compare at one, "
            "workload.arrivals.rate"
        )
    return {cell.label: cell.scenario for cell in cells}


def _runs_differ(scenarios: dict[str, Scenario]) -> Iterator[str]:
    """All are run in one way, that of the first."""
    (first, one), *others = scenarios.items()
    for name, other in others:
        keys = [key for key in _OF_RUN if getattr(other.run, key) != getattr(one.run, key)]
        if keys:
            given = ", ".join(f"{key} = {getattr(other.run, key)}" for key in keys)
            yield f"{name}: {given} is not used: all are run as {first}, so that they meet the same customers"


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """What is under way, where somebody looks."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda replications, left: None
        return
    with console.status("") as status:
        yield lambda replications, left: status.update(f"{replications} replications of each of {left} scenarios")
