"""The folder of a validation: its JSON, figures, and the live runs, which can be compared again."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from simqueue import folders
from simqueue.errors import OutputError
from simqueue.result import Result
from simqueue.validate.record import Cell, Validation, decode, encode

JSON, FIGURES, RUNS, PROFILES = "validation.json", "figures", "runs", "profiles"
_OURS = {JSON, FIGURES, RUNS, PROFILES}
_ASIDE = ".simqueue-"


def read(folder: Path) -> Validation:
    """What is there already; an empty validation where nothing is.

    Raises:
        OutputError: the folder holds something else, or cannot be used.
    """
    folders.refuse_unusable(folder, _strange, "no validation wrote")
    path = folder / JSON
    try:
        return decode(path.read_bytes(), path) if path.is_file() else Validation()
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror}): give another folder") from None


def _strange(folder: Path) -> list[str]:
    names = {path.name for path in folder.iterdir() if not path.name.startswith(_ASIDE)}
    return sorted(names - _OURS)


def write(validation: Validation, folder: Path) -> Path:
    """Write the JSON, aside first and then in place. Raises OutputError."""
    path = folder / JSON
    aside = path.with_name(f"{_ASIDE}{os.getpid()}-{JSON}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(encode(validation))
        aside.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}): give another folder") from None
    return path


def merged(before: Validation, cells: Iterable[Cell], files: Collection[str] = ()) -> Validation:
    """``cells`` in the place of their former selves, beside all others that were there, but those of ``files``: of
    these scenario files ``cells`` are all that there is."""
    others = (cell for cell in before.cells if cell.file not in files)
    return Validation(cells=tuple({cell.name: cell for cell in (*others, *cells)}.values()))


def keep(results: Iterable[Result], folder: Path, name: str) -> None:
    """Write the live runs of a cell, aside first and then in the place of former ones. Raises OutputError."""
    place = _of(folder, name)
    new, old = (place.with_name(f"{_ASIDE}{os.getpid()}-{age}") for age in ("new", "old"))
    try:
        for repeat, result in enumerate(results):
            result.save(new / str(repeat))
        if place.exists():
            place.rename(old)
        new.rename(place)
    except OSError as error:
        raise OutputError(f"{place}: cannot be written ({error.strerror}): give another folder") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def runs_of(folder: Path, name: str) -> list[Result]:
    """The live runs of a cell that were kept. Raises OutputError if there is none."""
    place = _of(folder, name)
    if not place.exists():
        # As earlier versions named it.
        place = place.with_name(slug(name))
    kept = sorted((path for path in place.glob("*") if path.name.isdigit()), key=lambda p: int(p.name))
    if not kept:
        raise OutputError(f"{place}: holds no live run to compare again: run it live first")
    return [Result.load(path) for path in kept]


def _of(folder: Path, name: str) -> Path:
    return folder / RUNS / unique_slug(name)


def unique_slug(name: str) -> str:
    """The slug of a name, which other names may have too, and what only this one has."""
    return f"{slug(name)}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def slug(name: str) -> str:
    """A name as a file's: letters, digits, dots, dashes and lines below."""
    return re.sub(r"[^\w.=-]+", "-", name).strip("-")
