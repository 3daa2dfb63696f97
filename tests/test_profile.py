"""Profiles: written and read back unchanged, refused whole if a number cannot be used, and never executed."""

from __future__ import annotations

import json
import math

import msgspec
import pytest
from profiles import jitter, serving

from simqueue.errors import OutputError, ProfileError
from simqueue.profile import decode_profile, load_profile, save_profile, shipped

NAME = "gpt2-h200-bf16-graph"


@pytest.fixture(scope="module")
def served():
    """A shipped profile with another serving run."""
    return msgspec.structs.replace(load_profile(NAME), serving=serving(per_step_s=1e-5, jitter=jitter()))


@pytest.fixture(scope="module")
def text(served):
    """It as plain JSON values, to be damaged."""
    return msgspec.json.encode(served)


def setting(*path, value):
    def change(values):
        for key in path[:-1]:
            values = values[key]
        values[path[-1]] = value

    return change


@pytest.mark.parametrize("name", shipped())
def test_shipped_profiles_load_and_say_where_they_come_from(name):
    profile = load_profile(name)
    assert profile.name == name
    assert profile.provenance.samples == f"{name}.csv.gz"
    assert profile.provenance.command.startswith("simqueue calibrate")
    assert {"table", profile.curves.decode.form} < set(profile.curves.decode.errors)
    assert all(0 < p.seconds < 10 for p in profile.points)
    assert any(p.held_out for p in profile.points)


@pytest.mark.parametrize("name", shipped())
def test_a_profile_comes_back_as_it_was_saved(name, tmp_path):
    profile = load_profile(name)
    path = tmp_path / "new" / "mine.json"
    save_profile(profile, path)
    assert load_profile(path) == profile
    assert [p.name for p in path.parent.iterdir()] == ["mine.json"]
    first = path.read_bytes()
    save_profile(load_profile(str(path)), path)
    assert path.read_bytes() == first


def test_a_serving_run_comes_back_and_a_file_without_one_has_none(served, tmp_path):
    save_profile(served, tmp_path / "served.json")
    assert load_profile(tmp_path / "served.json") == served
    values = json.loads((tmp_path / "served.json").read_text())
    del values["serving"]
    without = msgspec.structs.replace(load_profile(NAME), serving=None)
    assert decode_profile(json.dumps(values).encode(), "old.json") == without


def test_an_unsound_profile_is_not_saved(tmp_path):
    with pytest.raises(ProfileError, match="name is empty"):
        save_profile(msgspec.structs.replace(load_profile(NAME), name=""), tmp_path / "p.json")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/p\.json: cannot be written"):
        save_profile(load_profile(NAME), tmp_path / "file" / "p.json")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(text, share, tmp_path):
    path = tmp_path / "cut.json"
    path.write_bytes(text[: int(share * len(text))])
    with pytest.raises(ProfileError, match=r"cut\.json: is not whole JSON .*copy it again"):
        load_profile(path)


@pytest.mark.parametrize("content", [b"[]", b"{}", b'"schema"', b'{"schema": "1"}'])
def test_other_json_is_refused(content):
    with pytest.raises(ProfileError, match="is no simqueue profile"):
        decode_profile(content, "other.json")


@pytest.mark.parametrize("version", [0, 2, 99])
def test_another_version_is_refused_before_anything_else(version):
    with pytest.raises(ProfileError, match=f"schema {version}, but this simqueue reads schema 1: calibrate again"):
        decode_profile(json.dumps({"schema": version, "whatever": 1}).encode(), "old.json")


def test_a_name_that_is_not_shipped_is_refused_with_a_suggestion():
    with pytest.raises(ProfileError, match=f"no shipped profile is named 'gpt2-h200-bf16-grahp': did you mean {NAME}?"):
        load_profile("gpt2-h200-bf16-grahp")
    with pytest.raises(ProfileError, match=f"there are .*{NAME}.*; or give a path"):
        load_profile("zzz")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ProfileError, match=r"none\.json: cannot be read \(No such file"):
        load_profile(tmp_path / "none.json")


