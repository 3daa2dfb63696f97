"""Who loses the seat and keeps the cache, and who is left out of a step, live on the pretended device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from fickle import Fickle
from liveruns import Again, Strict, assert_answered

from simqueue import Affine, Memory, System, Workload
from simqueue.live.journal import replay
from simqueue.live.serve import RunError, Served, core_of, serve
from simqueue.live.worker import GRID
from simqueue.plan import Step, Wait
from simqueue.policy import BatchingPolicy, FastServe, PagedView, Srpt
from simqueue.units import Grid

COST = Affine(base_s=1e-3)
pytestmark = pytest.mark.usefixtures("nothing_stays")
POLICIES: dict[str, BatchingPolicy] = {
    "srpt, keep": Srpt(4),
    "srpt, swap": Srpt(4, "swap"),
    "fastserve, keep": FastServe(4, prompt_tokens_per_step=16),
    "fastserve, swap": FastServe(4, prompt_tokens_per_step=16, preemption="swap"),
    "fickle, recompute": Fickle("recompute", 6),
    "fickle, keep": Fickle("keep", 6),
    "fickle, swap": Fickle("swap", 6, mixes=False),
}


def asked() -> Workload:
    """Long ones on all seats and more, and while they run short ones that are thought to be shorter still."""
    rng, long, short = np.random.default_rng(1), 8, 16
    arrival = np.r_[np.zeros(long), np.linspace(0.005, 0.045, short)]
    output = np.r_[np.full(long, 60), rng.integers(1, 6, short)]
    columns = {"max_output_tokens": output + 3, "predicted_output_tokens": np.r_[np.full(long, 90), np.ones(short)]}
    return Workload.from_columns(arrival, rng.integers(1, 30, long + short), output, **columns)


def live(work: Workload, system: System, max_rows: int, **how: Any) -> tuple[Served, Again]:
    executor = Again(COST, max_rows=max_rows)
    run = serve(work, system, executor, clients="thread", **how)
    assert executor.empty
    assert not executor.held
    return run, executor


@pytest.mark.parametrize("kind", POLICIES)
def test_everybody_is_answered_once_and_every_plan_is_made_again(kind: str) -> None:
    policy, work = POLICIES[kind], asked()
    fickle = isinstance(policy, Fickle)
    # Where it is reserved there is memory for four long ones and some short ones, however many have come by then.
    system = System(policy, COST, memory=None if fickle else Memory(4, 80 if "swap" in kind else 120))
    run, executor = live(work, system, 6 if fickle or "swap" in kind else len(work))
    assert_answered(run, work)
    assert replay(run.journal, policy, GRID, core_of(system)) == []
    assert executor.ever_held > 0
    result = run.result
    assert result is not None
    summary = result.summary()
    assert summary["preemptions"] > 0
    assert fickle or summary["recomputed_tokens"] == 0
    # The gaps of an answer add up to the time between its first and its last token.
    streams = result.finished - result.delivery - result.first_token + result.first_delivery
    gaps = int((work.output_tokens - 1).sum())
    assert summary["itl_s"]["mean"] * gaps == pytest.approx(float(streams.sum()) / GRID.ticks_per_s)


# What ends a run, which says why.


@dataclass(frozen=True)
class Newest:
    """One seat, for whoever has come last; the caches of the others stay."""

    preemption: str = "keep"
    paged: bool = True

    def decider(self, grid: Grid) -> Newest:
        return self

    def decide(self, view: PagedView) -> Step | Wait:
        queue = list(view.queue())
        fresh = [i for i in queue if not view.preempted(i)]
        if fresh:
            prefill = ((fresh[-1], view.prompt_tokens(fresh[-1])),)
            return Step(prefill=prefill, preempt=tuple(view.seats), lasts="step")
        resume = () if view.seats else tuple(queue[:1])
        return Step(resume=resume, lasts="step") if view.seats or resume else Wait()


def test_caches_that_are_kept_take_rows() -> None:
    work = Workload.from_columns(np.zeros(8), [3] * 8, [30] * 8)
    assert_answered(live(work, System(Newest(), COST), 8)[0], work)
    with pytest.raises(RunError, match=r"keeps the caches of 4 requests .* no more than 4 rows .*live\.max_rows"):
        live(work, System(Newest(), COST), 4)


class Plain(Strict):
    """A device that knows only requests that decode in every step."""

    hold = None


def test_a_device_that_cannot_leave_anybody_out() -> None:
    work = Workload.from_columns(np.zeros(8), [3] * 8, [30] * 8)
    with pytest.raises(RunError, match="leaves out some who decode, which the device cannot: run it simulated"):
        serve(work, System(Newest(), COST), Plain(COST), clients="thread")
