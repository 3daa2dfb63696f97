"""Speed of `simulate` beside a bare SimPy loop: ``pytest tests/bench/bench_speed.py`` (see docs/performance.md)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cases import AZURE, CASES, COSTS, TRACE, Case, azure, ours, workload

ROUNDS = 3


@pytest.mark.parametrize("index", range(len(CASES)), ids=[case.name for case in CASES])
@pytest.mark.parametrize("cost", COSTS)
class TestCases:
    def test_ours(self, benchmark, index, cost):
        made = workload(index, cost)
        benchmark.pedantic(ours, (CASES[index], made, cost), rounds=ROUNDS)

    def test_event_loop(self, benchmark, index, cost):
        made = workload(index, cost)
        benchmark.pedantic(ours, (CASES[index], made, cost), {"looping": True}, rounds=ROUNDS)

    def test_noise(self, benchmark, index, cost):
        made = workload(index, cost)
        benchmark.pedantic(ours, (CASES[index], made, cost), {"noise": True}, rounds=1)

    def test_stepping(self, benchmark, index, cost):
        made = workload(index, cost)
        benchmark.pedantic(ours, (CASES[index], made, cost), {"stepping": True}, rounds=1)


BARE = [index for index, case in enumerate(CASES) if case.bare]


@pytest.mark.parametrize("index", BARE, ids=[CASES[index].name for index in BARE])
def test_bare_loop(benchmark, index):
    case: Case = CASES[index]
    made = workload(index, "affine")
    benchmark.pedantic(case.bare, (made,), rounds=ROUNDS)


@pytest.mark.skipif(not TRACE.exists(), reason="the public trace is not here")
@pytest.mark.parametrize("cost", COSTS)
def test_azure(benchmark, cost):
    benchmark.pedantic(ours, (AZURE, azure(cost), cost), rounds=ROUNDS)
