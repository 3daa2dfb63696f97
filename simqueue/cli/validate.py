"""`simqueue validate`: live runs of scenarios against their simulations."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from simqueue.live.executor import Executor
    from simqueue.testbed import Live
    from simqueue.validate.cells import Case
    from simqueue.validate.record import Cell, Validation
    from simqueue.validate.run import Failure

Tables = dict[Path, dict[str, Any]]
_MISSED, _INTERRUPTED = 1, 130
_CALIBRATION_MINUTES = 4.0
_CALIBRATED = ("graph", "eager")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("validate")(validate)


def validate(
    files: Annotated[list[Path], typer.Argument(help="Scenarios with a [live] table, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for validation.json, figures and live runs.")] = Path(
        "out/validation"
    ),
    repeats: Annotated[int, typer.Option(min=1, help="Live runs of each cell.")] = 3,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="First measure what steps cost here, once for an --out; predict by that."),
    ] = False,
    other_machine: Annotated[
        bool, typer.Option("--other-machine", help="Predict by a profile that was made elsewhere, and say so.")
    ] = False,
    recompare: Annotated[
        bool, typer.Option("--recompare", help="Compare the runs kept in --out again; nothing runs live.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the cells and what they will take.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a value: live.executor=sleep. Repeatable.")
    ] = None,
) -> None:
    """Run scenarios live and simulate them on the same workload; print the errors beside the live runs' own spread.

    Cells that --out has already are not run again. Exits with 1 if a target is missed, a fresh engine plans otherwise
    than the live one did, or a cell fails.
    """
    from simqueue.errors import ConfigError
    from simqueue.validate import folder
    from simqueue.validate.cells import cases, tables

    if calibrate and recompare:
        raise ConfigError(
            "--calibrate and --recompare: a cost that is measured now is not of the machine as it was in the kept "
            "runs: leave out one of them"
        )
    read = tables(files, overrides or ())
    before = folder.read(out)
    if calibrate:
        _calibrate(read, out, only_look=dry_run)
    else:
        _refuse_missing(read, recompare)
    planned = cases(read)
    _announce(planned, repeats, listed=dry_run)
    if dry_run:
        return
    outcomes: list[Cell | Failure] = []
    try:
        with closing(_outcomes(planned, before, out, repeats, other_machine, recompare)) as finished:
            for outcome in finished:
                outcomes.append(outcome)
                _write(before, outcomes, out)
                _tell(outcome, len(outcomes), len(planned))
    except KeyboardInterrupt:
        done = f"{len(outcomes)} of {len(planned)} cells finished"
        typer.echo(f"simqueue: interrupted: {done}, in {out}; the same command goes on from there", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    # Whatever else these files had is no part of them any more; but only live runs of all of them can tell.
    whole = not recompare and len(_cells(outcomes)) == len(planned)
    validation = _write(before, outcomes, out, {path.stem for path in read} if whole else ())
    _report(validation, outcomes, out)


def _calibrate(read: Tables, out: Path, *, only_look: bool) -> None:
    """Measure what each [live] table runs, and put the profile in the place of the scenario's cost; or only say what
    is to be measured. Raises typer.Exit if the cells cannot be told before."""
    lives = {path: _live(path, table) for path, table in read.items()}
    for profile, live in {_profile(live, out): live for live in lives.values()}.items():
        if not _whole(profile):
            _tell_missing(profile) if only_look else _make(profile, live)
    for path, live in lives.items():
        if _whole(profile := _profile(live, out)):
            cost = {"kind": "profile", "path": str(profile.absolute())}
            read[path]["system"] = {**_system(read[path]), "cost": cost}
    if only_look and any(_missing_profile(path, table) for path, table in read.items()):
        typer.echo("the cells are known once that is measured: leave out --dry-run")
        raise typer.Exit


def _tell_missing(profile: Path) -> None:
    typer.echo(f"{profile}: is to be measured first, about {_CALIBRATION_MINUTES:g} minutes")


def _make(profile: Path, live: Live) -> None:
    """Measure it to the end. Raises typer.Exit(1) if the time was too short."""
    from simqueue.errors import ConfigError

    try:
        from calibration import run
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("torch", "transformers"):
            raise
        raise ConfigError(f"--calibrate needs {error.name}: pip install 'simqueue[gpu]'") from None
    measured = {name: getattr(live, name) for name in ("model", "dtype", "device", "max_rows", "max_context")}
    plan = run.Plan(
        **measured, runner=live.executor, out=profile.parent, name=profile.stem, minutes=_CALIBRATION_MINUTES
    )
    if run.calibrate(plan) is None or not _whole(profile):
        typer.echo("simqueue: the calibration is not whole: the same command goes on from there", err=True)
        raise typer.Exit(_MISSED)


def _whole(profile: Path) -> bool:
    """Whether a calibration was made, in this folder before or just now, to the end."""
    from simqueue.profile import load_profile

    return profile.is_file() and load_profile(profile).serving is not None


def _live(path: Path, table: dict[str, Any]) -> Live:
    """What a scenario runs. Raises ConfigError if it cannot be calibrated."""
    from simqueue.errors import ConfigError
    from simqueue.tables import convert, require_table
    from simqueue.testbed import Live

    live = convert(Live, require_table(table["live"], "live", "[live]"), "live")
    if live.executor not in _CALIBRATED:
        raise ConfigError(
            f'{path}: live.executor = "{live.executor}" cannot be calibrated, only {" and ".join(_CALIBRATED)}: leave '
            "out --calibrate, or set another executor"
        )
    return live


def _profile(live: Live, out: Path) -> Path:
    """Where its profile is: whatever else runs has a profile of its own."""
    from simqueue.validate.folder import PROFILES
    from simqueue.validate.machine import digest

    place = Path(live.model)
    # Two folders may have one name.
    model = f"{place.name}-{digest(str(place.resolve()))[:6]}" if place.is_dir() else place.name
    size = f"{live.max_rows}x{live.max_context}"
    return out / PROFILES / f"{model}-{live.device}-{live.dtype}-{live.executor}-{size}.json"


def _refuse_missing(read: Tables, recompare: bool) -> None:
    """Refuse scenarios that wait for a profile, with what makes one. Raises ConfigError."""
    from simqueue.errors import ConfigError

    for path, table in read.items():
        if missing := _missing_profile(path, table):
            add = "" if recompare else "add --calibrate, which measures one, or "
            raise ConfigError(
                f"{path}: system.cost.path: there is no profile {missing}: {add}give the path of one (--set "
                "system.cost.path=/.../profile.json)"
            )


def _missing_profile(path: Path, table: dict[str, Any]) -> Path | None:
    """The file that a scenario's cost should be read from, if it is not there."""
    cost = _system(table).get("cost")
    named = cost.get("path") if isinstance(cost, dict) else None
    place = path.parent / named if isinstance(named, str) else None
    return place if place and not place.exists() else None


