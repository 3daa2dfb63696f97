"""`simqueue live`: one scenario on a real model, asked for by concurrent clients."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from simqueue.cli.simulate import show

_INTERRUPTED = 130


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("live")(live)


def live(
    file: Annotated[Path, typer.Argument(help="The scenario, a TOML file with a [live] table.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for requests.parquet, steps.parquet and summary.json.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a value: live.executor=sleep. Repeatable.")
    ] = None,
) -> None:
    """Run a scenario on a real model under the very policy that `simulate` simulates. Ctrl-C keeps what is finished."""
    from simqueue.config import load
    from simqueue.errors import ConfigError
    from simqueue.live.serve import serve
    from simqueue.results import refuse_unusable, strict_json
    from simqueue.sim.simulate import fitted, saturation_rps
    from simqueue.testbed import open_executor
    from simqueue.workload import make_workload

    scenario = load(file, overrides or ())
    if scenario.live is None:
        raise ConfigError(
            f'{file}: the table [live] is missing, which says what runs: executor = "graph", for instance'
        )
    if out is not None:
        refuse_unusable(out)
    if scenario.sweep is not None:
        typer.echo(f"notice: {file}: [sweep] is ignored here; it is for `simqueue sweep` and `validate`", err=True)
    run, system = scenario.run, scenario.system
    workload = fitted(make_workload(scenario.workload, run.seed, scenario.path.parent), system)
    executor = open_executor(scenario.live, system, run.seed)
    served = serve(
        workload,
        system,
        executor,
        clients=scenario.live.clients,
        seed=run.seed,
        warmup=run.warmup,
        saturation_rps=cache(lambda: saturation_rps(workload, system)),
    )
    if served.result is not None:
        if out is not None:
            served.result.save(out)
        summary = served.result.summary()
        if as_json:
            typer.echo(strict_json(summary), nl=False)
        else:
            show(summary, run.warmup)
    lost = len(workload) - served.outcomes["completed"]
    if lost:
        typer.echo(
            f"simqueue: {lost} of {len(workload)} requests were not completed: {_why(served.outcomes)}", err=True
        )
    if out is not None and served.result is not None:
        typer.echo(f"written to {out}", err=True)
    if served.interrupted:
        raise typer.Exit(_INTERRUPTED)


def _why(outcomes: Mapping[str, int]) -> str:
    named = [f"{count} {name}" for name, count in outcomes.items() if count and name != "completed"]
    return ", ".join([*named, "the rest never sent"])
