"""Lengths of prompts with their answers, from conversations and from counts: which count, and that pairs stay pairs."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simqueue.config import load
from simqueue.errors import ConfigError, SimqueueError, WorkloadError
from simqueue.workload import (
    ClientClass,
    Fixed,
    Pairs,
    Poisson,
    Sessions,
    Sharegpt,
    Workload,
    WorkloadSpec,
    make_workload,
)

SIGMAS = 4.0
# Prompt and answer of conversations; what vLLM's rule leaves of them is (4, 4), (1024, 1024) and (9, 2039).
TALKS = [(4, 4), (3, 90), (90, 3), (1024, 1024), (1025, 9), (9, 2039), (9, 2040), (1024, 1025)]


def sharegpt(path: Path, talks: Any = TALKS) -> Path:
    """In ShareGPT's JSON, with texts of so many characters and further turns that nobody looks at."""
    turns = [[("human", "x" * prompt), ("gpt", "y" * answer), ("human", "more")] for prompt, answer in talks]
    rows = [
        {"id": f"c{i}", "conversations": [{"from": who, "value": text} for who, text in talk]}
        for i, talk in enumerate(turns)
    ]
    alone = {"id": "alone", "conversations": [{"from": "human", "value": "x" * 50}]}
    text = json.dumps([*rows, alone, {"id": "empty", "conversations": []}, {"id": "none"}])
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def pairs(lengths: Any) -> set[tuple[int, int]]:
    drawn = lengths.draw(500, np.random.default_rng(1))
    return set(zip(drawn.prompt_tokens.tolist(), drawn.output_tokens.tolist(), strict=True))


def spec(lengths: Any, requests: int = 500, **more: Any) -> WorkloadSpec:
    return WorkloadSpec(requests=requests, arrivals=Poisson(rate=10.0), lengths=lengths, **more)


@pytest.mark.parametrize("name", ["s.json", "s.json.gz"])
def test_conversations_count_by_the_rule_of_vllms_benchmark(tmp_path: Path, name: str) -> None:
    path = sharegpt(tmp_path / name)
    assert pairs(Sharegpt(str(path), characters_per_token=1.0)) == {(4, 4), (1024, 1024), (9, 2039)}
    # Half as many tokens, rounded to even: those of 3 characters have 2, those of 1,025 have 512.
    halves = {(45, 45), (512, 512), (512, 4), (4, 1020), (4, 1020)}
    assert pairs(Sharegpt(str(sharegpt(path, [(90, 90), *TALKS])), characters_per_token=2.0)) == halves


def test_a_tokenizer_of_a_folder_counts_what_it_adds_too(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[BOS]": 0, "[UNK]": 1}, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(
        single="[BOS] $A", pair="[BOS] $A $B", special_tokens=[("[BOS]", 0)]
    )
    words.enable_truncation(2)
    (tmp_path / "tok").mkdir()
    words.save(str(tmp_path / "tok" / "tokenizer.json"))
    talks = [[{"value": "what is it that you do here"}, {"value": "I count words"}]]
    (tmp_path / "s.json").write_text(json.dumps([{"conversations": talk} for talk in talks]))
    assert pairs(Sharegpt(str(tmp_path / "s.json"), tokenizer=str(tmp_path / "tok"))) == {(8, 4)}


@pytest.mark.statistical
def test_each_pair_is_equally_likely(tmp_path: Path) -> None:
    drawn = make_workload(spec(Sharegpt(str(sharegpt(tmp_path / "s.json")), characters_per_token=1.0), 30_000), 3)
    for prompt in (4, 1024, 9):
        share = float(np.mean(drawn.prompt_tokens == prompt))
        assert abs(share - 1 / 3) <= SIGMAS * math.sqrt(2 / 9 / 30_000)


