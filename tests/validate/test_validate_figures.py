"""The figures of a validation: what is in them, and that they are files that can be drawn."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from rehearsals import cell, planned

from simqueue.errors import OutputError
from simqueue.plot.validation import plot_validation
from simqueue.validate.record import Cell

TWO = '"system.policy" = [{ kind = "none" }, { kind = "continuous", max_seqs = 8 }]'


@pytest.fixture(scope="module")
def cells() -> list[Cell]:
    return [cell(case) for case in planned(f"{TWO}\nload = [0.5, 0.95, 20.0]")]


def test_a_figure_for_the_errors_one_for_saturation_and_one_a_series(cells: list[Cell], tmp_path: Path) -> None:
    files = plot_validation(cells, tmp_path / "figures")
    names = ["errors", "saturation", "scene-none", "scene-continuous-max_seqs=8"]
    assert [path.name for path in files] == [f"{name}{kind}" for name in names for kind in (".svg", ".png")]
    assert all(path.stat().st_size > 5_000 for path in files)
    errors = (tmp_path / "figures" / "errors.svg").read_text()
    assert all(
        text in errors for text in ("response time, p50", "TTFT, p99", "noise floor", ">target<", "ringed: missed")
    )
    series = (tmp_path / "figures" / "scene-none.svg").read_text()
    assert all(text in series for text in ("load 0.5", "load 20", "distribution functions", "requests waiting"))


def test_names_that_differ_only_in_signs_have_figures_of_their_own(cells: list[Cell], tmp_path: Path) -> None:
    two = [msgspec.structs.replace(cells[0], series=series, label=series) for series in ("a(b)", "a[b]")]
    assert len({path.stem for path in plot_validation(two, tmp_path)}) == 1 + 2


def test_no_saturation_no_such_figure(cells: list[Cell], tmp_path: Path) -> None:
    steady = [found for found in cells if found.load == 0.5]
    names = {path.stem for path in plot_validation(steady, tmp_path)}
    assert names == {"errors", "scene-none", "scene-continuous-max_seqs=8"}


def test_a_closed_loop_has_no_load_to_draw_against(cells: list[Cell], tmp_path: Path) -> None:
    loop = msgspec.structs.replace(cells[0], load=None, rate_rps=None)
    assert {path.stem for path in plot_validation([loop], tmp_path)} == {"scene"}


def test_a_place_that_cannot_be_written_is_refused(cells: list[Cell], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot be made: .*; choose another --out"):
        plot_validation(cells, tmp_path / "file")
