"""Public formats of recorded workloads: their columns, their traps, and every way a file can be wrong."""

import gzip
import json
import os
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simqueue.errors import WorkloadError
from simqueue.workload import Trace, TraceWarning, Workload, WorkloadSpec, make_workload
from simqueue.workload.formats import detected

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"
BURSTGPT = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
BURSTGPT_3 = "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type"
ZERO = datetime(2023, 11, 16, 18, 17, 3)


def write(path, text):
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def load(path, seed=0, **options):
    """The workload of a trace; a warning that no test expects is an error."""
    return make_workload(WorkloadSpec(arrivals=Trace(str(path), **options)), seed)


def mooncake(rows):
    keys = ("timestamp", "input_length", "output_length", "hash_ids")
    return "".join(json.dumps(dict(zip(keys, row, strict=False))) + "\n" for row in rows)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "anything"])
def test_azure_2023_to_the_last_of_its_seven_digits(tmp_path, name):
    rows = [
        "2023-11-16 18:17:03.9799600,4808,10",
        "2023-11-16 18:17:04.0319600,3180,8",
        "2023-11-17 00:00:00.0000001,1,2",
    ]
    workload = load(write(tmp_path / name, "\r\n".join([AZURE, *rows]) + "\r\n"))
    assert workload == Workload.from_columns([0.0, 0.052, 20576.0200401], [4808, 3180, 1], [10, 8, 2])
    assert workload.meta["spec"] == {"arrivals": {"kind": "trace", "path": str(tmp_path / name)}}


def test_azure_2024_has_a_zone_and_not_always_digits(tmp_path):
    rows = ["2024-05-10 00:00:00.009930+00:00,2162,5", "2024-05-10 00:00:01+00:00,7,6", "2024-05-10 00:00:02Z,8,9"]
    workload = load(write(tmp_path / "t.csv", "\n".join([AZURE, *rows])))
    assert workload == Workload.from_columns([0.0, 0.99007, 1.99007], [2162, 7, 8], [5, 6, 9])


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (BURSTGPT, "{},ChatGPT,{},{},9,Conversation log"),
        (BURSTGPT_3, "{}.0,1722ac82-0a46,43,GPT-4,{},{},9,API log"),
    ],
    ids=["first", "newer"],
)
def test_burstgpt_without_its_failures(tmp_path, header, row):
    rows = [row.format(*values) for values in ((5, 472, 18), (45, 1087, 230), (60, 5, 0), (118, 417, 276))]
    path = write(tmp_path / "t.csv", "\n".join([header, *rows]))
    with pytest.warns(TraceWarning) as told:
        workload = load(path)
    assert [str(each.message) for each in told] == [
        f"{path}: 1 of 4 rows have 0 prompt or output tokens (failures) and are left out"
    ]
    assert workload == Workload.from_columns([0.0, 40.0, 113.0], [472, 1087, 417], [18, 230, 276])


def test_mooncake_keeps_its_blocks_as_text(tmp_path):
    rows = [(0, 6758, 500, [0, 1, 2]), (40, 7322, 490, [0, 14]), (277.5, 9, 3, [])]
    workload = load(write(tmp_path / "t.jsonl.gz", mooncake(rows) + "\n"))
    assert workload.meta["hash_block_tokens"] == 512
    expected = Workload.from_columns([0, 0.04, 0.2775], [6758, 7322, 9], [500, 490, 3], hash_ids=["0 1 2", "0 14", ""])
    assert workload == expected
    for suffix in ("parquet", "csv"):
        workload.save(tmp_path / f"w.{suffix}")
        assert Workload.load(tmp_path / f"w.{suffix}") == workload
    assert not load(write(tmp_path / "bare.jsonl", mooncake(row[:3] for row in rows))).extra


rows = st.lists(st.tuples(st.integers(0, 10**10), st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1)), min_size=1)


