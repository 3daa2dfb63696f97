"""Whole comparisons whose outcome is known: with itself, with a wrong profile, and again from what was kept."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest
from profiles import measured
from rehearsals import HERE, SCENARIO, cell, lived, planned, quiet, runs

import simqueue
from simqueue import Result, simulate
from simqueue.errors import OutputError, ProfileError
from simqueue.live.executor import Executor
from simqueue.profile import Profile
from simqueue.validate import folder, machine
from simqueue.validate.cells import Case
from simqueue.validate.compare import SATURATION
from simqueue.validate.machine import foreign, refuse_foreign
from simqueue.validate.predict import scaled
from simqueue.validate.record import Cell, Validation, decode, encode
from simqueue.validate.run import Failure, Plan, compare_again, compared, key_of

LOADS = "load = [0.5, 20.0]"


def test_a_run_compared_with_itself_has_no_error() -> None:
    for case in map(quiet, planned(LOADS)):
        found = cell(case)
        found.figures.pop(SATURATION, None)
        every = [figure for statistics in found.figures.values() for figure in statistics.values()]
        assert len(every) == 6 * 5 + 4
        for figure in every:
            assert figure.error == pytest.approx(0.0, abs=1e-15)
            assert figure.spread == pytest.approx(0.0, abs=1e-15)
        for curves in (*found.quantiles.values(), found.waiting):
            assert set(curves.live) == {curves.mean} == {curves.low} == {curves.high}
        assert {kind.error for kind in found.steps.values()} == {0.0}


def test_noise_alone_is_within_what_is_allowed() -> None:
    steady, saturated = map(cell, planned(LOADS))
    assert all(j.verdict == "reached" for j in steady.verdicts().values() if not j.why)
    assert saturated.figures[SATURATION]["mean"].verdict == "reached"
    assert steady.seeds == 20
    assert steady.counted == 420


def test_a_profile_that_is_a_tenth_off_is_missed() -> None:
    steady, saturated = (cell(case, 1.1) for case in planned(LOADS))
    judged = [figure for figure in steady.verdicts().values() if not figure.why]
    assert len(judged) == 6  # mean, p50 and p95 of response and TTFT; 420 requests are too few for p99
    assert {figure.verdict for figure in judged} == {"MISSED"}
    assert all(figure.error is not None and figure.error < -0.08 for figure in judged)
    saturation = saturated.figures[SATURATION]["mean"]
    assert saturation.verdict == "MISSED"
    # On the very workload, of which a slower system has more waiting at the same instant.
    assert saturation.error == pytest.approx(0.1, abs=0.02)
    assert steady.steps["decode"].error == pytest.approx(1 / 1.1 - 1, abs=0.01)


def test_saturation_is_only_measured_where_everybody_waits() -> None:
    steady, saturated = map(cell, planned(LOADS))
    assert SATURATION not in steady.figures
    assert steady.elasticity["response_s"]["mean"] > 1
    assert not saturated.elasticity
    assert {figure.why for (metric, _), figure in saturated.verdicts().items() if metric != SATURATION} == {
        "above saturation"
    }


def test_nothing_is_judged_where_requests_were_lost() -> None:
    [case] = planned()
    whole = lived(case)
    part = simulate(case.workload.head(430), case.scenario.system, warmup=20, longest_leap=1)
    found = compared(case, runs(case, [*whole, part]), "made-up", None)
    assert {figure.why for figure in found.verdicts().values()} == {"10 requests were not answered"}


def test_a_scenario_without_a_sweep_is_one_cell_at_its_own_rate() -> None:
    [case] = planned()
    assert case.name == "scene: continuous(max_seqs=8)"
    assert case.load == pytest.approx(20.0 / case.saturation_rps)


def test_json_and_back() -> None:
    validation = Validation(cells=tuple(map(cell, planned(LOADS))))
    raw = encode(validation)
    assert decode(raw, Path("x")) == validation
    # Strict: no NaN, no Infinity.
    json.loads(raw, parse_constant=lambda word: pytest.fail(word))


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"{}", "x.json: is no validation of simqueue"),
        (b"{", "x.json: is no validation of simqueue"),
        (b'{"schema": 99, "cells": []}', "x.json: schema 99, but this simqueue reads 1"),
        (b'{"schema": 1, "cells": [{"file": "a"}]}', "x.json: is no validation of simqueue"),
    ],
)
def test_what_is_no_validation_is_refused(raw: bytes, said: str) -> None:
    with pytest.raises(OutputError, match=said):
        decode(raw, Path("x.json"))


# Again from what was kept.


def _plan(place: Path) -> Plan:
    def executor(case: Case) -> Executor:
        raise AssertionError("nothing runs live")

    return Plan(3, place, lambda case: HERE, executor, None, False)


def _kept(case: Case, factor: float, into: Path) -> Validation:
    results = lived(case, factor)
    folder.keep(results, into, case.name)
    return Validation(cells=(compared(case, runs(case, results), "made-up", None),))


def test_names_that_differ_only_in_signs_keep_their_own_runs(tmp_path: Path) -> None:
    case = planned(LOADS)[0]
    folder.keep(lived(case, 1.0, 2), tmp_path, "scene: a(b)")
    folder.keep(lived(case, 1.0, 3), tmp_path, "scene: a[b]")
    assert [len(folder.runs_of(tmp_path, f"scene: {label}")) for label in ("a(b)", "a[b]")] == [2, 3]


def test_runs_that_an_earlier_version_kept_are_found(tmp_path: Path) -> None:
    case = planned(LOADS)[0]
    folder.keep(lived(case, 1.0, 2), tmp_path, case.name)
    [kept] = (tmp_path / folder.RUNS).iterdir()
    kept.rename(kept.with_name("scene-load=0.5"))
    assert len(folder.runs_of(tmp_path, case.name)) == 2


def test_former_runs_stay_until_the_new_ones_are_written(tmp_path: Path) -> None:
    case = planned(LOADS)[0]
    folder.keep(lived(case, 1.0, 3), tmp_path, case.name)
    [kept] = (tmp_path / folder.RUNS).iterdir()
    lengths = [len(result.leaps["start"]) for result in folder.runs_of(tmp_path, case.name)]

    def stopped() -> Iterator[Result]:
        yield from lived(case, 1.1, 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.keep(stopped(), tmp_path, case.name)
    assert [len(result.leaps["start"]) for result in folder.runs_of(tmp_path, case.name)] == lengths
    folder.keep(lived(case, 1.1, 2), tmp_path, case.name)
    assert len(folder.runs_of(tmp_path, case.name)) == 2
    assert list((tmp_path / folder.RUNS).iterdir()) == [kept]


def test_comparing_again_gives_the_same(tmp_path: Path) -> None:
    case = planned(LOADS)[0]
    before = _kept(case, 1.0, tmp_path)
    [again] = compare_again([case], _plan(tmp_path), before)
    assert isinstance(again, Cell)
    assert again.provenance.pop("compared")["simqueue"]
    [first] = before.cells
    assert again == msgspec.structs.replace(first, provenance=again.provenance)


def test_a_mended_cost_is_compared_with_the_runs_that_there_were(tmp_path: Path) -> None:
    wrong = planned(LOADS)[0]
    before = _kept(wrong, 1.1, tmp_path)
    # The cost as it should have been, which moves the saturation and with it the rate of the cell.
    coefficients = msgspec.to_builtins(scaled(wrong.scenario.system.cost, 1.1))
    cost = ", ".join(f"{key} = {value!r}" for key, value in coefficients.items()).replace("'", '"')
    mended = planned(f'{LOADS}\n"system.cost" = [{{ {cost} }}]')[0]
    assert mended.workload.rate == pytest.approx(wrong.workload.rate / 1.1)
    [again] = compare_again([mended], _plan(tmp_path), before)
    assert isinstance(again, Cell)
    assert again.load == before.cells[0].load
    assert again.rate_rps == before.cells[0].rate_rps
    error = again.figures["response_s"]["mean"].error
    assert error is not None
    assert abs(error) < 0.02


def test_what_cannot_be_compared_again_says_why(tmp_path: Path) -> None:
    case = planned(LOADS)[0]
    [unknown] = compare_again([case], _plan(tmp_path), Validation())
    assert unknown == Failure(case.name, f"{tmp_path} has no live runs of it: run it live first")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("max_seqs = 8", "max_seqs = 4", "system.policy.max_seqs = 8, not 4"),
        ("seed = 3", "seed = 4", "run.seed = 3, not 4, other prompt_tokens, other output_tokens, other arrivals"),
        ("warmup = 20", "warmup = 30", "run.warmup = 20, not 30"),
        ("mean = 60", "mean = 50", "other prompt_tokens"),
        ("rate = 20.0", "rate = 30.0", "other arrivals"),
        ('"thread"', '"process"', "live.clients = 'thread', not 'process'"),
        ("requests = 440", "requests = 200", "other prompt_tokens, other output_tokens, other arrivals"),
        ("[system]", "[system]\nmax_context_tokens = 2048", "system.max_context_tokens = None, not 2048"),
    ],
)
def test_runs_of_something_else_are_not_compared_again(old: str, new: str, said: str, tmp_path: Path) -> None:
    [case], [other] = planned(), planned(text=SCENARIO.replace(old, new))
    before = _kept(case, 1.0, tmp_path)
    other = replace(other, label=case.label)
    [refused] = compare_again([other], _plan(tmp_path), before)
    assert isinstance(refused, Failure)
    assert refused.reason.startswith(f"its live runs had {said}; only cost, noise and overheads can be compared again")


def test_what_old_runs_do_not_say_is_not_refused_and_said(tmp_path: Path) -> None:
    [case] = planned()
    before = _kept(case, 1.0, tmp_path)
    del before.cells[0].provenance["live"]["max_rows"]
    [again] = compare_again([case], _plan(tmp_path), before)
    assert isinstance(again, Cell)
    assert again.provenance["compared"]["unchecked"] == ["live.max_rows"]


def test_runs_are_not_compared_again_with_a_cost_of_another_machine_unless_asked_for(tmp_path: Path) -> None:
    [case] = planned()
    before = _kept(case, 1.0, tmp_path)
    before.cells[0].provenance["machine"]["runner"] = "graph"
    plan = _plan(tmp_path)
    with pytest.raises(ProfileError, match=r"the cost is a formula, which was measured nowhere.*--other-machine"):
        next(compare_again([case], plan, before))
    [again] = compare_again([case], replace(plan, other_machine=True), before)
    assert isinstance(again, Cell)
    assert again.provenance["foreign"] == ["the cost is a formula, which was measured nowhere"]


def test_a_cell_takes_the_place_of_its_former_self_and_leaves_all_others_alone() -> None:
    one, two = map(cell, planned(LOADS))
    other, new = msgspec.structs.replace(one, file="other"), msgspec.structs.replace(one, key="new")
    before = Validation(cells=(one, two, other))
    assert folder.merged(before, []) == before
    assert folder.merged(before, [new]).cells == (new, two, other)
    # A file whose cells are all there are.
    assert folder.merged(before, [new], {"scene"}).cells == (other, new)


# Keys and machines.


def test_a_key_tells_experiments_apart() -> None:
    case, saturated = planned(LOADS)
    key = key_of(case, 3, HERE)
    assert key == key_of(planned(LOADS)[0], 3, HERE)
    changed = [
        key_of(saturated, 3, HERE),
        key_of(case, 4, HERE),
        key_of(case, 3, {**HERE, "gpu": "another"}),
        key_of(planned(f'{LOADS}\n"run.warmup" = [21]')[0], 3, HERE),
        key_of(planned(f'{LOADS}\n"system.noise" = [{{ kind = "none" }}]')[0], 3, HERE),
    ]
    assert len({key, *changed}) == 6


def test_what_ran_is_known_outside_of_a_checkout_too(tmp_path: Path) -> None:
    shutil.copytree(Path(simqueue.__file__).parent, tmp_path / "simqueue")
    code = "import simqueue.validate.machine as m; print(m.__file__); print(m.software()['commit'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    place, commit = done.stdout.splitlines()
    assert place.startswith(str(tmp_path))
    assert commit == f"version {version('simqueue')}, no checkout"


def _here(profile: Profile, **changes: str) -> dict[str, str]:
    source = msgspec.structs.asdict(profile.provenance)
    named = {name: source[name] for name in ("dtype", "gpu", "torch", "transformers", "attention", "cpu")}
    return {"runner": profile.runner, "model": profile.model.name, "weights": "whatever", **named, **changes}


def _cost() -> Any:
    return measured((1,), (1,), ((1,),), (1,), (((1, 1),),), "linear", 0, 1e-3)


@pytest.mark.parametrize("field", ["runner", "model", "dtype", "gpu", "torch", "transformers", "attention"])
def test_a_profile_made_on_something_else_is_refused(field: str) -> None:
    cost = _cost()
    here = _here(cost.profile)
    refuse_foreign(cost, here)
    there = here[field]
    with pytest.raises(
        ProfileError, match=rf"profile made-up does not .*{field} {there}, live another\).*--other-machine"
    ):
        refuse_foreign(cost, {**here, field: "another"})
    assert machine.provenance(cost, {**here, field: "another"})["foreign"] == [f"{field} {there}, live another"]


def test_without_a_gpu_the_processor_counts() -> None:
    cost = _cost()
    on_gpu = _here(cost.profile, cpu="another")
    assert foreign(cost, on_gpu) == ()
    cost.__dict__["profile"] = msgspec.structs.replace(
        cost.profile, provenance=msgspec.structs.replace(cost.profile.provenance, gpu="none")
    )
    assert foreign(cost, _here(cost.profile, cpu="another")) == ("cpu made up, live another",)


def test_a_formula_was_measured_nowhere_and_a_pretended_device_takes_any() -> None:
    [case] = planned()
    with pytest.raises(ProfileError, match="the cost is a formula, which was measured nowhere"):
        refuse_foreign(case.scenario.system.cost, _here(_cost().profile))
    refuse_foreign(case.scenario.system.cost, HERE)
    refuse_foreign(_cost(), HERE)
