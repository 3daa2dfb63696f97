"""`simqueue calibrate`: measure what the steps of a language model cost on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simqueue.errors import ConfigError
from simqueue.folders import refuse_unusable


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("calibrate")(calibrate)


def calibrate(
    model: Annotated[str, typer.Option(help="gpt2, tiny, or a folder with a causal language model.")] = "gpt2",
    runner: Annotated[
        str,
        typer.Option(help="graph: static cache, CUDA graphs; eager: plain forward; naive: only with --check."),
    ] = "graph",
    dtype: Annotated[str, typer.Option(help="bf16 or fp32.")] = "bf16",
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    out: Annotated[Path, typer.Option(help="Folder for samples (NAME.csv) and profile (NAME.json).")] = Path("."),
    name: Annotated[str, typer.Option(help="Name of the profile; MODEL-DEVICE-DTYPE-RUNNER if left out.")] = "",
    minutes: Annotated[float, typer.Option(help="Stop measuring after this long; running again goes on.")] = 4.0,
    max_rows: Annotated[int, typer.Option(help="Measure steps of up to this many rows.")] = 256,
    max_context: Annotated[int, typer.Option(help="Measure up to this many tokens in a row's cache.")] = 1024,
    check: Annotated[bool, typer.Option("--check", help="Only check that the runner computes right.")] = False,
) -> None:
    """Measure forward passes, fit the service-time curve, and write a profile. Ctrl-C keeps what was measured."""
    try:
        from calibration import check as checking
        from calibration import run
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("torch", "transformers"):
            raise
        raise ConfigError(f"calibrate needs {error.name}: pip install 'simqueue[gpu]'") from None
    if check:
        checking.check(model, runner, dtype, device)
        return
    refuse_unusable(out)
    label = name or f"{Path(model).name}-{device}-{dtype}-{runner}"
    plan = run.Plan(model, runner, dtype, device, out, label, minutes, max_rows, max_context)
    profile = run.calibrate(plan)
    if profile is None:
        raise typer.Exit(3)
    from simqueue.cli.profiles import describe

    describe(profile)
