"""`simqueue profiles` and `calibrate` as commands: exit codes, one line for a mistake, no torch unless it is needed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from simqueue.cli.main import app
from simqueue.profile import load_profile, shipped

_PLAIN = "from simqueue.cli.main import main; main()"
_NO_TORCH = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
{_PLAIN}
"""
_TINY = ("calibrate", "--model", "tiny", "--device", "cpu", "--dtype", "fp32", "--runner", "eager", "--name", "t")


def simqueue(*arguments, cwd, code=_NO_TORCH):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, env=_environment(cwd))


def _environment(cwd):
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": root, "COLUMNS": "160", "HF_HUB_OFFLINE": "1"}


def invoke(*arguments):
    """In this process; whatever is not refused in order fails the test."""
    return CliRunner().invoke(app, arguments, catch_exceptions=False, prog_name="simqueue")


def refused(done, message):
    code = done.exit_code if hasattr(done, "exit_code") else done.returncode
    assert code == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_list_names_what_ships(tmp_path):
    done = simqueue("profiles", cwd=tmp_path)
    assert done.returncode == 0
    for name in shipped():
        assert name in done.stdout
    for word in ("GPU", "dtype", "runner", "rows", "context", "measured"):
        assert word in done.stdout


def test_show_without_torch_prints_targets_and_draws(tmp_path):
    done = simqueue("profiles", "show", "gpt2-h200-bf16-graph", "--out", "figures", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for text in (
        "580.",
        "piecewise_floor (chosen)",
        "all targets reached",
        "targets MISSED",
        "more rows can take less",
    ):
        assert text in done.stdout
    names = ("gpt2-h200-bf16-graph", "gpt2-h200-bf16-graph-serving")
    files = {p.name for p in (tmp_path / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    assert "wrote figures/gpt2-h200-bf16-graph.svg" in done.stdout
    svg = (tmp_path / "figures" / "gpt2-h200-bf16-graph.svg").read_text()
    for text in ("NVIDIA H200", "step time (ms)", "held out of the fit", "launch-bound at", "Residuals"):
        assert text in svg


def test_fit_without_torch_then_show(tmp_path):
    lines = [f"{r},{r},{r * c},{2e-3 + 1e-5 * r + 1e-8 * r * c}" for r in (1, 2, 8, 30) for c in (0, 9, 100)]
    (tmp_path / "mine.csv").write_text("\n".join(["rows,new_tokens,context,seconds", *lines]))
    done = simqueue("profiles", "fit", "mine.csv", "--name", "mine", "--out", "made", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert load_profile(tmp_path / "made" / "mine.json").runner == "samples"
    done = simqueue("profiles", "show", "made/mine.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine.png").read_bytes().startswith(b"\x89PNG")


def test_mistakes_are_one_line_and_2(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(invoke("profiles", "show", "gpt2-h200-bf16-grap"), "did you mean gpt2-h200-bf16-graph?")
    (tmp_path / "mine.csv").write_text("rows,new_tokens,context,seconds\n1,1,x,0.1\n")
    done = invoke("profiles", "fit", "mine.csv", "--name", "mine")
    refused(done, "mine.csv: line 2, column context: 'x' is not a whole number")
    refused(invoke("profiles", "fit", "none.csv", "--name", "mine"), "none.csv: cannot be read")
    (tmp_path / "file").write_text("")
    done = invoke("profiles", "show", "gpt2-h200-bf16-graph", "--out", "file")
    assert done.exit_code == 2
    assert "folder file cannot be made" in done.stderr


def test_calibrate_without_torch_names_the_extra(tmp_path):
    refused(simqueue(*_TINY, cwd=tmp_path), "calibrate needs torch: pip install 'simqueue[gpu]'")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_used_is_refused_before_the_model_is_loaded(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    (tmp_path / "file").write_text("")
    (tmp_path / "mine.csv").write_text("rows,new_tokens,context,seconds\n1,1,0,0.1\n")
    monkeypatch.chdir(tmp_path)
    for arguments in ((*_TINY, "--model", "/nowhere"), ("profiles", "fit", "none.csv", "--name", "mine")):
        done = invoke(*arguments, "--out", "file")
        assert (done.exit_code, done.stdout) == (2, "")
        [line] = done.stderr.splitlines()
        assert "error: file is no folder: give another one" in line


def test_an_interrupt_keeps_what_was_measured_and_running_again_goes_on(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from calibration import run

    errors = interrupted(tmp_path, *_TINY, "--max-rows", "32", "--max-context", "256", "--minutes", "3")
    assert "stopped; what was measured is in ., and the same command goes on from there" in errors
    assert errors.endswith("simqueue: interrupted\n")
    assert "cells are measured, too few for a profile" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "t.json").exists()
    kept = (tmp_path / "t.csv").read_bytes()
    assert kept.count(b"\n") > 2
    run.calibrate(run.Plan("tiny", "eager", "fp32", "cpu", tmp_path, "t", 0.15, max_rows=32, max_context=256))
    more = (tmp_path / "t.csv").read_bytes()
    assert more.startswith(kept)
    assert len(more) > len(kept)


def interrupted(cwd, *arguments):
    """Start a calibration, send SIGINT as soon as it says that cells are being measured; its stderr."""
    command = [sys.executable, "-c", _PLAIN, *arguments]
    with subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, text=True, env=_environment(cwd)) as running:
        lines = []
        for line in running.stderr:
            lines.append(line)
            if "round " in line:
                running.send_signal(signal.SIGINT)
                break
        lines += running.stderr
        assert running.wait(30) == 130
    return "".join(lines)
