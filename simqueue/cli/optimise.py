"""`simqueue optimise`: the best of several parameters at once, and the front of latency against throughput."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simqueue.cli.table import readable, two_digits, within

if TYPE_CHECKING:
    from simqueue.analysis.interval import Interval
    from simqueue.optimise.answer import Answer
    from simqueue.optimise.front import Gap
    from simqueue.optimise.question import Question
    from simqueue.optimise.race import Race
    from simqueue.optimise.trial import Trial

_INTERRUPTED = 130
_WORDS = {"per_replica_rps": "requests/s per replica", "cost_per_million_tokens": "cost per million output tokens"}


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("optimise")(optimise)


def optimise(
    file: Annotated[Path, typer.Argument(help="The scenario, a TOML file; an [optimise] table says what may vary.")],
    vary: Annotated[
        list[str] | None,
        typer.Option(help="KEY=LOW..HIGH or KEY=[A, B]: one more key of [optimise]. load and rate too. Repeatable."),
    ] = None,
    slo: Annotated[
        list[str] | None, typer.Option(help='A limit, such as "ttft_s.p99 <= 200ms". Repeatable: all shall hold.')
    ] = None,
    latency: Annotated[str, typer.Option(help="The figure that throughput is set against.")] = "response_s.p99",
    price: Annotated[
        float | None, typer.Option(help="Of a GPU for an hour: look for the least cost of output tokens.")
    ] = None,
    gpus: Annotated[int, typer.Option(help="GPUs that a replica takes, for --price.")] = 1,
    trials: Annotated[int, typer.Option(help="Points to try.")] = 100,
    max_requests: Annotated[int, typer.Option(help="Simulate at most so many requests.")] = 10_000_000,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a CPU if left out.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for optimise.json, best.toml, trials.* and the figure.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print answer and evidence as one JSON object.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a value: system.policy.max_batch=16. Repeatable.")
    ] = None,
) -> None:
    """Find the parameters with the most goodput per replica (with --price the least cost per token) that keep every
    limit, and what less latency would cost."""
    from simqueue.pool import cpus, get_ready

    get_ready(workers or cpus())
    from simqueue.folders import refuse_unusable
    from simqueue.optimise.answer import answer_of
    from simqueue.optimise.evidence import told
    from simqueue.optimise.question import asked
    from simqueue.results import strict_json

    question = asked(
        file,
        vary=vary or (),
        slo=slo or (),
        latency=latency,
        price=price,
        gpus=gpus,
        trials=trials,
        max_requests=max_requests,
        overrides=overrides or (),
    )
    if out is not None:
        refuse_unusable(out)
    race, interrupted = _run(question, workers or cpus())
    answer = answer_of(race)
    evidence = strict_json(told(question, race, answer))
    files = _written(question, race, answer, evidence, out) if out is not None else []
    if as_json:
        typer.echo(evidence, nl=False)
    else:
        _show(question, race, answer)
    for path in files:
        typer.echo(f"written to {path}", err=True)
    if interrupted:
        stage = "not all were" if race.finalists else "none was"
        tried = f"{len(race.found)} of {question.trials} points tried"
        typer.echo(f"simqueue: interrupted: {tried}, {stage} run again with fresh seeds", err=True)
        raise typer.Exit(_INTERRUPTED)


def _run(question: Question, workers: int) -> tuple[Race, bool]:
    """What was found, and whether it was interrupted before its end. With nothing to keep that is all there is."""
    with _progress(question) as shown:
        race = question.race(shown)
        try:
            question.run(race, workers)
        except KeyboardInterrupt:
            if not race.searched:
                raise
            return race, True
    return race, False


@contextmanager
def _progress(question: Question) -> Iterator[Callable[[Race], None]]:
    """A bar on stderr, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("points,"))
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        bar = progress.add_task("search", total=int(min(question.trials, question.space.size)))

        def shown(race: Race) -> None:
            stage = f"again, {len(race.finalists)} done" if race.finalists else "search"
            progress.update(bar, completed=race.asked, description=f"{stage} ({race.spent:,} requests)")

        yield shown


def _written(question: Question, race: Race, answer: Answer, evidence: bytes, folder: Path) -> list[Path]:
    """Each file aside first and then in place."""
    import pyarrow
    from pyarrow import csv, parquet

    from simqueue.folders import written
    from simqueue.optimise.evidence import rows
    from simqueue.plot.pareto import plot_pareto

    table = pyarrow.Table.from_pylist(rows(question, race))
    writers: dict[str, Callable[[Path], object]] = {
        "optimise.json": lambda path: path.write_bytes(evidence),
        "trials.parquet": lambda path: parquet.write_table(table, path),
        "trials.csv": lambda path: csv.write_csv(table, path),
    }
    if answer.chosen is not None:
        best = _best(question, answer.chosen, folder)
        writers["best.toml"] = lambda path: path.write_text(best, encoding="utf-8")
    files = written(folder, writers)
    return [
        *files,
        *plot_pareto(answer, question.goal, race.searched, race.last, question.caption, folder / "pareto"),
    ]


