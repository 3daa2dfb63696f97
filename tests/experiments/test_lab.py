"""The lab, script and notebook, with the tiny model on a CPU and few users."""

from __future__ import annotations

import importlib
import json
import shutil
import signal
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from simqueue import Affine, Continuous, System, simulate
from simqueue.errors import ProfileError
from simqueue.live.serve import serve
from simqueue.live.sleep import SleepExecutor
from simqueue.policy import Static
from simqueue.workload import Workload

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
RESULT, DOCS = EXPERIMENTS / "lab" / "results" / "h200", EXPERIMENTS.parent / "docs"
NOTEBOOK = EXPERIMENTS / "batching_and_queueing_lab.ipynb"
USERS, MINUTES = 4, 0.25
# Too short to add anything to samples that are there.
NO_MINUTES = 0.05
SEEDS = {"NOISE_SEEDS": 2}
# What is quick, by module: few runs, and of few requests each.
QUICK: dict[str, dict[str, Any]] = {
    "lab.curves": {"LOADS": (0.5,), "POINT_S": 0.05, "_LEAST": 4, "_MOST": 200, "_PILOT": 40, "DRAWS": 2, **SEEDS},
    "lab.trial": {"REPEATS": 1, **SEEDS},
}
# What the notebook is told before it starts.
TOLD = f"""
import importlib, lab.bench
lab.bench.SIZES["cpu"] = lab.bench.Size("tiny", "fp32", {USERS}, {USERS}, {NO_MINUTES})
for module, values in {QUICK!r}.items():
    vars(importlib.import_module(module)).update(values)
open_bench = lambda: lab.bench.open_bench("cpu")
"""


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    return importlib.import_module("batching_lab")


