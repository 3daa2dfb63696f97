"""What the numbers of a cell depend on, and its key: the same for the same content, wherever and whenever it is run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import sys
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec

import simqueue
from simqueue.analysis.replications import is_stationary
from simqueue.config import Scenario
from simqueue.cost.profile import Measured
from simqueue.errors import WorkloadError
from simqueue.profile import profile_path
from simqueue.provenance import described
from simqueue.replica import longest_context
from simqueue.sim.simulate import SATURATING
from simqueue.workload import WorkloadSpec
from simqueue.workload.workload import plain

# Of what a stored cell holds; one more whenever that changes.
FORMAT = 1
# Whose arithmetic and draws the numbers follow from.
_LIBRARIES = ("simqueue", "numpy", "scipy", "simpy")
# Parts of simqueue that no cell is made by.
_APART = frozenset(
    ("cli", "plot", "live", "validate", "capacity", "optimise", "ranking", "sensitivity", "measured", "theory")
)


@cache
def versions() -> dict[str, str]:
    """What computes: the versions of simqueue (and a digest of its source, which in a clone changes between versions),
    of the libraries that numbers follow from, and of Python."""
    folder = Path(simqueue.__path__[0])
    sources = sorted([*folder.rglob("*.py"), *folder.rglob("*.pyx")])
    modules = (path for path in sources if path.relative_to(folder).parts[0] not in _APART)
    source = _sha256(b"".join(path.read_bytes() for path in modules))
    libraries = {name: version(name) for name in _LIBRARIES}
    return {"Python": platform.python_version(), **libraries, "source of simqueue": source[:12]}


def surroundings(scenario: Scenario) -> dict[str, str]:
    """`versions`, and by its path the digest of every file that a scenario draws on: profile, trace, lengths, and the
    source of a policy of the user's own. Whoever sees the same has the same numbers.

    Raises:
        WorkloadError: a file is gone.
    """
    return versions() | {str(path): digest(path) for path in _files(scenario)}


def longest(scenario: Scenario) -> WorkloadSpec:
    """The workload that the saturation throughput is of: the scenario's own but, where its requests are those of a
    first look only since a precision is asked for, as many as tell it well."""
    spec = scenario.workload
    if scenario.run.precision is None or not is_stationary(spec):
        return spec
    return msgspec.structs.replace(spec, requests=max(spec.requests or 0, SATURATING))


class Content(NamedTuple):
    """What a scenario's figures depend on, in short.

    Attributes:
        scenario: the same for the same scenario, drawing on the same files, run by the same versions.
        saturation: the same for all that have one saturation throughput, which depends on the system and on the
            lengths, in their order, and not on when requests come.
        lengths: the same for all whose requests are drawn alike, whenever they come, and have the same room.
        seen: `surroundings`.

    All but the last are 64 hexadecimal digits: SHA-256 of canonical JSON, with digests in the place of files.
    """

    scenario: str
    saturation: str
    lengths: str
    seen: dict[str, str]

    @classmethod
    def of(cls, scenario: Scenario) -> Content:
        """Raises WorkloadError: a file is gone."""
        workload, system = _placed(plain(scenario.workload), scenario.path.parent), _system(scenario)
        lengths, saturating = _lengths(workload), _lengths(_placed(plain(longest(scenario)), scenario.path.parent))
        return cls(
            _key("scenario", workload, system, msgspec.to_builtins(scenario.run)),
            _key("saturation", saturating, system, scenario.run.seed),
            _key("lengths", lengths, longest_context(scenario.system)),
            surroundings(scenario),
        )

    def cell(self, load: float | None) -> str:
        """Of the figures at a load."""
        return _key("cell", self.scenario, load)


def sources(scenario: Scenario) -> list[Path]:
    """The modules that a policy of the user's own is made of, as far as they lie in its folder; none of a shipped
    policy's."""
    module = sys.modules[type(scenario.system.policy).__module__]
    if module.__name__.partition(".")[0] == "simqueue" or not getattr(module, "__file__", None):
        return []
    found = {str(module.__file__): module}
    waiting = [module]
    while waiting:
        for near in _used(waiting.pop()):
            if str(near.__file__) not in found:
                found[str(near.__file__)] = near
                waiting.append(near)
    return sorted(map(Path, found))


def digest(path: Path) -> str:
    """SHA-256 of a file, or of all files in a folder. Raises WorkloadError if it cannot be read."""
    try:
        files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        parts = [f"{each.relative_to(path)}:{_of_file(each, _stamp(each))}" for each in files]
    except OSError as error:
        raise WorkloadError(f"{path}: cannot be read ({error.strerror}): put it back, or name another file") from None
    return _sha256("\n".join(parts).encode()) if path.is_dir() else parts[0].rpartition(":")[2]


def _key(*content: Any) -> str:
    named = [FORMAT, versions(), *content]
    return _sha256(json.dumps(named, sort_keys=True, separators=(",", ":")).encode())


def _lengths(workload: dict[str, Any]) -> dict[str, Any]:
    """In a trace lengths come with arrivals, and in sessions they add up."""
    if workload.get("arrivals", {}).get("kind") in ("trace", "sessions"):
        return workload
    return {key: value for key, value in workload.items() if key != "arrivals"}


def _system(scenario: Scenario) -> dict[str, Any]:
    """The system as tables, the profile and the source of its policy by their digests."""
    system = scenario.system
    table = {name: _told(getattr(system, name)) for name in system.__struct_fields__}
    if isinstance(system.cost, Measured):
        table["cost"] |= {"name": None, "path": digest(_profile(system.cost))}
    return {**table, "source": [digest(path) for path in sources(scenario)]}


def _told(part: Any) -> Any:
    return described(part) if isinstance(part, msgspec.Struct) or dataclasses.is_dataclass(part) else part


def _placed(node: Any, folder: Path) -> Any:
    """Tables with digests in the place of paths: a file that lies elsewhere is still the same."""
    if isinstance(node, Mapping):
        return {
            key: digest(folder / value) if _is_path(key, value) else _placed(value, folder)
            for key, value in node.items()
        }
    return [_placed(each, folder) for each in node] if isinstance(node, list) else node


def _is_path(key: object, value: Any) -> bool:
    return key == "path" and isinstance(value, str)


def _files(scenario: Scenario) -> Iterator[Path]:
    yield from _paths(plain(scenario.workload), scenario.path.parent)
    if isinstance(scenario.system.cost, Measured):
        yield _profile(scenario.system.cost)
    yield from sources(scenario)


def _paths(node: Any, folder: Path) -> Iterator[Path]:
    for key, value in node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ():
        if _is_path(key, value):
            yield folder / value
        else:
            yield from _paths(value, folder)


def _profile(cost: Measured) -> Path:
    return profile_path(cost.name or cost.path or "")


def _used(module: ModuleType) -> Iterator[ModuleType]:
    """Modules in the folder of this one that it has imported, or has names from."""
    folder = Path(str(module.__file__)).parent
    for value in list(vars(module).values()):
        near = value if isinstance(value, ModuleType) else sys.modules.get(getattr(value, "__module__", None) or "")
        file = getattr(near, "__file__", None)
        if near is not None and file and folder in Path(file).parents:
            yield near


def _stamp(path: Path) -> object:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


@lru_cache(maxsize=256)
def _of_file(path: Path, stamp: object) -> str:
    """Of a version of a file, read once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