def _best(question: Question, chosen: Trial, folder: Path) -> str:
    from simqueue.optimise.scenario import tables_of, toml

    head = f"# The best that `simqueue optimise {question.path.name}` found: {_settings(chosen)}.\n\n"
    return head + toml(tables_of(chosen, question.table, question.path, folder))


def _show(question: Question, race: Race, answer: Answer) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for line in _lines(question, race, answer):
        console.print(line, markup=False)
    if answer.front:
        console.print(_table(question, answer))


def _lines(question: Question, race: Race, answer: Answer) -> Iterator[str]:
    trial = answer.chosen or answer.nearest
    if answer.chosen is None:
        yield "No point that was tried keeps every limit with 95 % confidence." + (" Nearest:" if trial else "")
    if trial is not None:
        yield ("Best: " if answer.chosen else "") + _settings(trial)
        yield "  " + "; ".join(f"{_WORDS.get(name, name)} {_figure(name, one)}" for name, one in trial.figures.items())
        if trial.load is not None:
            fleet = f", {trial.replicas:.4g} replicas" if trial.replicas != 1 else ""
            yield f"  {trial.rate:.4g} requests/s, load {trial.load:.3g}{fleet}"
        for name, reason in trial.doubts.items():
            yield f"  Runs are too short for {name}: {reason}"
    if answer.chosen and not answer.confirmed:
        yield "This is of the search alone, whose best is likely to look better than it is."
    yield from _second(question, answer)
    yield _counts(question, race)
    if race.failures:
        yield f"The first that failed: {_named(race.failures[0].point.named)}: {race.failures[0].reason}"


def _second(question: Question, answer: Answer) -> Iterator[str]:
    if not answer.gaps:
        return
    second, same = answer.gaps[0], [gap for gap in answer.gaps if not gap.told]
    yield f"Second best: {_settings(second.trial)}"
    yield f"  {_behind(question, second)}: " + ("told apart." if second.told else "NOT told apart from the best.")
    if same[1:]:
        yield f"  In all {len(same)} others cannot be told apart from the best."


def _behind(question: Question, gap: Gap) -> str:
    # Of the same customers at two rates the ratio is known but for rounding.
    value, half = 100 * gap.relative.value, round(100 * gap.relative.half_width, 6)
    same = "" if gap.figure == question.goal.objective else "the objective is the same to 1 %; "
    return f"{same}{_WORDS.get(gap.figure, gap.figure)} {value:+.3g} % ± {two_digits(half)} %"


def _counts(question: Question, race: Race) -> str:
    from simqueue.optimise.evidence import verdicts

    words = {
        "met": "kept every limit",
        "open": "could not be told",
        "broken": "broke one",
        "unstable": "were unstable",
        "failed": "could not be run",
    }
    found = verdicts(question, race)
    told = ", ".join(f"{found[name]} {word}" for name, word in words.items() if name in found)
    stopped = race.asked < min(question.trials, question.space.size) and race.ended
    of = f" of {question.trials} (--max-requests allowed no more)" if stopped else ""
    different = f", {len(race.found)} different ones" if len(race.found) < race.asked else ""
    return f"{race.asked} points{of} asked for{different}: {told}. {race.spent:,} requests simulated."


def _settings(trial: Trial) -> str:
    return _named(trial.point.named)


def _named(named: dict[str, Any]) -> str:
    from simqueue.sweep.labels import names

    short = names(list(named))
    return ", ".join(f"{short[key]} = {_value(value)}" for key, value in named.items())


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _figure(name: str, found: Interval) -> str:
    """With half of its interval."""
    if "_s." in name:
        return (
            f"{readable(found.value)} ± {readable(found.half_width, two_digits) if found.half_width < 1e300 else '?'}"
        )
    return within(found.value, found.half_width)


def _table(question: Question, answer: Answer) -> Any:
    from rich import box
    from rich.table import Table

    from simqueue.sweep.labels import names

    keys = names(list(dict.fromkeys(key for trial in answer.front for key in trial.point.named)))
    table = Table(box=box.SIMPLE, pad_edge=False, title="Pareto front (*: the best)")
    for heading in ("", *keys.values(), *(_WORDS.get(name, name) for name in question.goal.figures)):
        table.add_column(heading, justify="right", overflow="fold")
    for trial in answer.front:
        values = (_value(trial.point.named.get(key, "-")) for key in keys)
        figures = (_figure(name, found) for name, found in trial.figures.items())
        table.add_row("*" if trial is answer.chosen else "", *values, *figures)
    return table
