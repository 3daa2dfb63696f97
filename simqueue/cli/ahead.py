"""What the processes of a command have imported before their first task: see `simqueue.pool.get_ready`."""

import simqueue.sweep.task  # noqa: F401
