"""Measuring a real tiny model on the CPU: the precision asked for, every cell, and a profile that loads."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from calibration.build import from_file
from calibration.measure import half_width
from calibration.records import recorded
from calibration.samples import Repeats, read
from simqueue import Dynamic, Measured, Overheads, ServingNoise, System, Workload, simulate
from simqueue.errors import ConfigError
from simqueue.profile import load_profile

pytest.importorskip("torch")
pytest.importorskip("transformers")

from calibration import run
from calibration.cells import eager_cells
from calibration.measure import measure, unknown
from simqueue.live.device.eager import EagerExecutor
from simqueue.live.device.graph import GraphExecutor
from simqueue.live.device.load import load
from simqueue.workload import Geometric


@pytest.fixture
def plan(tmp_path):
    return run.Plan("tiny", "eager", "fp32", "cpu", tmp_path, "t", minutes=0.12, max_rows=2, max_context=32)


@pytest.mark.parametrize("runner", ["eager", "graph"])
def test_a_calibration_ends_in_time_with_a_profile_that_loads(plan, runner):
    # Answers long enough for 200 steps to be served also on a busy machine.
    lengths = Geometric(4.0, max=24), Geometric(12.0, max=32)
    plan = replace(plan, runner=runner, max_context=64, max_rows=3, minutes=0.75, lengths=lengths)
    profile = run.calibrate(plan)
    assert profile == load_profile(plan.out / "t.json")
    header, samples = read(plan.out / "t.csv")
    assert set(samples) == set(run.cells_of(header))
    assert profile.iteration_level == (runner == "graph")
    assert profile.provenance.gpu == "none"
    assert profile.provenance.command == plan.command()
    assert str(plan.out) not in profile.provenance.command
    assert (profile.curves.chunk is not None) == (runner == "graph")
    # The serving runs, of which the profile is made again as it was.
    records = recorded(plan.out / "t-serving.csv", header)
    assert set(records.run) == set(range(7)) if runner == "graph" else {0, 1, 2}
    assert profile.serving.steps == np.sum(records.kind == "step")
    assert profile.serving.paths.response_path_s + profile.serving.paths.response_per_row_s > 0
    assert from_file(plan.out / "t.csv", "t") == profile
    cost = Measured(path=str(plan.out / "t.json"))
    policy = Dynamic(3, release="request")
    system = System(policy, cost, ServingNoise(), Overheads.measured(policy, cost))
    assert simulate(Workload.from_columns([0.0, 0.0], [3, 9], [4, 2]), system).summary()["requests"] == 2


def test_running_again_adds_to_the_same_samples(plan):
    assert run.calibrate(plan)
    before = (plan.out / "t.csv").read_bytes()
    assert run.calibrate(replace(plan, minutes=0.095))
    assert (plan.out / "t.csv").read_bytes().startswith(before)
    with pytest.raises(ConfigError, match="measured with max_rows = '2', now it is '3'"):
        run.calibrate(replace(plan, max_rows=3))


def test_a_deadline_that_is_over_measures_nothing_more(plan):
    loaded = load("tiny", "fp32", "cpu")
    recorder = run.Recorder(plan.out / "s.csv", {"runner": "eager"})
    measure(EagerExecutor(loaded, 2, 32), eager_cells(2, 32, 0), recorder, time.monotonic() - 1, lambda line: None)
    recorder.close()
    assert recorder.samples == {}
    assert len(unknown(eager_cells(2, 32, 0), recorder.samples)) == len(eager_cells(2, 32, 0))
    assert GraphExecutor.iteration_level
    assert not EagerExecutor.iteration_level


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minutes": float("nan")}, "minutes = nan must be a finite number"),
        ({"minutes": 0.0}, "minutes = 0.0"),
        ({"max_rows": 1}, "max rows = 1 must be at least 2"),
        ({"max_context": 8}, "max context = 8 must be at least 32"),
        ({"runner": "magic"}, "runner = 'magic' is not one of graph, eager"),
        ({"dtype": "fp8"}, "dtype = 'fp8' is not one of"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(plan, change, message):
    with pytest.raises(ConfigError, match=message):
        replace(plan, **change)


def test_a_window_beyond_the_models_is_refused(plan):
    with pytest.raises(ConfigError, match="max context = 4096: model tiny has a window of 1024"):
        run.calibrate(replace(plan, max_context=4096))


def repeats_of(visits):
    return Repeats([t for visit in visits for t in visit], [i for i, visit in enumerate(visits) for _ in visit])


def test_the_half_width_covers_the_median():
    """Of 400 cells with 12 visits, about 95 % of the intervals hold the true median."""
    rng = np.random.default_rng(7)
    inside = 0
    for _ in range(400):
        repeats = repeats_of([[t] * 3 for t in np.exp(0.1 * rng.normal(size=12))])
        inside += abs(np.median(repeats.visits()) - 1) <= half_width(repeats) * np.median(repeats.visits())
    assert inside >= 360


def test_the_half_width_is_unknown_on_two_visits_and_0_on_equal_ones():
    assert half_width(repeats_of([[1.0], [1.0]])) == float("inf")
    assert half_width(repeats_of([[1.0]] * 4)) == 0.0
    assert half_width(repeats_of([[1.0]] * 9)) == 0.0
