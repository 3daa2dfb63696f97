"""Folders to write to: refused before anything is run, rather than after; files there as a whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from simqueue.errors import OutputError


def _anything(_: Path) -> Sequence[str]:
    return ()


def refuse_unusable(folder: Path, strange: Callable[[Path], Sequence[str]] = _anything, whose: str = "") -> None:
    """Refuse a folder that cannot be written, or that holds what is not ours: ``strange`` names it, in order. Without
    that it may hold anything.

    Raises:
        OutputError: what is in the way, where, and whose it is not ("no sweep wrote").
    """
    try:
        there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        what = f"{folder}" if there == folder else f"{folder}: {there}"
        if not there.is_dir():
            raise OutputError(f"{what} is no folder: give another one")
        if not os.access(there, os.W_OK | os.X_OK):
            raise OutputError(f"{what} cannot be written: give another folder")
        found = strange(folder) if there == folder else ()
    except OSError as error:
        raise OutputError(f"{folder}: cannot be used ({error.strerror}): give another folder") from None
    if found:
        more = f" and {len(found) - 1} more" if found[1:] else ""
        raise OutputError(f"{folder}: holds {found[0]!r}{more}, which {whose}: give an empty folder")


def made(folder: Path) -> Path:
    """The folder, there now. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"folder {folder} cannot be made: {error.strerror}; choose another --out") from None
    return folder


def written(folder: Path, writers: Mapping[str, Callable[[Path], object]]) -> list[Path]:
    """The files of these names, each made by its writer aside, and then renamed; the folder is made too.

    Raises:
        OutputError: one cannot be written; none is half-written.
    """
    files = [made(folder) / name for name in writers]
    for path, write in zip(files, writers.values(), strict=True):
        aside = path.with_name(f".{path.name}.part")
        try:
            write(aside)
            aside.replace(path)
        except OSError as error:
            aside.unlink(missing_ok=True)
            raise OutputError(f"{path} cannot be written: {error.strerror or error}; choose another place") from None
    return files
