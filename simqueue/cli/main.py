"""`simqueue`: what every verb has in common, and which verbs there are."""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from simqueue.errors import SimqueueError

_REFUSED, _INTERRUPTED = 2, 130
_as_python = warnings.formatwarning
# A verb's module is imported when the verb is used, so that --help need not wait for all of them.
_VERBS = {
    "simulate": "Simulate a scenario and print its latencies.",
    "live": "Run a scenario on a real model, and print the same table.",
    "sweep": "Simulate all of a [sweep] table; write a table and figures.",
    "compare": "Find the best of several scenarios, or set one beside measurements.",
    "capacity": "Find the highest rate, or the fewest replicas, that keep limits.",
    "optimise": "Find the best of several parameters at once, and what latency costs.",
    "sensitivity": "Find out which parameters move a figure most.",
    "validate": "Run scenarios live and compare them with their simulations.",
    "trace": "Describe a recorded workload; fit an arrival process.",
    "policies": "List the batching policies and their knobs.",
    "profiles": "List measured step costs, show one, or fit one to samples.",
    "calibrate": "Measure what a language model's steps cost on this machine.",
    "init": "Write a commented scenario to start from.",
}


class _Verbs(typer.core.TyperGroup):
    """Imports a verb when it is used, and says what goes wrong in one line."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name in _VERBS:
            verbs = typer.Typer(rich_markup_mode=None)
            import_module(f"simqueue.cli.{name}").register(verbs)
            self.commands[name] = typer.main.get_group(verbs).commands[name]
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SimqueueError as error:
            _say(f"error: {error}")
            raise typer.Exit(_REFUSED) from None
        except MemoryError:
            _say("error: not enough memory: ask for fewer requests")
            raise typer.Exit(_REFUSED) from None
        except KeyboardInterrupt:
            _say("interrupted")
            raise typer.Exit(_INTERRUPTED) from None


app = typer.Typer(
    cls=_Verbs,
    add_completion=False,
    pretty_exceptions_enable=False,
    # With markup, [sweep] would be a style.
    rich_markup_mode=None,
    help="What latency an LLM service will have, before it is deployed.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"simqueue {version('simqueue')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """What latency an LLM service will have, before it is deployed."""


def _not_imported() -> None:
    raise AssertionError("a verb is imported before it is run")


for _name, _help in _VERBS.items():
    app.command(_name, help=_help)(_not_imported)


def main() -> None:
    """The entry point: exits with 0, with 2 after a refusal in one line, or with 130 after Ctrl-C."""
    warnings.formatwarning = _warned
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="simqueue", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has had enough; Python would complain once more when it closes the pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        # Wrong options: Typer's own exceptions have moved between versions, but all of them can say what is wrong.
        if not hasattr(error, "format_message"):
            raise
        _say(f"error: {error.format_message()} (simqueue --help lists what there is)")
        code = _REFUSED
    except KeyboardInterrupt:
        _say("interrupted")
        code = _INTERRUPTED
    sys.exit(code if isinstance(code, int) else 0)


def _warned(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Our own warnings in one line; others as Python has them, with their place."""
    if category.__module__.startswith("simqueue."):
        return f"simqueue: warning: {message}\n"
    return _as_python(message, category, filename, lineno, line)


def _say(text: str) -> None:
    typer.echo(f"simqueue: {' '.join(text.split())}", err=True)
