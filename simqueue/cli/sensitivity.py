"""`simqueue sensitivity`: what moves a figure most, and what is below what the runs can tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simqueue.cli.table import four_digits, readable, two_digits

if TYPE_CHECKING:
    from simqueue.sensitivity.effect import Effect
    from simqueue.sensitivity.study import Answer, Study

_FIGURE = "response_s.p99"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("sensitivity")(sensitivity)


def sensitivity(
    file: Annotated[Path, typer.Argument(help="The scenario, a TOML file.")],
    of: Annotated[
        list[str] | None, typer.Option(help=f"A figure, such as ttft_s.mean; {_FIGURE} if left out. Repeatable.")
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(help="KEY=LOW..HIGH: vary this and nothing else that is not named. rate is one. Repeatable."),
    ] = None,
    method: Annotated[str, typer.Option(help="morris (few runs) or sobol (shares of the variance).")] = "morris",
    max_requests: Annotated[int | None, typer.Option(help="Simulate at most so many requests.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for sensitivity.json, effects.* and a figure.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print answer and evidence as one JSON object.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a value: system.policy.max_batch=16. Repeatable.")
    ] = None,
) -> None:
    """Find out which of load, burstiness, lengths, costs, overheads and policy parameters moves a figure most."""
    from simqueue.pool import cpus, get_ready

    get_ready(cpus())
    from simqueue.folders import refuse_unusable
    from simqueue.results import strict_json
    from simqueue.sensitivity.study import asked

    if out is not None:
        refuse_unusable(out)
    study = asked(file, of or (_FIGURE,), vary or (), method, max_requests, overrides or ())
    with progress("sensitivity") as told:
        answer = study.answered(told)
    if out is not None:
        files = _written(study, answer, strict_json(study.told(answer)), out)
    if as_json:
        typer.echo(strict_json(study.told(answer)), nl=False)
    else:
        _show(study, answer)
    for path in files if out is not None else ():
        typer.echo(f"written to {path}", err=True)


@contextmanager
def progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, if that is a terminal; call what is given with how many points of how many are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TextColumn("points,"), TimeRemainingColumn())
    with Progress(
        *columns, TextColumn("left"), console=console, transient=True, disable=not console.is_terminal
    ) as shown:
        bar = shown.add_task("", total=None)
        yield lambda done, of: shown.update(bar, completed=done, total=of)


def _written(study: Study, answer: Answer, told: bytes, folder: Path) -> list[Path]:
    """Each aside first and then in place."""
    import pyarrow
    from pyarrow import csv, parquet

    from simqueue.folders import written
    from simqueue.plot.sensitivity import plot_sensitivity

    table = pyarrow.Table.from_pylist(answer.effect_rows())
    writers: dict[str, Callable[[Path], object]] = {
        "sensitivity.json": lambda path: path.write_bytes(told),
        "effects.parquet": lambda path: parquet.write_table(table, path),
        "effects.csv": lambda path: csv.write_csv(table, path),
    }
    files = written(folder, writers)
    return [*files, *plot_sensitivity(study, answer, folder / "sensitivity")]


def _show(study: Study, answer: Answer) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for figure, effects in answer.effects.items():
        for line in words(study, answer, figure, effects):
            console.print(line, markup=False)
        console.print(_table(study, answer, figure, effects))
    for line in _notes(study, answer):
        console.print(line, markup=False)


def words(study: Study, answer: Answer, figure: str, effects: Sequence[Effect]) -> Iterator[str]:
    """What the table of a figure says, in sentences."""
    seen = [effect for effect in effects if effect.seen]
    unseen = [effect.parameter for effect in effects if not effect.seen]
    base = in_unit(figure, answer.base.values[study.figures.index(figure)])
    yield f"{figure} is {base} for the scenario as it stands{_load(answer)}."
    if not seen:
        yield "No parameter moves it by more than chance does: more requests would tell smaller effects."
        return
    first, *others = seen
    yield f"What moves it most is {first.parameter}: {_size(study, figure, first)}{_over(study)}."
    if others:
        yield f"Then {', '.join(f'{one.parameter} ({_size(study, figure, one)})' for one in others)}."
    if unseen:
        yield f"Below what these runs can tell: {', '.join(unseen)}."


def _size(study: Study, figure: str, effect: Effect) -> str:
    return f"{100 * effect.size:.2g} %" if study.method == "sobol" else in_unit(figure, effect.size)


def _over(study: Study) -> str:
    return " of the variance" if study.method == "sobol" else " from one end of its range to the other"


def in_unit(figure: str, value: float, digits: Callable[[float], str] = four_digits) -> str:
    """Times with their unit, other figures as they are."""
    if "_s." not in figure:
        return digits(value)
    return f"-{readable(-value, digits)}" if value < 0 else readable(value, digits)


def three_digits(value: float) -> str:
    """The size of an effect."""
    return f"{value:.3g}"


def _load(answer: Answer) -> str:
    return "" if answer.base.load is None else f", at load {answer.base.load:.2g}"


def _table(study: Study, answer: Answer, figure: str, effects: Sequence[Effect]) -> Any:
    """In brackets what is not seen."""
    from rich import box
    from rich.table import Table

    sobol = study.method == "sobol"
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("", overflow="fold", min_width=18)
    for heading in ("range", *(("total", "first order") if sobol else ("effect", "in %", "spread")), "chance"):
        table.add_column(heading, justify="right", no_wrap=True)
    ranges = {parameter.name: f"{parameter.low:.4g} .. {parameter.high:.4g}" for parameter in study.parameters}
    base = answer.base.values[study.figures.index(figure)]
    for effect in effects:
        size, *more = _shares(effect) if sobol else _changes(figure, effect, base)
        name = effect.parameter.removeprefix("workload.").removeprefix("system.")
        table.add_row(name, ranges[effect.parameter], size if effect.seen else f"({size})", *more)
    return table


def _changes(figure: str, effect: Any, base: float) -> Iterator[str]:
    """With the sign of the mean effect."""
    signed = -effect.size if effect.mean < 0 else effect.size
    yield f"{in_unit(figure, signed, three_digits)} ± {in_unit(figure, effect.half_width, two_digits)}"
    yield f"{100 * signed / base:+.2g}" if base else "-"
    yield in_unit(figure, effect.spread, two_digits)
    yield in_unit(figure, effect.noise, two_digits)


def _shares(effect: Any) -> Iterator[str]:
    for value, half in ((effect.size, effect.half_width), (effect.first, effect.first_half_width)):
        yield f"{value:.3f} ± {two_digits(half)}"
    yield two_digits(effect.noise)


def _notes(study: Study, answer: Answer) -> Iterator[str]:
    """Where ranges are from, and what was left out."""
    from simqueue.sensitivity.defaults import CALIBRATION

    if study.width is not None:
        measured = any(parameter.source == CALIBRATION for parameter in study.parameters)
        of_costs = "; of measured costs the 95 % interval that their calibration leaves open" if measured else ""
        yield f"Ranges: {100 * study.width:.3g} % to either side{of_costs}."
    if study.width is not None and study.not_known:
        yield f"Not varied, for the profile does not tell its error: {', '.join(study.not_known)}."
    if answer.unstable:
        yield (
            f"{answer.unstable} of {len(answer.outcomes)} points are unstable; {answer.left_out} points, those that "
            "belong together with them too, are left out. What is said holds for the stable part of the ranges."
        )
    effort = study.effort
    length = "as long as the scenario says" if effort.requests is None else f"of {effort.requests:,} requests"
    runs = "1 run" if effort.replications == 1 else f"{effort.replications} runs"
    yield f"{len(answer.outcomes)} points, each {runs} {length}, with the same customers at all of them."
