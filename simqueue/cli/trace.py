"""`simqueue trace`: what a recorded workload is like, and which arrival process comes nearest to it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simqueue.cli.table import readable
from simqueue.folders import refuse_unusable

if TYPE_CHECKING:
    from rich.console import Console

    from simqueue.workload import Workload
    from simqueue.workload.fit import Candidate, Fit

_File = Annotated[
    Path, typer.Argument(help="A trace, plain or .gz; a folder of ServeGen; or results of a load generator.")
]
_Requests = Annotated[int | None, typer.Option(min=1, help="Look at the first so many.")]
_Begin = Annotated[float, typer.Option(help="Leave out what comes in the first so many seconds.")]
_COUNT_WINDOWS_S = (1.0, 10.0, 60.0)
_LOCAL_WINDOW_S = 60.0
_SILENT_S = (5.0, 30.0)
_QUANTILES = (50, 90, 99)
# Coarse stamps are spread by it, as in a scenario that gives none.
_SEED = 0


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verbs = typer.Typer(help="Describe a recorded workload; fit an arrival process.")
    verbs.command("stats")(stats)
    verbs.command("fit")(fit)
    app.add_typer(verbs, name="trace")


def stats(
    file: _File,
    requests: _Requests = None,
    begin_s: _Begin = 0.0,
    context: Annotated[
        int | None, typer.Option(min=2, help="Also print the share that fits a model with this context.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the figure of rate over time (SVG and PNG).")] = None,
) -> None:
    """Print how many requests there are, how irregularly they arrive, and how long they are."""
    from rich.console import Console

    if out is not None:
        refuse_unusable(out)
    workload = _loaded(file, requests, begin_s)
    console = Console(highlight=False, soft_wrap=True)
    _print_lines(console, _arrival_lines(workload))
    _print_lengths(console, workload, context)
    if out is not None:
        from simqueue.plot.trace import plot_trace

        for path in plot_trace(workload, file.name.partition(".")[0], out):
            typer.echo(f"wrote {path}")


def fit(file: _File, requests: _Requests = None, begin_s: _Begin = 0.0) -> None:
    """Compare the arrivals with Poisson, gamma renewal, MMPP and rate-curve processes, and print the nearest."""
    from rich.console import Console

    from simqueue.workload.fit import MOST, fitted_processes

    workload = _loaded(file, requests, begin_s)
    if len(workload) > MOST:
        typer.echo(f"notice: the first {MOST:,} of {len(workload):,} requests are fitted", err=True)
    found = fitted_processes(workload.arrival_s)
    console = Console(highlight=False, soft_wrap=True)
    _print_candidates(console, found)
    nearest = found.nearest
    why = (
        "the simplest that could have made them" if nearest.alike else "none makes such arrivals; this is the least far"
    )
    console.print(f"nearest: {nearest.name} ({why})")
    console.print(_scenario_line(nearest), markup=False)


def _loaded(file: Path, requests: int | None, begin_s: float) -> Workload:
    from simqueue.workload import Trace, WorkloadSpec, make_workload

    return make_workload(WorkloadSpec(requests=requests, arrivals=Trace(str(file), begin_s=begin_s)), _SEED)


def _arrival_lines(workload: Workload) -> Iterable[tuple[str, str]]:
    import numpy as np

    from simqueue.workload.dispersion import FEWEST_GAPS, dispersion, gap_cv, silences, windowed_cv

    arrival_s = workload.arrival_s
    duration_s = float(arrival_s[-1] - arrival_s[0])
    rate = f"{_figure(workload.rate)} requests/s in the mean" if duration_s else "no rate: all come at one instant"
    yield "requests", f"{len(workload):,} in {duration_s:,.6g} s, {rate}"
    yield "gap CV", f"{_figure(gap_cv(arrival_s))} (coefficient of variation of all inter-arrival times)"
    local = windowed_cv(arrival_s, _LOCAL_WINDOW_S).cv
    spread = ", ".join(f"p{q} {np.percentile(local, q):.4g}" for q in (10, 50, 90)) if len(local) else "-"
    yield (
        f"in {_LOCAL_WINDOW_S:g} s",
        f"{spread} (the same inside each of {len(local)} windows with {FEWEST_GAPS} gaps or more)",
    )
    indices = ", ".join(f"{_figure(dispersion(arrival_s, w))} at {w:g} s" for w in _COUNT_WINDOWS_S)
    yield "dispersion", f"{indices} (variance over mean of counts; 1 is Poisson)"
    for limit_s in _SILENT_S:
        silent = silences(arrival_s, limit_s)
        without = f", {silent.total_s:,.4g} s in all; gap CV without them {_figure(silent.cv_without)}"
        yield f"gaps > {limit_s:g} s", f"{silent.count:,}{without if silent.count else ''}"
    if len(workload) > 1:
        yield "longest gap", readable(float(np.diff(arrival_s).max()))


def _print_lines(console: Console, lines: Iterable[tuple[str, str]]) -> None:
    for name, text in lines:
        console.print(f"  {name:<13}{text}")


def _print_lengths(console: Console, workload: Workload, context: int | None) -> None:
    import numpy as np
    from rich import box
    from rich.table import Table

    table = Table("tokens", box=box.SIMPLE, pad_edge=True)
    for name in ("mean", *(f"p{q}" for q in _QUANTILES), "max"):
        table.add_column(name, justify="right", no_wrap=True)
    total = workload.prompt_tokens + workload.output_tokens
    for name, column in (("prompt", workload.prompt_tokens), ("output", workload.output_tokens), ("both", total)):
        quantiles = np.percentile(column, _QUANTILES)
        table.add_row(name, f"{column.mean():,.1f}", *(f"{value:,.0f}" for value in quantiles), f"{column.max():,}")
    console.print(table)
    if context is not None:
        share = float(np.mean(total <= context))
        console.print(f"  {100 * share:.4g} % of requests fit a context of {context:,} tokens")


def _print_candidates(console: Console, found: Fit) -> None:
    from rich import box
    from rich.table import Column, Table

    candidates = found.candidates
    table = Table(Column("", no_wrap=True), box=box.SIMPLE, pad_edge=True)
    for name in ("trace", *(each.name for each in candidates)):
        table.add_column(name, justify="right", no_wrap=True)
    for row, name in enumerate(found.names):
        table.add_row(name, _figure(found.figures[row]), *(_figure(each.figures[row]) for each in candidates))
    table.add_row("distance", "", *(f"{each.distance:.2f}" for each in candidates))
    table.add_row("draws as far", "", *(f"{100 * each.share:.0f} %" for each in candidates))
    console.print(table)
    console.print(
        "  CV: coefficient of variation of the gaps, of all and inside windows (median); IDC: index of dispersion for\n"
        "  counts; distance: root mean square of log(trace / process); draws as far: share of a process's own draws."
    )


def _scenario_line(nearest: Candidate) -> str:
    from msgspec import to_builtins

    from simqueue.workload.fit import RateCurve

    process = nearest.process
    return f"arrivals = {_toml(to_builtins(process.arrivals if isinstance(process, RateCurve) else process))}"


def _toml(table: dict[str, Any]) -> str:
    return f"{{ {', '.join(f'{key} = {_value(value)}' for key, value in table.items())} }}"


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return f"{value:.5g}" if isinstance(value, float) else json.dumps(value)


def _figure(value: float) -> str:
    return f"{value:.4g}" if value == value else "-"
