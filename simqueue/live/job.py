"""`Job`: what the clients of a live run do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from simqueue.live.executor import GRID, Tokens
from simqueue.record import Known
from simqueue.units import INT64_MAX
from simqueue.workload import Workload
from simqueue.workload.conversations import following


class Job(msgspec.Struct, frozen=True):
    """What the clients do. Columns have one entry a request, in order of arrival.

    Attributes:
        prompts: token ids, int64.
        output: tokens to ask for.
        known: what the server may know of each; nothing unless given.
        arrival: ns after the start at which each is sent, where that is known beforehand.
        think: else, ns that users think, in the order in which they begin to.
        users: how many do.
        following: of turns of sessions, of which the first ones arrive as said: the row of the next turn, -1 after the
            last; then ``think`` is before each.
        leaves: requests whose client goes away after so many tokens.
        patience: ns after its arrival at which each client gives up, if it has no token then; None if it never does.
    """

    prompts: list[bytes]
    output: list[int]
    known: list[Known] = []
    arrival: list[int] | None = None
    think: list[int] | None = None
    users: int = 0
    following: list[int] = []
    leaves: dict[int, int] = {}
    patience: list[int | None] = []


def job_of(workload: Workload, prompts: Sequence[Tokens], leaves: Mapping[int, int]) -> Job:
    """What the clients of a workload do."""

    def ns(seconds: NDArray[np.float64]) -> list[int]:
        return np.rint(seconds * 1e9).astype(np.int64).tolist()  # type: ignore[no-any-return]

    return Job(
        prompts=[np.ascontiguousarray(prompt, np.int64).tobytes() for prompt in prompts],
        output=workload.output_tokens.tolist(),
        known=_known(workload),
        arrival=None if workload.closed_loop else ns(workload.arrival_s),
        think=ns(workload.extra["think_s"]) if workload.waits else None,
        users=workload.meta["users"] or 0,
        following=_following(workload),
        leaves=dict(leaves),
        patience=_patience(workload),
    )


def _known(workload: Workload) -> list[Known]:
    """What each request says of itself; nothing where none says anything."""
    extra = workload.extra
    names = {"max_output": "max_output_tokens", "predicted_output": "predicted_output_tokens", "priority": "priority"}
    columns: dict[str, list[Any]] = {name: extra[of].tolist() for name, of in names.items() if of in extra}
    if "client" in extra:
        columns["client"] = list(map(str, extra["client"].tolist()))
    if "ttft_slo_s" in extra:
        endless = extra["ttft_slo_s"] >= GRID.horizon_s
        ticks = GRID.column(np.where(endless, 0, extra["ttft_slo_s"]))
        columns["ttft_slo"] = np.where(endless, INT64_MAX, ticks).tolist()
    return [Known(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def _patience(workload: Workload) -> list[int | None]:
    """Nanoseconds; nothing where nobody ever gives up."""
    column = workload.extra.get("patience_s", np.zeros(0))
    return [None if seconds >= GRID.horizon_s else round(seconds * 1e9) for seconds in column.tolist()]


def _following(workload: Workload) -> list[int]:
    """Of sessions the row of the turn after each row's."""
    extra = workload.extra
    return following(extra["session"], extra["turn"]).tolist() if workload.sessions else []
