"""Studies of M/D/1: what varies, from where to where, and what is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_server import FLAT, SERVICE_S, written

from simqueue.errors import ConfigError, SimqueueError
from simqueue.sensitivity import effort, morris, runs
from simqueue.sensitivity import study as module
from simqueue.sensitivity.parameter import Parameter
from simqueue.sensitivity.parameter import given as ranged
from simqueue.sensitivity.study import asked
from simqueue.theory.md1 import MD1
from simqueue.workload import Gamma

MEAN = ["response_s.mean"]
RANGES = ["rate=40..60", "system.cost.base_s=0.008..0.012"]


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes take longer to start than these to run."""
    monkeypatch.setattr(module, "cpus", lambda: 1)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five trajectories of three replications are enough to see that all comes together."""
    monkeypatch.setattr(morris, "TRAJECTORIES", 5)
    monkeypatch.setattr(effort, "REPLICATIONS", 3)


def quiet(done: int, of: int) -> None:
    """Nobody listens."""


@given(st.integers(-50, 50), st.integers(1, 60), st.floats(0, 1))
def test_whole_numbers_stay_whole_and_within(low: int, span: int, share: float) -> None:
    value = Parameter(("k",), low, low + span, "given").at(share)
    assert isinstance(value, int)
    assert low <= value <= low + span


def test_whole_numbers_have_equal_parts() -> None:
    one = Parameter(("k",), 3, 6, "given")
    assert [one.at((i + 0.5) / 8) for i in range(8)] == [3, 3, 4, 4, 5, 5, 6, 6]
    assert [one.at(share) for share in (0.0, 1.0)] == [3, 6]


def test_ranges_as_they_are_written() -> None:
    assert ranged("system.policy.max_seqs = 8..64") == Parameter(("system.policy.max_seqs",), 8, 64, "given")
    assert ranged("rate=80..1e2") == Parameter(("rate",), 80.0, 100.0, "given")


def test_every_parameter_gets_its_very_value(tmp_path: Path) -> None:
    more = ["workload.arrivals.cv=0.5..1.5", "workload.output_tokens.value=1..4"]
    study = asked(written(tmp_path), MEAN, [*RANGES, *more], "morris")
    for row in study.shares[:10].tolist():
        rate, base_s, cv, tokens = values = study.values(row)
        point = study.point(values)
        assert point.rate == rate == 40 + 20 * row[0]
        assert point.scenario.system.cost.base_s == base_s == 0.008 + row[1] * (0.012 - 0.008)  # type: ignore[attr-defined]
        assert point.scenario.workload.arrivals == Gamma(rate=0.5 / SERVICE_S, cv=cv)
        assert point.scenario.workload.output_tokens.value == tokens  # type: ignore[union-attr]
    untouched = study.point((50.0, SERVICE_S, 1.0, 1)).scenario
    assert untouched.system == study.scenario.system
    assert untouched.run == study.scenario.run


def test_burstiness_does_not_undo_what_else_is_said_of_arrivals(tmp_path: Path) -> None:
    keys = ("workload.arrivals.rate", "workload.arrivals.cv")
    study = asked(written(tmp_path), MEAN, [f"{key}=0.5..1.5" for key in keys], "morris")
    assert study.point((0.75, 1.25)).scenario.workload.arrivals == Gamma(rate=0.75, cv=1.25)


def test_effects_on_a_queue_that_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elementary effects of M/D/1 at the very points, to within what the runs leave open."""
    monkeypatch.setattr(effort, "REPLICATIONS", 4)
    study = asked(written(tmp_path, requests=500), MEAN, RANGES, "morris")
    answer = study.answered(quiet)
    exact = [MD1(*map(float, values)).mean_response_s for values in answer.values]
    found = {effect.parameter: effect for effect in answer.effects["response_s.mean"]}
    slopes = morris.elementary(study.shares, np.array(exact)).mean(axis=0)
    for name, slope in zip(study.names, slopes, strict=True):
        assert found[name].size == pytest.approx(slope, abs=1.5 * found[name].noise)
        assert found[name].seen
    assert answer.effects["response_s.mean"][0].parameter == "system.cost.base_s"
    assert answer.base.values == pytest.approx([MD1(50, SERVICE_S).mean_response_s], rel=0.1)


