"""The folder of a sweep: all of it or nothing, and nothing else in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from simqueue.errors import OutputError

_FIGURES = ("response_time", "queueing_and_service", "batch_size", "ttft_and_tpot")
_OURS = {"sweep.parquet", "sweep.csv", *(f"{name}{kind}" for name in _FIGURES for kind in (".svg", ".png"))}


def refuse_foreign(folder: Path) -> None:
    """Raise OutputError unless ``folder`` can be made, or is there and holds a sweep or nothing."""
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not above.is_dir():
        raise OutputError(f"{above} is no folder: choose another --out")
    if not folder.exists():
        return
    others = sorted(path.name for path in folder.iterdir() if path.name not in _OURS)
    if others:
        raise OutputError(f"{folder} holds something else ({others[0]}): choose another --out, or an empty folder")


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """A folder to write to; it takes the place of a former sweep in ``folder`` when the block ends well.

    Raises:
        OutputError: the folder holds something else or cannot be written.
    """
    refuse_foreign(folder)
    aside = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        yield aside
        folder.mkdir(exist_ok=True)
        for former in folder.iterdir():
            former.unlink()
        for file in sorted(aside.iterdir()):
            file.replace(folder / file.name)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}; choose another --out") from None
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
