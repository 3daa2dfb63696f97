"""The figure of docs/live.md is drawn from a recorded run."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def test_a_run_is_recorded_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    script = importlib.import_module("live_timeline")
    run = script.recorded(script.served())
    order = ("arrival", "sent", "received", "scheduled", "first", "last")
    assert (np.diff([run.marks[name] for name in order], axis=0) >= 0).all()
    assert [len(ends) for ends in run.tokens] == list(script.OUTPUTS[1:])
    # A token is on the host before it is at its client, and every step ends after its round has begun.
    assert all(ends[0] < first for ends, first in zip(run.tokens, run.marks["first"], strict=True))
    assert (run.begin < run.ends).all()
    assert (run.begin[1:] >= run.ends[:-1]).all()
    files = script.draw(run, tmp_path)
    assert [path.name for path in files] == ["live_timeline.svg", "live_timeline.png"]
    assert all(path.stat().st_size > 10_000 for path in files)
