"""`experiments/live_speed.py` runs through on a CPU with the tiny model, every section of it."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

SCRIPT = Path(__file__).parents[2] / "experiments" / "live_speed.py"
TRIAL = ("--model", "tiny", "--device", "cpu", "--dtype", "fp32", "--requests", "64", "--repeats", "2")


def test_every_section_runs(tmp_path, monkeypatch, capsys):
    out = tmp_path / "speed.json"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *TRIAL, "--out", str(out)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    text = out.read_text()
    assert '"failed"' not in text
    report = json.loads(text)
    assert [(step["rows"], step["slots"]) for step in report["steps"]] == [
        (rows, slots) for slots in (1024, 256) for rows in (1, 16, 64, 128)
    ]
    assert report["check"]["graph fp32"]["same"] > 0.999
    assert report["serving"]["live_over"]["live, clients in a process"] == 1
    assert "transformers, generate, static 64" in capsys.readouterr().out