def test_counts_of_csv_json_lines_and_a_saved_workload_are_the_same(tmp_path: Path) -> None:
    kept = Workload.from_columns([0.0, 1.0, 2.0], [5, 6, 7], [50, 60, 70])
    kept.save(tmp_path / "w.csv")
    kept.save(tmp_path / "w.csv.gz")
    rows = [{"output_tokens": 10 * n, "prompt_tokens": n, "model": "any"} for n in (5, 6, 7)]
    (tmp_path / "w.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    found = [pairs(Pairs(str(tmp_path / f"w.{suffix}"))) for suffix in ("csv", "csv.gz", "jsonl")]
    assert found == [{(5, 50), (6, 60), (7, 70)}] * 3


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    lengths = Pairs(str(tmp_path / "w.csv"))
    (tmp_path / "w.csv").write_text("prompt_tokens,output_tokens\n5,6\n")
    assert pairs(lengths) == {(5, 6)}
    (tmp_path / "w.csv").write_text("prompt_tokens,output_tokens\n5,6\n55,66\n")
    assert pairs(lengths) == {(5, 6), (55, 66)}


def test_they_go_with_all_that_lengths_go_with(tmp_path: Path) -> None:
    lengths = Sharegpt(str(sharegpt(tmp_path / "s.json")), characters_per_token=1.0)
    whole = make_workload(spec(lengths), 1)
    cut = make_workload(spec(lengths, max_output_tokens=1024), 1)
    assert cut.prompt_tokens.tolist() == whole.prompt_tokens.tolist()
    assert cut.output_tokens.tolist() == np.minimum(whole.output_tokens, 1024).tolist()
    assert cut.meta["output_clipped_share"] == np.mean(whole.output_tokens > 1024)
    assert make_workload(spec(lengths, 100), 1) == whole.head(100)
    assert whole.meta["spec"]["lengths"] == {
        "kind": "sharegpt",
        "path": str(tmp_path / "s.json"),
        "characters_per_token": 1.0,
    }
    chat = ClientClass(name="chat", arrivals=Poisson(rate=1.0), lengths=lengths)
    other = ClientClass(name="other", arrivals=Poisson(rate=1.0), prompt_tokens=Fixed(1), output_tokens=Fixed(1))
    mixed = make_workload(WorkloadSpec(requests=200, classes=(chat, other)), 1)
    assert set(mixed.prompt_tokens[mixed.extra["client"] == "chat"]) == {4, 9, 1024}
    talks = make_workload(WorkloadSpec(requests=200, arrivals=Sessions(rate=1.0, turns=3), lengths=lengths), 1)
    assert set(talks.prompt_tokens[talks.extra["turn"] == 0]) == {4, 9, 1024}
    assert talks.at_rate(6.0).rate == 6.0


SYSTEM = 'system = { policy = { kind = "none" }, cost = { kind = "affine", base_s = 0.1 } }\n'


def scenario(folder: Path, lengths: str, more: str = "") -> Path:
    path = folder / "scenario.toml"
    arrivals = 'requests = 9, arrivals = { kind = "poisson", rate = 1.0 }'
    path.write_text(f"{SYSTEM}workload = {{ {arrivals}, lengths = {lengths}{more} }}\n")
    return path


def test_a_scenarios_paths_start_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    sharegpt(tmp_path / "s.json")
    (tmp_path / "tok").mkdir()
    path = scenario(tmp_path, '{ kind = "sharegpt", path = "s.json", characters_per_token = 1 }')
    found = load(path).workload
    assert len(make_workload(found, 1)) == 9
    assert found.lengths == Sharegpt(str(tmp_path / "s.json"), characters_per_token=1.0)
    for name, meant in (("tok", str(tmp_path / "tok")), ("gpt2", "gpt2")):
        lengths = load(scenario(tmp_path, f'{{ kind = "sharegpt", path = "s.json", tokenizer = "{name}" }}')).workload
        assert lengths.lengths == Sharegpt(str(tmp_path / "s.json"), tokenizer=meant)


@pytest.mark.parametrize(
    ("lengths", "more", "words"),
    [
        ('{ kind = "sharegpt", path = "s.json" }', "", "workload.lengths: tokenizer = None and characters_per_token ="),
        ('{ kind = "sharegpt", path = "s.json", characters_per_token = 0 }', "", "is not a number from 0.1 to 100"),
        ('{ kind = "shareGPT", path = "s.json" }', "", "unknown kind 'shareGPT'; did you mean 'sharegpt'?"),
        ('{ kind = "pairs" }', "", "the key 'path' is missing"),
        (
            '{ kind = "pairs", path = "w.csv" }',
            ', prompt_tokens = { kind = "fixed", value = 3 }',
            "prompt_tokens given beside lengths, which has both; remove one or the other",
        ),
    ],
)
def test_a_scenario_that_says_it_wrong_is_refused(tmp_path: Path, lengths: str, more: str, words: str) -> None:
    with pytest.raises((ConfigError, WorkloadError)) as refused:
        load(scenario(tmp_path, lengths, more))
    assert words in str(refused.value)
    assert str(refused.value).startswith(str(tmp_path / "scenario.toml"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there are no lengths in it"),
        ("prompt_tokens,output_tokens\n", "there are no lengths in it"),
        ("prompt_tokens,output\n5,6\n", ", line 2: Object missing required field `output_tokens`; give prompt_tokens"),
        ("prompt_tokens,output_tokens\n5,6\n5,six\n", ", line 3: Expected `int`, got `str`"),
        ("prompt_tokens,output_tokens\n5,0\n", ", line 2: Expected `int` >= 1"),
        ('{"prompt_tokens": 5, "output_tokens": 6}\n{"prompt_tokens": 5}\n', ", line 2: Object missing required"),
        ('{"prompt_tokens": 5\n', ", line 1: Input data was truncated"),
    ],
)
def test_counts_that_cannot_be_used_are_refused_with_their_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "w.csv").write_text(text)
    with pytest.raises(WorkloadError) as refused:
        Pairs(str(tmp_path / "w.csv")).read()
    assert f"{tmp_path / 'w.csv'}" in str(refused.value)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"conversations": 5}]', "Expected `array`, got `int` - at `$[0].conversations`; ShareGPT's JSON is"),
        ("[]", "none of 0 conversations of two turns or more has prompt and answer of 4 tokens or more"),
    ],
)
def test_conversations_that_cannot_be_used_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(WorkloadError) as refused:
        Sharegpt(str(tmp_path / "s.json"), characters_per_token=4.0).read()
    assert words in str(refused.value)


def test_a_file_or_a_tokenizer_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WorkloadError, match=r"nowhere.json: no such file"):
        Sharegpt(str(tmp_path / "nowhere.json"), characters_per_token=4.0).read()
    pytest.importorskip("tokenizers")
    sharegpt(tmp_path / "s.json")
    # No name of a model can have this form, so that nobody is asked for it.
    lengths = Sharegpt(str(tmp_path / "s.json"), tokenizer="//no name")
    with pytest.raises(SimqueueError, match=r"tokenizer = '//no name' cannot be had \(.*\); give the name of a model"):
        lengths.read()
