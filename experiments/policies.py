"""All policies that work step by step, on one workload with a memory that is short.

    python experiments/policies.py --out docs/policies

Everybody has 128 seats and, but for `continuous`, which does not look at memory, 512 blocks of 16 tokens. Two rates;
and what each could do at most.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from matplotlib.figure import Figure

import simqueue as sq
from common import COST, Case, Experiment, Figures, Found, dots, explained, log_ticks, main, rows, run, short_requests
from simqueue.plot import style
from simqueue.policy import FastServe, Orca, Sarathi, Sglang, Srpt, TensorrtLlm, Tgi, Vllm

SEATS = 128
RATES_RPS = (200.0, 500.0)
MEMORY = sq.Memory(num_blocks=512)
_TENSORRT: tuple[Literal["GUARANTEED_NO_EVICT", "MAX_UTILIZATION", "STATIC_BATCH"], ...] = (
    "GUARANTEED_NO_EVICT",
    "MAX_UTILIZATION",
    "STATIC_BATCH",
)
POLICIES: dict[str, Any] = {
    "continuous": sq.Continuous(max_seqs=SEATS),
    "vllm": Vllm(max_num_seqs=SEATS),
    "sarathi": Sarathi(max_num_seqs=SEATS),
    "sglang": Sglang(max_running_requests=SEATS),
    "tgi": Tgi(max_batch_size=SEATS),
    "orca": Orca(max_bs=SEATS),
    **{f"tensorrt-llm {rule}": TensorrtLlm(rule, max_batch_size=SEATS) for rule in _TENSORRT},
    "fastserve": FastServe(max_batch_size=SEATS),
    "srpt": Srpt(max_batch_size=SEATS),
}
# Who starts only with memory for the longest answer.
RESERVING = ("tgi", "orca", "tensorrt-llm GUARANTEED_NO_EVICT", "tensorrt-llm STATIC_BATCH", "fastserve", "srpt")
# Coefficient of variation of predicted over true output lengths, for who looks at predictions (srpt).
PREDICTION = 0.5
CAPACITY = "at most"
PANELS = {
    "response_mean_s": "response, mean (ms)",
    "ttft_mean_s": "TTFT, mean (ms)",
    "itl_p99_s": "ITL, p99 (ms)",
}


def measure(seed: int, requests: int) -> dict[Case, Figures]:
    """Every policy at every rate, and its saturation throughput."""
    spec = msgspec.structs.replace(short_requests(requests), prediction=PREDICTION)
    workload = sq.make_workload(spec, seed)
    found: dict[Case, Figures] = {}
    for name, policy in POLICIES.items():
        system = sq.System(policy, COST, memory=MEMORY if getattr(policy, "paged", False) else None)
        found[name, CAPACITY] = {"saturation_rps": sq.saturation_rps(workload, system)}
        found |= {(name, rate): run(workload.at_rate(rate), system) for rate in RATES_RPS}
    return found


def finding(found: Found) -> str:
    """What the best of those can do that take memory as they need it, and of those that reserve it."""

    def most(names: Iterable[str]) -> float:
        return max(float(found[name, CAPACITY]["saturation_rps"].mean()) for name in names)

    needed = most(name for name in POLICIES if name not in (*RESERVING, "continuous"))
    return f"At most {needed:,.0f} req/s where memory is taken as needed, {most(RESERVING):,.0f} where reserved"


def table(found: Found) -> list[str]:
    """The rows of the page's table: means over seeds."""
    head = (
        "policy",
        "saturation, req/s",
        *(f"{what}, {rate:g} req/s" for rate in RATES_RPS for what in PANELS.values()),
    )
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in POLICIES:
        values = [1e3 * found[name, rate][key].mean() for rate in RATES_RPS for key in PANELS]
        told = (f"{value:,.0f}" if value >= 100 else f"{value:.2f}" for value in values)
        lines.append(f"| {name} | {found[name, CAPACITY]['saturation_rps'].mean():,.0f} | {' | '.join(told)} |")
    return lines


def draw(found: Found, title: str, note: str) -> Figure:
    """A row for each policy."""
    figure, panels = style.sheet(title, 1, 4, height_in=4.4)
    for i, rate in enumerate(RATES_RPS):
        for axes, (key, what) in zip(panels, PANELS.items(), strict=False):
            dots(axes, i, f"{rate:g} requests/s", [1e3 * found[name, rate][key] for name in POLICIES])
            axes.set_title(what)
    dots(panels[3], 2, CAPACITY, [found[name, CAPACITY]["saturation_rps"] for name in POLICIES])
    panels[3].set_title("saturation (req/s)")
    for axes in panels[:2]:
        log_ticks(axes)
    for axes in panels[2:]:
        axes.set_xlim(0, None)
    rows(panels, [name.replace(" ", "\n") for name in POLICIES])
    explained(figure, panels[0])
    style.caption(
        figure,
        f"{SEATS} seats; {MEMORY.num_blocks} blocks of {MEMORY.block_size} tokens, not counted for continuous. "
        f"A response of seconds means that the rate is beyond the saturation throughput: it grows with the run. {note}",
    )
    return figure


EXPERIMENT = Experiment("policies", ("policy", "rate_rps"), 1_200, 4, measure, finding, draw, table)

if __name__ == "__main__":
    main(EXPERIMENT)
