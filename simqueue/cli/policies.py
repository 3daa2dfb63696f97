"""`simqueue policies`: what there is, with its knobs and defaults."""

from __future__ import annotations

import inspect
from types import NoneType
from typing import Any, get_args

import typer

_WORDS = {int: "integer", float: "number"}


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("policies")(policies)


def policies() -> None:
    """List the batching policies and their knobs: ``policy = { kind = "...", ... }`` in a scenario's [system]."""
    import msgspec
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from simqueue.config import POLICIES

    console = Console(highlight=False)
    for kind, policy in POLICIES.items():
        console.print(f"[bold]{kind}[/bold]: {escape(_first_paragraph(policy))}")
        table = Table("knob", "type", "default", box=box.SIMPLE)
        for field in msgspec.structs.fields(policy):
            table.add_row(field.name, _type(field.type), "required" if field.required else _default(field.default))
        console.print(table if table.rows else "")
    console.print('A policy of your own: kind = "package.module:Class", with its fields as knobs.', soft_wrap=True)


def _default(value: Any) -> str:
    return "left out" if value is None else f'"{value}"' if isinstance(value, str) else f"{value}"


def _type(annotation: Any) -> str:
    if annotation in _WORDS:
        return _WORDS[annotation]
    parts = [part for part in get_args(annotation) if part is not NoneType]
    words = (f'"{part}"' if isinstance(part, str) else _type(part) for part in parts)
    return " or ".join(words)


def _first_paragraph(policy: Any) -> str:
    text = (inspect.getdoc(policy) or "").split("\n\n")[0]
    return " ".join(text.replace("``", "").split())
