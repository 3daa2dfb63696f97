"""`simqueue compare`: scenarios among each other, or one beside what a load generator measured."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

import typer

from simqueue.cli.table import readable
from simqueue.measured.tool import SECONDS

if TYPE_CHECKING:
    from rich.table import Table

    from simqueue.comparison import Comparison, Row
    from simqueue.measured.report import Offered

_FILE = "comparison.json"
_INDENT = 19
_RANGE = "a run"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("compare")(compare)


def compare(
    files: Annotated[
        list[Path],
        typer.Argument(help="Scenarios (.toml), or one with a [sweep]; or one, and results of a load generator."),
    ],
    by: Annotated[
        str | None, typer.Option(help="The figure that decides between scenarios; response_s.p99 if left out.")
    ] = None,
    indifference: Annotated[
        float | None, typer.Option(help="Up to which share of it a difference does not matter; 0.01 if left out.")
    ] = None,
    run: Annotated[
        int | None, typer.Option(help="Which run of the results, where they have several: 1, 2, ...")
    ] = None,
    out: Annotated[Path | None, typer.Option(help=f"Folder for {_FILE}, and a figure of scenarios.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as one JSON object.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a value: workload.requests=500. Repeatable.")
    ] = None,
) -> None:
    """Find out which of several scenarios is best, and by how much, where all meet the same customers. Or set the
    prediction of one beside results that you have (of vllm bench serve, GuideLLM, AIPerf, or requests as CSV), figure
    by figure, each as the tool that measured it defines it."""
    from simqueue.folders import refuse_unusable

    beside = len(files) == 2 and not _is_scenario(files[1])
    _refuse_strange(files, beside, {"--run": run} if not beside else {"--by": by, "--indifference": indifference})
    if out is not None:
        refuse_unusable(out)
    if beside:
        _beside(files[0], files[1], run, out, as_json, overrides or ())
        return
    from simqueue.cli.ranking import between

    told = between(files, by or "response_s.p99", 0.01 if indifference is None else indifference, overrides or ())
    _print(told.text if as_json else None, told.show)
    if out is not None:
        _say_written(_written(out, told.text), *told.drawn(out / "comparison"))


def _is_scenario(file: Path) -> bool:
    return file.suffix.lower() == ".toml"


def _refuse_strange(files: Sequence[Path], beside: bool, wrong: dict[str, object]) -> None:
    """What does not go together."""
    from simqueue.errors import ConfigError

    strange = [] if beside else [file for file in files if not _is_scenario(file)]
    if strange:
        raise ConfigError(
            f"{strange[0]}: is no scenario by its name (.toml); results stand after one scenario: "
            "simqueue compare FILE.toml RESULTS"
        )
    for option, value in wrong.items():
        if value is not None:
            whose = "of several scenarios" if beside else "of results"
            raise ConfigError(f"{option} {value}: is {whose}, which are not given: leave it out")


def _beside(
    file: Path, results: Path, run: int | None, out: Path | None, as_json: bool, overrides: Sequence[str]
) -> None:
    from simqueue.comparison import compare as compared
    from simqueue.config import load, named
    from simqueue.measured.read import read_report
    from simqueue.results import strict_json

    scenario, report = load(file, overrides), read_report(results, run)
    with named(file):
        found = compared(
            scenario.workload,
            scenario.cluster or scenario.system,
            report,
            seed=scenario.run.seed,
            replications=scenario.run.replications,
            base=scenario.path.parent,
        )
    for difference in found.differences:
        typer.echo(f"warning: another load than what was measured: {difference}", err=True)
    text = strict_json({"scenario": str(file), "results": str(results), **found.summary()})
    _print(text if as_json else None, lambda: show(found))
    if out is not None:
        _say_written(_written(out, text))


def _print(text: bytes | None, show: Callable[[], None]) -> None:
    if text is None:
        show()
    else:
        typer.echo(text, nl=False)


def _say_written(*paths: Path) -> None:
    for path in paths:
        typer.echo(f"written to {path}", err=True)


def show(found: Comparison) -> None:
    """The figures as a table, what they are, and what was asked of the server."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{found.report.tool.name}: {found.report.completed} requests completed", markup=False)
    console.print(_table(found))
    for name, text in _lines(found):
        lines = wrap(text, console.width - _INDENT)
        console.print(f"  {name:<{_INDENT - 2}}" + f"\n{'':<{_INDENT}}".join(lines), markup=False)


def _table(found: Comparison) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=True, padding=(0, 1, 0, 0))
    for name in ("", "", "predicted", _RANGE, "measured", "error"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    last = None
    for row in found.rows:
        table.add_row("" if row.metric == last else row.metric.name, row.statistic, *_cells(row))
        last = row.metric
    return table


def _cells(row: Row) -> tuple[str, str, str, str]:
    unit = row.metric.unit
    measured = _shown(row.measured, unit)
    if row.expected is None or row.error is None:
        return "-", "", measured, ""
    ends = "" if row.range is None else " to ".join(_shown(end, unit) for end in row.range)
    percent = round(100 * row.error, 1) + 0.0  # no -0.0
    return _shown(row.expected, unit), ends, measured, f"{percent:+.1f} % {'*' if row.outside else ' '}"


def _shown(value: float, unit: str) -> str:
    return readable(value, _digits) if unit == SECONDS else _digits(value)


def _digits(value: float) -> str:
    """To three digits; errors are shown to no more."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _lines(found: Comparison) -> Iterator[tuple[str, str]]:
    """What the table means, what was asked of the server, and what else to know."""
    tool = found.report.tool
    yield "error", "predicted / measured - 1"
    if any(row.range is not None for row in found.rows):
        yield _RANGE, f"where one run in this scenario lies with 95 %, judged by {found.replications}"
        yield "*", "measured lies outside"
    for metric in dict.fromkeys(row.metric for row in found.rows):
        yield metric.name, metric.definition
    yield "percentiles", tool.percentiles
    yield from _asked(found.offered, found.report.offered)
    for note in found.notes:
        yield "note", note


def _asked(ours: Offered, theirs: Offered) -> Iterator[tuple[str, str]]:
    for offered, whose in ((ours, "simulated"), (theirs, "measured")):
        rate = "" if offered.rate_rps is None else f" at {offered.rate_rps:.4g} requests/s"
        lengths = {"prompt": offered.prompt_tokens, "output": offered.output_tokens}
        tokens = [f"{mean:.4g} {of} tokens" for of, mean in lengths.items() if mean is not None]
        means = f", in the mean of {' and '.join(tokens)}" if tokens else ""
        yield whose, f"{offered.requests} requests{rate}{means}"


def _written(folder: Path, text: bytes) -> Path:
    """The file, there as a whole or not at all."""
    from simqueue.errors import OutputError
    from simqueue.folders import made

    path = made(folder) / _FILE
    aside = path.with_name(f".simqueue-{os.getpid()}-{_FILE}")
    try:
        aside.write_bytes(text)
        aside.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}): give another folder") from None
    finally:
        aside.unlink(missing_ok=True)
    return path
