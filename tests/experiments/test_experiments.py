"""Every experiment answers its question on a small scale, and the pages show what the scripts have found."""

from __future__ import annotations

import gzip
import importlib
import json
import re
import runpy
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest

from simqueue.conformance import check_policy
from simqueue.policy import SHIPPED

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NAMES = (
    "batching_delay",
    "bursty_vs_poisson",
    "chunked_prefill",
    "disaggregation",
    "fairness",
    "memory_pressure",
    "overload",
    "policies",
    "power_of_two",
    "trace_policies",
)
# What a title has room for.
TITLE = 76


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "experiments"))
    monkeypatch.delenv("SIMQUEUE_TRACES", raising=False)


def run(script: ModuleType, out: Path, requests: int = 24, seeds: int = 1) -> dict[str, Any]:
    script.main(script.EXPERIMENT, ["--out", str(out), "--requests", str(requests), "--seeds", str(seeds)])
    return json.loads((out / f"{script.EXPERIMENT.name}.json").read_text())


def found_in(told: dict[str, Any], parts: tuple[str, ...]) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {
        tuple(row[part] for part in parts): {k: np.array(v) for k, v in row.items() if k not in parts}
        for row in told["rows"]
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_small_run_makes_its_figure_and_its_numbers(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = importlib.import_module(name)
    told = run(script, tmp_path)
    assert (told["requests"], told["seeds"]) == (24, 1)
    assert len(told["finding"]) <= TITLE
    assert capsys.readouterr().out.startswith(told["finding"])
    svg = (tmp_path / f"{name}.svg").read_text()
    assert told["finding"][1:] in svg.replace("&#x27;", "'").replace("&amp;", "&")
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    values = [v for row in told["rows"] for k, v in row.items() if k not in script.EXPERIMENT.parts]
    assert all(len(v) == 1 and v[0] is not None and v[0] >= 0 for v in values)


def test_seeds_are_spread_over_processes_and_each_is_the_same_again() -> None:
    script, common = (importlib.import_module(name) for name in ("trace_policies", "common"))
    found = common.over_seeds(script.EXPERIMENT, 20, 2)
    for seed in (0, 1):
        again = script.measure(seed, 20)
        assert {case: {k: v[seed] for k, v in figures.items()} for case, figures in found.items()} == again
    assert found["vllm",]["ttft_mean_s"][0] != found["vllm",]["ttft_mean_s"][1]


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_what_was_found(name: str) -> None:
    script = importlib.import_module(name)
    told = json.loads((DOCS / "policies" / f"{name}.json").read_text())
    experiment = script.EXPERIMENT
    assert (told["requests"], told["seeds"]) == (experiment.requests, experiment.seeds)
    assert len(told["finding"]) <= TITLE
    if name != "trace_policies":
        assert experiment.finding(found_in(told, experiment.parts)) == told["finding"]
    page = (DOCS / "experiments.md").read_text() + (DOCS / "policies.md").read_text()
    assert f"policies/{name}.png" in page
    assert f"experiments/{name}.py" in page
    assert told["finding"] in page


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        # t(0.975, 1) = 12.7, so that these are -9.5 % +- 6.4 % and -9 % +- 12.7 %.
        ([0.90, 0.91], True),
        ([0.90, 0.92], False),
        ([0.900, 0.905], True),
        ([0.988, 0.9881], True),
        ([0.991, 0.9911], False),
        ([0.5], False),
    ],
)
def test_a_delay_pays_if_it_saves_a_hundredth_beyond_its_error(ratios: list[float], said: bool) -> None:
    script = importlib.import_module("batching_delay")
    base = np.ones(len(ratios))
    found = {
        (load, delay): {"response_mean_s": np.array(ratios) if (load, delay) == (0.3, 0.02) else base}
        for load in script.LOADS
        for delay in script.DELAYS_S
    }
    assert script.pays(found, 0.3, 0.02) == said
    assert script.finding(found).startswith("20 ms at load 0.3 pays; " if said else "No delay pays; ")


