"""What does a light client suffer from a heavy one, and which order of the queue protects it?

    python experiments/fairness.py --out docs/policies

One client sends little, always at the same rate; another sends more and more, until it is more than the server can do.
vLLM's scheduler takes whoever came first, or whoever is more urgent, or the client that has been served least (virtual
token counters, Sheng et al., OSDI 2024). Then both ask for more than half of what there is: how far apart is what they
get?
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

import simqueue as sq
from common import COST, Array, Case, Experiment, Figures, Found, column, explained, line, main
from simqueue.order import Fcfs, Priority, Vtc
from simqueue.order.vtc import INPUT_WEIGHT, OUTPUT_WEIGHT
from simqueue.plot import style
from simqueue.policy import Vllm
from simqueue.workload import ClientClass, Geometric, Lognormal, Poisson, WorkloadSpec

SEATS = 64
BLOCKS = 1024
LIGHT, HEAVY = "light", "heavy"
LIGHT_RPS = 50.0
HEAVY_RPS = (300.0, 500.0, 700.0, 900.0, 1100.0, 1300.0)
# Of a server of about 980 requests/s, each of them more than a half.
BOTH_RPS = {LIGHT: 700.0, HEAVY: 1400.0}
AT_S = (0.2, 0.4, 0.6, 0.8, 1.0)
WAITING, SHARING = "TTFT", "service"
ORDERS: dict[str, Any] = {"fcfs": Fcfs(), "priority": Priority(), "vtc": Vtc()}


def measure(seed: int, requests: int) -> dict[Case, Figures]:
    """Every order: TTFT of both clients at every rate of the heavy one, and their services when both want more."""
    found: dict[Case, Figures] = {}
    for rate_rps in HEAVY_RPS:
        workload = sq.make_workload(two_clients(LIGHT_RPS, rate_rps, requests), seed)
        for name in ORDERS:
            found[WAITING, name, rate_rps] = ttft(served(workload, name))
    workload = sq.make_workload(two_clients(*BOTH_RPS.values(), requests), seed)
    for name in ORDERS:
        apart = served_apart(served(workload, name))
        found |= {(SHARING, name, at_s): {"apart_tokens": apart[i]} for i, at_s in enumerate(AT_S)}
    return found


def two_clients(light_rps: float, heavy_rps: float, requests: int) -> WorkloadSpec:
    """Alike but for their rates; the light one is more urgent, if anybody asks."""
    rates = {LIGHT: light_rps, HEAVY: heavy_rps}
    classes = [
        ClientClass(
            name=name,
            priority=priority,
            arrivals=Poisson(rate=rate),
            prompt_tokens=Lognormal(mean=60, cv=0.66, max=512),
            output_tokens=Geometric(mean=40, max=256),
        )
        for priority, (name, rate) in enumerate(rates.items())
    ]
    return WorkloadSpec(requests=requests, classes=tuple(classes))


def served(workload: sq.Workload, order: str) -> sq.Result:
    """One run, the first tenth left out of its figures."""
    system = sq.System(
        Vllm(max_num_seqs=SEATS),
        COST,
        memory=sq.Memory(num_blocks=BLOCKS),
        order=ORDERS[order],
        max_context_tokens=1024,
    )
    return sq.simulate(workload, system, warmup=len(workload) // 10)


def ttft(result: sq.Result) -> Figures:
    """Mean TTFT of each client in seconds; 0 for a client of whom nobody came."""
    client, ttft_s = (column[result.warmup :] for column in (result.workload.extra["client"], seconds(result, "ttft")))
    return {f"{name}_s": float(ttft_s[client == name].mean()) if name in client else 0.0 for name in (LIGHT, HEAVY)}


def served_apart(result: sq.Result) -> Array:
    """How far apart the services of both are at `AT_S`, in tokens weighted as VTC does: a prompt counts when it has
    started, the tokens of an answer as they come, taken as evenly spread."""
    start_s, first_s, end_s = (seconds(result, name)[:, None] for name in ("scheduled", "first_token", "finished"))
    prompts, outputs = result.workload.prompt_tokens[:, None], result.workload.output_tokens[:, None]
    answered = np.clip((np.array(AT_S) - first_s) / np.maximum(end_s - first_s, 1e-9), 0, 1)
    tokens = INPUT_WEIGHT * prompts * (start_s <= AT_S) + OUTPUT_WEIGHT * outputs * answered
    heavy = result.workload.extra["client"] == HEAVY
    return np.abs(tokens[heavy].sum(axis=0) - tokens[~heavy].sum(axis=0))


def seconds(result: sq.Result, name: str) -> Array:
    """A column of times."""
    return np.asarray(result.grid.seconds(getattr(result, name)))


def finding(found: Found) -> str:
    """What the light client waits at the heaviest rate."""
    waits_ms = (f"{name} {1e3 * found[WAITING, name, HEAVY_RPS[-1]]['light_s'].mean():.0f}" for name in ORDERS)
    return f"TTFT (ms) of a light client beside a heavy one: {', '.join(waits_ms)}"


def draw(found: Found, title: str, note: str) -> Figure:
    """TTFT of both clients against the rate of the heavy one, and how far apart their services are."""
    figure, panels = style.sheet(title, 1, 3, height_in=3.3)
    for i, name in enumerate(ORDERS):
        waits, apart = column(found, WAITING, name), column(found, SHARING, name)
        for axes, client in zip(panels, (LIGHT, HEAVY), strict=False):
            line(axes, i, name, HEAVY_RPS, [1e3 * waits[rate][f"{client}_s"] for rate in HEAVY_RPS])
        line(panels[2], i, name, AT_S, [1e-3 * apart[at_s]["apart_tokens"] for at_s in AT_S])
    for axes, client in zip(panels, (LIGHT, HEAVY), strict=False):
        style.log_axis(axes.yaxis)
        axes.set(title=f"{client} client: TTFT, mean", xlabel="heavy client's requests/s", ylabel="ms")
    panels[2].set(title="both ask too much: service", xlabel="seconds", ylabel="apart by thousand weighted tokens")
    explained(figure, panels[0])
    style.caption(
        figure,
        f"vllm, {SEATS} seats, which serve about 980 requests/s. The light client sends {LIGHT_RPS:g} requests/s; on "
        f"the right {BOTH_RPS[LIGHT]:g}, and the heavy one {BOTH_RPS[HEAVY]:,.0f}. Under priority the light one is the "
        f"more urgent. A prompt token of service counts {INPUT_WEIGHT}, an output token {OUTPUT_WEIGHT}. {note}",
    )
    return figure


EXPERIMENT = Experiment("fairness", ("what", "order", "x"), 2_000, 6, measure, finding, draw)

if __name__ == "__main__":
    main(EXPERIMENT)
