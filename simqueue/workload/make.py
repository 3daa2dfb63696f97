"""`make_workload`: from what a ``[workload]`` table describes to columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simqueue.errors import WorkloadError
from simqueue.workload.arrivals import Trace
from simqueue.workload.checks import refuse_if_too_many
from simqueue.workload.clients import Drawn
from simqueue.workload.columns import frozen
from simqueue.workload.conversations import conversations
from simqueue.workload.formats import MOONCAKE_BLOCK_TOKENS, detected, read_recorded
from simqueue.workload.sessions import BLOCK_TOKENS, Sessions
from simqueue.workload.spec import WorkloadSpec
from simqueue.workload.streams import streams
from simqueue.workload.superposition import superposed
from simqueue.workload.users import Users
from simqueue.workload.workload import Workload, plain


def make_workload(spec: WorkloadSpec, seed: int, base: Path | None = None) -> Workload:
    """Make the columns that ``spec`` describes.

    Args:
        spec: the ``[workload]`` table.
        seed: of every draw; arrivals, prompts, outputs, think times, what else is known of requests and the spreading
            of a trace's coarse stamps have streams of their own, and so has each class.
        base: the folder that a trace's relative path starts from (the scenario file's); the current one if
            not given.

    Warns:
        TraceWarning: what was changed in a public trace.

    Raises:
        WorkloadError: the trace cannot be used or is too short, or the columns would not fit the memory.
    """
    if isinstance(spec.arrivals, Trace):
        return _from_trace(spec, spec.arrivals, seed, (base or Path()) / spec.arrivals.path)
    assert spec.requests is not None  # WorkloadSpec made sure
    refuse_if_too_many(spec.requests)
    drawn = _drawn(spec, spec.requests, seed)
    columns = {name: frozen(column) for name, column in drawn.columns.items()}
    return Workload.of(columns, {**_meta(spec, seed), "rate": spec.mean_rate, **drawn.meta})


def _drawn(spec: WorkloadSpec, requests: int, seed: int) -> Drawn:
    if spec.classes:
        return superposed(spec.classes, requests, seed)
    arrivals, rng = spec.arrivals, streams(seed)
    assert arrivals is not None
    assert not isinstance(arrivals, Trace)
    if isinstance(arrivals, Sessions):
        columns, meta = conversations(arrivals, spec, requests, seed)
        return Drawn(columns, {**meta, "sessions": True, "hash_block_tokens": BLOCK_TOKENS})
    columns, meta = spec.lengths(requests, rng)
    columns |= {"arrival_s": arrivals.times(requests, rng), **spec.known(columns["output_tokens"], rng)}
    if not isinstance(arrivals, Users):
        return Drawn(columns, meta)
    return Drawn(columns | {"think_s": arrivals.thinks(requests, rng)}, {**meta, "users": arrivals.users})


def _from_trace(spec: WorkloadSpec, trace: Trace, seed: int, path: Path) -> Workload:
    format = detected(path) if trace.format == "auto" else trace.format
    columns = read_recorded(path, format, streams(seed).stamps)
    rows = len(columns["arrival_s"])
    wanted = rows if spec.requests is None else spec.requests
    if wanted > rows:
        raise WorkloadError(f"workload: requests = {wanted}, but {path} has {rows} rows; ask for at most {rows}")
    columns["arrival_s"] = columns["arrival_s"] / trace.speed
    meta = {**_meta(spec, seed), "stretch": 1 / trace.speed}
    if format == "mooncake" and "hash_ids" in columns:
        meta["hash_block_tokens"] = MOONCAKE_BLOCK_TOKENS
    return Workload.of({name: column[:wanted] for name, column in columns.items()}, meta)


def _meta(spec: WorkloadSpec, seed: int) -> dict[str, Any]:
    return {"spec": plain(spec), "seed": seed}
