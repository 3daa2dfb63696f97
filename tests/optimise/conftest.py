"""Short first runs, and questions about small scenarios."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from questions import SCENARIO, Ask

from simqueue.capacity import trial as capacity_trial
from simqueue.optimise import race, trial
from simqueue.optimise.question import Question, asked


@pytest.fixture(autouse=True)
def _short_first_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity_trial, "_FIRST_REQUESTS", 60)
    monkeypatch.setattr(capacity_trial, "REPLICATIONS", 5)
    monkeypatch.setattr(capacity_trial, "_SATURATING", 1000)
    monkeypatch.setattr(trial, "_SATURATING", 1000)
    monkeypatch.setattr(race, "_LAST", 2)


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    """A queue with one server that takes a second."""
    path = tmp_path / "one.toml"
    path.write_text(SCENARIO)
    return path


@pytest.fixture
def ask(scenario: Path) -> Ask:
    """Ask about the scenario with some lines added."""

    def question(more: str = "", **options: Any) -> Question:
        scenario.write_text(SCENARIO + more)
        return asked(scenario, **options)

    return question
