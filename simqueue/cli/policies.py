"""`simqueue policies`: what there is, with its knobs and defaults."""

from __future__ import annotations

import inspect
from types import NoneType
from typing import Any, get_args, get_origin

import typer

_WORDS = {bool: "true or false", int: "integer", float: "number"}


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("policies")(policies)


def policies() -> None:
    """List the batching policies and their knobs: ``policy = { kind = "...", ... }`` in a scenario's [system]."""
    import msgspec
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from simqueue.config import POLICIES

    console = Console(highlight=False)
    for kind, policy in POLICIES.items():
        console.print(f"[bold]{kind}[/bold]: {escape(_first_paragraph(policy))}")
        knob, default = Column("knob", no_wrap=True), Column("default", overflow="fold")
        table = Table(knob, "type", default, box=box.SIMPLE)
        for field in msgspec.structs.fields(policy):
            table.add_row(field.name, _type(field.type), "required" if field.required else _default(_given(field)))
        console.print(table if table.rows else "")
    console.print('A policy of your own: kind = "package.module:Class", with its fields as knobs.', soft_wrap=True)


def _given(field: Any) -> Any:
    import msgspec

    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return msgspec.to_builtins(value) if isinstance(value, msgspec.Struct) else value


def _default(value: Any) -> str:
    """As a scenario writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_default, value))}]"
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {_default(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    return "left out" if value is None else f'"{value}"' if isinstance(value, str) else f"{value}"


def _type(annotation: Any) -> str:
    if annotation in _WORDS:
        return _WORDS[annotation]
    if get_origin(annotation) is dict or hasattr(annotation, "__struct_fields__"):
        return "table"
    if get_origin(annotation) is tuple:
        return f"{_type(get_args(annotation)[0])}s"
    parts = [part for part in get_args(annotation) if part is not NoneType]
    words = (f'"{part}"' if isinstance(part, str) else _type(part) for part in parts)
    return " or ".join(words)


def _first_paragraph(policy: Any) -> str:
    """Without the beginning of a list, which is in a paragraph of its own."""
    text = " ".join((inspect.getdoc(policy) or "").split("\n\n")[0].replace("``", "").split())
    return f"{text.rpartition('. ')[0]}." if text.endswith(":") else text