@settings(max_examples=40)
@given(rows.map(lambda drawn: sorted(drawn, key=lambda row: row[0])))
def test_every_format_of_the_same_requests_is_the_same_workload(tmp_path_factory, drawn):
    folder = tmp_path_factory.mktemp("same")
    dates = [f"{ZERO + timedelta(milliseconds=ms)},{prompt},{output}" for ms, prompt, output in drawn]
    seconds = [f"{ms / 1000!r},x,{prompt},{output},1,y" for ms, prompt, output in drawn]
    first = drawn[0][0]
    own = [f"{(ms - first) / 1000!r},{prompt},{output}" for ms, prompt, output in drawn]
    paths = [
        write(folder / "own.csv", "\n".join(["arrival_s,prompt_tokens,output_tokens", *own])),
        write(folder / "azure.csv", "\n".join([AZURE, *dates])),
        write(folder / "burstgpt.csv", "\n".join([BURSTGPT, *seconds])),
        write(folder / "mooncake.jsonl", mooncake(drawn)),
    ]
    assert [detected(path) for path in paths] == ["csv", "azure", "burstgpt", "mooncake"]
    loaded = [load(path) for path in paths]
    formats = ("csv", "azure", "burstgpt", "mooncake")
    assert [load(path, format=name) for path, name in zip(paths, formats, strict=True)] == loaded
    assert loaded[0] == loaded[1] == loaded[2] == loaded[3]


def test_rows_that_are_out_of_order_are_sorted_and_counted(tmp_path):
    stamped = [(9000, 1, 1), (1000, 2, 1), (5000, 3, 1), (1001, 4, 1), *((9000, 5 + i, 1) for i in range(400))]
    path = write(tmp_path / "t.jsonl", mooncake(stamped))
    with pytest.warns(
        TraceWarning, match=r"t.jsonl: 2 of 404 rows come before the row above; the rows are sorted by time$"
    ):
        workload = load(path)
    assert workload.arrival_s.tolist() == [0.0, 0.001, 4.0, *[8.0] * 401]
    assert workload.prompt_tokens.tolist() == [2, 4, 3, 1, *range(5, 405)]


ticks = st.lists(st.tuples(st.integers(1, 5), st.integers(2, 4)), max_size=9).map(lambda more: more + [(1, 2)] * 11)


@given(st.integers(2, 5000), ticks.flatmap(st.permutations), st.integers(0, 99))
def test_coarse_stamps_are_spread_inside_their_tick_in_the_order_of_the_file(tmp_path_factory, tick, steps, seed):
    stamps = np.repeat(np.cumsum([tick * gap for gap, _ in steps]), [count for _, count in steps])
    rows = [(int(stamp), i + 1, 1) for i, stamp in enumerate(stamps)]
    path = write(tmp_path_factory.mktemp("coarse") / "t.jsonl", mooncake(rows))
    with pytest.warns(TraceWarning, match=rf"closer than {tick / 1000:g} s; arrivals are spread uniformly"):
        workload = load(path, seed)
    since = (stamps - stamps[0]) / 1000
    assert (workload.arrival_s >= since).all()
    assert (workload.arrival_s <= since + tick / 1000).all()
    assert workload.prompt_tokens.tolist() == list(range(1, len(rows) + 1))
    with pytest.warns(TraceWarning):
        assert load(path, seed) == workload
    with pytest.warns(TraceWarning):
        assert load(path, seed + 1) != workload


def test_spread_arrivals_are_uniform_and_poisson_again(tmp_path):
    rng = np.random.default_rng(5)
    sent = np.cumsum(rng.exponential(300, 12_000))
    late = np.zeros(5000, int)
    late[600] = 2  # as in Mooncake's conversations, where the shortest tick is the only one of its length
    ticks = (sent // 3000).astype(int)
    path = write(tmp_path / "t.jsonl", mooncake((int(3000 * tick + late[tick]), 1, 1) for tick in ticks))
    with pytest.warns(TraceWarning, match=r"90\.\d % of rows share .* closer than 2.998 s"):
        gaps = np.diff(load(path).arrival_s)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, abs=0.03)
    assert gaps.mean() == pytest.approx(0.3, rel=0.03)


@pytest.mark.parametrize(
    "stamps",
    [
        [*range(0, 12_000, 1000), 11_000],
        sorted([*range(20)] * 3),
        sorted([*range(0, 10_000, 1000)] * 3),
        sorted([1000 * i + 100 * i * i for i in range(20)] * 3),
        [7, 7, 7, 7],
        [7],
    ],
    ids=["few shared", "milliseconds", "few ticks", "no tick", "one instant", "one row"],
)
def test_other_stamps_are_kept(tmp_path, stamps):
    workload = load(write(tmp_path / "t.jsonl", mooncake((stamp, 1, 1) for stamp in stamps)))
    np.testing.assert_array_equal(workload.arrival_s, (np.array(stamps) - stamps[0]) / 1000)


