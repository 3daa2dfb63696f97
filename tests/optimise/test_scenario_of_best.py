"""What was found as a scenario that can be run."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from questions import SCENARIO, Ask

from simqueue.config import load
from simqueue.optimise.question import Question
from simqueue.optimise.scenario import tables_of, toml
from simqueue.optimise.trial import Task, Trial, tried

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)
PLAIN = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.booleans(), TEXT)
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))


@settings(max_examples=30)
@given(st.dictionaries(TEXT, st.dictionaries(TEXT, VALUES, max_size=3), max_size=3))
def test_toml_is_read_as_what_was_written(tables: dict[str, Any]) -> None:
    assert tomllib.loads(toml(tables)) == tables


def first(question: Question) -> Trial:
    """At the lower ends."""
    [low, _] = next(question.space.corners())
    trial = tried(Task(0, low, question.table, question.path, question.goal))
    assert isinstance(trial, Trial)
    return trial


def written(question: Question, trial: Trial, folder: Path) -> Path:
    folder.mkdir()
    path = folder / "best.toml"
    path.write_text(toml(tables_of(trial, question.table, question.path, folder)))
    return path


def test_it_has_what_was_chosen_and_the_rate(ask: Ask, tmp_path: Path) -> None:
    varied = 'load = "0.5..0.9"\n"system.policy" = [{ kind = "static", batch = "2..3" }]'
    question = ask(f"[sweep]\nload = [0.5]\n[optimise]\n{varied}\n", slo=["response_s.mean <= 9"])
    trial = first(question)
    scenario = load(written(question, trial, tmp_path / "out"))
    assert scenario.workload.mean_rate == trial.rate
    assert scenario.system.policy.batch == 2
    assert scenario.sweep is None


def test_of_classes_each_has_its_share_of_the_rate(tmp_path: Path, ask: Ask) -> None:
    one = "{name='%s', arrivals={kind='poisson', rate=%s}, prompt_tokens=%s, output_tokens=%s}"
    fixed = "{kind='fixed', value=1}"
    classes = ", ".join(one % (name, rate, fixed, fixed) for name, rate in (("a", 1.0), ("b", 3.0)))
    question = ask(
        vary=["rate=0.5..0.6"],
        slo=["response_s.mean <= 9"],
        overrides=[f"workload={{requests=500, classes=[{classes}]}}"],
    )
    best = load(written(question, first(question), tmp_path / "out")).workload
    assert [each.open.mean_rate for each in best.classes] == pytest.approx([0.125, 0.375])


def test_a_trace_is_replayed_faster_and_found_from_there(ask: Ask, tmp_path: Path) -> None:
    rows = "".join(f"{i},1,1\n" for i in range(300))
    (tmp_path / "trace.csv").write_text("arrival_s,prompt_tokens,output_tokens\n" + rows)
    arrivals = "workload={arrivals={kind='trace', path='trace.csv'}}"
    question = ask(vary=["rate=0.5..0.6"], overrides=[arrivals], slo=["response_s.mean <= 9"])
    trial = first(question)
    scenario = load(written(question, trial, tmp_path / "out"))
    assert scenario.workload.arrivals is not None
    told = scenario.workload.arrivals.path, scenario.workload.arrivals.speed
    assert told == ("../trace.csv", pytest.approx(0.5))
    assert (scenario.path.parent / told[0]).read_text().startswith("arrival_s")
    assert trial.rate == pytest.approx(0.5)


def test_it_is_the_scenario_that_was_asked_about(ask: Ask, tmp_path: Path) -> None:
    question = ask(vary=["system.cost.base_s=[0.5, 1.0]"])
    tables = tomllib.loads(written(question, first(question), tmp_path / "out").read_text())
    expected = tomllib.loads(SCENARIO)
    expected["system"]["cost"]["base_s"] = 0.5
    assert tables == expected
