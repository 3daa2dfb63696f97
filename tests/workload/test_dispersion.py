"""Figures of irregular arrivals against counting by hand, closed forms, and those of the public traces."""

import csv
import gzip
import json
import math
import os
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simqueue.workload import MMPP, Constant, Gamma, Poisson
from simqueue.workload.dispersion import FEWEST_GAPS, dispersion, gap_cv, silences, windowed_cv
from simqueue.workload.streams import streams

PUBLIC = Path(os.environ.get("SIMQUEUE_TRACES", "no folder"))

arrivals = st.lists(st.integers(0, 5000), min_size=1, max_size=300).map(lambda ms: np.array(sorted(ms)) / 1000)


def windows(arrival_s, window_s):
    """Arrivals in each whole window from the first one on, the slow way."""
    since = [t - arrival_s[0] for t in arrival_s]
    whole = math.floor(since[-1] / window_s)
    return [[t for t in since if math.floor(t / window_s) == i] for i in range(whole)]


@given(arrivals, st.sampled_from([0.125, 0.5, 1.0, 2.0]))
def test_they_are_those_of_windows_that_are_counted_one_by_one(arrival_s, window_s):
    counts = [len(window) for window in windows(arrival_s, window_s)]
    index = np.var(counts) / np.mean(counts) if len(counts) > 1 else math.nan
    assert dispersion(arrival_s, window_s) == pytest.approx(index, nan_ok=True)
    gaps = {i * window_s: np.diff(window) for i, window in enumerate(windows(arrival_s, window_s))}
    full = {start: gap for start, gap in gaps.items() if len(gap) >= FEWEST_GAPS and gap.mean() > 0}
    local = windowed_cv(arrival_s, window_s)
    assert local.start_s.tolist() == list(full)
    assert local.cv.tolist() == pytest.approx([gap.std() / gap.mean() for gap in full.values()])


def test_of_a_few_arrivals():
    arrival_s = np.array([2.0, 3.0, 3.0, 4.0, 9.0])
    assert gap_cv(arrival_s) == pytest.approx(math.sqrt((1 + 0 + 1 + 25) / 4 / (7 / 4) ** 2 - 1))
    # Windows of 2 s hold 3, 1 and 0 of them; the last, from 6 s on, is not whole.
    assert dispersion(arrival_s, 2.0) == pytest.approx((10 / 3 - 16 / 9) / (4 / 3))
    assert silences(arrival_s, 4.0).count == 1
    assert silences(arrival_s, 4.0).total_s == 5.0
    assert silences(arrival_s, 4.0).cv_without == pytest.approx(math.sqrt(1 / 2))
    assert silences(arrival_s, 5.0).count == 0


def test_only_whole_windows_with_enough_gaps_are_looked_at():
    full = np.arange(FEWEST_GAPS + 1) ** 2 / 1000
    assert windowed_cv(np.append(full, 10.0), 10.0).cv.tolist() == [gap_cv(full)]
    assert len(windowed_cv(np.append(full, 9.99), 10.0).cv) == 0
    assert len(windowed_cv(np.append(full[1:], 10.1), 10.0).cv) == 0


@pytest.mark.parametrize("arrival_s", [[3.0], [3.0, 3.0, 3.0]])
def test_without_a_span_of_time_there_is_nothing_to_say(arrival_s):
    column = np.array(arrival_s)
    assert math.isnan(gap_cv(column))
    assert math.isnan(dispersion(column, 1.0))
    assert len(windowed_cv(column, 1.0).cv) == 0
    assert silences(column, 1.0).count == 0


def test_a_gap_of_an_age_takes_no_memory():
    arrival_s = np.array([0.0, 1.0, 1e12])
    assert dispersion(arrival_s, 1e-3) == pytest.approx(1.0)
    assert len(windowed_cv(arrival_s, 1e-3).cv) == 0


@pytest.mark.statistical
@pytest.mark.parametrize(
    ("process", "cv", "local", "index"),
    [
        (Constant(8.0), 0.0, 0.0, 0.0),
        (Poisson(8.0), 1.0, 1.0, 1.0),
        (Gamma(8.0, cv=0.5), 0.5, 0.5, 0.25),
        # Of a slow MMPP both the excess of the counts and a local Poisson process can be seen.
        (MMPP((12.0, 4.0), (500.0, 500.0)), None, 1.0, 1 + 2 * 16 / (8 * 0.004) * (1 - (1 - math.exp(-0.04)) / 0.04)),
    ],
    ids=["constant", "Poisson", "gamma", "MMPP"],
)
def test_closed_forms(process, cv, local, index):
    arrival_s = process.times(200_000, streams(11))
    if cv is not None:
        assert gap_cv(arrival_s) == pytest.approx(cv, abs=0.02)
    assert np.median(windowed_cv(arrival_s, 60.0).cv) == pytest.approx(local, abs=0.02)
    # Long windows of a renewal process disperse as the squares of its gaps do.
    assert dispersion(arrival_s, 10.0) == pytest.approx(index, abs=0.06 * max(1, index))


def azure(name):
    with gzip.open(PUBLIC / f"AzureLLMInferenceTrace_{name}.csv.gz", "rt", newline="") as file:
        stamps = [datetime.fromisoformat(row["TIMESTAMP"][:26]) for row in csv.DictReader(file)]
    return np.array([(stamp - stamps[0]).total_seconds() for stamp in stamps])


def mooncake(name):
    """As recorded: what the coarse stamps of the conversations do to the figures is what spreading them is for."""
    with gzip.open(PUBLIC / f"mooncake_{name}_trace.jsonl.gz", "rt") as file:
        return np.array([json.loads(line)["timestamp"] / 1000 for line in file])


@pytest.mark.skipif(not PUBLIC.is_dir(), reason="SIMQUEUE_TRACES names no folder with the public traces")
@pytest.mark.parametrize(
    ("read", "name", "cv", "local", "indices", "silent"),
    [
        (azure, "code", 13.15, [1.04, 3.21, 6.47], [13.2, 71.6, 164], {5.0: (57, 2.2), 30.0: (25, 6.2)}),
        (azure, "conv", 1.094, [0.96, 1.02, 1.08], [1.39, 3.86, 16.1], {5.0: (0, 1.09)}),
        (mooncake, "conversation", 3.03, None, [7.90, 2.10, 2.89], {5.0: (0, 3.03)}),
        (mooncake, "synthetic", 1.011, None, [1.09, 1.18, 1.19], {5.0: (0, 1.01)}),
    ],
    ids=["code", "conv", "conversation", "synthetic"],
)
def test_the_public_traces_have_the_figures_that_were_computed_elsewhere(read, name, cv, local, indices, silent):
    arrival_s = read(name)
    assert gap_cv(arrival_s) == pytest.approx(cv, rel=2e-3)
    assert [dispersion(arrival_s, w) for w in (1.0, 10.0, 60.0)] == pytest.approx(indices, rel=5e-3)
    if local is not None:
        assert np.percentile(windowed_cv(arrival_s, 60.0).cv, [10, 50, 90]).round(2).tolist() == local
    for limit_s, (count, without) in silent.items():
        found = silences(arrival_s, limit_s)
        assert (found.count, found.cv_without) == (count, pytest.approx(without, rel=1.5e-2))