def test_first_rows_and_rows_longer_than_the_context(tmp_path):
    path = write(tmp_path / "t.jsonl", mooncake([(0, 2000, 5, [1, 2, 3, 4]), (10, 5, 5, [1]), (20, 7, 7, [1])]))
    spec = WorkloadSpec(arrivals=Trace("t.jsonl"), requests=2)
    workload = make_workload(spec, 0, tmp_path)
    assert workload == load(path).head(2)
    assert workload.fit_context(1024, "drop").extra["hash_ids"].tolist() == ["1"]
    assert workload.fit_context(1024, "clip").prompt_tokens.tolist() == [1019, 5]


def test_a_trace_begins_where_it_is_told_to_and_counts_from_there(tmp_path):
    path = write(tmp_path / "t.jsonl", mooncake([(0, 2, 5), (1000, 3, 5), (2500, 4, 5), (4000, 5, 5)]))
    later = Workload.from_columns([0.5, 2.0], [4, 5], [5, 5])
    assert load(path, begin_s=2.0) == later
    assert load(path, begin_s=2.0, speed=2.0) == later.at_rate(2 * later.rate)
    assert load(path, begin_s=2.5).arrival_s.tolist() == [0.0, 1.5]
    with pytest.raises(WorkloadError, match=r"t.jsonl: nothing comes after begin_s = 4.1; begin earlier"):
        load(path, begin_s=4.1)
    with pytest.raises(WorkloadError, match=r"trace arrivals: begin_s = -1 is not a number from 0"):
        Trace("t.csv", begin_s=-1)


GOOD = "2023-11-16 18:17:03.9799600,4808,10"
ROW = '{"timestamp": 0, "input_length": 1, "output_length": 1}'
BAD = {
    "azure date": (
        f"{AZURE}\n{GOOD}\n16/11/2023,2,3\n",
        r", line 3, column TIMESTAMP: '16/11/2023' is no time; give dates",
    ),
    "azure month": (f"{AZURE}\n2023-13-16 18:17:03,2,3\n", r", line 2, column TIMESTAMP: '2023-13-16 18:17:03' is no"),
    "azure blank": (f"{AZURE}\n,2,3\n", r", line 2, column TIMESTAMP: '' is no time"),
    "azure zones": (f"{AZURE}\n{GOOD}\n2023-11-16 18:17:04Z,2,3\n", r"18:17:04Z.*all of them with a zone or none"),
    "azure word": (f"{AZURE}\n{GOOD},\n", r", line 2: 4 values in a file of 3 columns"),
    "azure length": (
        f"{AZURE}\n{GOOD}\n{GOOD[:-2]}ten\n",
        r", line 3, column GeneratedTokens: 'ten' is no length; give",
    ),
    "azure minus": (f"{AZURE}\n2023-11-16 18:17:03,-1,3\n", r", line 2, column ContextTokens: '-1' is no length"),
    "azure fraction": (f"{AZURE}\n2023-11-16 18:17:03,1.5,3\n", r", line 2, column ContextTokens: '1.5' is no length"),
    "azure enormous": (f"{AZURE}\n2023-11-16 18:17:03,{2**31},3\n", r", line 2, column ContextTokens: '2147483648' is"),
    "azure no rows": (f"{AZURE}\n", r"no rows below the header"),
    "azure twice": (f"{AZURE},TIMESTAMP\n{GOOD},1\n", r", line 1: 2 columns TIMESTAMP among .*has TIMESTAMP, Context"),
    "azure failures": (f"{AZURE}\n{GOOD[:-2]}0\n", r": no row has both prompt and output tokens"),
    "burstgpt time": (
        f"{BURSTGPT}\n5,x,1,1,2,y\nnan,x,1,1,2,y\n",
        r", line 3, column Timestamp: 'nan' is no time; give",
    ),
    "burstgpt minus": (f"{BURSTGPT}\n-5,x,1,1,2,y\n", r", line 2, column Timestamp: '-5' is no time"),
    "burstgpt word": (f"{BURSTGPT}\nnow,x,1,1,2,y\n", r", line 2, column Timestamp: 'now' is no time"),
    "burstgpt endless": (f"{BURSTGPT}\n1e15,x,1,1,2,y\n", r", line 2, column Timestamp: '1e15' is no time"),
    "burstgpt length": (f"{BURSTGPT}\n5,x,,1,2,y\n", r", line 2, column Request tokens: '' is no length"),
    "burstgpt typo": (
        "Timestamp,Model,Request tokens,Response token\n5,x,1,1\n",
        r", line 1: no column arrival_s among",
    ),
    "mooncake type": (
        f"{ROW}\n\n{ROW[:-2]}'}}\n",
        r", line 3: .* is no row: JSON is malformed.*one \{\"timestamp\": mill",
    ),
    "mooncake word": (f"{ROW}\n{ROW.replace('0', 'true')}\n", r", line 2: .* got `bool` - at `\$.timestamp`"),
    "mooncake minus": (f"{ROW.replace('0', '-1')}\n", r", line 1: .* Expected `float` >= 0.* - at `\$.timestamp`"),
    "mooncake missing": (
        '{"timestamp": 0, "input_length": 1}\n',
        r", line 1: .* missing required field `output_length`",
    ),
    "mooncake blocks": (
        f'{ROW[:-1]}, "hash_ids": "0"}}\n',
        r", line 1: .* Expected `array`, got `str` - at `\$.hash_ids`",
    ),
}


