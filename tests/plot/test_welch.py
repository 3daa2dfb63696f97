"""The Welch plot: what it says of the cut, and that the same runs give the same file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simqueue import Affine, NoBatching, System, WorkloadSpec
from simqueue.analysis.replicated import Replicated
from simqueue.analysis.replications import replicate
from simqueue.errors import OutputError
from simqueue.plot.welch import plot_welch
from simqueue.workload import Fixed, Poisson

SYSTEM = System(policy=NoBatching(), cost=Affine(base_s=0.001))


def runs(replications: int, requests: int = 300, warmup: int | None = None) -> Replicated:
    one = Fixed(value=1)
    spec = WorkloadSpec(requests=requests, arrivals=Poisson(rate=900), prompt_tokens=one, output_tokens=one)
    return replicate(spec, SYSTEM, replications=replications, warmup=warmup)


def test_it_shows_the_cut_and_what_is_averaged(tmp_path: Path) -> None:
    found = runs(3)
    files = plot_welch(found, "mine", tmp_path / "new" / "w")
    assert [path.name for path in files] == ["w.svg", "w.png"]
    svg = files[0].read_text()
    cut = f"the first {found.warmup.requests} are left out"
    for text in ("Warm-up of mine", "mean of 3 replications, by arrival", "moving average of 13", cut, "time, ms"):
        assert text in svg
    assert plot_welch(found, "mine", tmp_path / "again")[0].read_bytes() == files[0].read_bytes()


def test_that_nothing_is_left_out(tmp_path: Path) -> None:
    svg = plot_welch(runs(2, warmup=0), "mine", tmp_path / "w")[0].read_text()
    assert "none is left out" in svg
    assert "the first" not in svg


def test_one_run_that_is_too_short_says_so(tmp_path: Path) -> None:
    svg = plot_welch(runs(1, 40), "mine", tmp_path / "w")[0].read_text()
    assert "one run, by arrival" in svg
    assert "too short to tell" in svg
    assert not np.isnan(runs(1, 40).averaged_s).any()


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "w").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        plot_welch(runs(1), "mine", tmp_path / "w" / "w")
