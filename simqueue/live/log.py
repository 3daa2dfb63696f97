"""Lines for whoever watches."""

from __future__ import annotations

import sys
import time


def log(message: str) -> None:
    """A line to stderr with the time of day."""
    print(f"[{time.strftime('%H:%M:%S')}] {message}", file=sys.stderr, flush=True)
