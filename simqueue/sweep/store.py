"""Finished cells on disk, each in a file of its own, there as a whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from simqueue.errors import OutputError

CELLS, REQUESTS = "cells", "requests"
ASIDE = ".simqueue-"


class Store:
    """A folder of finished cells by their keys (`simqueue.sweep.content`).

    A file is the SHA-256 of what follows in hexadecimal digits, a line break, and one line of JSON. It is written aside
    and then renamed, so that whoever is ended at any moment leaves none half-written; what is damaged all the same, or
    empty after a power cut, does not fit its digest and counts as not there. There are 256 folders by the first two
    digits of the key, since not every file system likes a million names in one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> Any | None:
        """What was put under this key, or None: nothing was, or it is damaged. Raises OutputError if it cannot be
        read."""
        path = self._path(key)
        try:
            digest, _, body = path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutputError(f"{path}: cannot be read ({error.strerror}): remove it, and it is made again") from None
        return json.loads(body) if digest == _digest(body) else None

    def put(self, key: str, value: Any) -> None:
        """Keep a value of JSON's types, infinite numbers included. Raises OutputError: the disk is full, say."""
        body = json.dumps(value).encode()
        write(self._path(key), _digest(body) + b"\n" + body)

    def requests_file(self, key: str) -> Path:
        """Where a worker leaves the requests of a cell."""
        return self.folder / REQUESTS / key[:2] / f"{key}.parquet"

    def _path(self, key: str) -> Path:
        return self.folder / CELLS / key[:2] / f"{key}.json"


def write(path: Path, content: bytes) -> None:
    """The file with this content, written aside and renamed, its folder made. Raises OutputError."""
    aside = path.with_name(f"{ASIDE}{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError) -> OutputError:
    """What to say of a full disk, and of anything else that is in the way."""
    return OutputError(
        f"{path.parent}: cannot be written ({error.strerror or error}): make room, and run the same command again, "
        "which goes on from the cells that are finished"
    )


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()
