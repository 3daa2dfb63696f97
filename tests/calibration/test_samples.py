"""Files of raw samples: appended, continued, refused when they are of something else, bad lines named."""

from __future__ import annotations

import gzip

import pytest

from calibration.cells import Cell
from calibration.samples import COLUMNS, Recorder, is_samples, read
from simqueue.errors import ConfigError, OutputError

HEADER = {"runner": "eager", "model": "m", "dtype": "float32", "max_rows": "4", "max_context": "64", "date": "today"}
DECODE = Cell("decode", decode_rows=2, longest=7)
HELD = Cell("prefill", 3, 16, held_out=True)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "new" / "s.csv"
    recorder = Recorder(path, HEADER)
    recorder.add(DECODE, 1, "wall", [0.001, 0.002])
    recorder.add(DECODE, 1, "device", [0.0005])
    recorder.add(HELD, 2, "wall", [0.25])
    recorder.close()
    return path


def test_what_was_added_is_read(path):
    header, samples = read(path)
    assert header == HEADER
    assert is_samples(path)
    assert list(samples) == [DECODE, HELD]
    assert samples[DECODE].wall == [0.001, 0.002]
    assert samples[DECODE].rounds == [1, 1]
    assert samples[DECODE].device == [0.0005]
    assert samples[HELD].wall == [0.25]


def test_every_visit_is_on_disk_at_once(tmp_path):
    recorder = Recorder(tmp_path / "s.csv", HEADER)
    recorder.add(DECODE, 1, "wall", [0.001])
    assert read(tmp_path / "s.csv")[1][DECODE].wall == [0.001]
    recorder.close()


@pytest.mark.parametrize("cut", [1, 7, 20])
def test_a_last_line_that_was_cut_short_is_dropped(path, cut):
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    _, samples = read(path)
    assert HELD not in samples
    assert samples[DECODE].wall == [0.001, 0.002]
    recorder = Recorder(path, HEADER)
    assert list(recorder.samples) == [DECODE]
    recorder.add(HELD, 2, "wall", [0.25])
    recorder.close()
    assert path.read_bytes() == whole


@pytest.mark.parametrize("kept", [40, 150])
def test_a_file_whose_first_lines_were_cut_short_begins_anew(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    recorder = Recorder(path, HEADER)
    recorder.add(DECODE, 1, "wall", [0.001])
    recorder.close()
    header, samples = read(path)
    assert header == HEADER
    assert list(samples) == [DECODE]


def test_somebody_elses_file_without_a_last_newline_stays_as_it_is(tmp_path):
    (tmp_path / "s.csv").write_text("a,b\n1,2")
    with pytest.raises(ConfigError, match="line 1 does not start with"):
        Recorder(tmp_path / "s.csv", HEADER)
    assert (tmp_path / "s.csv").read_text() == "a,b\n1,2"


def test_opened_again_it_goes_on(path):
    before = path.read_bytes()
    recorder = Recorder(path, {**HEADER, "date": "tomorrow"})
    assert recorder.next_round == 3
    assert recorder.samples[HELD].wall == [0.25]
    recorder.add(HELD, recorder.next_round, "wall", [0.5])
    recorder.close()
    assert path.read_bytes().startswith(before)
    header, samples = read(path)
    assert header["date"] == "today"
    assert samples[HELD].wall == [0.25, 0.5]
    assert list(samples[HELD].visits()) == [0.25, 0.5]


@pytest.mark.parametrize("key", ["runner", "model", "dtype", "max_rows", "max_context"])
def test_samples_of_something_else_are_refused_and_kept(path, key):
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=f"measured with {key} = '{HEADER[key]}', now it is 'other'.*another --out"):
        Recorder(path, {**HEADER, key: "other"})
    assert path.read_bytes() == before


def test_a_file_that_is_no_samples_is_refused_and_kept(tmp_path):
    path = tmp_path / "thesis.txt"
    path.write_text("once upon a time\n")
    with pytest.raises(ConfigError, match=r"thesis\.txt: line 1 does not start with"):
        Recorder(path, HEADER)
    assert path.read_text() == "once upon a time\n"


def test_gzip_is_read_and_a_truncated_one_refused(path, tmp_path):
    packed = tmp_path / "s.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read(packed) == read(path)
    packed.write_bytes(gzip.compress(path.read_bytes())[:-9])
    with pytest.raises(ConfigError, match=r"s\.csv\.gz: cannot be read"):
        read(packed)


@pytest.mark.parametrize(
    "line",
    [
        "decode,0,0,0,2,7,0,1,wall,nan",
        "decode,0,0,0,2,7,0,1,wall,-0.1",
        "decode,0,0,0,2,7,0,1,wall,0",
        "decode,0,0,0,2,7,0,1,sundial,0.1",
        "decoding,0,0,0,2,7,0,1,wall,0.1",
        "decode,0,0,0,2.5,7,0,1,wall,0.1",
        "decode,0,0,0,2",
    ],
)
def test_a_bad_line_is_named(path, line):
    number = len(path.read_text().splitlines()) + 1
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ConfigError, match=f"line {number} is not a sample: {line[:12]}"):
        read(path)


def test_a_bad_header_is_named(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text('# simqueue samples 1 {"runner": \n' + ",".join(COLUMNS) + "\n")
    with pytest.raises(ConfigError, match="line 1 cannot be read"):
        read(path)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((OutputError, ConfigError), match="cannot be"):
        Recorder(tmp_path / "file" / "s.csv", HEADER)
