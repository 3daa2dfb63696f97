"""What the processes of a command have imported, and know of themselves, before their first task: see
`simqueue.pool.get_ready`."""

import atexit
import os
import shutil
from contextlib import suppress
from multiprocessing import forkserver
from typing import Any

from simqueue.sweep.content import versions
from simqueue.sweep.task import done

__all__ = ["done"]


@atexit.register
def _leave_nothing() -> None:
    """The folder of this server's socket stays if whoever started it was killed."""
    server: Any = getattr(forkserver, "_forkserver", None)
    folder = os.path.dirname(getattr(server, "_forkserver_address", None) or "")
    if os.path.basename(folder).startswith("pymp-"):
        shutil.rmtree(folder, ignore_errors=True)


# Whoever asks will say what is wrong with them.
with suppress(OSError):
    versions()
