"""Whether a profile was made on what runs here, and where a validation comes from."""

from __future__ import annotations

import hashlib
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from simqueue.cost.profile import Measured
from simqueue.errors import ProfileError
from simqueue.profile import Profile
from simqueue.system import CostSpec

# What the duration of a step depends on; which weights the model has does not matter to it.
_COMPARED = ("runner", "model", "dtype", "gpu", "torch", "transformers", "attention")
# A pretended device takes the time of whatever profile it is given.
_PRETENDED = "sleep"


def foreign(cost: CostSpec, here: Mapping[str, str]) -> tuple[str, ...]:
    """In what the machine of the cost differs from ``here``, where it runs live (see `Executor.describe`)."""
    if here["runner"] == _PRETENDED:
        return ()
    if not isinstance(cost, Measured):
        return ("the cost is a formula, which was measured nowhere",)
    there = _described(cost.profile)
    # Without a GPU it is the processor that counts.
    fields = (*_COMPARED, "cpu") if here["gpu"] == "none" else _COMPARED
    return tuple(f"{field} {there[field]}, live {here[field]}" for field in fields if there[field] != here[field])


def refuse_foreign(cost: CostSpec, here: Mapping[str, str]) -> None:
    """Refuse a cost that was measured on another machine or with other software. Raises ProfileError."""
    if differences := foreign(cost, here):
        name = f"profile {cost.profile.name}" if isinstance(cost, Measured) else f"cost {type(cost).__name__}"
        raise ProfileError(
            f"{name} does not describe what runs live ({'; '.join(differences)}): calibrate there (--calibrate), or "
            "compare all the same (--other-machine)"
        )


def _described(profile: Profile) -> dict[str, str]:
    source = profile.provenance
    named = {field: getattr(source, field) for field in ("dtype", "gpu", "torch", "transformers", "attention", "cpu")}
    return {"runner": profile.runner, "model": profile.model.name, **named}


def provenance(cost: CostSpec, here: Mapping[str, str]) -> dict[str, Any]:
    """The machine, the software, the profile and the command, in JSON's types."""
    return {
        **software(),
        "machine": dict(here),
        "profile": digest_of(cost),
        "foreign": list(foreign(cost, here)),
    }


def software() -> dict[str, Any]:
    """What compares, how it was called, and when."""
    return {
        "simqueue": version("simqueue"),
        "commit": _commit(),
        "command": shlex.join(["simqueue", *sys.argv[1:]]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "python": platform.python_version(),
    }


def digest_of(cost: CostSpec) -> dict[str, str] | None:
    """Which profile, to the last digit; None of a formula."""
    if not isinstance(cost, Measured):
        return None
    profile = cost.profile
    return {"name": profile.name, "date": profile.provenance.date, "sha256": digest(profile)}


def digest(value: Any) -> str:
    """The same for the same content."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()


def _commit() -> str:
    """Of the checkout that this runs from, ``+`` where it was changed since; what is known where it runs from none."""
    here = Path(__file__)
    # An installation may lie in somebody else's repository.
    tracked = _git(here.parent, "ls-files", here.name)
    commit = _git(here.parent, "describe", "--always", "--abbrev=12", "--dirty=+") if tracked else None
    return commit or f"version {version('simqueue')}, no checkout"


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says, if anything."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
