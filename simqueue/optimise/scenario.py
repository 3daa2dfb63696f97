"""A point as a scenario of its own: tables, and the TOML of tables."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from simqueue.optimise.space import LOAD, RATE
from simqueue.optimise.trial import Trial, case_at

_PATH, _SWEEP = "path", "sweep"
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def tables_of(trial: Trial, table: Mapping[str, Any], path: Path, folder: Path) -> dict[str, Any]:
    """The tables of a scenario in ``folder`` that is what was tried: with the values that were chosen, the rate among
    them, and with relative paths that start from that folder. ``[sweep]`` is left out."""
    tables = {key: value for key, value in trial.point.put(table).items() if key != _SWEEP}
    if trial.point.of(RATE) is not None or trial.point.of(LOAD) is not None:
        spec = case_at(trial.point, table, path, trial.saturation_rps)[0].spec
        given = ("arrivals", "requests") if spec.requests is not None else ("arrivals",)
        workload = msgspec.to_builtins(spec)
        for index, each in enumerate(spec.classes):
            tables["workload"]["classes"][index]["arrivals"] = msgspec.to_builtins(each.arrivals)
        tables["workload"] |= {key: workload[key] for key in given if key in workload}
    moved: dict[str, Any] = _moved(tables, path.parent, folder)
    return moved


def _moved(value: Any, base: Path, folder: Path) -> Any:
    if isinstance(value, list):
        return [_moved(one, base, folder) for one in value]
    if not isinstance(value, Mapping):
        return value
    return {
        key: os.path.relpath(base / one, folder) if key == _PATH and isinstance(one, str) else _moved(one, base, folder)
        for key, one in value.items()
    }


def toml(tables: Mapping[str, Any]) -> str:
    """TOML 1.0 of tables as `tomllib` reads them: tables of tables in line, all else a line a key."""
    parts = []
    for name, inner in tables.items():
        lines = [f"{_key(key)} = {_value(value)}" for key, value in inner.items()]
        parts.append("\n".join([f"[{_key(name)}]", *lines]))
    return "\n\n".join(parts) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{_key(key)} = {_value(one)}' for key, one in value.items())} }}" if value else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return _text(value) if isinstance(value, str) else repr(value)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _text(text: str) -> str:
    """A string of JSON is one of TOML, but for one control character that JSON lets stand."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
