"""What short runs are worth: excursions counted, intervals widened, and figures that are not to be believed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from simqueue.analysis.figures import pooled
from simqueue.analysis.trust import Excursions, Trust
from simqueue.metrics import Sample
from simqueue.theory import MM1

RESPONSE = "response_s"
PATHS = [(RESPONSE, name) for name in ("mean", "p95", "p99")]


def summary(times: NDArray[np.float64]) -> dict[str, Any]:
    return {"requests": len(times), RESPONSE: Sample(times).stats()}


def trust(runs: list[NDArray[np.float64]], *, warmup_found: bool = True) -> Trust:
    parts = [summary(run) for run in runs]
    whole = pooled(parts, [{RESPONSE: Sample(run)} for run in runs])
    return Trust(whole, parts, {RESPONSE: Excursions.of(runs, len(runs))}, warmup_found=warmup_found)


def reasons(found: Trust) -> Mapping[str, str]:
    return {entry["figure"]: entry["reason"] for entry in found.too_short(found.intervals())}


def lindley(rng: np.random.Generator, load: float, runs: int, requests: int) -> list[NDArray[np.float64]]:
    """Response times in M/M/1 whose services take a second, each run from a state that the law itself draws."""
    service, gaps = rng.standard_exponential((runs, requests)), rng.standard_exponential((runs, requests)) / load
    response = np.empty((runs, requests))
    response[:, 0] = rng.standard_exponential(runs) / (1 - load)
    for i in range(1, requests):
        response[:, i] = np.maximum(response[:, i - 1] - gaps[:, i], 0) + service[:, i]
    return list(response)


def test_an_excursion_ends_at_the_median() -> None:
    low, middle, high = 0.0, 5.0, 9.0
    # Half are low; the 75th percentile and those above it are high.
    run = np.array([low, high, high, middle, high, low, low, high, middle, low, low, low, high, low, middle, low])
    found = Excursions.of([run], 1)
    assert found.above[0.75] == 3
    assert Excursions.of([run[:8], run[8:]], 2).above[0.75] == 3
    assert Excursions.of([np.concatenate((run, [high, low]))], 1).above[0.75] == 4


def test_the_fewer_excursions_the_wider() -> None:
    def widening(bulk: int, tail: int, last: int, share: float | None) -> float:
        return Excursions(10, {0.5: 9999, 0.75: bulk, 0.9: bulk, 0.95: tail, 0.99: last}).widening(share)

    assert widening(800, 800, 800, 0.5) == pytest.approx(1.1)
    assert widening(800, 800, 800, None) == pytest.approx(1.1)
    assert widening(800, 500, 500, 0.99) == pytest.approx(1.1)
    # A rare state that few excursions reach counts, however many there are below it.
    assert widening(80_000, 50_000, 5, 0.99) == pytest.approx(1 + 50 / 40)
    assert widening(80_000, 0, 0, 0.99) == math.inf


def test_intervals_of_short_runs_cover_too() -> None:
    """10 runs of 1,500 at load 0.85, whose p99 the plain interval covers in three cases of four; three standard errors
    of 150 experiments are 5.3 %."""
    rng = np.random.default_rng(8)
    queue = MM1(0.85, 1.0)
    exact = [queue.mean_response_s, queue.response_quantile_s(0.95), queue.response_quantile_s(0.99)]
    runs, experiments = 10, 150
    every = lindley(rng, 0.85, runs * experiments, 1_500)
    covered = np.zeros(3)
    for i in range(experiments):
        found = trust(every[i * runs : (i + 1) * runs]).intervals()
        covered += [
            abs(found[path].value - truth) <= found[path].half_width for path, truth in zip(PATHS, exact, strict=True)
        ]
    assert (covered / experiments > 0.95 - 0.053).all()


class TestTooShort:
    def test_long_runs_are_not(self) -> None:
        assert reasons(trust(lindley(np.random.default_rng(1), 0.5, 10, 5_000))) == {}

    def test_no_end_of_the_warmup(self) -> None:
        runs = lindley(np.random.default_rng(1), 0.5, 10, 5_000)
        assert set(reasons(trust(runs, warmup_found=False)).values()) == {"no end of the warm-up was found"}

    def test_too_few_requests_beyond_a_percentile(self) -> None:
        found = reasons(trust(lindley(np.random.default_rng(1), 0.2, 10, 900)))
        assert found == {"response_s.p99": "9 requests of a part are beyond it, of 10 that it takes"}

    def test_an_interval_as_wide_as_the_figure(self) -> None:
        found = reasons(trust(lindley(np.random.default_rng(1), 0.97, 10, 2_000)))
        assert found["response_s.p99"] == "the interval is as wide as the figure"

    def test_more_replications_do_not_mend_short_ones(self) -> None:
        runs = lindley(np.random.default_rng(1), 0.9, 40, 3_000)
        assert "that so many parts take" in reasons(trust(runs))["response_s.mean"]

    def test_one_part(self) -> None:
        [run] = lindley(np.random.default_rng(1), 0.5, 1, 5_000)
        assert set(reasons(trust([run])).values()) == {"some part has no such figure, or there is one part only"}

    def test_parts_that_agree_are_not(self) -> None:
        assert reasons(trust([np.ones(20)] * 10)) == {}

    def test_times_that_never_rise_are_not(self) -> None:
        """Nor is anything widened for want of excursions."""
        assert reasons(trust([np.full(2_000, 1 + i / 1e9) for i in range(10)])) == {}