@pytest.fixture
def quick(lab: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    bench = importlib.import_module("lab.bench")
    monkeypatch.setitem(bench.SIZES, "cpu", bench.Size("tiny", "fp32", USERS, USERS, NO_MINUTES))
    for module, values in QUICK.items():
        for name, value in values.items():
            monkeypatch.setattr(f"{module}.{name}", value)
    return lab


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What steps cost, measured as the lab does it: once, for the script and the notebook."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXPERIMENTS))
        bench, machine = (importlib.import_module(f"lab.{name}") for name in ("bench", "machine"))
        patch.setitem(bench.SIZES, "cpu", bench.Size("tiny", "fp32", USERS, USERS, MINUTES))
        folder = tmp_path_factory.mktemp("lab") / "profile"
        opened = bench.open_bench("cpu")
        # As its message says: what took too long on a busy machine goes on from there.
        for attempt in range(4):
            try:
                machine.streaming(opened, folder)
            except ProfileError:
                assert attempt < 3
            else:
                break
    return folder


def test_the_script_from_end_to_end(
    quick: ModuleType, steps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(steps, tmp_path / "profile")
    quick.main(["--device", "cpu", "--out", str(tmp_path)])
    told = capsys.readouterr().out
    found = json.loads((tmp_path / "lab.json").read_text())
    assert [trial["name"] for trial in found["trials"]] == [
        *("no batching", "manual batching", "none", "static", "dynamic", "continuous"),
    ]
    for trial in found["trials"]:
        _check_trial(trial)
    sizes = {trial["name"]: trial["requests"]["batch_size"] for trial in found["trials"]}
    assert sizes["no batching"] == sizes["none"] == [1.0] * USERS
    assert sizes["manual batching"] == [float(USERS)] * USERS
    assert [point["users"] for point in found["users"]] == [1, USERS] * 2
    assert [point["load"] for point in found["load"]] == [0.5] * 4
    # On a busy machine some would take too long to be run.
    live = [point["live"] for point in found["users"] + found["load"] if point["live"]]
    assert len(live) >= 4
    assert all(figures["response_s"] > 0 for figures in live)
    assert found["provenance"]["machine"]["model"] == "gpt2-tiny"
    assert found["provenance"]["machine"]["weights"] == "random"
    assert len(found["lessons"]) >= 8
    assert "random weights" in told
    assert "Why do requests wait?" in told
    for lesson in found["lessons"]:
        assert lesson.split()[0] in told
    for name in ("at_once", "users", "load"):
        assert (tmp_path / f"{name}.svg").stat().st_size > 5000
        assert (tmp_path / f"{name}.png").stat().st_size > 5000


def _check_trial(trial: dict) -> None:
    """The laws that any run obeys, and that whoever batches changes no answer."""
    live, requests = trial["live"], {name: np.array(column) for name, column in trial["requests"].items()}
    assert requests["queueing_s"] + requests["service_s"] == pytest.approx(requests["response_s"], abs=1e-9)
    assert live["response_s"] == pytest.approx(requests["response_s"].mean())
    assert live["total_s"] == pytest.approx((requests["arrival_s"] + requests["response_s"]).max(), abs=1e-9)
    assert live["tokens_per_s"] * live["total_s"] == pytest.approx(requests["output_tokens"].sum())
    assert live["total_s"] == sorted(trial["total_s"])[len(trial["total_s"]) // 2]
    assert trial["same_tokens"] > 0.99
    assert trial["simulated"]["total_s"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--users", "1"], "users = 1"),
        (["--device", "tpu"], "tpu"),
        (["--device", "cpu", "--model", "/nowhere/at/all"], "/nowhere/at/all"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    quick: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    _refused(quick, capsys, *arguments, "--out", str(tmp_path), said=said)


def _refused(lab: ModuleType, capsys: pytest.CaptureFixture[str], *arguments: str, said: str) -> None:
    """In one line, with status 2."""
    with pytest.raises(SystemExit) as refused:
        lab.main(arguments)
    assert refused.value.code == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("lab: ")
    assert said in told


def test_a_folder_of_somebody_else_is_refused_before_anything_is_run(
    lab: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").touch()
    _refused(
        lab, capsys, "--out", str(tmp_path), said="'thesis.tex', which the lab did not write: give an empty folder"
    )
    _refused(lab, capsys, "--out", str(tmp_path / "thesis.tex"), said="is no folder")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_former_run_is_drawn_again(lab: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lab.main(["--redraw", str(RESULT / "lab.json"), "--out", str(tmp_path / "out")])
    told = capsys.readouterr().out
    found = json.loads((RESULT / "lab.json").read_text())
    for lesson in found["lessons"]:
        assert " ".join(lesson.split()) in " ".join(told.split())
    names = {f"{name}.{kind}" for name in ("at_once", "users", "load") for kind in ("svg", "png")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    again = lab.figures.save({"at_once": lab.draw(found)["at_once"]}, tmp_path)
    assert all(path.read_bytes() == (tmp_path / "out" / path.name).read_bytes() for path in again)


def test_what_is_no_former_run_is_not_drawn(
    lab: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", str(tmp_path / "out"))
    (tmp_path / "other.json").write_text("[]")
    _refused(lab, capsys, "--redraw", str(tmp_path / "none.json"), *out, said="none.json: cannot be read")
    _refused(lab, capsys, "--redraw", str(tmp_path / "other.json"), *out, said="give a lab.json that this lab wrote")
    assert not (tmp_path / "out").exists()


def test_the_page_says_what_the_committed_run_found() -> None:
    found = json.loads((RESULT / "lab.json").read_text())
    page = " ".join((DOCS / "lab.md").read_text().split())
    for lesson in found["lessons"]:
        assert lesson in page
    assert found["provenance"]["machine"]["gpu"] in page
    assert f"{found['provenance']['took_s']} s" in page


def test_ctrl_c_ends_the_lab_in_one_line(
    lab: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def press(text: str) -> None:
        if "round " in text:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("calibration.run.log", press)
    with pytest.raises(SystemExit) as ended:
        lab.main(["--device", "cpu", "--out", str(tmp_path)])
    assert ended.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("lab: interrupted")


def test_the_batch_of_a_request_is_the_mean_over_its_own_steps(lab: ModuleType) -> None:
    trial = importlib.import_module("lab.trial")
    # One token a step of a second: from 0 to 4, from 1 to 3 and from 2 to 3 seconds.
    workload = Workload.from_columns([0.0, 0.5, 1.5], [1, 1, 1], [4, 2, 1])
    result = simulate(workload, System(Continuous(8), Affine(base_s=1.0)))
    assert trial.by_request(result)["batch_size"] == [pytest.approx(7 / 4), pytest.approx(5 / 2), 3.0]
    together = simulate(workload, System(Static(3), Affine(base_s=1.0)))
    assert trial.by_request(together)["batch_size"] == [3.0] * 3


def test_live_and_simulated_are_figured_alike(lab: ModuleType) -> None:
    trial = importlib.import_module("lab.trial")
    workload, system = Workload.from_columns([0.0, 0.001], [3, 3], [4, 2]), System(Continuous(8), Affine(base_s=0.01))
    live = serve(workload, system, SleepExecutor(system.cost)).result
    assert live is not None
    figures = trial.summary(live), trial.summary(simulate(workload, system))
    assert figures[0].keys() == figures[1].keys()
    assert all(one["tokens_per_s"] * one["total_s"] == pytest.approx(6) for one in figures)
    assert figures[0]["batch_size"] == figures[1]["batch_size"]


def test_what_is_learned_follows_from_the_numbers(lab: ModuleType) -> None:
    lessons = importlib.import_module("lab.lessons")
    step = lessons._step
    assert "hardly more than one" in step({1: 1e-3, 256: 1.2e-3})
    much = step({1: 1e-3, 16: 1.4e-3, 32: 4e-3})
    assert "hardly" not in much
    assert "8 times less" in much
    assert "Up to 16 rows" in much
    fast, slow = (SimpleNamespace(answers=[[0]] * 7, held=0.5, live=live) for live in _figures(2.0, 8.0))
    assert "7 prompts took 8 s one call after another and 2 s as one padded batch, 4 times" in lessons._manual(
        slow, fast
    )
    assert "75% of the mean response time" in lessons._manual(slow, fast)


def _figures(*totals_s: float) -> list[dict[str, float]]:
    return [{"total_s": s, "response_s": s, "queueing_s": 0.75 * s, "tokens_per_s": 100 / s} for s in totals_s]


def test_the_number_of_users_is_spread(lab: ModuleType) -> None:
    curves = importlib.import_module("lab.curves")
    assert curves.user_counts(2) == [1, 2]
    assert curves.user_counts(256) == [1, 8, 64, 256]
    assert curves.user_counts(100) == [1, 8, 64, 100]


def test_the_notebook_runs(steps: Path, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient").NotebookClient
    shutil.copytree(steps, tmp_path / "profile")
    notebook = nbformat.read(NOTEBOOK, 4)
    first = next(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    quick = nbformat.v4.new_code_cell(f"{TOLD}\nout = Path({str(tmp_path)!r})")
    notebook.cells.insert(first + 1, quick)
    client(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(EXPERIMENTS)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = "".join(output.get("text", "") for output in outputs)
    assert "manual batching" in text
    assert "The same 4 prompts took" in text
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3


def test_the_notebook_as_it_stands_is_small_and_whole() -> None:
    assert NOTEBOOK.stat().st_size < 500_000
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not any(output["output_type"] == "error" for cell in cells for output in cell["outputs"])
