"""A user's own policy, named in a scenario as ``kind = "package.module:Class"``."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import re
import sys
from collections.abc import Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import msgspec

from simqueue.errors import ConfigError, SimqueueError
from simqueue.policy.base import BatchingPolicy
from simqueue.tables import convert
from simqueue.units import Grid

_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def custom_policy(kind: str, fields: Mapping[str, Any], place: str, folder: Path) -> BatchingPolicy:
    """The policy that a class outside simqueue makes of ``fields``; modules are found as Python finds them, and in
    ``folder`` (the scenario's) and the current folder.

    Raises:
        ConfigError: there is no such class, it is no policy, or it cannot be made of these fields.
    """
    where = f"{place}: kind = {kind!r}"
    if not _NAME.fullmatch(kind):
        raise ConfigError(f"{where} is no name of a class: write package.module:Class")
    module_name, _, name = kind.partition(":")
    cls = _class(_module(module_name, [folder.resolve(), Path.cwd()], where), name, where)
    policy = _made(cls, fields, place)
    _check_decider(policy, where)
    return policy


def _module(name: str, folders: list[Path], where: str) -> ModuleType:
    places = list(dict.fromkeys(map(str, folders)))
    # Last, so that a file beside the scenario cannot stand in for a module that Python itself needs.
    sys.path.extend(place for place in places if place not in sys.path)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"{where}: there is no module {error.name!r} in {' or '.join(places)} or among what is installed"
            ) from None
        raise ConfigError(f"{where}: importing {name} failed ({_one_line(error)})") from error
    _refuse_namesake(name.partition(".")[0], places, where)
    return module


def _refuse_namesake(name: str, places: list[str], where: str) -> None:
    """Two files of one name: Python keeps the first that it met, which is not the one that is meant."""
    meant, met = PathFinder.find_spec(name, places), sys.modules[name].__file__
    if meant and meant.origin and met and Path(meant.origin).resolve() != Path(met).resolve():
        raise ConfigError(f"{where}: {meant.origin} has the name of {met}, which is already imported: rename it")


def _class(module: ModuleType, name: str, where: str) -> type:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type):
        classes = [key for key, value in vars(module).items() if isinstance(value, type)]
        near = difflib.get_close_matches(name, classes, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ": check the name"
        raise ConfigError(f"{where}: {module.__file__} has no class {name!r}{hint}")
    if not callable(getattr(found, "decider", None)):
        raise ConfigError(f"{where}: the class has no method decider(grid), which every policy has: add it")
    if not (dataclasses.is_dataclass(found) or issubclass(found, msgspec.Struct)):
        raise ConfigError(f"{where}: the class is no dataclass: write @dataclass(frozen=True) above it")
    return found


def _made(cls: type, fields: Mapping[str, Any], place: str) -> BatchingPolicy:
    try:
        return cast(BatchingPolicy, convert(cls, fields, place))
    except SimqueueError:
        raise
    except Exception as error:
        raise ConfigError(f"{place}: making a {cls.__name__} failed ({_one_line(error)})") from error


def _check_decider(policy: BatchingPolicy, where: str) -> None:
    try:
        decider = policy.decider(Grid())
    except Exception as error:
        raise ConfigError(f"{where}: its decider(grid) failed ({_one_line(error)})") from error
    if not callable(getattr(decider, "decide", None)):
        raise ConfigError(f"{where}: its decider(grid) returned {decider!r}, which has no method decide(view)")


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
