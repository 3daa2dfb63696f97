"""Figures of each class of clients: those of its requests alone, and the share that met their limits."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from simqueue import Admission, Affine, System, Workload, simulate
from simqueue.policy import Continuous

SYSTEM = System(Continuous(3), Affine(base_s=0.01, per_row_s=0.001), admission=Admission(max_queue=4))


def workload(clients: int = 2, **more: Any) -> Workload:
    rng = np.random.default_rng(5)
    count = 400
    return Workload.from_columns(
        np.cumsum(rng.exponential(0.03, count)),
        rng.integers(1, 9, count),
        rng.integers(1, 9, count),
        client=np.array([f"c{i % clients}" for i in range(count)], object),
        **more,
    )


def test_figures_of_a_class_are_those_of_its_requests() -> None:
    slo_s = np.where(np.arange(400) % 2, 0.05, np.inf)
    result = simulate(workload(ttft_slo_s=slo_s), SYSTEM, warmup=50)
    summary = result.summary()
    assert [row["client"] for row in summary["by_client"]] == ["c0", "c1"]
    table = {name: column[50:] for name, column in result.requests().items()}
    done = table["outcome"] == "completed"
    for row in summary["by_client"]:
        mine = table["client"] == row["client"]
        assert (row["requests"], row["completed"]) == (mine.sum(), (mine & done).sum())
        assert row["ttft_s"]["mean"] == pytest.approx(table["ttft_s"][mine & done].mean())
        assert row["response_s"]["max"] == pytest.approx(table["response_s"][mine & done].max())
        met = mine & done & (table["ttft_s"] <= table["ttft_slo_s"])
        assert row["slo_attainment"] == pytest.approx(met.sum() / mine.sum())
    assert sum(row["completed"] for row in summary["by_client"]) == summary["requests"]
    assert 0 < summary["by_client"][1]["slo_attainment"] < 1


@pytest.mark.parametrize("clients", [1, 100])
def test_one_class_or_single_clients_have_no_rows(clients: int) -> None:
    assert "by_client" not in simulate(workload(clients), SYSTEM).summary()


def test_who_was_turned_away_waited_for_no_time_and_who_waits_is_counted() -> None:
    """Little's law over all who came: their mean number in the queue is their rate times their mean wait."""
    patience_s = np.where(np.arange(400) % 2, 0.02, np.inf)
    short = msgspec.structs.replace(SYSTEM, admission=Admission(max_queue=2))
    result = simulate(workload(patience_s=patience_s), short)
    summary = result.summary()
    assert summary["outcomes"]["abandoned"] > 0
    assert summary["outcomes"]["rejected"] > 0
    start, end = result.window
    mean = result.queueing.sum() / (end - start)
    assert summary["waiting"]["mean"] == pytest.approx(mean)
    at_s, count = result.waiting()
    inside = float(np.dot(count[:-1], np.diff(at_s))) / ((end - start) / result.grid.ticks_per_s)
    assert inside == pytest.approx(mean)