def test_the_table_of_the_page_is_that_of_the_script() -> None:
    script = importlib.import_module("policies")
    told = json.loads((DOCS / "policies" / "policies.json").read_text())
    found = found_in(told, script.EXPERIMENT.parts)
    assert "\n".join(script.table(found)) in (DOCS / "policies.md").read_text()


def test_a_half_width_is_students() -> None:
    common = importlib.import_module("common")
    values = np.array([1.0, 2.0, 3.0])
    # t(0.975, 2) = 4.302652729911275 from tables.
    assert common.half_width(values) == pytest.approx(4.302652729911275 / np.sqrt(3))
    assert np.isnan(common.half_width(values[:1]))
    found = {("a",): {"x": values}, ("b",): {"x": 2 * values}}
    assert common.change(found, ("b",), ("a",), "x") == (1.0, 0.0)


def azure(folder: Path, count: int) -> Path:
    first = datetime(2023, 11, 16, 18, 17, 3)
    rows = [f"{first + timedelta(milliseconds=137 * i + 31 * (i % 3))},{100 + i},{20 + i % 7}" for i in range(count)]
    text = "\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows])
    (folder / "AzureLLMInferenceTrace_conv.csv.gz").write_bytes(gzip.compress(text.encode()))
    return folder


def test_a_trace_is_taken_where_there_is_one_each_seed_another_stretch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = importlib.import_module("trace_policies")
    monkeypatch.setenv("SIMQUEUE_TRACES", str(azure(tmp_path, 120)))
    parts = [script.workload(seed, 40) for seed in range(3)]
    assert np.concatenate([part.prompt_tokens for part in parts]).tolist() == list(range(100, 220))
    assert [part.rate for part in parts] == pytest.approx([script.RATE_RPS] * 3)
    assert run(script, tmp_path / "out", 40)["finding"].startswith("Azure's conversations: ")
    with pytest.raises(SystemExit) as refused:
        run(script, tmp_path / "out", 200)
    assert refused.value.code == 2
    assert "120 rows fit, too few for seed 0: give less --requests or --seeds\n" in capsys.readouterr().err
    monkeypatch.setenv("SIMQUEUE_TRACES", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit):
        run(script, tmp_path / "out", 40)
    assert re.fullmatch(r"trace_policies: .*no such file.*\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--requests", "3"], "--requests 3 is too few: give at least 20"),
        (["--seeds", "0"], "--seeds 0 is too few: give at least 1"),
        (["--out", "{file}"], "is no folder: give another one"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = importlib.import_module("memory_pressure")
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as refused:
        script.main(script.EXPERIMENT, [each.format(file=tmp_path / "file") for each in arguments])
    assert refused.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("memory_pressure: ")
    assert words in err
    assert err.count("\n") == 1


def test_the_policy_of_the_page_keeps_the_contract(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "policies.md").read_text(), re.DOTALL)
    assert [("class Lean" in block, "check_policy(Lean(" in block) for block in blocks] == [
        (True, False),
        (False, True),
    ]
    (tmp_path / "lean.py").write_text("\n".join(blocks))
    assert runpy.run_path(str(tmp_path / "lean.py"))["check_policy"] is check_policy


@pytest.mark.parametrize("policy", SHIPPED, ids=lambda policy: policy.__struct_config__.tag)
def test_the_page_has_every_policy_with_its_knobs_and_defaults(policy: Any) -> None:
    page = (DOCS / "policies.md").read_text().partition("## Memory")[0]
    [row] = [line for line in page.splitlines() if line.startswith(f"| `{policy.__struct_config__.tag}` |")]
    for field in msgspec.structs.fields(policy):
        # What is a table has defaults of its own, on a page of its own.
        table = field.default is msgspec.NODEFAULT or isinstance(field.default, msgspec.Struct)
        told = "" if table else f" = {_toml(field.default)}"
        assert f"`{field.name}{told}`" in row
    assert ("holds memory" in _head(row)) == bool(getattr(policy, "paged", False))


def _toml(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _head(row: str) -> str:
    before = (DOCS / "policies.md").read_text().partition(row)[0]
    return before.rpartition("| `kind` |")[2]
