"""More requests than anybody can serve: who is still served in time, and who is turned away?

    python experiments/overload.py --out docs/policies

The same overload under four schedulers, each with nothing that sheds it, with a queue that holds 64, with a door that
turns away whom it predicts a late first token, and with clients who lose patience.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from matplotlib.figure import Figure

import simqueue as sq
from common import COST, Case, Experiment, Figures, Found, dots, explained, main, rows, short_requests
from simqueue.plot import style
from simqueue.policy import Orca, Sglang, Tgi, Vllm
from simqueue.system import Admission
from simqueue.workload import ExponentialThink

SEATS = 128
RATE_RPS = 1500.0
SLO_S = 0.5
PATIENCE_S = 1.0
MEMORY = sq.Memory(num_blocks=512)
POLICIES: dict[str, Any] = {
    "vllm": Vllm(max_num_seqs=SEATS),
    "sglang": Sglang(max_running_requests=SEATS),
    "tgi": Tgi(max_batch_size=SEATS),
    "orca": Orca(max_bs=SEATS),
}
NOTHING, LEAVE = "nothing", "clients leave"
SHEDDING: dict[str, Admission | None] = {
    NOTHING: None,
    "queue of 64": Admission(max_queue=64),
    "predicted TTFT": Admission(max_predicted_ttft_s=SLO_S),
    LEAVE: None,
}
PANELS = {
    "in_time": "TTFT in time (%)",
    "rejected": "turned away (%)",
    "abandoned": "left (%)",
}


def measure(seed: int, requests: int) -> dict[Case, Figures]:
    """Every policy with every way of shedding."""
    spec = short_requests(requests)
    patient = sq.make_workload(spec, seed).at_rate(RATE_RPS)
    leaving = msgspec.structs.replace(spec, patience_s=ExponentialThink(mean=PATIENCE_S))
    impatient = sq.make_workload(leaving, seed).at_rate(RATE_RPS)
    return {
        (name, how): shares(
            impatient if how == LEAVE else patient, sq.System(policy, COST, memory=MEMORY, admission=door)
        )
        for name, policy in POLICIES.items()
        for how, door in SHEDDING.items()
    }


def shares(workload: sq.Workload, system: sq.System) -> Figures:
    """Of all requests after the first tenth: in time, turned away at the door, and gone before their first token."""
    warmup = len(workload) // 10
    result = sq.simulate(workload, system, warmup=warmup)
    assert result.fates is not None
    in_time = result.fates.completed & (result.ttft <= result.grid.ticks(SLO_S))
    outcomes, count = result.fates.counts(warmup), len(workload) - warmup
    return {
        "in_time": float(np.mean(in_time[warmup:])),
        "rejected": outcomes["rejected"] / count,
        "abandoned": outcomes["abandoned"] / count,
    }


def finding(found: Found) -> str:
    """What shedding makes of the worst and the best scheduler."""

    def in_time(name: str, how: str) -> float:
        return 100 * float(found[name, how]["in_time"].mean())

    told = (
        f"{name} {in_time(name, NOTHING):.0f} and {max(in_time(name, how) for how in SHEDDING):.0f} %"
        for name in ("vllm", "orca")
    )
    return f"In time unshed and at best: {', '.join(told)}"


def draw(found: Found, title: str, note: str) -> Figure:
    """A row for each way of shedding, a series for each policy."""
    figure, panels = style.sheet(title, 1, 3, height_in=2.9)
    for axes, (key, what) in zip(panels, PANELS.items(), strict=True):
        for i, name in enumerate(POLICIES):
            dots(axes, i, name, [100 * found[name, how][key] for how in SHEDDING])
        axes.set(title=what, xlim=(-3, 103))
    rows(panels, list(SHEDDING))
    explained(figure, panels[0])
    style.caption(
        figure,
        f"{RATE_RPS:,.0f} requests/s, all that come after the first tenth; in time: first token within {SLO_S:g} s, "
        f"and answered whole. Predicted TTFT: at most {SLO_S:g} s; clients leave after {PATIENCE_S:g} s on average "
        f"(exponential). {SEATS} seats, {MEMORY.num_blocks} blocks of {MEMORY.block_size} tokens. {note}",
    )
    return figure


EXPERIMENT = Experiment("overload", ("policy", "shedding"), 4_000, 4, measure, finding, draw)

if __name__ == "__main__":
    main(EXPERIMENT)
