"""The figure of a serving run, and the run on the terminal."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from profiles import jitter, serving
from rich.console import Console

from simqueue.cli.serving import describe_serving
from simqueue.errors import OutputError
from simqueue.plot.serving import plot_serving
from simqueue.profile import Errors, Profile, load_profile

LAGS = (1, 2, 8)


def served(**changes: object) -> Profile:
    made = jitter(lags=LAGS, autocorrelation=(0.5, 0.3, 0.1), drift=(0.98, 1.02), **changes)
    run = serving(
        jitter=made,
        per_step_s=36.5e-6,
        standard_errors={"decode_factor": 0.01, "per_step_s": 6e-6},
        errors={"decode": Errors(median=0.012, p95=0.034, mean=-0.005)},
        steps=12_345,
    )
    return msgspec.structs.replace(load_profile("gpt2-h200-bf16-graph"), serving=run)


@pytest.mark.parametrize("quiet", [{}, {"stall_probability": 0.0, "stalls": (), "persistent": (), "memory": ()}])
def test_it_is_drawn(quiet: dict[str, object], tmp_path: Path) -> None:
    files = plot_serving(served(**quiet), tmp_path / "new")
    assert [path.name for path in files] == ["gpt2-h200-bf16-graph-serving.svg", "gpt2-h200-bf16-graph-serving.png"]
    svg = files[0].read_text()
    for text in ("NVIDIA H200", "12,345 steps", "served, 102 tokens", "as simulated", "tenth of the run"):
        assert text in svg


def test_without_a_serving_run_there_is_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="has no serving run to draw"):
        plot_serving(load_profile("gpt2-h200-bf16-eager"), tmp_path)


def test_it_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    run = served().serving
    assert run is not None
    describe_serving(Console(width=120), run)
    said = capsys.readouterr().out
    for text in ("12,345 steps", "36.5 us", "6 us", "1.20%", "-0.50%", "response path 0", "30% for about 1.44 steps"):
        assert text in said
    for text in ("0.50 at 1, 0.30 at 2, 0.10 at 8", "one step in 100, by 2 to 6 of its mean; +4.00%", "0.980 to 1.020"):
        assert text in said
