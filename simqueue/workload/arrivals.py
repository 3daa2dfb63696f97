"""Arrival processes: when requests come. Each is one frozen record, and one TOML table by its ``kind``."""

from __future__ import annotations

import os
from typing import Literal, Self, get_args

import msgspec
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simqueue.errors import WorkloadError
from simqueue.workload.checks import MAX_CV, require_positive, require_within
from simqueue.workload.counts import Count, draw_counts, mean_count, require_count
from simqueue.workload.mmpp import MMPP
from simqueue.workload.sessions import Sessions
from simqueue.workload.streams import Streams
from simqueue.workload.users import Users
from simqueue.workload.varying import Sinusoidal, Varying

Overlong = Literal["error", "drop", "clip"]
Format = Literal["auto", "csv", "azure", "burstgpt", "mooncake", "servegen", "results"]


class _Renewal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="kind"):
    """Independent gaps of one distribution; the first arrival comes one gap after 0."""

    rate: float

    def __post_init__(self) -> None:
        require_positive(
            f"{self.__struct_config__.tag} arrivals", "rate", self.rate, "give the mean requests per second"
        )

    @property
    def mean_rate(self) -> float:
        """Mean requests per second."""
        return self.rate

    def times(self, requests: int, streams: Streams) -> NDArray[np.float64]:
        """The first ``requests`` arrival times in seconds."""
        return np.cumsum(self._unit_gaps(requests, streams.gaps)) / self.rate

    def scaled(self, factor: float) -> Self:
        """The same process at ``factor`` times the rate."""
        return msgspec.structs.replace(self, rate=self.rate * factor)

    def rescale(self, arrival_s: NDArray[np.float64], factor: float, streams: Streams) -> NDArray[np.float64]:
        """What ``arrival_s``, drawn from this process, would be at ``factor`` times its rate."""
        return arrival_s / factor

    def _unit_gaps(self, requests: int, rng: Generator) -> NDArray[np.float64]:
        raise NotImplementedError


class Constant(_Renewal, frozen=True, tag="constant"):
    """One request every ``1 / rate`` seconds."""

    def _unit_gaps(self, requests: int, rng: Generator) -> NDArray[np.float64]:
        return np.ones(requests)


class Poisson(_Renewal, frozen=True, tag="poisson"):
    """Exponential gaps with mean ``1 / rate`` seconds."""

    def _unit_gaps(self, requests: int, rng: Generator) -> NDArray[np.float64]:
        return rng.standard_exponential(requests)


class Gamma(_Renewal, frozen=True, tag="gamma"):
    """Gamma gaps with mean ``1 / rate`` seconds and coefficient of variation ``cv``: above 1 they are bursty.

    ``burstiness = 1 / cv**2``, the gamma shape, is the other spelling; give exactly one of the two.
    """

    cv: float | None = None
    burstiness: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.cv is None) == (self.burstiness is None):
            raise WorkloadError(
                f"gamma arrivals: cv = {self.cv!r} and burstiness = {self.burstiness!r}; "
                "give exactly one of them (burstiness = 1 / cv**2)"
            )
        remedy = "for evenly spaced requests use kind = 'constant'"
        if self.cv is not None:
            require_within("gamma arrivals", "cv", self.cv, 1 / MAX_CV, MAX_CV, remedy)
        if self.burstiness is not None:
            require_within("gamma arrivals", "burstiness", self.burstiness, MAX_CV**-2, MAX_CV**2, remedy)

    @property
    def shape(self) -> float:
        """Shape of the gamma law of the gaps, ``1 / cv**2`` (its variance over squared mean is 1 / shape)."""
        if self.burstiness is not None:
            return self.burstiness
        assert self.cv is not None  # exactly one of them is given
        return self.cv**-2

    def _unit_gaps(self, requests: int, rng: Generator) -> NDArray[np.float64]:
        return rng.standard_gamma(self.shape, requests) / self.shape


Single = Constant | Poisson | Gamma | Varying | Sinusoidal | MMPP


class Batches(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="kind", tag="batches"
):
    """Several requests at one instant: ``size`` of them, a number or geometric, at each arrival of the process ``of``.

    The rate of ``of`` is that of the requests: the batches themselves are ``size`` times as rare.
    """

    of: Single
    size: Count

    def __post_init__(self) -> None:
        require_count("batches arrivals", "size", self.size, "give how many requests come at once")

    @property
    def mean_rate(self) -> float:
        """Mean requests per second."""
        return self.of.mean_rate

    def times(self, requests: int, streams: Streams) -> NDArray[np.float64]:
        """The first ``requests`` arrival times in seconds; the last batch may be cut."""
        sizes = np.minimum(draw_counts(self.size, requests, streams.sizes), requests)
        batches = int(np.searchsorted(np.cumsum(sizes), requests)) + 1
        return np.repeat(self._instants.times(batches, streams), sizes[:batches])[:requests]

    def scaled(self, factor: float) -> Self:
        """The same batches at ``factor`` times the rate."""
        return msgspec.structs.replace(self, of=self.of.scaled(factor))

    def rescale(self, arrival_s: NDArray[np.float64], factor: float, streams: Streams) -> NDArray[np.float64]:
        """What ``arrival_s``, drawn from this process, would be at ``factor`` times its rate."""
        return self._instants.rescale(arrival_s, factor, streams)

    @property
    def _instants(self) -> Single:
        return self.of.scaled(1 / mean_count(self.size))


class Trace(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="kind", tag="trace"):
    """Recorded arrivals and lengths, from a plain or ``.gz`` file, or from a folder of ServeGen.

    ``format`` is ``"csv"`` (``arrival_s,prompt_tokens,output_tokens[,more]``), that of a public trace, ``"azure"``,
    ``"burstgpt"``, ``"mooncake"`` or ``"servegen"``, with the rules of docs/workloads.md, or ``"results"``: what a load
    generator sent (docs/compare.md). ``"auto"`` tells by the first line, and takes a folder for ServeGen's. What comes
    in the first ``begin_s`` seconds is left out, and arrivals count from there. ``overlong`` says what becomes of a row
    longer than the model's context: ``"error"``, ``"drop"`` (left out) or ``"clip"`` (the output kept, the prompt cut).
    At ``speed`` 2 all gaps are half as long. A relative path starts from the scenario file's folder.
    """

    path: str
    overlong: Overlong = "error"
    format: Format = "auto"
    speed: float = 1.0
    begin_s: float = 0.0

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "path", os.fspath(self.path))
        require_overlong("trace arrivals", self.overlong)
        if self.format not in get_args(Format):
            known = ", ".join(get_args(Format))
            raise WorkloadError(f"trace arrivals: format = {self.format!r} is unknown; there are {known}")
        require_positive("trace arrivals", "speed", self.speed, "give how many times as fast to replay it")
        require_within("trace arrivals", "begin_s", self.begin_s, 0, 1e12, "give seconds of the recording to leave out")

    @property
    def mean_rate(self) -> None:
        """Known only when the file has been read: see ``Workload.rate``."""
        return None


Open = Single | Batches
Arrivals = Open | Trace | Users | Sessions


def require_overlong(what: str, rule: str) -> None:
    """Refuse everything but one of the three rules for rows longer than the model's context."""
    if rule not in get_args(Overlong):
        raise WorkloadError(f"{what}: overlong = {rule!r} is no rule; use 'error', 'drop' or 'clip'")
