"""Recorded runs of real servers, replayed by the rules that they follow; and the figure."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
NAMES = sorted(path.parent.name for path in (EXPERIMENTS / "batchers" / "runs").glob("*/config.json"))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    module = importlib.import_module("real_batchers")
    monkeypatch.setattr(module, "SEEDS", 4)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_recorded_responses_are_foretold(script: ModuleType, name: str) -> None:
    """The mean within 2.5 %, p95 and p99 within 5 %; BentoML within 8 %."""
    [run] = [run for run in script.runs() if run.name == name]
    found = script.replay(run)
    limits = [0.08] * 3 if run.config["server"] == "bentoml" else [0.025, 0.05, 0.05]
    assert np.all(np.abs(found.errors(found.rule)) <= limits)
    # What one reads of these servers is not what they do, where there is a delay and a load to speak of.
    if run.config["delay_ms"] == 30:
        assert found.errors(found.documented)[0] < -0.07


def test_the_figure_and_what_cannot_be_read(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(NAMES) == 11
    replays = [script.replay(run) for run in script.runs()[:2]]
    files = script.draw(replays, tmp_path)
    assert [path.name for path in files] == ["real_batchers.svg", "real_batchers.png"]
    assert all(path.stat().st_size > 10_000 for path in files)
    (tmp_path / "empty").mkdir()
    strange = tmp_path / "strange" / "run"
    strange.mkdir(parents=True)
    (tmp_path / "strange" / "overheads.json").write_text("{}")
    settings = '"max_batch": 1, "delay_ms": 0, "tau0_ms": 40, "alpha_ms": 5'
    (strange / "config.json").write_text(f'{{"server": "tornado", {settings}}}')
    refusals = {
        "nowhere": "overheads.json",
        "empty": "overheads.json",
        "strange": "server = 'tornado' is none of triton",
    }
    for folder, words in refusals.items():
        with pytest.raises(SystemExit) as refused:
            script.main(["--runs", str(tmp_path / folder), "--out", str(tmp_path / "out")])
        assert refused.value.code == 2
        assert words in capsys.readouterr().err
