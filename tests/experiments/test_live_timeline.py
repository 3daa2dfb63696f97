"""The figure of docs/live.md is drawn from a recorded run."""

from __future__ import annotations

import importlib
import os
import signal
import threading
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


def test_a_folder_that_cannot_be_used_is_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    script = importlib.import_module("live_timeline")
    monkeypatch.setattr(script, "record", lambda: pytest.fail("it has run"))
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as refused:
        script.main(["--out", str(tmp_path / "file")])
    assert refused.value.code == 2
    assert capsys.readouterr().err == f"live_timeline: {tmp_path}/file is no folder: give another one\n"


def test_ctrl_c_ends_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    script = importlib.import_module("live_timeline")
    # More recordings than anybody waits for.
    monkeypatch.setattr(script, "RECORDINGS", 10_000)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(SystemExit) as ended:
        script.main(["--out", str(tmp_path)])
    timer.join()
    assert ended.value.code == 130
    assert capsys.readouterr().err.endswith("live_timeline: interrupted\n")
    assert list(tmp_path.iterdir()) == []
