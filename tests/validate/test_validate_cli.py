"""`simqueue validate` as a user runs it, on a device that is pretended: real processes, real sockets, real seconds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from profiles import measured, serving
from rehearsals import HERE, SCENARIO
from typer.testing import CliRunner

from simqueue.cli.main import app
from simqueue.errors import ConfigError, ProfileError
from simqueue.live.executor import Executor
from simqueue.profile import save_profile
from simqueue.testbed import before_loading, open_executor
from simqueue.validate import folder
from simqueue.validate.cells import Case, cases, tables
from simqueue.validate.compare import SATURATION
from simqueue.validate.processors import processors
from simqueue.validate.record import Validation
from simqueue.validate.run import Plan, validate

SIMQUEUE = (sys.executable, "-c", "from simqueue.cli.main import main; main()")
# Steps of 2 ms and more, so that a run lasts less than a second.
SHORT = SCENARIO.replace("requests = 440", "requests = 60").replace("base_s = 0.8e-3", "base_s = 2e-3")
LOADS = "[sweep]\nload = [0.5, 20.0]\n"
# Far above 1 a run is short.
ABOVE = "[sweep]\nload = [20.0, 30.0]\n"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: no others for simulations, which are short here, and no figures, which take longest. The first
    test's own process has both."""
    monkeypatch.setattr("simqueue.pool.cpus", lambda: 1)
    monkeypatch.setattr("simqueue.plot.validation.plot_validation", lambda cells, folder: [])


def _write(place: Path, text: str = SHORT + LOADS, name: str = "scene.toml") -> Path:
    path = place / name
    path.write_text(text)
    return path


def _validate(*arguments: str | Path) -> Any:
    """In this process; whatever is not refused in order fails the test."""
    return CliRunner().invoke(app, ["validate", *map(str, arguments)], catch_exceptions=False, prog_name="simqueue")


def _refused(*arguments: str | Path) -> str:
    done = _validate(*arguments)
    assert done.exit_code == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("simqueue: error: ")
    return line


def test_live_runs_are_compared_kept_and_not_run_again(tmp_path: Path) -> None:
    path, out = _write(tmp_path), tmp_path / "out"
    command = [*SIMQUEUE, "validate", str(path), "--out", str(out), "--repeats", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, 1)  # by the verdicts, which are this machine's
    assert "Traceback" not in done.stderr
    assert "2 cells, 2 live runs each: about 0." in done.stderr
    assert "[2/2] scene: load=20: " in done.stderr
    assert "scene: load=0.5, 2 x 40 requests" in done.stdout
    assert f"wrote {out}/validation.json and 6 figures in {out}/figures" in done.stdout
    assert "DIFFER" not in done.stdout

    steady, saturated = folder.read(out).cells
    assert steady.outcomes == saturated.outcomes == {"completed": 120}
    assert len(steady.figures["response_s"]["mean"].live) == steady.repeats == 2
    assert SATURATION in saturated.figures
    assert steady.provenance["live"]["executor"] == "sleep"
    assert {"sent_late_s", "received_s", "delivery_s", "first_delivery_s"} <= steady.client_s.keys()
    assert all(way["p50"] <= way["p99"] for way in steady.client_s.values())
    for cell in (steady, saturated):
        assert cell.differing_plans == 0
        assert cell.plans is not None
        # Every step is planned, and at least once in each run it is planned to wait.
        assert cell.plans >= sum(kind.count for kind in cell.steps.values()) + cell.repeats
        assert f"] {cell.name}: " in done.stderr
        assert f"; all {cell.plans:,} plans alike in replay\n" in done.stderr
        assert (cell.stolen is None) == (processors() is None)
    assert f" cells; all {(steady.plans or 0) + (saturated.plans or 0):,} plans alike in replay. " in done.stdout
    assert steady.host_s["device"] > 0
    # The pretended device takes its time, of which 300 draws have a mean known to 1.2 %, and the host some more.
    assert steady.steps["decode"].error <= 0.04

    *told, _ = done.stdout.splitlines()
    again = _validate(path, "--out", out, "--repeats", "2")
    assert again.stdout.splitlines()[:-1] == told
    compared = _validate(path, "--out", out, "--recompare")
    assert compared.exit_code == done.returncode
    assert compared.stdout.splitlines()[:-1] == told
    assert [cell.key for cell in folder.read(out).cells] == [steady.key, saturated.key]


def test_a_dry_run_lists_cells_and_minutes_and_runs_nothing(tmp_path: Path) -> None:
    _write(tmp_path), _write(tmp_path, SHORT, "other.toml")
    done = _validate(tmp_path, "--out", tmp_path / "out", "--dry-run")
    assert (done.exit_code, done.stderr) == (0, "")
    *cells, total = done.stdout.splitlines()
    assert [cell.partition(", ")[0].partition(": 60")[0] for cell in cells] == [
        "other: continuous(max_seqs=8)",
        "scene: load=0.5",
        "scene: load=20",
    ]
    assert total.startswith("3 cells, 3 live runs each: about 0.")
    assert not (tmp_path / "out").exists()


