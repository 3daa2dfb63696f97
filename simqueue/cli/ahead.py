"""What the processes of a command have imported, and know of themselves, before their first task: see
`simqueue.pool.get_ready`."""

from simqueue.sweep.content import versions
from simqueue.sweep.task import done

__all__ = ["done"]

versions()
