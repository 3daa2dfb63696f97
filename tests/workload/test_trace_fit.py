"""Arrivals drawn from a process that is known are fitted as that one."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simqueue.errors import WorkloadError
from simqueue.workload import MMPP, Constant, Gamma, Poisson, Trace, WorkloadSpec, make_workload
from simqueue.workload.fit import FEWEST, MOST, RateCurve, _mmpp_cv, fitted_mmpp, fitted_processes
from simqueue.workload.streams import streams

PUBLIC = Path(os.environ.get("SIMQUEUE_TRACES", "no folder"))


def drawn(process, requests=10_000, seed=1):
    """Not with the seeds that candidates are drawn with; and a trace may begin anywhere."""
    return 1e5 + process.times(requests, streams(1000 + seed))


@pytest.mark.parametrize(("rate", "seed"), [(0.01, 1), (400.0, 2)])
def test_poisson(rate, seed):
    nearest = fitted_processes(drawn(Poisson(rate), seed=seed)).nearest
    assert nearest.name == "Poisson"
    assert nearest.alike
    assert nearest.process.rate == pytest.approx(rate, rel=0.04)
    assert nearest.figures == pytest.approx([1.0] * len(nearest.figures), abs=0.06)


@pytest.mark.parametrize("cv", [0.4, 2.0])
def test_gamma(cv):
    nearest = fitted_processes(drawn(Gamma(5.0, cv=cv))).nearest
    assert nearest.name == "gamma"
    assert (nearest.process.rate, nearest.process.cv) == pytest.approx((5.0, cv), rel=0.08)


@pytest.mark.parametrize(
    "process",
    [MMPP((500.0, 100.0), (0.02, 0.03)), MMPP((50.0, 0.0), (1.0, 4.0))],
    ids=["both busy", "on and off"],
)
def test_mmpp(process):
    found = fitted_processes(drawn(process, 20_000))
    assert found.nearest.name == "MMPP(2)"
    fitted = found.nearest.process
    assert fitted.rates == pytest.approx(process.rates, rel=0.1, abs=0.2)
    assert fitted.mean_stay_s == pytest.approx(process.mean_stay_s, rel=0.35)
    by_name = {each.name: each for each in found.candidates}
    assert by_name["MMPP(2)"].distance < min(by_name["Poisson"].distance, by_name["gamma"].distance) / 2


def test_a_rate_that_drifts():
    rng = np.random.default_rng(1)
    arrival_s = np.sort(np.concatenate([rng.uniform(i * 100, (i + 1) * 100, 100 + 20 * i) for i in range(30)]))
    found = fitted_processes(arrival_s)
    assert found.nearest.name == "rate curve"
    assert found.nearest.distance < 0.05
    assert min(each.distance for each in found.candidates if each.name != "rate curve") > 0.5
    curve = found.nearest.process
    assert curve.counts.sum() == len(arrival_s)
    assert curve.arrivals.mean_rate == pytest.approx(1 / np.diff(arrival_s).mean(), rel=0.03)
    assert fitted_processes(drawn(curve.arrivals, len(arrival_s))).nearest.name == "rate curve"
    assert curve.window_s == pytest.approx(100 * np.diff(arrival_s).mean())


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20).filter(any), st.floats(0.01, 1.0), st.integers(0, 99))
def test_a_rate_curve_keeps_its_counts(counts, last, seed):
    curve = RateCurve(2.0, np.array(counts), 2.0 * (len(counts) - 1 + last))
    times = curve.times(sum(counts), streams(seed))
    assert np.bincount((times / 2.0).astype(int), minlength=len(counts)).tolist() == counts
    assert (np.diff(times) >= 0).all()
    assert times[-1] <= curve.duration_s


@given(st.floats(0.02, 0.98), st.floats(0.1, 10.0), st.floats(1.0, 20.0), st.just(0.0) | st.floats(1e-6, 1.0))
def test_the_gaps_of_an_mmpp_vary_as_its_matrices_say(share, leaving, fast, slow):
    process = MMPP((fast, slow), (1 / (leaving * (1 - share)), 1 / (leaving * share)))
    chain = np.array([[-1, 1], [1, -1]]) / np.array(process.mean_stay_s)[:, None]
    inverse = np.linalg.inv(np.diag(process.rates) - chain)
    expected = np.sqrt(2 * process.mean_rate * process.stationary @ inverse @ np.ones(2) - 1)
    figures = (np.array([value]) for value in (share, fast, slow))
    assert _mmpp_cv(process.mean_rate, leaving, *figures) == pytest.approx(expected)


@pytest.mark.parametrize("process", [Constant(3.0), Gamma(3.0, cv=0.5)])
def test_regular_arrivals_have_no_mmpp(process):
    assert fitted_mmpp(drawn(process, 5000)) is None


def test_two_long_stays_are_a_drift_and_no_mmpp():
    arrival_s = np.concatenate([drawn(Poisson(5.0), 3000) - 1e5, 600 + drawn(Poisson(1.0), 600) - 1e5])
    assert fitted_mmpp(arrival_s) is None
    assert fitted_processes(arrival_s).nearest.name == "rate curve"


def test_it_is_the_same_every_time_and_wherever_the_trace_begins():
    arrival_s = drawn(MMPP((5.0, 1.0), (2.0, 3.0)), 2000)
    first, again, later = (fitted_processes(column) for column in (arrival_s, arrival_s, arrival_s + 64.0))
    assert [each.distance for each in first.candidates] == [each.distance for each in again.candidates]
    assert later.figures == pytest.approx(first.figures, rel=1e-3)


@pytest.mark.parametrize("arrival_s", [np.arange(FEWEST - 1.0), np.full(FEWEST, 7.0)], ids=["few", "at once"])
def test_what_cannot_be_fitted_is_refused(arrival_s):
    with pytest.raises(
        WorkloadError, match=rf"^{len(arrival_s)} arrivals in .* s cannot be fitted; give at least 1000, over"
    ):
        fitted_processes(arrival_s)


def test_only_the_first_of_very_many_are_fitted(monkeypatch):
    assert MOST > 100_000
    monkeypatch.setattr("simqueue.workload.fit.MOST", 2000)
    arrival_s = drawn(Poisson(3.0), 5000)
    assert fitted_processes(arrival_s).figures == fitted_processes(arrival_s[:2000]).figures


@pytest.mark.skipif(not PUBLIC.is_dir(), reason="SIMQUEUE_TRACES names no folder with the public traces")
@pytest.mark.parametrize(
    ("name", "nearest", "alike"),
    [("code", "MMPP(2)", False), ("conv", "rate curve", False)],
)
def test_azure(name, nearest, alike):
    path = PUBLIC / f"AzureLLMInferenceTrace_{name}.csv.gz"
    found = fitted_processes(make_workload(WorkloadSpec(arrivals=Trace(str(path))), 0).arrival_s)
    assert (found.nearest.name, found.nearest.alike) == (nearest, alike)
