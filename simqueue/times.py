"""What follows from the times of requests, wherever they were served."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simqueue import metrics
from simqueue.record import Column
from simqueue.units import Grid
from simqueue.workload import Workload

_TIMES = ("queueing", "service", "response", "ttft")
# More classes than that are single clients, of whom a table of rows tells nothing.
_MOST_CLIENTS = 20
_OF_WORKLOAD = ("dropped", "clipped", "prompt_clipped_share", "output_clipped_share")


class Times:
    """Of a run of one server or of many: see `simqueue.Result` for what the fields are.

    Attributes:
        one_by_one: whether the tokens of an answer come one after the other: bool, or bool ``(requests,)``.
    """

    workload: Workload
    grid: Grid
    arrival: Column
    scheduled: Column
    first_token: Column
    finished: Column
    warmup: int
    saturation_rps: Callable[[], float]

    # Ticks, per request.

    @property
    def queueing(self) -> Column:
        """First scheduled - arrival."""
        return self.scheduled - self.arrival

    @property
    def service(self) -> Column:
        """Finished - first scheduled."""
        return self.finished - self.scheduled

    @property
    def response(self) -> Column:
        """Finished - arrival: queueing + service, exactly."""
        return self.finished - self.arrival

    @property
    def ttft(self) -> Column:
        """First token - arrival."""
        return self.first_token - self.arrival

    @property
    def one_by_one(self) -> bool | NDArray[np.bool_]:
        """See above."""
        return True

    @property
    def tpot(self) -> NDArray[np.float64]:
        """(Finished - first token) / (output tokens - 1) in ticks, of every request; NaN where it does not exist."""
        gaps = self.workload.output_tokens - 1
        tpot = np.full(len(gaps), np.nan)
        np.divide(self.finished - self.first_token, gaps, out=tpot, where=(gaps > 0) & self.one_by_one)
        return tpot

    # Figures.

    @property
    def counted(self) -> slice | NDArray[np.intp]:
        """The requests that figures are of."""
        return slice(self.warmup, None)

    @cached_property
    def window(self) -> tuple[int, int]:
        """Ticks: from the first counted arrival to the last answer."""
        return int(self.arrival[self.counted].min()), int(self.finished[self.counted].max())

    @cached_property
    def unstable(self) -> bool:
        """Whether the offered load is at or above the saturation throughput: no steady state exists to be measured.

        Never so in a closed loop: its queue is no longer than its users are many. (Of several servers one that gets
        more than its part may have no steady state all the same.)
        """
        if self.workload.closed_loop:
            return False
        return bool(self.workload.rate >= self.saturation_rps() * (1 - 1e-9))

    @property
    def offered_rps(self) -> float:
        """The rate of the workload; of a closed loop that of the counted requests (nan if all came at one instant),
        since the first ones come from all users at once."""
        if not self.workload.closed_loop:
            return self.workload.rate
        counted = self.arrival[self.warmup :]
        span_s = int(counted[-1] - counted[0]) / self.grid.ticks_per_s
        return (len(counted) - 1) / span_s if span_s else math.nan

    def waiting(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """``(seconds, number waiting from then on)``, requests that have arrived and never ran, over time."""
        return metrics.waiting_over_time(self.arrival, self.scheduled, self.grid)

    def figures(
        self, utilisation: float, batch_size: Mapping[str, float], itl_s: metrics.Stats | None
    ) -> dict[str, Any]:
        """Figures of merit of the counted requests, with those that the steps say."""
        counted, unit, (start, end) = self.counted, float(self.grid.ticks_per_s), self.window
        span_s, count = (end - start) / unit, len(self.arrival[counted])
        # Who was turned away or gave up has waited too.
        came = slice(self.warmup, None)
        _, waiting = metrics.waiting_over_time(self.arrival[came], self.scheduled[came], self.grid)
        meta, tpot = self.workload.meta, self.tpot[counted]
        return {
            "requests": count,
            "unstable": self.unstable,
            "throughput_rps": count / span_s,
            "utilisation": utilisation,
            "batch_size": batch_size,
            **{f"{name}_s": metrics.stats(getattr(self, name)[counted], unit) for name in _TIMES},
            "tpot_s": metrics.stats(tpot[~np.isnan(tpot)], unit),
            "itl_s": itl_s,
            "waiting": {
                "mean": float(self.queueing[came].sum(dtype=np.float64) / unit / span_s),
                "max": int(waiting.max()),
            },
            "saturation_rps": self.saturation_rps(),
            "offered_rps": self.offered_rps,
            "users": meta["users"],
            **{key: meta[key] for key in _OF_WORKLOAD},
            **self._goodput(span_s),
            **self._by_client(),
        }

    def _goodput(self, span_s: float) -> dict[str, float]:
        """Of requests that meet every limit of their own, where the workload has any."""
        met = self._met
        return {} if met is None else {"goodput_rps": int(met[self.counted].sum()) / span_s}

    @cached_property
    def _met(self) -> NDArray[np.bool_] | None:
        """bool ``(requests,)``: whether each meets every limit of its own; None where the workload has none."""
        extra, unit = self.workload.extra, self.grid.ticks_per_s
        slos = {name: extra[f"{name}_slo_s"] * unit for name in ("ttft", "tpot") if f"{name}_slo_s" in extra}
        return metrics.within([getattr(self, name) for name in slos], list(slos.values())) if slos else None

    def _by_client(self) -> dict[str, Any]:
        """A row for each class of clients, where there are several: of its requests how many came and how many were
        answered, their response times and TTFT, and, where they have limits, the share of all that met them."""
        if "client" not in self.workload.extra:
            return {}
        client = self.workload.extra["client"][self.warmup :]
        names, number = np.unique(client.astype(str), return_inverse=True)
        if not 1 < len(names) <= _MOST_CLIENTS:
            return {}
        answered = np.zeros(len(client), bool)
        answered[np.arange(len(self.arrival))[self.counted] - self.warmup] = True
        return {"by_client": [self._client(str(name), number == i, answered) for i, name in enumerate(names)]}

    def _client(self, name: str, mine: NDArray[np.bool_], answered: NDArray[np.bool_]) -> dict[str, Any]:
        kept, unit = self.warmup + np.flatnonzero(mine & answered), float(self.grid.ticks_per_s)
        row = {"client": name, "requests": int(mine.sum()), "completed": len(kept)}
        row |= {f"{time}_s": metrics.stats(getattr(self, time)[kept], unit) for time in ("response", "ttft")}
        return row if self._met is None else row | {"slo_attainment": int(self._met[kept].sum()) / int(mine.sum())}

    # Tables.

    def with_extra(self, own: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Columns of ours, and last the workload's further ones: those with a name of ours get ``_given`` behind it."""
        extra = self.workload.extra
        return {**own, **{f"{name}_given" if name in own else name: column for name, column in extra.items()}}
