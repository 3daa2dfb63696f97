"""`simqueue capacity`: the highest rate, the fewest replicas or the values of a setting that keep limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simqueue.cli.table import readable, two_digits, within

if TYPE_CHECKING:
    from simqueue.analysis.interval import Interval
    from simqueue.capacity.question import Question
    from simqueue.capacity.rate import Highest
    from simqueue.capacity.slo import Limit
    from simqueue.capacity.trial import Trial
    from simqueue.capacity.values import Holding


_WIDEST = 1000


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("capacity")(capacity)


def capacity(
    file: Annotated[Path, typer.Argument(help="The scenario, a TOML file.")],
    slo: Annotated[
        list[str] | None, typer.Option(help='A limit, such as "ttft_s.p99 <= 200ms". Repeatable: all shall hold.')
    ] = None,
    vary: Annotated[
        str, typer.Option(help="rate (the highest), cluster.replicas (the fewest), or KEY=LOW..HIGH (where it holds).")
    ] = "rate",
    precision: Annotated[float, typer.Option(help="How near to the true answer, as a share of it.")] = 0.01,
    max_requests: Annotated[int, typer.Option(help="Simulate at most so many requests.")] = 10_000_000,
    out: Annotated[Path | None, typer.Option(help="Folder for capacity.json and a figure.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print answer and evidence as one JSON object.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a value: system.policy.max_batch=16. Repeatable.")
    ] = None,
) -> None:
    """Find the highest rate, the fewest replicas or the values of a setting at which every limit holds with 95 %
    confidence."""
    from simqueue.pool import cpus, get_ready

    get_ready(cpus())
    from simqueue.capacity.question import asked
    from simqueue.folders import refuse_unusable
    from simqueue.results import strict_json

    question = asked(file, slo or (), vary, precision, max_requests, overrides or ())
    if out is not None:
        refuse_unusable(out)
    answer, trials = question.answered(lambda trial, spent: typer.echo(_progress(question, trial, spent), err=True))
    told = question.told(answer, trials)
    files = _written(question, answer, trials, strict_json(told), out) if out is not None else []
    if as_json:
        typer.echo(strict_json(told), nl=False)
    else:
        _show(question, answer, trials)
    for path in files:
        typer.echo(f"written to {path}", err=True)


def _written(
    question: Question, answer: Highest | Holding, trials: list[Trial], told: bytes, folder: Path
) -> list[Path]:
    from simqueue.errors import OutputError
    from simqueue.folders import made
    from simqueue.plot.capacity import plot_capacity

    path = made(folder) / "capacity.json"
    aside = path.with_name(".capacity.json.part")
    try:
        aside.write_bytes(told)
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written: {error.strerror}; choose another place") from None
    return [path, *plot_capacity(answer, question.limits, trials, question.vary, question.caption, folder / "capacity")]


def _progress(question: Question, trial: Trial, spent: int) -> str:
    from simqueue.capacity.evidence import verdict

    said = _said(question, trial, " ", ", ")
    return f"{_where(question, trial)}: {said}: {verdict(trial, question.limits)} ({spent:,} requests so far)"


def _where(question: Question, trial: Trial) -> str:
    if trial.value is None:
        return f"{trial.rate:.4g} requests/s"
    return f"{question.name} = {trial.value:.4g}"


def _said(question: Question, trial: Trial, verb: str = " is ", between: str = "; ") -> str:
    """All figures and, of percentiles, what tells them from their limits."""
    percentiles = [limit for limit in question.limits if limit.share is not None]
    said = []
    for name, found in trial.figures.items():
        shares = ", ".join(f"{_share(trial, one)} {_above(one)}" for one in percentiles if one.figure == name)
        said.append(f"{name}{verb}{_figure(name, found)}" + (f" ({shares})" if shares else ""))
    return between.join(said)


def _above(limit: Limit) -> str:
    return f"{'above' if limit.at_most else 'at least'} {readable(limit.bound)}"


def _share(trial: Trial, limit: Limit) -> str:
    value, half = trial.told[limit].of
    return f"{within(100 * value, 100 * half)} %"


def _figure(name: str, found: Interval) -> str:
    """With half of its interval."""
    if "_s." in name:
        return (
            f"{readable(found.value)} ± {readable(found.half_width, two_digits) if found.half_width < 1e300 else '?'}"
        )
    return within(found.value, found.half_width)


def _show(question: Question, answer: Highest | Holding, trials: list[Trial]) -> None:
    from rich.console import Console

    from simqueue.capacity.rate import Highest

    console = Console(highlight=False, soft_wrap=True)
    lines = _of_rate(question, answer) if isinstance(answer, Highest) else _of_values(question, answer)
    for line in lines:
        console.print(line, markup=False)
    table = _table(question, trials)
    # As wide as it is: a number that is cut off is worse than a line that is wrapped.
    console.width = max(console.width, Console(width=_WIDEST).measure(table).maximum)
    console.print(table)


def _of_rate(question: Question, answer: Highest) -> Iterator[str]:
    saturation, precision = answer.saturation_rps, f"{100 * question.precision:.2g} %"
    nearest = _said(question, answer.trial)
    if answer.rate is None:
        known = (
            "No rate keeps every limit"
            if answer.why is None
            else f"No rate was found that keeps every limit ({answer.why})"
        )
        yield f"{known}. Nearest, at {answer.trial.rate:.4g} requests/s: {nearest}."
        return
    sure = "95 % confidence" if answer.why else f"95 % confidence, to {precision}"
    load = answer.rate / saturation
    yield f"At most {answer.rate:.4g} requests/s keep every limit ({sure}): load {load:.3g}."
    if answer.binds is None:
        yield f"No limit forbids more: only saturation does, at {saturation:.4g} requests/s."
    else:
        reached = ""
        if answer.root_rps is not None and answer.half_width_rps is not None:
            reached = f", reached at {within(answer.root_rps, answer.half_width_rps)}"
        yield f"The limit that binds is {answer.binds}{reached}; saturation is at {saturation:.4g}."
    yield f"At {answer.trial.rate:.4g} requests/s: {nearest}."
    if answer.why:
        yield f"NOT to {precision}: {answer.why}."


def _of_values(question: Question, answer: Holding) -> Iterator[str]:
    best = _said(question, answer.best)
    if question.fewest:
        if answer.ranges:
            fewest = answer.ranges[0][0]
            stable = fewest > 1 and fewest == min(trial.value for trial in answer.trials if trial.value is not None)
            fewer = " Fewer are not stable." if stable else ""
            yield f"At least {fewest} replicas keep every limit (95 % confidence): {best}.{fewer}"
        else:
            yield f"No number of replicas that was tried keeps every limit. Nearest, {answer.best.value}: {best}."
        return
    if not answer.ranges:
        yield f"No value of {question.name} that was tried keeps every limit. Nearest, {answer.best.value:.4g}: {best}."
        return
    ranges = ", ".join(f"{low:.6g} to {high:.6g}" if low != high else f"{low:.6g}" for low, high in answer.ranges)
    yield f"Every limit holds for {question.name} = {ranges} (95 % confidence)."
    yield f"The widest margin is at {answer.best.value:.6g}: {best}."
    if not answer.monotone:
        yield "They hold neither up to some value nor from one on; between values in the table nothing was tried."


def _table(question: Question, trials: list[Trial]) -> Any:
    from rich import box
    from rich.table import Table

    from simqueue.capacity.evidence import verdict

    values = trials[0].value is not None
    if values:
        # The last at each decided.
        trials = list({trial.value: trial for trial in trials}.values())
    table = Table(box=box.SIMPLE, pad_edge=False)
    percentiles = [limit for limit in question.limits if limit.share is not None]
    # Of two that have one bound the share is the same.
    named = {f"{limit.figure.rpartition('.')[0]} {_above(limit)}": limit for limit in percentiles}
    headings = (
        question.name.rpartition(".")[2] if values else "rate /s",
        *("requests", *trials[0].figures, *named, ""),
    )
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for trial in sorted(trials, key=lambda one: (one.value or 0, one.rate or 0)):
        place = trial.value if values else trial.rate
        figures = (_figure(name, found) for name, found in trial.figures.items())
        shares = (_share(trial, limit) for limit in named.values())
        table.add_row(f"{place:.5g}", f"{trial.requests:,}", *figures, *shares, verdict(trial, question.limits))
    return table