def _system(table: dict[str, Any]) -> dict[str, Any]:
    from simqueue.tables import require_table

    return require_table(table.get("system", {}), "system", "[system] and keys below it")


def _announce(planned: Sequence[Case], repeats: int, *, listed: bool) -> None:
    """What is going to run, and how long that will take if the prediction holds."""
    seconds = [case.expected_s() for case in planned]
    if listed:
        for case, each in zip(planned, seconds, strict=True):
            rate = "" if case.load is None else f" at {case.workload.rate:.4g}/s of {case.saturation_rps:.4g}/s"
            typer.echo(f"{case.name}: {len(case.workload):,} requests{rate}, {each:.1f} s")
    minutes = repeats * sum(seconds) / 60
    typer.echo(
        f"{len(planned)} cells, {repeats} live runs each: about {minutes:.1f} minutes, and the start of the device and "
        "of the clients",
        err=not listed,
    )


def _outcomes(
    planned: Sequence[Case], before: Validation, out: Path, repeats: int, other_machine: bool, recompare: bool
) -> Generator[Cell | Failure, None, None]:
    from simqueue.pool import cpus, pool
    from simqueue.testbed import before_loading, open_executor
    from simqueue.validate.run import Plan, compare_again, validate

    with pool(cpus()) as processes:

        def executor(case: Case) -> Executor:
            return open_executor(case.live, case.scenario.system, case.scenario.run.seed)

        plan = Plan(repeats, out, lambda case: before_loading(case.live), executor, processes, other_machine)
        yield from (compare_again if recompare else validate)(planned, plan, before)


def _tell(outcome: Cell | Failure, number: int, of: int) -> None:
    """A line for who waits."""
    from simqueue.validate.record import Cell
    from simqueue.validate.table import counts, plans

    told = f"{counts([outcome])}; {plans([outcome])}" if isinstance(outcome, Cell) else f"failed: {outcome.reason}"
    typer.echo(f"[{number}/{of}] {outcome.name}: {told}", err=True)


def _cells(outcomes: Sequence[Cell | Failure]) -> list[Cell]:
    """What is finished."""
    from simqueue.validate.record import Cell

    return [outcome for outcome in outcomes if isinstance(outcome, Cell)]


def _write(
    before: Validation, outcomes: Sequence[Cell | Failure], out: Path, files: Collection[str] = ()
) -> Validation:
    """Keep what is finished, and of ``files`` nothing else."""
    from simqueue.validate import folder

    validation = folder.merged(before, _cells(outcomes), files)
    folder.write(validation, out)
    return validation


def _report(validation: Validation, outcomes: Sequence[Cell | Failure], out: Path) -> None:
    """The table of all that the folder holds, and its figures. Raises typer.Exit(1) if not all is well."""
    from rich.console import Console

    from simqueue.plot.validation import plot_validation
    from simqueue.validate.folder import FIGURES, JSON
    from simqueue.validate.record import Cell
    from simqueue.validate.table import judged, show

    failed = [outcome for outcome in outcomes if not isinstance(outcome, Cell)]
    if validation.cells:
        show(validation.cells, Console())
        figures = plot_validation(validation.cells, out / FIGURES)
        typer.echo(f"wrote {out / JSON} and {len(figures)} figures in {out / FIGURES}")
    for failure in failed:
        typer.echo(f"simqueue: {failure.name}: {failure.reason}", err=True)
    missed = any(j.figure.verdict == "MISSED" for j in judged(validation.cells))
    if failed or missed or any(cell.differing_plans for cell in validation.cells):
        raise typer.Exit(_MISSED)