def test_an_interrupt_keeps_what_is_finished_and_the_same_command_goes_on(tmp_path: Path) -> None:
    path, out = _write(tmp_path, SHORT + "[sweep]\nload = [20.0, 30.0, 0.01]\n"), tmp_path / "out"
    command = [*SIMQUEUE, "validate", str(path), "--out", str(out), "--repeats", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr
        said = [next(process.stderr)]
        while not said[-1].startswith("[2/3]"):
            said.append(next(process.stderr))
        # As a terminal does: to every process. The third cell takes a minute.
        os.killpg(process.pid, signal.SIGINT)
        said += list(process.stderr)
        assert process.wait(30) == 130
    assert said[-1].startswith(f"simqueue: interrupted: 2 of 3 cells finished, in {out}; the same command goes on")
    assert "Traceback" not in "".join(said)
    assert [cell.label for cell in folder.read(out).cells] == ["load=20", "load=30"]
    keys = [cell.key for cell in folder.read(out).cells]
    path.write_text(SHORT + "[sweep]\nload = [20.0, 30.0, 40.0]\n")
    _validate(path, "--out", out, "--repeats", "1")
    cells = folder.read(out).cells
    assert [cell.label for cell in cells] == ["load=20", "load=30", "load=40"]
    assert [cell.key for cell in cells[:2]] == keys


def test_what_is_finished_stays_until_all_that_takes_its_place_is(tmp_path: Path) -> None:
    path, out = _write(tmp_path, SHORT + ABOVE), tmp_path / "out"
    arguments = (path, "--out", out, "--repeats", "1")
    _validate(*arguments)
    before = folder.read(out)
    # Stopped while another device is got ready, and before any cell is finished.
    command = [*SIMQUEUE, "validate", *map(str, arguments), "--set", "live.max_rows=9", "--set", "sweep.load=[0.01]"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr
        next(process.stderr)
        os.killpg(process.pid, signal.SIGINT)
        process.stderr.read()
        assert process.wait(30) == 130
    assert folder.read(out) == before
    # One that fails.
    assert _validate(*arguments, "--set", "live.max_context=32", "--set", "sweep.load=[20.0, 30.0]").exit_code == 1
    assert folder.read(out) == before
    # Compared again are only some, of which one never ran.
    assert _validate(*arguments, "--recompare", "--set", "sweep.load=[20.0, 40.0]").exit_code == 1
    assert [cell.label for cell in folder.read(out).cells] == ["load=20", "load=30"]
    # All of a file, and nothing failed.
    _validate(*arguments, "--set", "sweep.load=[30.0, 40.0]")
    assert [cell.label for cell in folder.read(out).cells] == ["load=30", "load=40"]


def test_a_cell_that_cannot_run_stops_no_other(tmp_path: Path) -> None:
    small = SHORT.replace('executor = "sleep"', 'executor = "sleep"\nmax_context = 64').replace(
        "mean = 10", "mean = 9, max = 20"
    )
    sweep = '[sweep]\n"workload.prompt_tokens.max" = [100, 40]\nload = [20.0]\n'
    path, out = _write(tmp_path, small + sweep), tmp_path / "out"
    done = _validate(path, "--out", out, "--repeats", "1")
    assert done.exit_code == 1
    failed = done.stderr.splitlines()[-1]
    assert failed.startswith("simqueue: scene: max=100: request ")
    assert "more than the context of 64" in failed
    assert [cell.label for cell in folder.read(out).cells] == ["max=40"]


MOODY = """
from dataclasses import dataclass
from random import Random
from simqueue.plan import Step, Wait

draws = Random(0)

@dataclass(frozen=True)
class Moody:
    def decider(self, grid):
        return self

    def decide(self, view):
        seats = draws.randint(1, 6) - view.running
        if view.waiting and seats > 0:
            return Step(min(view.waiting, seats))
        return Step() if view.running else Wait()
"""


# At this load nothing is judged.
CLOSE = SHORT + "[sweep]\nload = [0.95]\n"


def test_plans_that_a_fresh_engine_makes_otherwise_are_a_disagreement(tmp_path: Path) -> None:
    path, out = _write(tmp_path, CLOSE), tmp_path / "out"
    arguments = (path, "--out", out, "--repeats", "1")
    assert _validate(*arguments).exit_code == 0

    (tmp_path / "moody.py").write_text(MOODY)
    path.write_text(CLOSE.replace('"continuous", max_seqs = 8', '"moody:Moody"'))
    done = _validate(*arguments)
    [cell] = folder.read(out).cells
    assert cell.outcomes == {"completed": 60}
    assert 0 < (cell.differing_plans or 0) <= (cell.plans or 0)
    differ = f"{cell.differing_plans:,} of {cell.plans:,} plans DIFFER in replay"
    assert done.stderr.endswith(f"; {differ}\n")
    assert f"\nDIFFER {cell.name}: {differ}: the engine, or its policy, does not decide" in done.stdout
    assert done.exit_code == 1

    # What is only compared again differs as it did.
    assert _validate(*arguments, "--recompare").exit_code == 1
    assert folder.read(out).cells[0].differing_plans == cell.differing_plans


BAD = {
    "a file that is not there": ("typo.toml", None, "typo.toml: cannot be read"),
    "no TOML": ("scene.toml", "[workload", "scene.toml: is no TOML"),
    "a misspelt key": ("scene.toml", SHORT.replace("max_seqs", "max_seq"), "did you mean 'max_seqs'?"),
    "no [live] table": (
        "scene.toml",
        SHORT.replace('[live]\nexecutor = "sleep"\nclients = "thread"\n', ""),
        "scene.toml: has no [live] table, which says what runs: add [live] and executor",
    ),
    "an unknown executor": ("scene.toml", SHORT.replace('"sleep"', '"slep"'), "executor = 'slep'"),
    "a load of nothing": ("scene.toml", SHORT + "[sweep]\nload = [0]\n", "load = 0 is no fraction"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_scenarios_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    name, text, said = BAD[case]
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    assert said in _refused(path, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_scenarios_is_refused(tmp_path: Path) -> None:
    assert f"{tmp_path}: has no scenario file (*.toml) in it" in _refused(tmp_path)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    one, two = _write(tmp_path), _write(tmp_path / "a")
    assert f"{two}: its cells would have the names of those of {one}" in _refused(one, two)


def test_a_folder_with_strange_files_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    assert "holds 'thesis.tex', which no validation wrote: give an empty folder" in _refused(
        _write(tmp_path), "--out", out
    )
    (out / "thesis.tex").rename(out / "validation.json")
    assert "validation.json: is no validation of simqueue" in _refused(_write(tmp_path), "--out", out)


def _tiny(place: Path) -> Path:
    text = SHORT.replace('executor = "sleep"', 'executor = "eager"\nmodel = "tiny"\ndtype = "fp32"\ndevice = "cpu"')
    return _write(place, text.replace('{ kind = "continuous", max_seqs = 8 }', '{ kind = "none" }'))


def _plan(out: Path, repeats: int = 1) -> Plan:
    """In which no executor can be made."""

    def executor(case: Case) -> Executor:
        raise AssertionError("nothing is to be loaded")

    return Plan(repeats, out, lambda case: before_loading(case.live), executor, None, False)


def test_what_is_known_before_loading_is_what_the_executor_says(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    for path in (_tiny(tmp_path), _write(tmp_path, name="sleep.toml")):
        case = cases(tables([path], ()))[0]
        described = dict(open_executor(case.live, case.scenario.system).describe())
        described.pop("weights", None)
        assert before_loading(case.live) == described


def test_a_folder_that_has_all_cells_loads_nothing(tmp_path: Path) -> None:
    path, out = _write(tmp_path, SHORT + ABOVE), tmp_path / "out"
    _validate(path, "--out", out, "--repeats", "2")
    before, planned = folder.read(out), cases(tables([path], ()))
    assert tuple(validate(planned, _plan(out, 2), before)) == before.cells
    for changed in (_plan(out, 3), replace(_plan(out, 2), here=lambda case: {**HERE, "gpu": "another"})):
        with pytest.raises(AssertionError, match="nothing is to be loaded"):
            next(validate(planned, changed, before))


def test_all_devices_are_checked_before_any_runs(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    planned = cases(tables([_write(tmp_path, name="a.toml"), _tiny(tmp_path)], ()))
    assert planned[0].live.executor == "sleep"
    with pytest.raises(ProfileError, match="measured nowhere"):
        next(validate(planned, _plan(tmp_path / "out"), Validation()))
    few = SHORT.replace('"sleep"', '"sleep"\nmax_rows = 4') + '[sweep]\n"system.policy.max_seqs" = [2, 8]\n'
    planned = cases(tables([_write(tmp_path, few)], ()))
    with pytest.raises(ConfigError, match="max_seqs = 8 is more requests than the executor has rows"):
        next(validate(planned, _plan(tmp_path / "out"), Validation()))


def test_a_cost_of_another_machine_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    planned = cases(tables([_tiny(tmp_path)], ()))
    plan = _plan(tmp_path / "out")
    with pytest.raises(ProfileError, match=r"the cost is a formula, which was measured nowhere.*\(--other-machine\)"):
        next(validate(planned, plan, Validation()))
    assert not (tmp_path / "out").exists()


def test_a_real_model_with_a_cost_of_another_machine_is_compared_if_asked_for(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "out"
    done = _validate(_tiny(tmp_path), "--out", out, "--repeats", "1", "--other-machine")
    assert done.exit_code in (0, 1)
    assert "Live: eager executor, gpt2-tiny, float32, on " in done.stdout
    assert "OTHER MACHINE: the cost is a formula, which was measured nowhere." in done.stdout
    [found] = folder.read(out).cells
    assert found.outcomes == {"completed": 60}
    assert found.plans
    assert found.differing_plans == 0


def _calibrated(place: Path) -> None:
    """A profile that a calibration may have left there."""
    made = measured((1,), (1, 511), ((1, 1),), (1, 256), (((1, 1), (1, 1)),), "linear", 0, 1e-3).profile
    save_profile(msgspec.structs.replace(made, runner="eager", serving=serving()), place)


def test_a_calibration_that_the_folder_has_is_not_made_again(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "out"
    _calibrated(out / "profiles" / "tiny-cpu-fp32-eager-128x1024.json")
    done = _validate(_tiny(tmp_path), "--out", out, "--calibrate", "--set", "system.noise={ kind = 'none' }")
    assert done.exit_code == 2
    assert "profile made-up does not describe what runs live (model made up, live gpt2-tiny" in done.stderr
    assert [path.name for path in (out / "profiles").iterdir()] == ["tiny-cpu-fp32-eager-128x1024.json"]


def test_a_calibration_is_of_all_that_the_live_table_says(tmp_path: Path) -> None:
    path, out = _tiny(tmp_path), tmp_path / "out"
    _calibrated(out / "profiles" / "tiny-cpu-fp32-eager-128x1024.json")
    looked = (path, "--out", out, "--calibrate", "--dry-run", "--set", "system.noise={ kind = 'none' }")
    assert "is to be measured first" not in _validate(*looked).stdout
    names = set()
    models = [tmp_path / "a" / "mine", tmp_path / "b" / "mine"]
    for place in models:
        place.mkdir(parents=True)
    changes = ["max_rows=64", "max_context=512", "dtype=bf16", "executor=graph", *(f"model={m}" for m in models)]
    for change in changes:
        first = _validate(*looked, "--set", f"live.{change}").stdout.splitlines()[0]
        assert first.endswith(".json: is to be measured first, about 4 minutes")
        names.add(first)
    assert len(names) == len(changes)
    assert any("tiny-cpu-fp32-eager-64x1024.json" in name for name in names)


def test_an_interrupted_calibration_exits_as_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")

    def press(text: str) -> None:
        if "round " in text:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("calibration.run.log", press)
    done = _validate(_tiny(tmp_path), "--out", tmp_path / "out", "--calibrate")
    assert done.exit_code == 130
    assert done.stderr.endswith("simqueue: interrupted\n")


# Options that do not go together, and files that are not there: each with what would do.


WAITING = SHORT.replace('{ kind = "affine"', '{ kind = "profile", path = "none.json" } # ')


@pytest.mark.parametrize("executor", ["sleep", "naive"])
def test_what_cannot_be_calibrated_is_refused(executor: str, tmp_path: Path) -> None:
    said = _refused(_write(tmp_path), "--out", tmp_path / "out", "--calibrate", "--set", f"live.executor={executor}")
    assert f'scene.toml: live.executor = "{executor}" cannot be calibrated, only graph and eager: leave out' in said


def test_kept_runs_are_not_compared_with_what_is_calibrated_now(tmp_path: Path) -> None:
    said = _refused(_write(tmp_path), "--calibrate", "--recompare")
    assert said.endswith("leave out one of them")


def test_a_scenario_that_waits_for_a_profile_says_what_makes_one(tmp_path: Path) -> None:
    path, out = _write(tmp_path, WAITING), tmp_path / "out"
    said = _refused(path, "--out", out)
    assert (
        f"{path}: system.cost.path: there is no profile {tmp_path}/none.json: add --calibrate, which measures" in said
    )
    assert "add --calibrate" not in _refused(path, "--out", out, "--recompare")
    graph = ("--set", "live.executor=graph", "--set", "live.device=cpu")
    done = _validate(path, "--out", out, "--calibrate", "--dry-run", *graph)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{out}/profiles/gpt2-cpu-bf16-graph-128x1024.json: is to be measured first, about 4 minutes",
        "the cells are known once that is measured: leave out --dry-run",
    ]


def test_a_torn_file_says_what_to_do(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "runs").mkdir(parents=True)
    (out / "validation.json").write_text('{"schema": 1, "cells": [\n{"file"')
    said = _refused(_write(tmp_path), "--out", out)
    assert "or not whole" in said
    assert "move it away, after which all runs live again (the runs beside it can still be read)" in said
