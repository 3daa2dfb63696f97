"""The result of a cluster on disk: the same three files that a run of one replica has."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from simqueue.results import REQUESTS, STEPS, SUMMARY, refuse_unusable, strict_json, written_aside

LEAP_FIELDS = (
    *("start", "steps", "first", "total", "rows", "context", "longest"),
    *("prefill_rows", "new_tokens", "prefill_context", "widest"),
)
_SCHEMA = "cluster 1"


def write(
    folder: Path, requests: Mapping[str, NDArray[Any]], steps: Mapping[str, NDArray[Any]], summary: Mapping[str, Any]
) -> None:
    """Write both tables and the figures: every file aside first, then renamed.

    Raises:
        OutputError: the folder holds something else, or cannot be written.
    """
    import pyarrow
    from pyarrow import parquet

    refuse_unusable(folder)
    about = {b"simqueue": json.dumps({"schema": _SCHEMA, "provenance": summary["provenance"]}).encode()}
    with written_aside(folder) as aside:
        for name, columns in ((REQUESTS, requests), (STEPS, steps)):
            parquet.write_table(pyarrow.table(dict(columns)).replace_schema_metadata(about), aside[name])
        aside[SUMMARY].write_bytes(strict_json(summary))
