"""Which arrival process comes nearest to recorded arrivals.

Every candidate is fitted, drawn again and again with as many requests, and compared with the trace by the same figures:
the coefficient of variation of all gaps, its median in windows of 100 mean gaps, and the index of dispersion for counts
in windows of 1, 10, 100, ... mean gaps. Nearest is the simplest candidate whose own draws are as far from their mean as
the trace is (a parametric bootstrap: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 4.2),
and where there is none, the one at the least distance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from simqueue.errors import WorkloadError
from simqueue.workload.arrivals import Gamma, Poisson
from simqueue.workload.checks import MAX_CV
from simqueue.workload.dispersion import Times, dispersion, gap_cv, windowed_cv
from simqueue.workload.mmpp import MMPP
from simqueue.workload.streams import Streams, streams
from simqueue.workload.varying import Varying

FEWEST = 1000
"""Fewer arrivals cannot tell one process from another."""

MOST = 200_000
"""Of more arrivals, these first ones are fitted, in about ten seconds."""

_DRAWS = 39
_LOCAL_GAPS = 100
_FEWEST_WINDOWS = 20
_FEWEST_CYCLES = 10
_LEAST_EXCESS = 1e-6
_LEAST = 1e-3
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True, slots=True)
class RateCurve:
    """A Poisson process whose rate is constant within windows of ``window_s``: given the ``counts`` of the windows, the
    arrivals in each are independent and uniform.

    Source: Kim and Whitt, Are call center and hospital arrivals well modeled by nonhomogeneous Poisson processes?,
    M&SOM 16(3), 2014. The last window ends at ``duration_s``.
    """

    window_s: float
    counts: NDArray[np.int64]
    duration_s: float

    def times(self, requests: int, streams: Streams) -> Times:
        """Arrival times in seconds, as many as were counted (``requests``)."""
        start_s = np.arange(len(self.counts)) * self.window_s
        width_s = np.minimum(start_s + self.window_s, self.duration_s) - start_s
        since_s = np.repeat(width_s, self.counts) * streams.gaps.random(requests)
        return np.sort(np.repeat(start_s, self.counts) + since_s)

    @property
    def arrivals(self) -> Varying:
        """The same rates as a kind of arrivals that goes on and on: the whole windows, one after the other."""
        edges_s = (np.arange(math.floor(self.duration_s / self.window_s) + 1) * self.window_s).tolist()
        rates = (self.counts / self.window_s).tolist()
        steps = zip(pairwise(edges_s), rates, strict=False)
        return Varying(tuple((at_s, rate) for window, rate in steps for at_s in window))


Process = Poisson | Gamma | MMPP | RateCurve


@dataclass(frozen=True, slots=True)
class Candidate:
    """A fitted process and how far the trace is from it.

    Attributes:
        name: what it is called.
        process: with its parameters.
        figures: the mean of each figure over its draws, in the order of ``Fit.names``.
        distance: the root mean square of the logarithms of trace over mean.
        share: of its draws and the trace together, those that are at least as far as the trace is, each figure in units
            of its own spread. Below ``2 / (draws + 1)`` the trace is further than every draw.
    """

    name: str
    process: Process
    figures: tuple[float, ...]
    distance: float
    share: float

    @property
    def alike(self) -> bool:
        """Whether the trace could be one of its draws."""
        return self.share >= 2 / (_DRAWS + 1)


@dataclass(frozen=True, slots=True)
class Fit:
    """Every candidate, the simplest first, and the trace's own ``figures`` by their ``names``."""

    names: tuple[str, ...]
    figures: tuple[float, ...]
    candidates: tuple[Candidate, ...]

    @property
    def nearest(self) -> Candidate:
        """The simplest candidate that could have made the trace, or else the one at the least distance."""
        alike = (candidate for candidate in self.candidates if candidate.alike)
        return next(alike, min(self.candidates, key=lambda candidate: candidate.distance))


def fitted_processes(arrival_s: Times) -> Fit:
    """Fit Poisson, gamma renewal, MMPP of two states and a rate curve to arrivals, ``(requests,)``, seconds, sorted.

    See `fitted_mmpp` for when there is no MMPP. The draws have fixed seeds. Of more than `MOST` arrivals only those are
    looked at.

    Raises:
        WorkloadError: there are fewer than `FEWEST` arrivals, or all come at one instant.
    """
    since = arrival_s[:MOST] - arrival_s[0]
    if len(since) < FEWEST or not since[-1] > 0:
        raise WorkloadError(
            f"{len(since)} arrivals in {since[-1]:g} s cannot be fitted; give at least {FEWEST}, over a span of time"
        )
    gap_s = float(since[-1]) / (len(since) - 1)
    windows = _windows(gap_s, len(since))
    trace = _figures(since, gap_s, windows)
    processes = _processes(since, gap_s)
    made = tuple(_compared(name, process, trace, gap_s, windows, len(since)) for name, process in processes)
    names = ("CV", f"CV in {_LOCAL_GAPS * gap_s:.3g} s", *(f"IDC in {window:.3g} s" for window in windows))
    return Fit(names, tuple(np.exp(trace).tolist()), made)


