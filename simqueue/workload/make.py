"""`make_workload`: from what a ``[workload]`` table describes to columns."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simqueue.errors import WorkloadError
from simqueue.workload.arrivals import Trace
from simqueue.workload.checks import refuse_if_too_many
from simqueue.workload.clients import Drawn
from simqueue.workload.columns import Column, frozen
from simqueue.workload.conversations import conversations
from simqueue.workload.formats import MOONCAKE_BLOCK_TOKENS, detected, read_recorded
from simqueue.workload.servegen import read_servegen
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
    columns, meta = spec.drawn_lengths(requests, rng)
    columns |= {"arrival_s": arrivals.times(requests, rng), **spec.known(columns["output_tokens"], rng)}
    if not isinstance(arrivals, Users):
        return Drawn(columns, meta)
    return Drawn(columns | {"think_s": arrivals.thinks(requests, rng)}, {**meta, "users": arrivals.users})


def _from_trace(spec: WorkloadSpec, trace: Trace, seed: int, path: Path) -> Workload:
    format = detected(path) if trace.format == "auto" else trace.format
    if format == "servegen":
        columns = read_servegen(path, seed, trace.begin_s, spec.requests)
    else:
        columns = _since(trace.begin_s, path, read_recorded(path, format, streams(seed).stamps))
    rows = len(columns["arrival_s"])
    wanted = rows if spec.requests is None else spec.requests
    if wanted > rows:
        raise WorkloadError(f"workload: requests = {wanted}, but {path} has {rows} rows; ask for at most {rows}")
    columns = {name: column[:wanted] for name, column in columns.items()}
    outputs = spec.cut(columns["output_tokens"])
    known = spec.known(outputs.tokens, streams(seed))
    _refuse_twice(path, known, columns)
    columns |= {"arrival_s": columns["arrival_s"] / trace.speed, "output_tokens": outputs.tokens, **known}
    meta = {**_meta(spec, seed), "stretch": 1 / trace.speed, "output_clipped_share": outputs.clipped_share}
    if format == "mooncake" and "hash_ids" in columns:
        meta["hash_block_tokens"] = MOONCAKE_BLOCK_TOKENS
    return Workload.of({name: frozen(column) for name, column in columns.items()}, meta)


def _refuse_twice(path: Path, known: Mapping[str, Column], recorded: Mapping[str, Column]) -> None:
    """Refuse what is known of requests twice, from the scenario and from the trace."""
    if twice := [name for name in known if name in recorded]:
        key = "prediction" if twice[0] == "predicted_output_tokens" else twice[0]
        raise WorkloadError(
            f"workload: {key} given beside {path}, which has a column {twice[0]}; remove one or the other"
        )


def _since(begin_s: float, path: Path, columns: dict[str, Column]) -> dict[str, Column]:
    """What comes from ``begin_s`` on, from where arrivals count."""
    first = int(np.searchsorted(columns["arrival_s"], begin_s))
    if first == len(columns["arrival_s"]):
        raise WorkloadError(f"{path}: nothing comes after begin_s = {begin_s:g}; begin earlier")
    rows = {name: column[first:] for name, column in columns.items()}
    return {**rows, "arrival_s": rows["arrival_s"] - begin_s}


def _meta(spec: WorkloadSpec, seed: int) -> dict[str, Any]:
    return {"spec": plain(spec), "seed": seed}