@pytest.mark.usefixtures("few")
def test_the_same_whatever_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(runs, "_WORTH_PROCESSES", 0)
    study = asked(written(tmp_path, requests=100), MEAN, RANGES, "morris")
    found = {}
    for workers in (1, 2):
        monkeypatch.setattr(module, "cpus", lambda workers=workers: workers)
        found[workers] = study.answered(lambda done, of: told.append((done, of)))
    assert found[1] == found[2]
    assert [done for done, _ in told] == 2 * list(range(1, 17))
    assert {of for _, of in told} == {16}


def test_what_a_scenario_varies_by_itself(tmp_path: Path) -> None:
    more = "[system.overheads]\nrequest_path_s = 0.001\n"
    study = asked(written(tmp_path, 0.3, FLAT, more=more), MEAN, [], "morris")
    assert {one.name: (round(one.low, 6), round(one.high, 6), one.source) for one in study.parameters} == {
        "rate": (27.0, 33.0, "± 10 %"),
        "workload.arrivals.cv": (0.9, 1.1, "± 10 %"),
        "system.overheads.request_path_s": (0.0009, 0.0011, "± 10 %"),
        "system.cost.scale.total": (round(1 / 1.02, 6), 1.02, "calibration"),
    }
    assert study.width == 0.1


def test_ranges_are_narrower_near_saturation(tmp_path: Path) -> None:
    """Rate and service 10 % up are a load of 0.968, 5 % up 0.882."""
    study = asked(written(tmp_path, 0.8), MEAN, [], "morris")
    assert study.width == 0.05
    assert study.parameters[0].high == pytest.approx(84)
    with pytest.raises(ConfigError, match=r"the load is 0\.96, too near to saturation"):
        asked(written(tmp_path, 0.96), MEAN, [], "morris")


def test_an_end_that_cannot_be_is_drawn_in(tmp_path: Path) -> None:
    """The profile was measured for 128 rows."""
    path = written(tmp_path, 0.2)
    cost = 'system.cost={kind="profile", name="gpt2-h200-bf16-graph-128"}'
    study = asked(path, MEAN, [], "morris", None, [cost, 'system.policy={kind="continuous", max_seqs=128}'])
    seats = next(one for one in study.parameters if one.name == "system.policy.max_seqs")
    assert (seats.low, seats.high) == (115, 128)


def test_users_have_no_rate(tmp_path: Path) -> None:
    users = 'workload.arrivals={kind="users", users=20, think_s=0.5}'
    study = asked(written(tmp_path), MEAN, [], "morris", None, [users])
    ranges = {one.name: (one.low, one.high) for one in study.parameters}
    assert ranges["workload.arrivals.users"] == (18, 22)
    assert ranges["workload.arrivals.think_s"] == pytest.approx((0.45, 0.55))
    assert "rate" not in ranges


def test_stays_of_a_modulated_process_vary_together(tmp_path: Path) -> None:
    arrivals = 'workload.arrivals={kind="mmpp", rates=[40.0, 0.0], mean_stay_s=[2.0, 4.0]}'
    study = asked(written(tmp_path), MEAN, [], "morris", None, [arrivals])
    stays = next(one for one in study.parameters if one.name == "workload.arrivals.mean_stay_s")
    assert stays.overrides(0.5) == ["workload.arrivals.mean_stay_s=[1.0, 2.0]"]


def test_points_that_are_unstable_are_left_out_with_their_trajectories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effort, "REPLICATIONS", 2)
    study = asked(written(tmp_path, requests=100), MEAN, ["rate=40..140", "system.cost.base_s=0.008..0.01"], "morris")
    answer = study.answered(quiet)
    assert 0 < answer.unstable < answer.left_out < len(answer.outcomes)
    assert answer.left_out % 3 == 0
    stable = [row for row in answer.rows(study) if row["kept"]]
    assert stable
    assert not any(row["unstable"] for row in stable)
    with pytest.raises(ConfigError, match=r"18 of 30 points are unstable, .* 0 are left, of 4"):
        asked(written(tmp_path, requests=100), MEAN, ["rate=90..190", RANGES[1]], "morris").answered(quiet)