def _processes(since: Times, gap_s: float) -> Iterator[tuple[str, Process]]:
    yield "Poisson", Poisson(1 / gap_s)
    yield "gamma", Gamma(1 / gap_s, cv=min(max(gap_cv(since), 1 / MAX_CV), MAX_CV))
    if (mmpp := fitted_mmpp(since)) is not None:
        yield "MMPP(2)", mmpp
    window_s = _LOCAL_GAPS * gap_s
    counts = np.bincount(np.floor(since / window_s).astype(np.int64))
    yield "rate curve", RateCurve(window_s, counts, float(since[-1]))


def fitted_mmpp(arrival_s: Times) -> MMPP | None:
    """The MMPP of two states with the trace's mean rate m, dispersion curve and coefficient of variation of the gaps.

    With r the sum of the rates at which the states are left and V the variance of the arrival rate, the index of
    dispersion for counts in windows of t is ``1 + 2 V / (m r) (1 - (1 - exp(-r t)) / (r t))``: r and V are those of
    least squares of its relative errors. The share of time p in the faster state, which it does not depend on, is
    that with the nearest coefficient of variation, ``cv**2 = 2 m pi (Lambda - Q)**-1 1 - 1``. Sources: Heffes and
    Lucantoni, IEEE JSAC 4(6), 1986; Fischer and Meier-Hellstern, Performance Evaluation 18, 1993.

    None where the counts are not overdispersed, or where the trace would hold fewer than 10 cycles of the two states:
    that is a rate that drifts, and no process with two of them.
    """
    since = arrival_s - arrival_s[0]
    mean = (len(since) - 1) / float(since[-1])
    window_s = np.geomspace(1 / mean, float(since[-1]) / _FEWEST_WINDOWS, 24)
    curve = np.array([dispersion(since, window) for window in window_s])
    leaving, excess = _least_squares(window_s, curve)
    if not excess > _LEAST_EXCESS:
        return None
    variance = excess * mean * leaving / 2
    # Beyond this share the slower state's rate would be negative.
    shares = np.geomspace(1e-4, 1, 2000) * mean**2 / (mean**2 + variance)
    fast, slow = mean + np.sqrt(variance * (1 - shares) / shares), mean - np.sqrt(variance * shares / (1 - shares))
    chosen = int(np.argmin(np.abs(_mmpp_cv(mean, leaving, shares, fast, slow) - gap_cv(since))))
    share = float(shares[chosen])
    stay_s = 1 / (leaving * (1 - share)), 1 / (leaving * share)
    if sum(stay_s) * _FEWEST_CYCLES > since[-1]:
        return None
    return MMPP((float(fast[chosen]), max(float(slow[chosen]), 0.0)), stay_s)


def _least_squares(window_s: Times, curve: Times) -> tuple[float, float]:
    """The ``leaving`` rate and the ``excess`` of the dispersion curve over 1 in endless windows."""
    leaving = np.geomspace(0.1 / window_s[-1], 10 / window_s[0], 400)[:, None]
    shape = (1 - (1 - np.exp(-leaving * window_s)) / (leaving * window_s)) / curve
    rest = (curve - 1) / curve
    excess = (shape * rest).sum(1) / np.square(shape).sum(1)
    best = int(np.argmin(np.square(rest - excess[:, None] * shape).sum(1)))
    return float(leaving[best, 0]), float(excess[best])


def _mmpp_cv(mean: float, leaving: float, share: Times, fast: Times, slow: Times) -> Times:
    """Coefficient of variation of the gaps; the inverse of the 2 by 2 matrix is written out."""
    out_fast, out_slow = leaving * (1 - share), leaving * share
    determinant = (fast + out_fast) * (slow + out_slow) - out_fast * out_slow
    total = (share * (slow + out_slow + out_fast) + (1 - share) * (fast + out_fast + out_slow)) / determinant
    return np.asarray(np.sqrt(2 * mean * total - 1))


def _windows(gap_s: float, requests: int) -> list[float]:
    powers = range(math.floor(math.log10(requests / _FEWEST_WINDOWS)) + 1)
    return [gap_s * 10**power for power in powers]


def _figures(since: Times, gap_s: float, windows: Sequence[float]) -> Times:
    """Logarithms of the figures that processes are compared by."""
    local = windowed_cv(since, _LOCAL_GAPS * gap_s).cv
    values = [gap_cv(since), np.median(local) if len(local) else 1.0, *(dispersion(since, w) for w in windows)]
    return np.log(np.maximum(np.nan_to_num(values), _LEAST))


def _compared(
    name: str, process: Process, trace: Times, gap_s: float, windows: Sequence[float], requests: int
) -> Candidate:
    draw: Callable[[int, Streams], Times] = process.times
    draws = np.array([_figures(draw(requests, streams(seed)), gap_s, windows) for seed in range(_DRAWS)])
    mean, spread = draws.mean(0), np.maximum(draws.std(0), _LEAST_SPREAD)
    far = np.square((np.vstack([draws, trace]) - mean) / spread).sum(1)
    distance = float(np.sqrt(np.square(trace - mean).mean()))
    return Candidate(name, process, tuple(np.exp(mean).tolist()), distance, float(np.mean(far >= far[-1])))
