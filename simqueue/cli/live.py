"""`simqueue live`: one scenario on a real model, asked for by concurrent clients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simqueue.cli.simulate import show

if TYPE_CHECKING:
    from simqueue.live.serve import Served
    from simqueue.result import Result
    from simqueue.workload import Workload

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
    from simqueue.config import load, named
    from simqueue.errors import ConfigError
    from simqueue.live.interrupt import noted
    from simqueue.live.serve import RunError, serve
    from simqueue.results import refuse_unusable
    from simqueue.sim.simulate import fitted, saturation_rps
    from simqueue.testbed import open_executor
    from simqueue.workload import make_workload

    scenario = load(file, overrides or ())
    if scenario.cluster is not None:
        raise ConfigError(f"{file}: [cluster] is simulated only: leave it out to run one replica live")
    if scenario.live is None:
        raise ConfigError(
            f'{file}: the table [live] is missing, which says what runs: executor = "graph", for instance'
        )
    if out is not None:
        refuse_unusable(out)
    if scenario.sweep is not None:
        typer.echo(f"notice: {file}: [sweep] is ignored here; it is for `simqueue sweep` and `validate`", err=True)
    run, system = scenario.run, scenario.system
    with named(file):
        warmup = run.fixed_warmup
        workload = fitted(make_workload(scenario.workload, run.seed, scenario.path.parent), system)
        executor = open_executor(scenario.live, system, run.seed)
    tell = _Teller(workload, warmup, out, as_json)
    with noted() as interrupt:
        try:
            served = serve(
                workload,
                system,
                executor,
                clients=scenario.live.clients,
                seed=run.seed,
                warmup=warmup,
                saturation_rps=cache(lambda: saturation_rps(workload, system)),
            )
        except RunError as error:
            tell(error.served)
            raise
        tell(served)
        if interrupt.pressed():
            raise typer.Exit(_INTERRUPTED)


@dataclass(frozen=True)
class _Teller:
    """Saves and says what a run gave, whether or not it came to its end."""

    workload: Workload
    warmup: int
    out: Path | None
    as_json: bool

    def __call__(self, served: Served) -> None:
        if served.result is not None:
            self._keep(served.result)
        else:
            _say("no request was completed: there are no figures, and nothing is saved")
        lost = len(self.workload) - served.outcomes["completed"]
        if lost:
            stopped = "interrupted: " if served.interrupted else ""
            _say(f"{stopped}{lost} of {len(self.workload)} requests were not completed: {_why(served.outcomes, lost)}")

    def _keep(self, result: Result) -> None:
        from simqueue.results import strict_json

        if self.out is not None:
            result.save(self.out)
            typer.echo(f"written to {self.out}", err=True)
        if result.warmup == 0 < self.warmup:
            _say(f"ended within the warm-up of {self.warmup} requests: the figures are of all that were completed")
        if self.as_json:
            typer.echo(strict_json(result.summary()), nl=False)
        else:
            show(result.summary(), result.warmup)


def _why(outcomes: Mapping[str, int], lost: int) -> str:
    named = {name: count for name, count in outcomes.items() if count and name != "completed"}
    unheard = lost - sum(named.values())
    if unheard:
        named["never reached the server"] = unheard
    return ", ".join(f"{count} {what}" for what, count in named.items())


def _say(text: str) -> None:
    typer.echo(f"simqueue: {text}", err=True)
