"""A scenario, one run of it, and what its clients would have noted down."""

from __future__ import annotations

from pathlib import Path

import pytest
from written import SCENARIO, Answer, answers

from simqueue import make_workload, simulate
from simqueue.config import Scenario, load


@pytest.fixture(scope="session")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    file = tmp_path_factory.mktemp("scenario") / "s.toml"
    file.write_text(SCENARIO)
    return load(file)


@pytest.fixture(scope="session")
def run(scenario: Scenario) -> list[Answer]:
    """The run that the first replication is."""
    workload = make_workload(scenario.workload, scenario.run.seed)
    return answers(simulate(workload, scenario.system, seed=scenario.run.seed))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "results"
