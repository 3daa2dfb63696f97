"""What follows from the times of requests, wherever they were served."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from simqueue import metrics
from simqueue.analysis.drift import Drift, drift
from simqueue.record import Column
from simqueue.units import Grid
from simqueue.workload import Workload

_TIMES = ("queueing", "service", "response", "ttft")
# More classes than that are single clients, of whom a table of rows tells nothing.
_MOST_CLIENTS = 20
_OF_CLIENT = ("response", "ttft")
# Whatever the requests that figures are of.
_WHOLE = ("step_ends", "drift")
_OF_WORKLOAD = ("dropped", "clipped", "prompt_clipped_share", "output_clipped_share")


class Times:
    """Of a run of one server or of many: see `simqueue.Result` for what the fields are.

    Attributes:
        until: figures are of requests before this one; None: of all after the warm-up.
        one_by_one: whether the tokens of an answer come one after the other: bool, or bool ``(requests,)``.
    """

    workload: Workload
    grid: Grid
    arrival: Column
    scheduled: Column
    first_token: Column
    finished: Column
    warmup: int
    until: int | None
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
    def came(self) -> slice:
        """The requests that figures are about, whatever became of them."""
        return slice(self.warmup, self.until)

    @property
    def counted(self) -> slice | NDArray[np.intp]:
        """The requests that figures are of."""
        return self.came

    def cut(self, warmup: int, until: int | None = None) -> Self:
        """The same run, with figures of other requests; what is known of the run as a whole is not worked out again."""
        made = replace(self, warmup=warmup, until=until)  # type: ignore[type-var]
        made.__dict__.update({name: self.__dict__[name] for name in _WHOLE if name in self.__dict__})
        return made

    @cached_property
    def window(self) -> tuple[int, int]:
        """Ticks: from the first counted arrival to the last answer; where others come after those that are counted,
        to the arrival of the first of these."""
        if self.until is not None:
            return int(self.arrival[self.warmup]), int(self.arrival[self.until])
        return int(self.arrival[self.counted].min()), int(self.finished[self.counted].max())

    @cached_property
    def unstable(self) -> bool:
        """Whether no steady state exists to be measured: the offered load is at or above the saturation throughput,
        unless the number in the system beyond doubt grew by less than half as fast as it would then; or it grew beyond
        doubt, whatever the load (`simqueue.analysis.drift`).

        Never so in a closed loop: its queue is no longer than its users are many. Of a trace, which has no rate but
        that of its own span, the load decides alone.
        """
        if self.workload.closed_loop:
            return False
        rate, saturation = self.workload.rate, self.saturation_rps()
        above = bool(rate >= saturation * (1 - 1e-9))
        if self.drift is None or self.workload.meta["rate"] is None:
            return above
        return not self.drift.rules_out(rate - saturation) if above else self.drift.grows

    @cached_property
    def drift(self) -> Drift | None:
        """How fast the number in the system grew while requests came, of all of them; None where the run is too short
        to tell."""
        return drift(self.arrival, self.finished, self.grid.ticks_per_s, self.workload.meta["rate"])

    @property
    def offered_rps(self) -> float:
        """The rate of the workload; of a closed loop that of the counted requests (nan if all came at one instant),
        since the first ones come from all users at once."""
        if not self.workload.closed_loop:
            return self.workload.rate
        counted = self.arrival[self.came]
        span_s = int(counted[-1] - counted[0]) / self.grid.ticks_per_s
        return (len(counted) - 1) / span_s if span_s else math.nan

    def waiting(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """``(seconds, number waiting from then on)``, requests that have arrived and never ran, over time."""
        return metrics.waiting_over_time(self.arrival, self.scheduled, self.grid)

    @cached_property
    def samples(self) -> dict[str, metrics.Sample]:
        """What the figures that are statistics are taken of, by their place in the summary: ticks of the counted
        requests in order of arrival, and of all gaps between tokens."""
        counted, tpot = self.counted, self.tpot[self.counted]
        times = {f"{name}_s": metrics.Sample(getattr(self, name)[counted]) for name in _TIMES}
        times["tpot_s"] = metrics.Sample(tpot[~np.isnan(tpot)])
        for name, _, kept in self._clients:
            times |= {_of_client(name, f"{time}_s"): metrics.Sample(getattr(self, time)[kept]) for time in _OF_CLIENT}
        return times

    def stats(self, name: str) -> metrics.Stats | None:
        """Statistics of one of the `samples`, in seconds."""
        return self.samples[name].stats(float(self.grid.ticks_per_s)) if name in self.samples else None

    def begun(self, starts: Column) -> NDArray[np.bool_]:
        """By leap, from where it starts, in ticks: whether that is in the window."""
        begin, end = self.window
        return (starts >= begin) if self.until is None else (starts >= begin) & (starts < end)

    def figures(self, utilisation: float, rows: Column, steps: Column) -> dict[str, Any]:
        """Figures of merit of the counted requests, with those that steps say: of the leaps that begin in the window
        the rows and how many steps."""
        counted, unit, (start, end) = self.counted, float(self.grid.ticks_per_s), self.window
        span_s, count = (end - start) / unit, len(self.arrival[counted])
        # Who was turned away or gave up has waited too.
        came, meta = self.came, self.workload.meta
        return {
            "requests": count,
            "unstable": self.unstable,
            "span_s": span_s,
            "steps": int(steps.sum()),
            "throughput_rps": count / span_s,
            "utilisation": utilisation,
            "batch_size": metrics.batch_sizes(rows, steps),
            **{name: self.stats(name) for name in (*(f"{time}_s" for time in _TIMES), "tpot_s", "itl_s")},
            "waiting": {
                "mean": float(self.queueing[came].sum(dtype=np.float64) / unit / span_s),
                "max": metrics.most_waiting(self.arrival[came], self.scheduled[came]),
            },
            "saturation_rps": self.saturation_rps(),
            "offered_rps": self.offered_rps,
            "backlog_growth_rps": self.drift and self.drift.growth_rps,
            "backlog_growth_se_rps": self.drift and self.drift.standard_error_rps,
            "users": meta["users"],
            **{key: meta[key] for key in _OF_WORKLOAD},
            **self._goodput(span_s),
            **self._by_client(),
        }

    def _goodput(self, span_s: float) -> dict[str, float]:
        """Of requests that meet every limit of their own, where the workload has any: how many in a second, and which
        share of all that came."""
        if self._met is None:
            return {}
        met = int(self._met[self.counted].sum())
        return {"goodput_rps": met / span_s, "slo_attainment": met / len(self.arrival[self.came])}

    @cached_property
    def _met(self) -> NDArray[np.bool_] | None:
        """bool ``(requests,)``: whether each meets every limit of its own; None where the workload has none."""
        extra, unit = self.workload.extra, self.grid.ticks_per_s
        slos = {name: extra[f"{name}_slo_s"] * unit for name in ("ttft", "tpot") if f"{name}_slo_s" in extra}
        return metrics.within([getattr(self, name) for name in slos], list(slos.values())) if slos else None

    def _by_client(self) -> dict[str, Any]:
        """A row for each class of clients, where there are several: of its requests how many came and how many were
        answered, their response times and TTFT, and, where they have limits, the share of all that met them."""
        rows = [self._client(*client) for client in self._clients]
        return {"by_client": rows} if rows else {}

    @cached_property
    def _clients(self) -> list[tuple[str, int, Column]]:
        """Of each class of clients, where there are several, how many requests came, and which of them are counted."""
        if "client" not in self.workload.extra:
            return []
        client = self.workload.extra["client"][self.came]
        names, number = np.unique(client.astype(str), return_inverse=True)
        if not 1 < len(names) <= _MOST_CLIENTS:
            return []
        counted = np.arange(len(self.arrival))[self.counted]
        of = number[counted - self.warmup]
        return [(str(name), int((number == i).sum()), counted[of == i]) for i, name in enumerate(names)]

    def _client(self, name: str, came: int, kept: Column) -> dict[str, Any]:
        row = {"client": name, "requests": came, "completed": len(kept)}
        row |= {f"{time}_s": self.stats(_of_client(name, f"{time}_s")) for time in _OF_CLIENT}
        return row if self._met is None else row | {"slo_attainment": int(self._met[kept].sum()) / came}

    # Tables.

    def with_extra(self, own: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Columns of ours, and last the workload's further ones: those with a name of ours get ``_given`` behind it."""
        extra = self.workload.extra
        return {**own, **{f"{name}_given" if name in own else name: column for name, column in extra.items()}}


def _of_client(name: str, figure: str) -> str:
    """Where the summary has a figure of a class of clients."""
    return f"by_client.{name}.{figure}"
