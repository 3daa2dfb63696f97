"""`simqueue sweep`: every combination of a scenario's ``[sweep]`` table, as one table and its figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from simqueue.sweep import Failure, Plan, Row, Store

_FAILED, _INTERRUPTED = 1, 130


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("sweep")(sweep)


def sweep(
    file: Annotated[Path, typer.Argument(help="A scenario with a [sweep] table.")],
    out: Annotated[Path | None, typer.Option(help="Folder for table and figures; out/NAME if left out.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one a CPU if left out.")] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Run on the workers of this Dask scheduler: tcp://HOST:PORT.")
    ] = None,
    requests: Annotated[bool, typer.Option("--requests", help="Leave the requests of every cell as Parquet.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a value: system.policy.max_batch=16. Repeatable.")
    ] = None,
) -> None:
    """Simulate every combination of the [sweep] table; write one tidy table and the figures. The same command again
    goes on from the cells that are finished."""
    from simqueue.errors import ConfigError
    from simqueue.pool import cpus, get_ready

    if cluster and workers:
        raise ConfigError("--workers is for this machine, and --cluster for others: leave one of them out")
    if not cluster:
        get_ready(workers or cpus())
    folder = out or Path("out") / file.stem
    # Workers elsewhere stand in folders of their own.
    if cluster:
        file, folder = file.absolute(), folder.absolute()
    outcomes: dict[int, Row | Failure] = {}
    planned, store = _planned(file, folder, overrides or ())
    try:
        with _executor(planned, workers, cluster) as (executor, ahead):
            _collect(planned, executor, store, outcomes, requests=requests, ahead=ahead)
        rows = _rows(outcomes)
        files = _write(planned, rows, folder, processes=1 if cluster else workers or cpus()) if rows else []
    except KeyboardInterrupt:
        _interrupted(planned, _rows(outcomes), folder)
        raise typer.Exit(_INTERRUPTED) from None
    _print(planned, rows, files)
    _report(planned, outcomes)


def _planned(file: Path, folder: Path, overrides: Sequence[str]) -> tuple[Plan, Store]:
    from simqueue.config import read_table
    from simqueue.sweep import Store, plan
    from simqueue.sweep.folder import refuse_unusable

    planned = plan(read_table(file, overrides), file)
    refuse_unusable(folder)
    return planned, Store(folder)


@contextmanager
def _executor(plan: Plan, workers: int | None, cluster: str | None) -> Iterator[tuple[Executor | None, int]]:
    """Where to run, and how many tasks it should have at a time: one that runs and one that waits for each worker."""
    from simqueue.pool import cpus, pool

    if cluster:
        with _dask()(cluster, plan.path.parent) as (there, threads):
            yield there, 2 * threads
        return
    processes = min(workers or cpus(), len(plan.cells))
    with pool(processes) as here:
        yield here, 2 * processes


def _dask() -> Callable[[str, Path], AbstractContextManager[tuple[Executor, int]]]:
    from simqueue.errors import ConfigError

    try:
        from simqueue.sweep.dask import connected
    except ModuleNotFoundError:
        raise ConfigError('--cluster needs Dask: pip install "simqueue[cluster]"') from None
    return connected


def _collect(
    plan: Plan,
    executor: Executor | None,
    store: Store,
    outcomes: dict[int, Row | Failure],
    *,
    requests: bool,
    ahead: int,
) -> None:
    """Fill ``outcomes`` cell by cell, so that what is finished is there when the run is interrupted."""
    from concurrent.futures import ThreadPoolExecutor

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from simqueue.sweep import run

    console = Console(stderr=True)
    columns = (TextColumn("sweep"), BarColumn(), MofNCompleteColumn(), TextColumn("cells,"), TimeRemainingColumn())
    with (
        Progress(
            *columns, TextColumn("left"), console=console, transient=True, disable=not console.is_terminal
        ) as progress,
        closing(run(plan, executor, store, requests=requests, ahead=ahead)) as finished,
        ThreadPoolExecutor(1) as beside,
    ):
        bar = progress.add_task("", total=len(plan.cells))
        for number, outcome in finished:
            if not outcomes:
                beside.submit(_ready_to_write)
            outcomes[number] = outcome
            progress.advance(bar)


def _ready_to_write() -> None:
    """While workers simulate: to import what writes tables and figures takes a second."""
    import pyarrow.csv
    import pyarrow.parquet

    import simqueue.plot.sweep  # noqa: F401

    # With its first table it looks for pandas.
    pyarrow.table({"": [""]})


def _rows(outcomes: dict[int, Row | Failure]) -> list[Row]:
    """In the order of the plan, whichever finished first."""
    return [row for _, row in sorted(outcomes.items()) if isinstance(row, dict)]


def _write(plan: Plan, rows: list[Row], folder: Path, *, processes: int) -> list[Path]:
    """With so many processes to draw figures in; none, no figures."""
    from simqueue.plot.caption import of_sweep
    from simqueue.plot.sweep import plot_sweep
    from simqueue.sweep.folder import written_aside
    from simqueue.sweep.table import table, write

    with written_aside(folder) as aside:
        files = write(table(plan, rows), aside)
        files += plot_sweep(rows, plan.x, of_sweep(plan), aside, processes=processes) if processes else []
    return [folder / file.name for file in files]


def _interrupted(plan: Plan, rows: list[Row], folder: Path) -> None:
    """Write what is finished, without the figures, and say in one line how to go on."""
    files = _write(plan, rows, folder, processes=0) if rows else []
    kept = f", written to {' and '.join(map(str, files))}" if files else ""
    typer.echo(
        f"simqueue: interrupted: {len(rows)} of {len(plan.cells)} cells finished{kept}; the same command again goes on "
        "from there",
        err=True,
    )


def _print(plan: Plan, rows: list[Row], files: list[Path]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=box.SIMPLE, title="response time", pad_edge=False)
    shown.add_column("cell", overflow="fold")
    for heading in ("load", "rate /s", "mean s", "p99 s"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("", no_wrap=True)
    before = ""
    for row in rows:
        name = row["series"] if plan.x == "rate" else row["label"]
        rates = (f"{row[key]:.4g}" for key in ("load", "rate"))
        times = (_with_interval(row, statistic) for statistic in ("mean", "p99"))
        shown.add_row("" if name == before else name, *rates, *times, "unstable" if row["unstable"] else "")
        before = name
    console = Console()
    if rows:
        console.print(shown, highlight=False)
        names = ", ".join(file.name for file in files)
        console.print(f"wrote {files[0].parent}: {names}", highlight=False, soft_wrap=True)


def _with_interval(row: Row, statistic: str) -> str:
    """In brackets where the runs are too short for it."""
    value, half_width = row[f"response_s_{statistic}"], row.get(f"response_s_{statistic}_half_width")
    known = half_width is not None and math.isfinite(half_width)
    told = f"{value:.4g} ± {half_width:.2g}" if known else f"{value:.4g}"
    return f"({told})" if f"response_s.{statistic}" in row["too_short"].split() else told


def _report(plan: Plan, outcomes: dict[int, Row | Failure]) -> None:
    """List the cells that failed, if any. Raises typer.Exit(1) then."""
    failed = [(number, outcome) for number, outcome in sorted(outcomes.items()) if not isinstance(outcome, dict)]
    if not failed:
        return
    typer.echo(f"simqueue: {len(failed)} of {len(plan.cells)} cells failed:", err=True)
    for number, failure in failed:
        typer.echo(f"  {plan.cells[number].label}: {failure.reason}", err=True)
    raise typer.Exit(_FAILED)
