"""`simqueue profiles`: list the measured step costs that ship, show one with its curve, make one from samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from simqueue.accuracy import KINDS, CurveKind, Target, causes, targets
from simqueue.cli.serving import describe_serving
from simqueue.folders import refuse_unusable
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
    # The name is what one types next: it is never cut.
    table = Table(
        Column("name", no_wrap=True),
        "runner",
        "dtype",
        "rows",
        "context",
        "GPU",
        Column("measured", no_wrap=True),
        box=None,
    )
    for name in shipped():
        profile = load_profile(name)
        source = profile.provenance
        gpu = source.gpu if source.gpu != "none" else f"none ({source.cpu})"
        rows = f"1 to {profile.decode.rows[-1]}" if profile.decode else "any"
        window = f"{profile.model.max_context:,}"
        table.add_row(name, profile.runner, profile.model.dtype, rows, window, gpu, source.date.partition(" ")[0])
    console = Console()
    console.print(table)
    console.print("simqueue profiles show NAME prints one and draws its curve; rows and context are what was measured")


def show(
    name: Annotated[str, typer.Argument(help="A shipped profile, or a path to a profile's JSON.")],
    out: Annotated[Path, typer.Option(help="Folder for the figure (SVG and PNG).")] = Path("."),
) -> None:
    """Print where a profile comes from, and draw its curve with data points, residuals and regimes."""
    profile = load_profile(name)
    describe(profile)
    from simqueue.plot.curve import plot_curve
    from simqueue.plot.serving import plot_serving

    for path in (*plot_curve(profile, out), *(plot_serving(profile, out) if profile.serving else ())):
        typer.echo(f"wrote {path}")


def fit(
    samples: Annotated[Path, typer.Argument(help="CSV of rows,new_tokens,context,seconds, or calibrate's own.")],
    name: Annotated[str, typer.Option(help="Name of the profile.")],
    out: Annotated[Path, typer.Option(help="Folder for the profile (NAME.json).")] = Path("."),
) -> None:
    """Make a profile from step times of a server of your own, or again from raw samples of a calibration."""
    from calibration.build import from_file

    refuse_unusable(out)
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
    for kind in KINDS:
        if getattr(profile.curves, kind) is not None:
            _describe_curve(console, profile, kind)
    if profile.serving is not None:
        describe_serving(console, profile.serving)


def _joining(profile: Profile) -> str:
    return "join and leave" if profile.iteration_level else "do not join or leave"


def _describe_curve(console: Console, profile: Profile, kind: CurveKind) -> None:
    curve: Curve = getattr(profile.curves, kind)
    wanted = targets(profile, kind)
    table = Table("held-out error", "median", "p95", "signed mean", title=f"{kind}: {curve.form}")
    for form, errors in curve.errors.items():
        mark = f"{form} (chosen)" if form == curve.form else form
        table.add_row(mark, f"{errors.median:.2%}", f"{errors.p95:.2%}", f"{errors.mean:+.2%}")
    if wanted:
        table.add_row("target of the chosen form", *(f"{target.limit:.2%}" for target in wanted))
        table.add_row("", *("reached" if target.reached else "MISSED" for target in wanted))
    console.print(table)
    for line in (*curve.reading, *_verdict(profile, kind, wanted)):
        console.print(f"  {line}", highlight=False, soft_wrap=True)


def _verdict(profile: Profile, kind: CurveKind, wanted: Sequence[Target]) -> Iterator[str]:
    """Whether the targets are reached, and why not."""
    missed = [f"{t.figure} {t.value:.1%} (target {t.limit:.1%})" for t in wanted if not t.reached]
    if not missed:
        yield from ["all targets reached"] * bool(wanted)
        return
    yield f"targets MISSED: {', '.join(missed)}. Likely causes:"
    yield from (f"  - {cause}" for cause in causes(profile, kind))
    yield "  simulations read the table unless `curve = true`; its errors are in the row `table`"
