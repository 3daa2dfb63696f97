"""The scenarios of `experiments/validation`: what they cover, and that they fit the time that a card is had for."""

from __future__ import annotations

from pathlib import Path

import pytest

from simqueue.validate.cells import Case, cases, tables
from simqueue.validate.record import decode

SET = Path(__file__).parents[2] / "experiments" / "validation"
# Whatever the shipped profile has of a serving run.
PLAIN = ("system.noise={ kind = 'none' }", "system.overheads={}")


@pytest.fixture(scope="module")
def planned() -> list[Case]:
    return cases(tables([SET], PLAIN))


def test_policies_loads_arrivals_and_lengths_are_covered(planned: list[Case]) -> None:
    steady = [case for case in planned if case.load is not None and case.load <= 1]
    assert len(steady) >= 24
    assert {round(case.load or 0, 2) for case in steady} == {0.2, 0.5, 0.8, 0.9, 0.95}
    policies = {str(case.scenario.system.policy) for case in steady}
    for kind in (
        "NoBatching",
        "Static(batch=8",
        "Dynamic(max_batch=16, max_wait_s=0.0,",
        "max_batch=16, max_wait_s=0.02",
    ):
        assert any(kind in policy for policy in policies)
    for kind in ("max_batch=64, max_wait_s=0.0,", "max_batch=64, max_wait_s=0.02", "max_seqs=64", "max_seqs=128"):
        assert any(kind in policy for policy in policies)
    assert any("max_tokens=256" in policy for policy in policies)
    specs = [case.scenario.workload for case in steady]
    assert {type(spec.arrivals).__name__ for spec in specs} == {"Poisson", "Gamma", "MMPP"}
    assert {type(spec.output_tokens).__name__ for spec in specs} == {"Fixed", "Geometric"}
    assert sum(len(case.workload) >= 2_000 for case in steady) >= 12


def test_every_system_has_its_saturation_measured_at_least_once(planned: list[Case]) -> None:
    policies = {str(case.scenario.system.policy) for case in planned if case.load is not None and case.load > 1}
    assert len(policies) >= 7


def test_three_runs_of_each_fit_ten_minutes_on_one_executor(planned: list[Case]) -> None:
    assert 3 * sum(case.expected_s() for case in planned) < 600
    assert len({case.device for case in planned}) == 1


@pytest.mark.parametrize("file", sorted(SET.glob("results/*/validation.json")), ids=lambda path: path.parent.name)
def test_kept_results_can_be_read(file: Path) -> None:
    assert decode(file.read_bytes(), file).cells


@pytest.mark.parametrize("file", sorted((SET / "cpu").glob("*.toml")), ids=lambda path: path.stem)
def test_the_small_set_waits_for_a_profile_of_this_machine(file: Path) -> None:
    [table] = tables([file], ()).values()
    assert table["live"]["device"] == "cpu"
    assert table["system"]["cost"]["path"] == "tiny-cpu-fp32-graph.json"
