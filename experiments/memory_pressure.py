"""How much memory does a scheduler need, and what does it do when there is less?

    python experiments/memory_pressure.py --out docs/policies

vLLM gives a request blocks as it grows, and computes it again if they run out; Orca and TGI keep blocks for the longest
answer from the start, and let others wait. The same requests at one rate, with more and more blocks of 16 tokens.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

import simqueue as sq
from common import (
    COST,
    MAX_OUTPUT,
    Case,
    Experiment,
    Figures,
    Found,
    column,
    explained,
    line,
    main,
    run,
    short_requests,
)
from simqueue.plot import style
from simqueue.policy import Orca, Tgi, Vllm

SEATS = 128
RATE_RPS = 500.0
BLOCKS = (128, 192, 256, 384, 512, 768, 1024)
POLICIES: dict[str, Any] = {
    "vllm": Vllm(max_num_seqs=SEATS),
    "orca": Orca(max_bs=SEATS),
    "tgi": Tgi(max_batch_size=SEATS),
}
# A response so many times as long as with the most blocks says that memory is short.
LONGER = 2.0


def measure(seed: int, requests: int) -> dict[Case, Figures]:
    """Every policy with every number of blocks."""
    workload = sq.make_workload(short_requests(requests), seed).at_rate(RATE_RPS)
    return {
        (name, blocks): run(workload, sq.System(policy, COST, memory=sq.Memory(num_blocks=blocks)))
        for name, policy in POLICIES.items()
        for blocks in BLOCKS
    }


def enough(found: Found, name: str) -> int:
    """The fewest blocks with which the mean response is not `LONGER` times the shortest one."""
    cases = column(found, name)
    return min(
        blocks
        for blocks in BLOCKS
        if cases[blocks]["response_mean_s"].mean() < LONGER * cases[BLOCKS[-1]]["response_mean_s"].mean()
    )


def finding(found: Found) -> str:
    """How many blocks are enough."""
    told = ", ".join(f"{name} {enough(found, name)}" for name in POLICIES)
    return f"Blocks that are enough for {RATE_RPS:g} requests/s: {told}"


def draw(found: Found, title: str, note: str) -> Figure:
    """Response time, preemptions, and rows in a step, against the number of blocks."""
    figure, panels = style.sheet(title, 1, 3, height_in=3.3)
    keys = {"response_mean_s": 1e3, "preemptions": 100.0, "batch_size": 1.0}
    for axes, (key, factor) in zip(panels, keys.items(), strict=True):
        for i, name in enumerate(POLICIES):
            cases = column(found, name)
            line(axes, i, name, BLOCKS, [factor * cases[blocks][key] for blocks in BLOCKS])
        style.log_axis(axes.xaxis)
        axes.set_xticks((128, 256, 512, 1024), ["128", "256", "512", "1,024"])
        axes.set_xlabel("blocks of 16 tokens")
    style.log_axis(panels[0].yaxis)
    panels[0].set(title="response, mean", ylabel="ms")
    panels[1].set(title="preemptions", ylabel="in 100 requests")
    panels[2].set(title="rows in a step, mean", ylabel="rows")
    explained(figure, panels[0])
    style.caption(
        figure,
        f"{RATE_RPS:g} requests/s; prompts of 60 tokens on average, answers of 40, at most {MAX_OUTPUT}; {SEATS} "
        f"seats. Enough: mean response less than {LONGER:g} times that with {BLOCKS[-1]:,} blocks. {note}",
    )
    return figure


EXPERIMENT = Experiment("memory_pressure", ("policy", "num_blocks"), 2_000, 6, measure, finding, draw)

if __name__ == "__main__":
    main(EXPERIMENT)
