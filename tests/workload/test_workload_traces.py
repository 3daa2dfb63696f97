"""Traces and files: exact round trips, the public traces, and every way a file can be wrong."""

import gzip
import json
import math

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from simqueue.errors import OutputError, WorkloadError
from simqueue.workload import Trace, Workload, WorkloadSpec, make_workload

HEADER = "arrival_s,prompt_tokens,output_tokens"

times = st.floats(0, 1e12, allow_nan=False)
tokens = st.integers(1, 2**31 - 1)
text = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\r\t"), max_size=8)


@st.composite
def workloads(draw):
    rows = draw(st.integers(1, 12))

    def column(values):
        return draw(st.lists(values, min_size=rows, max_size=rows))

    return Workload.from_columns(
        sorted(column(times)),
        column(tokens),
        column(tokens),
        max_output_tokens=column(tokens),
        score=column(st.floats()),
        user=column(st.integers(-(2**63), 2**63 - 1)),
        urgent=column(st.booleans()),
        note=["say " + value for value in column(text)],
    )


@settings(deadline=None, max_examples=60)
@given(workloads(), st.sampled_from([".parquet", ".csv", ".csv.gz"]))
def test_files_hold_every_value_exactly(tmp_path_factory, workload, suffix):
    path = tmp_path_factory.mktemp("round") / f"workload{suffix}"
    workload.save(path)
    loaded = Workload.load(path)
    assert loaded == workload
    assert loaded.arrival_s.dtype == np.float64
    assert loaded.prompt_tokens.dtype == np.int64
    assert list(loaded.extra) == list(workload.extra)
    if suffix == ".parquet":
        assert loaded.meta == workload.meta
        assert {n: c.dtype for n, c in loaded.extra.items()} == {n: c.dtype for n, c in workload.extra.items()}
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_gzip_trace_keeps_its_further_columns(tmp_path):
    body = (
        "user,arrival_s,prompt_tokens,output_tokens,max_output_tokens,temperature,stream,name\n"
        "7,0.5,10,3,16,0.5,true,ann\n"
        '8,0.5,20,1,32,1e-3,false,"b, c"\n'
        "\n"
        "9,2.25,30,2,8,nan,true,007\n"
    )
    (tmp_path / "trace.csv.gz").write_bytes(gzip.compress(body.encode()))
    workload = make_workload(WorkloadSpec(arrivals=Trace("trace.csv.gz")), 0, tmp_path)
    assert workload.arrival_s.tolist() == [0.5, 0.5, 2.25]
    assert workload.prompt_tokens.tolist() == [10, 20, 30]
    assert workload.output_tokens.tolist() == [3, 1, 2]
    assert workload.extra["max_output_tokens"].tolist() == [16, 32, 8]
    assert workload.extra["user"].tolist() == [7, 8, 9]
    assert workload.extra["temperature"].tolist()[:2] == [0.5, 1e-3]
    assert math.isnan(workload.extra["temperature"][2])
    assert workload.extra["stream"].tolist() == [True, False, True]
    assert workload.extra["name"].tolist() == ["ann", "b, c", "007"]
    assert workload.rate == 2 / 1.75
    assert workload.meta["spec"] == {"arrivals": {"kind": "trace", "path": "trace.csv.gz"}}
    first = make_workload(WorkloadSpec(arrivals=Trace("trace.csv.gz"), requests=2), 0, tmp_path)
    assert first == workload.head(2)
    with pytest.raises(WorkloadError, match=r"requests = 4, but .*trace.csv.gz has 3 rows; ask for at most 3"):
        make_workload(WorkloadSpec(arrivals=Trace("trace.csv.gz"), requests=4), 0, tmp_path)


