"""Files of serving runs: appended run by run, read back, refused when they are of something else, bad lines named."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from test_paths import made

from calibration.records import COLUMNS, Records, append, beside, recorded
from calibration.samples import is_samples
from simqueue.errors import ConfigError, OutputError

HEADER = {"runner": "graph", "model": "m", "dtype": "float32", "max_rows": "4", "max_context": "64", "date": "today"}
FIRST = Records.joined([made("step", [0.25, 0.125], rows=[1, 2], longest=[7, 8]), made("idle", [0.5])])
SECOND = Records.joined([made("queued", [-0.25], run=[1]), made("answer", [1e-4], run=[1], stage=[3])])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "s-serving.csv"
    append(path, HEADER, FIRST)
    append(path, HEADER, SECOND)
    return path


def same(one: Records, other: Records) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in COLUMNS)


def test_what_was_appended_is_read(path: Path) -> None:
    found = recorded(path, HEADER)
    assert same(found, Records.joined([FIRST, SECOND]))
    assert found.run.tolist() == [0, 0, 0, 1, 1]
    assert found.of("step", "queued").seconds.tolist() == [0.25, 0.125, -0.25]
    assert not is_samples(path)
    packed = path.with_suffix(".csv.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert same(recorded(packed, HEADER), found)


@pytest.mark.parametrize("cut", [1, 7])
def test_a_last_line_that_was_cut_short_is_dropped(path: Path, cut: int) -> None:
    path.write_bytes(path.read_bytes()[:-cut])
    kept = Records.joined([FIRST, SECOND.of("queued")])
    assert same(recorded(path, HEADER), kept)
    append(path, HEADER, SECOND)
    assert same(recorded(path, HEADER), Records.joined([kept, SECOND]))


def test_a_file_whose_first_lines_were_cut_short_begins_anew(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])
    assert len(recorded(path, HEADER)) == 0
    append(path, HEADER, FIRST)
    assert same(recorded(path, HEADER), FIRST)


def test_where_they_are(tmp_path: Path) -> None:
    assert beside(tmp_path / "a.b.csv").name == "a.b-serving.csv"
    assert beside(tmp_path / "a.csv.gz") == tmp_path / "a-serving.csv.gz"
    assert len(recorded(tmp_path / "none.csv", HEADER)) == 0


def test_what_each_step_does() -> None:
    steps = made("step", [1.0] * 4, rows=[1, 1, 1, 0], prefill_rows=[0, 2, 2, 2], context=[0, 0, 5, 5])
    assert steps.sort.tolist() == ["decode", "prefill", "chunk", "start"]


def test_records_of_something_else_are_refused(path: Path) -> None:
    with pytest.raises(ConfigError, match="measured with model = 'm', now it is 'other'"):
        recorded(path, {**HEADER, "model": "other"})


@pytest.mark.parametrize(
    "line",
    [
        "0,0,step,1,1,0,0,0,0,-0.1",
        "0,0,step,1,1,0,0,0,0,nan",
        "0,0,leap,1,1,0,0,0,0,0.1",
        "0,0,step,1.5,1,0,0,0,0,0.1",
        "0,0,step,1",
    ],
)
def test_a_bad_line_is_named(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ConfigError, match=f"line 8 is no record of a serving run: {line[:10]}"):
        recorded(path, HEADER)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"nowhere/s\.csv: cannot be written"):
        append(tmp_path / "nowhere" / "s.csv", HEADER, FIRST)