@pytest.mark.parametrize("name", ["t.trace", "t.trace.gz"])
@pytest.mark.parametrize(("body", "message"), BAD.values(), ids=BAD)
def test_bad_traces_are_refused_by_file_line_column_and_value(tmp_path, name, body, message):
    path = write(tmp_path / name, body)
    with pytest.raises(WorkloadError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["csv", "azure", "burstgpt", "mooncake", "auto"])
def test_files_that_are_not_of_the_format_are_refused(tmp_path, name):
    for file, body in {"none": None, "empty": b"", "latin": b"\xff\xfe,\n", "t.gz": b"no gzip"}.items():
        if body is not None:
            (tmp_path / file).write_bytes(body)
        with pytest.raises(WorkloadError, match=rf"{file}(, line 1)?: (no such file|.*(empty|none|UTF-8|gzipped))"):
            load(tmp_path / file, format=name)


def test_a_format_that_is_named_is_insisted_on(tmp_path):
    path = write(tmp_path / "t.csv", f"{AZURE}\n{GOOD}\n")
    with pytest.raises(
        WorkloadError, match=r"line 1: 0 columns Timestamp among 'TIMESTAMP'.*'burstgpt' has Timestamp, Req"
    ):
        load(path, format="burstgpt")
    with pytest.raises(WorkloadError, match=r"line 1: 'TIMESTAMP,ContextTokens,GeneratedTokens' is no row"):
        load(path, format="mooncake")
    with pytest.raises(
        WorkloadError, match=r"format = 'azur' is unknown; there are auto, csv, azure, burstgpt, mooncake, servegen"
    ):
        Trace("t.csv", format="azur")


PUBLIC = Path(os.environ.get("SIMQUEUE_TRACES", "no folder"))
public = pytest.mark.skipif(not PUBLIC.is_dir(), reason="SIMQUEUE_TRACES names no folder with the public traces")


@public
@pytest.mark.parametrize(
    ("name", "count", "rate", "prompt", "output", "share"),
    [("code", 8819, 2.566, 2048, 27.9, 0.370), ("conv", 19366, 5.530, 1155, 211, 0.420)],
)
def test_azure_itself(name, count, rate, prompt, output, share):
    workload = load(PUBLIC / f"AzureLLMInferenceTrace_{name}.csv.gz", overlong="clip")
    assert len(workload) == count
    assert workload.rate == pytest.approx(rate, rel=1e-3)
    assert workload.prompt_tokens.mean() == pytest.approx(prompt, rel=1e-3)
    assert workload.output_tokens.mean() == pytest.approx(output, rel=2e-3)
    fits = workload.fit_context(1024, "drop")
    assert len(fits) / count == pytest.approx(share, abs=1e-3)
    clipped = workload.fit_context(1024, "clip")
    assert clipped.meta["clipped"] == count - len(fits)
    assert (clipped.prompt_tokens + clipped.output_tokens).max() == 1024
    stretched = clipped.at_rate(1.0)
    assert stretched.rate == pytest.approx(1.0)
    np.testing.assert_allclose(stretched.arrival_s, clipped.arrival_s * clipped.rate)


@public
def test_mooncake_itself():
    with pytest.warns(TraceWarning, match=r"90.2 % of rows share .* closer than 2.997 s"):
        workload = load(PUBLIC / "mooncake_conversation_trace.jsonl.gz")
    assert len(workload) == 12031
    assert workload.rate == pytest.approx(3.401, rel=2e-3)
    assert (workload.prompt_tokens.max(), workload.output_tokens.max()) == (126195, 2000)
    assert len(load(PUBLIC / "mooncake_synthetic_trace.jsonl.gz")) == 3993