DAMAGE = [
    (setting("surprise", value=1), "unknown field `surprise`"),
    (setting("decode", "surprise", value=1), r"unknown field `surprise`.*\$\.decode"),
    (setting("provenance", "gpu", value=7), r"Expected `str`, got `int` - at `\$\.provenance\.gpu`"),
    (lambda values: values.pop("noise"), "missing required field `noise`"),
    (setting("runner", value="magic"), r"Invalid enum value 'magic' - at `\$\.runner`"),
    (setting("name", value=""), "name is empty"),
    (setting("model", "max_context", value=0), "max_context = 0 must be at least 1"),
    (setting("host_s", value=-1e-6), "host_s not negative"),
    (setting("decode", value=None), 'runner "graph" needs decode'),
    (setting("curves", "prefill", value=None), 'runner "graph" needs decode'),
    (setting("runner", value="samples"), 'curves.totals is missing, and runner "samples"'),
    (setting("decode", "rows", 3, value=4), r"decode\.rows does not increase"),
    (setting("decode", "rows", 0, value=2), r"decode\.rows must start at 1"),
    (setting("decode", "longest", 0, value=0), r"decode\.longest must start at 1 or above"),
    (setting("decode", "longest", 3, value=4096), r"decode\.longest ends at 4096, beyond 2048"),
    (setting("decode", "longest", value=[]), r"decode\.longest must start"),
    (setting("prefill", "width", 2, value=16), r"prefill\.width does not increase"),
    (setting("prefill", "context", value=[0, 5, 9]), r"prefill\.context must be \[0\] or \[0, n\]"),
    (setting("decode", "seconds", 0, 1, value=-0.001), r"decode\.seconds\[0, 1\] = -0.001 is not a usable number"),
    (setting("decode", "seconds", 0, 1, value=0.0), r"decode\.seconds\[0, 1\] = 0.0 is not a usable number"),
    (setting("decode", "seconds", 0, 1, value=math.nan), "is not whole JSON|NaN|malformed|usable"),
    (setting("decode", "seconds", 0, 1, value=None), r"Expected `float`, got `null`"),
    (lambda values: values["decode"]["seconds"][0].pop(), r"decode\.seconds has shape"),
    (lambda values: values["decode"]["seconds"].pop(), r"decode\.seconds has shape \(18, 4\), its axes say \(19, 4\)"),
    (setting("decode", "cv", 0, 0, value=-0.1), r"decode\.cv\[0, 0\] = -0.1"),
    (setting("prefill", "seconds", 0, 1, 0, value=None), r"prefill\.seconds\[0, 1, 0\] is missing"),
    (setting("prefill", "seconds", 2, 1, 0, value=None), r"prefill\.seconds\[3, 1, 0\] follows a gap"),
    (setting("noise", "probabilities", 0, value=0.0), r"noise\.probabilities must increase within 0 and 1"),
    (setting("noise", "decode", 0, value=99.0), r"noise\.decode must be finite, not decreasing"),
    (setting("curves", "decode", "base_s", value=[1.0]), r"curves\.decode: base_s.*as long as knots"),
    (setting("curves", "decode", "knots", 1, value=1), r"curves\.decode\.knots does not increase"),
    (setting("serving", "per_row_s", value=None), r"Expected `float`, got `null` - at `\$\.serving\.per_row_s`"),
    (setting("serving", "prefill_factor", value=0.0), r"serving\.prefill_factor = 0.0 must be positive and finite"),
    (setting("serving", "paths", "handover_s", value=-1e-9), r"serving: paths\.handover_s = -1e-09 must be a finite"),
    (setting("serving", "jitter", "decode", value=[0.5, 1.0]), r"serving\.jitter\.decode must be .* with mean 1"),
    (setting("serving", "jitter", "prefill", value=[1.5, 0.5]), r"serving\.jitter\.prefill must be .* not decreasing"),
    (setting("serving", "jitter", "prefill", value=[]), r"serving\.jitter\.prefill must be"),
    (setting("serving", "jitter", "memory", 0, value=1.0), r"serving\.jitter\.memory must be .* below 1"),
    (setting("serving", "jitter", "memory", value=[0.5]), r"serving\.jitter\.memory must be .* as long as"),
    (
        setting("serving", "jitter", "persistent", 0, value=0.7),
        r"persistent = \[0.7, 0.4\] must be .* 1 at most",
    ),
    (setting("serving", "jitter", "stall_probability", value=0.0), r"serving\.jitter\.stalls must be .* can stall"),
    (setting("serving", "jitter", "stalls", value=[3.0, 2.0]), r"serving\.jitter\.stalls must be"),
    (setting("points", 3, "seconds", value=0.0), r"points\[3\] has times that are not positive"),
]


@pytest.mark.parametrize(("change", "message"), DAMAGE, ids=[message[:40] for _, message in DAMAGE])
def test_damage_is_named(text, change, message):
    values = json.loads(text)
    change(values)
    with pytest.raises(ProfileError, match=message) as refusal:
        decode_profile(json.dumps(values).encode(), "bad.json")
    assert str(refusal.value).startswith("profile bad.json: ")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_json_has_not_are_refused_in_memory_too(value, tmp_path):
    profile = msgspec.structs.replace(load_profile(NAME), mixed_s=value)
    with pytest.raises(ProfileError, match="mixed_s and host_s must be finite"):
        save_profile(profile, tmp_path / "p.json")


def test_nothing_in_a_profile_is_executed(text, tmp_path):
    """Strings that a careless reader would run stay strings."""
    values = json.loads(text)
    mark = tmp_path / "ran"
    evil = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    values["provenance"]["command"] = f"$(touch {mark}); {evil}"
    values["curves"]["decode"]["form"] = evil
    profile = decode_profile(json.dumps(values).encode(), "evil.json")
    assert profile.curves.decode.form == evil
    assert not mark.exists()
    pickle = b"cos\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR."
    with pytest.raises(ProfileError):
        decode_profile(pickle, "evil.json")
    assert not mark.exists()


def test_a_profile_of_sums_only_needs_no_tables(tmp_path):
    graph = msgspec.structs.replace(load_profile(NAME), serving=None)
    with pytest.raises(ProfileError, match=r"curves\.totals is missing"):
        save_profile(msgspec.structs.replace(graph, runner="samples"), tmp_path / "p.json")
    sums = msgspec.structs.replace(
        graph,
        runner="samples",
        decode=None,
        prefill=None,
        noise=None,
        curves=msgspec.structs.replace(graph.curves, totals=graph.curves.decode),
    )
    save_profile(sums, tmp_path / "p.json")
    assert load_profile(tmp_path / "p.json") == sums


def test_asking_outside_the_range_names_it():
    profile = load_profile(NAME)
    with pytest.raises(ProfileError, match=r"rows = 257 is outside what the profile measured \(1 to 256\)"):
        profile.decode.at(257, 10)
    with pytest.raises(ProfileError, match=r"longest = 1024 is outside"):
        profile.decode.at(1, 1024)
    assert profile.decode.at(3, 100) == profile.decode.seconds[2][0]