def test_how_long_runs_are(tmp_path: Path) -> None:
    path = written(tmp_path, requests=10_000)
    assert asked(path, MEAN, RANGES, "morris").effort == (2000, 200, 10)
    assert asked(path, MEAN, RANGES, "sobol").effort == (1000, 100, 10)
    assert asked(path, MEAN, RANGES, "morris", 31 * 10 * 700).effort == (700, 70, 10)
    clock = ['workload.arrivals={kind="sinusoidal", rate=50.0, amplitude=0.5, period_s=10.0}', "run.warmup=50"]
    assert asked(path, MEAN, RANGES, "morris", None, clock).effort == (None, 50, 2)
    assert asked(written(tmp_path, requests=300), MEAN, RANGES, "morris").effort == (300, 30, 10)


@pytest.mark.parametrize(
    ("asks", "said"),
    [
        ({"of": ["response_s.p98"]}, "--of: unknown figure 'response_s.p98'; did you mean 'response_s.p99'"),
        ({"method": "moris"}, "--method 'moris' is none: give one of morris, sobol"),
        ({"vary": ["rate"]}, "--vary 'rate' is no range of a number"),
        ({"vary": ["rate=60..40"]}, "60 is not below 40: give the lower end first"),
        ({"vary": ["rate=a..40"]}, "'a' is no number"),
        ({"vary": ["rate=1..inf"]}, "'inf' is no number"),
        ({"vary": ["rate=1..2"]}, "one parameter alone cannot be compared"),
        ({"vary": ["rate=1..2", "rate=2..3"]}, "rate has a range already"),
        ({"vary": ["rate=1..2", "system.cost.bas_s=1..2"]}, "did you mean 'base_s'"),
        ({"vary": ["rate=1..2", "system.cost.base_s=-1..2"]}, "base_s = -1"),
        ({"vary": RANGES, "max_requests": 0}, "--max-requests = 0"),
        ({"vary": RANGES, "max_requests": 9000}, "is too few for 31 points: give 155000 or more"),
        ({"vary": RANGES, "overrides": ['workload.arrivals={kind="users", users=9}']}, "have no rate"),
    ],
)
def test_what_is_refused(asks: dict[str, object], said: str, tmp_path: Path) -> None:
    plain: dict[str, object] = {"of": MEAN, "vary": RANGES, "method": "morris"}
    with pytest.raises(SimqueueError) as refused:
        asked(written(tmp_path), **{**plain, **asks})  # type: ignore[arg-type]
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("few")
def test_a_point_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, 0.2)
    over = ['system.cost={kind="profile", name="gpt2-h200-bf16-graph-128"}']
    study = asked(path, MEAN, ["rate=9..10", "workload.prompt_tokens.value=500..2000"], "morris", None, over)
    with pytest.raises(SimqueueError, match=r"one\.toml: .*\(at rate = .*, workload\.prompt_tokens\.value = "):
        study.answered(quiet)


@pytest.mark.usefixtures("few")
def test_a_figure_that_runs_do_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--of tpot_s\.mean: these runs have no such figure"):
        asked(written(tmp_path, requests=100), ["tpot_s.mean"], RANGES, "morris").answered(quiet)


@pytest.mark.usefixtures("few")
def test_an_answer_in_words_of_json(tmp_path: Path) -> None:
    study = asked(written(tmp_path, requests=100), MEAN, RANGES, "morris")
    told = study.told(study.answered(quiet))
    assert [one["name"] for one in told["question"]["parameters"]] == ["rate", "system.cost.base_s"]
    assert {"rate", "system.cost.base_s", "response_s.mean", "load", "unstable", "kept"} == set(told["points"][0])
    assert told["effects"]["response_s.mean"][0].keys() >= {"parameter", "size", "half_width", "noise", "seen"}
