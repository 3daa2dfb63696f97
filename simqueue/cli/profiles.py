"""`simqueue profiles`: list the measured step costs that ship, show one with its curve, make one from samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from simqueue.profile import Curve, Profile, load_profile, save_profile, shipped


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verbs = typer.Typer(help="Measured step costs: list, show, fit.", invoke_without_command=True)
    verbs.callback()(overview)
    verbs.command("list")(listing)
    verbs.command("show")(show)
    verbs.command("fit")(fit)
    app.add_typer(verbs, name="profiles")


def overview(context: typer.Context) -> None:
    """Measured step costs: list, show, fit."""
    if context.invoked_subcommand is None:
        listing()


def listing() -> None:
    """List the profiles that ship."""
    table = Table("name", "model", "runner", "dtype", "GPU", "measured")
    for name in shipped():
        profile = load_profile(name)
        source = profile.provenance
        gpu = source.gpu if source.gpu != "none" else source.cpu
        table.add_row(name, profile.model.name, profile.runner, profile.model.dtype, gpu, source.date)
    Console().print(table)


def show(
    name: Annotated[str, typer.Argument(help="A shipped profile, or a path to a profile's JSON.")],
    out: Annotated[Path, typer.Option(help="Folder for the figure (SVG and PNG).")] = Path("."),
) -> None:
    """Print where a profile comes from, and draw its curve with data points, residuals and regimes."""
    profile = load_profile(name)
    describe(profile)
    from simqueue.plot.curve import plot_curve

    for path in plot_curve(profile, out):
        typer.echo(f"wrote {path}")


def fit(
    samples: Annotated[Path, typer.Argument(help="CSV of rows,new_tokens,context,seconds, or calibrate's own.")],
    name: Annotated[str, typer.Option(help="Name of the profile.")],
    out: Annotated[Path, typer.Option(help="Folder for the profile (NAME.json).")] = Path("."),
) -> None:
    """Make a profile from step times of a server of your own, or again from raw samples of a calibration."""
    from calibration.build import from_file

    profile = from_file(samples, name)
    save_profile(profile, out / f"{name}.json")
    describe(profile)
    typer.echo(f"wrote {out / name}.json")


def describe(profile: Profile) -> None:
    """Provenance, curves and errors of a profile, on the terminal."""
    console = Console()
    table = Table(title=profile.name, show_header=False)
    table.add_row("runner", f"{profile.runner}, requests {_joining(profile)} between steps")
    model = profile.model
    table.add_row(
        "model", f"{model.name}, {model.parameters / 1e6:.1f} M parameters, window {model.max_context}, {model.dtype}"
    )
    source = profile.provenance
    for field in source.__struct_fields__[:-1]:
        table.add_row(field, str(getattr(source, field)))
    table.add_row("notes", "; ".join(source.notes))
    table.add_row("host time between steps", f"{profile.host_s * 1e6:.1f} us")
    table.add_row("mixed steps", f"{profile.mixed_s * 1e6:+.1f} us beyond prefill + decode")
    console.print(table)
    for kind in profile.curves.__struct_fields__:
        curve = getattr(profile.curves, kind)
        if curve is not None:
            _describe_curve(console, kind, curve)


def _joining(profile: Profile) -> str:
    return "join and leave" if profile.iteration_level else "do not join or leave"


def _describe_curve(console: Console, kind: str, curve: Curve) -> None:
    table = Table("held-out error", "median", "p95", "signed mean", title=f"{kind}: {curve.form}")
    for form, errors in curve.errors.items():
        mark = f"{form} (chosen)" if form == curve.form else form
        table.add_row(mark, f"{errors.median:.2%}", f"{errors.p95:.2%}", f"{errors.mean:+.2%}")
    console.print(table)
    for line in curve.reading:
        console.print(f"  {line}", highlight=False, soft_wrap=True)
