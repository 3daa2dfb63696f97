"""`experiments/live_speed.py` runs through on a CPU with the tiny model, every section of it, on fewer rows."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

SCRIPT = Path(__file__).parents[2] / "experiments" / "live_speed.py"
TRIAL = ("--model", "tiny", "--device", "cpu", "--dtype", "fp32", "--requests", "4", "--repeats", "2")


@pytest.fixture
def script(monkeypatch):
    spec = importlib.util.spec_from_file_location("live_speed", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROWS", (1, 16))
    monkeypatch.setattr(module, "AT_ONCE", 4)
    monkeypatch.setattr(module, "WINDOW", 512)
    monkeypatch.setattr("calibration.check._PROMPTS", 8)
    return module


def test_every_section_runs(script, tmp_path, monkeypatch, capsys):
    out = tmp_path / "speed.json"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *TRIAL, "--out", str(out)])
    script.main()
    text = out.read_text()
    assert '"failed"' not in text
    report = json.loads(text)
    sizes = [(step["rows"], step["slots"]) for step in report["steps"]]
    assert sizes == [(1, 512), (16, 512), (1, 128), (16, 128)]
    assert report["check"]["graph fp32"]["same"] > 0.999
    assert report["serving"]["live_over"]["live, clients in a process"] == 1
    assert "transformers, generate, static 64" in capsys.readouterr().out