def test_windows_line_ends_and_byte_order_mark(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_bytes(f"\ufeff{HEADER}\r\n1,2,3\r\n2.5,4,5\r\n".encode())
    assert Workload.load(path) == Workload.from_columns([1.0, 2.5], [2, 4], [3, 5])


BAD_TRACES = {
    "empty": ("", r"the file is empty; its first line must be arrival_s,prompt_tokens,output_tokens"),
    "blank": ("\n\n", r"the file is empty"),
    "no rows": (f"{HEADER}\n", r"no rows below the header; a trace needs at least one request"),
    "no column": ("arrival_s,prompt_tokens\n1,2\n", r"line 1: no column output_tokens among 'arrival_s', 'prompt"),
    "twice": (f"{HEADER},x,x\n1,2,3,4,5\n", r"line 1: column 5 is called 'x'; give each a name of its own"),
    "unnamed": (f",{HEADER}\n0,1,2,3\n", r"line 1: column 1 is called ''"),
    "short row": (f"{HEADER}\n1,2,3\n2,3\n", r"line 3: 2 values in a file of 3 columns"),
    "long row": (f"{HEADER}\n1,2,3\n2,3,4,5\n", r"line 3: 4 values in a file of 3 columns"),
    "unsorted": (f"{HEADER}\n1,2,3\n0.5,3,4\n", r"line 3, column arrival_s: '0.5' is out of order: .*sort"),
    "negative": (f"{HEADER}\n-1,2,3\n", r"line 2, column arrival_s: '-1' is no time; arrivals are finite"),
    "nan": (f"{HEADER}\nnan,2,3\n", r"line 2, column arrival_s: 'nan' is no time"),
    "infinite": (f"{HEADER}\n1,2,3\ninf,2,3\n", r"line 3, column arrival_s: 'inf' is no time"),
    "huge": (f"{HEADER}\n1e999,2,3\n", r"line 2, column arrival_s: '1e999' is no time"),
    "stamp": (f"{HEADER}\n2023-11-16,2,3\n", r"line 2, column arrival_s: '2023-11-16' is no time"),
    "blank time": (f"{HEADER}\n,2,3\n", r"line 2, column arrival_s: '' is no time"),
    "fraction": (f"{HEADER}\n1,2.5,3\n", r"line 2, column prompt_tokens: '2.5' is no length; give a whole"),
    "zero": (f"{HEADER}\n1,2,3\n2,2,0\n", r"line 3, column output_tokens: '0' is no length"),
    "minus": (f"{HEADER}\n1,-2,3\n", r"line 2, column prompt_tokens: '-2' is no length"),
    "word": (f"{HEADER}\n1,two,3\n", r"line 2, column prompt_tokens: 'two' is no length"),
    "missing": (f"{HEADER}\n1,,3\n", r"line 2, column prompt_tokens: '' is no length"),
    "enormous": (f"{HEADER}\n1,{10**30},3\n", r"line 2, column prompt_tokens: '1000000000000000"),
    "limit": (f"{HEADER},max_output_tokens\n1,2,3,0\n", r"line 2, column max_output_tokens: '0' is no length"),
    "in quotes": (f'{HEADER},x\n1,2,3,"a\nb"\n2,x,3,c\n', r"line 4, column prompt_tokens: 'x' is no length"),
}


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
@pytest.mark.parametrize(("body", "message"), BAD_TRACES.values(), ids=BAD_TRACES)
def test_bad_traces_are_refused_by_file_line_column_and_value(tmp_path, suffix, body, message):
    path = tmp_path / f"trace.{suffix}"
    path.write_bytes(gzip.compress(body.encode()) if suffix == "csv.gz" else body.encode())
    with pytest.raises(WorkloadError, match=message) as caught:
        make_workload(WorkloadSpec(arrivals=Trace(path.name)), 0, tmp_path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("t.csv", f"{HEADER},x\n1,2,3,\xff\n".encode("latin-1"), r"not UTF-8 text; save"),
        ("t.csv.gz", HEADER.encode(), r"cannot be read as a trace: Not a gzipped file"),
        ("t.csv.gz", gzip.compress(f"{HEADER}\n1,2,3\n".encode(), mtime=0)[:-9], r"cannot be read as a trace"),
        ("t.parquet", b"PAR1 and no more", r"cannot be read as a workload"),
        ("t.txt", b"", r"a workload's file ends in .parquet, .csv or .csv.gz; rename it"),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, body, message):
    (tmp_path / name).write_bytes(body)
    with pytest.raises(WorkloadError, match=message) as caught:
        Workload.load(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["none.csv", "none.parquet"])
def test_missing_files_are_refused(tmp_path, name):
    with pytest.raises(WorkloadError, match=rf"{name}: no such file"):
        Workload.load(tmp_path / name)


def test_foreign_parquet_needs_the_columns_and_whole_values(tmp_path):
    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table({"arrival_s": [1.0], "prompt_tokens": [1]}), path)
    with pytest.raises(WorkloadError, match="no column output_tokens"):
        Workload.load(path)
    rows = {"arrival_s": [1.0, 2.0], "prompt_tokens": [1, 2], "output_tokens": [1, None]}
    parquet.write_table(pyarrow.table(rows), path)
    with pytest.raises(WorkloadError, match=r"t.parquet: output_tokens of request 1 .* is nan; give a whole"):
        Workload.load(path)
    rows["output_tokens"] = [1, 5]
    parquet.write_table(pyarrow.table(rows), path)
    assert Workload.load(path) == Workload.from_columns([1, 2], [1, 2], [1, 5])
    parquet.write_table(pyarrow.table(rows).replace_schema_metadata({"simqueue.workload": "{"}), path)
    with pytest.raises(WorkloadError, match="cannot be read as a workload"):
        Workload.load(path)


def test_parquet_carries_its_making_as_json(tmp_path):
    workload = Workload.from_columns([1.0, 2.0], [1, 2], [3, 4])
    workload.save(tmp_path / "w.parquet")
    stored = parquet.read_schema(tmp_path / "w.parquet").metadata[b"simqueue.workload"]
    assert json.loads(stored) == dict(workload.meta)


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path):
    workload = Workload.from_columns([1.0], [1], [1])
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "none" / "w.parquet", tmp_path / "file" / "w.csv"):
        with pytest.raises(OutputError, match=r"cannot be written: .*; choose another place"):
            workload.save(place)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        workload.save(tmp_path / "folder.csv")
    with pytest.raises(WorkloadError, match="rename it"):
        workload.save(tmp_path / "w.json")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.csv"]
