"""The folder of a sweep: all of it or nothing, and nothing else in it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from simqueue import folders
from simqueue.errors import OutputError
from simqueue.sweep.store import ASIDE, CELLS, REQUESTS

TABLE, CSV = "sweep.parquet", "sweep.csv"
FIGURES = ("response_time", "queueing_and_service", "batch_size", "ttft_and_tpot")
ABOUT = b"simqueue.sweep"
_OURS = {TABLE, CSV, *(f"{name}{kind}" for name in FIGURES for kind in (".svg", ".png"))}
_HEX = re.compile("[0-9a-f]{2}")


def refuse_unusable(folder: Path) -> None:
    """Refuse a folder that holds anything but a sweep of simqueue, or that cannot be written.

    Raises:
        OutputError: what is in the way, and where.
    """
    folders.refuse_unusable(folder, _strange, "no sweep wrote")


def _strange(folder: Path) -> list[str]:
    """What is not a sweep's; figures and CSV are only beside a table or the cells of one."""
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith(ASIDE))
    kept = {name for name in (CELLS, REQUESTS) if _is_kept(folder / name)}
    ours = kept | _OURS if CELLS in kept or _is_sweep(folder / TABLE) else kept
    return [name for name in names if name not in ours]


def _is_kept(path: Path) -> bool:
    return path.is_dir() and all(_HEX.fullmatch(below.name) for below in path.iterdir())


def _is_sweep(path: Path) -> bool:
    import pyarrow
    from pyarrow import parquet

    with suppress(OSError, pyarrow.ArrowException):
        return ABOUT in (parquet.read_schema(path).metadata or {})
    return False


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """A folder to write to; its files take the place of a former sweep's when the block ends well.

    Raises:
        OutputError: the folder cannot be used or written; nothing is half-written.
    """
    refuse_unusable(folder)
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    aside = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(mkdtemp(prefix=ASIDE, dir=folder))
        yield aside
        written = {file.name for file in aside.iterdir()}
        # Figures are known by the table that they are beside.
        for name in sorted(written, key=lambda name: name != TABLE):
            (aside / name).replace(folder / name)
        for name in _OURS - written:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error}): give another folder") from None
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
        for path in new:
            # Only what stayed empty.
            with suppress(OSError):
                path.rmdir()
