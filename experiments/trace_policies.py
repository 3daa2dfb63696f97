"""One recorded workload under six schedulers.

    SIMQUEUE_TRACES=FOLDER python experiments/trace_policies.py --out docs/policies

FOLDER holds ``AzureLLMInferenceTrace_conv.csv.gz`` (Azure's public traces of 2023). Without that variable bursts are
generated, and the figure says so. Each seed is another stretch of the trace, brought to one mean rate; what does not
fit GPT-2's context is left out. Nobody says how long an answer may be: who reserves memory reserves it for the whole
context.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

import simqueue as sq
from common import COST, Case, Experiment, Figures, Found, dots, main, rows, run
from simqueue.errors import ConfigError
from simqueue.plot import style
from simqueue.policy import Orca, Sarathi, Sglang, TensorrtLlm, Tgi, Vllm
from simqueue.workload import Gamma, Geometric, Lognormal, Trace, WorkloadSpec

FILE = "AzureLLMInferenceTrace_conv.csv.gz"
SEATS = 128
MEMORY = sq.Memory(num_blocks=2048)
RATE_RPS = 200.0
CONTEXT = 1024
POLICIES: dict[str, Any] = {
    "vllm": Vllm(max_num_seqs=SEATS),
    "sarathi": Sarathi(max_num_seqs=SEATS),
    "sglang": Sglang(max_running_requests=SEATS),
    "tgi": Tgi(max_batch_size=SEATS),
    "orca": Orca(max_bs=SEATS),
    "tensorrt-llm": TensorrtLlm(max_batch_size=SEATS),
}
PANELS = {
    "response_mean_s": "response, mean (ms)",
    "response_p99_s": "response, p99 (ms)",
    "ttft_mean_s": "TTFT, mean (ms)",
    "itl_p99_s": "ITL, p99 (ms)",
}


def source() -> str:
    """Where the requests come from."""
    return "Azure's conversations" if "SIMQUEUE_TRACES" in os.environ else "generated bursts"


def workload(seed: int, requests: int) -> sq.Workload:
    """A stretch of the trace, or bursts. Raises WorkloadError or ConfigError."""
    if "SIMQUEUE_TRACES" not in os.environ:
        prompts, outputs = Lognormal(mean=330, cv=0.7, max=768), Geometric(mean=130, max=256)
        bursts = Gamma(rate=RATE_RPS, cv=3.0)
        return sq.make_workload(
            WorkloadSpec(requests=requests, arrivals=bursts, prompt_tokens=prompts, output_tokens=outputs), seed
        )
    path = Path(os.environ["SIMQUEUE_TRACES"]) / FILE
    whole = sq.make_workload(WorkloadSpec(arrivals=Trace(str(path))), 0).fit_context(CONTEXT, "drop")
    part = slice(seed * requests, (seed + 1) * requests)
    if part.stop > len(whole):
        raise ConfigError(f"{path}: {len(whole):,} rows fit, too few for seed {seed}: give less --requests or --seeds")
    arrival_s = whole.arrival_s[part]
    stretch = sq.Workload.from_columns(arrival_s - arrival_s[0], whole.prompt_tokens[part], whole.output_tokens[part])
    return stretch.at_rate(RATE_RPS)


def measure(seed: int, requests: int) -> dict[Case, Figures]:
    """Every policy on the same requests."""
    arrivals = workload(seed, requests)
    return {(name,): run(arrivals, sq.System(policy, COST, memory=MEMORY)) for name, policy in POLICIES.items()}


def finding(found: Found) -> str:
    """The shortest and the longest tail."""
    tails = {name: 1e3 * float(found[name,]["response_p99_s"].mean()) for name in POLICIES}
    best, worst = min(tails, key=tails.__getitem__), max(tails, key=tails.__getitem__)
    return f"{source()}: p99 response {tails[best]:,.0f} ms with {best}, {tails[worst]:,.0f} with {worst}"


def draw(found: Found, title: str, note: str) -> Figure:
    """A row for each policy."""
    figure, panels = style.sheet(title[0].upper() + title[1:], 1, 4, height_in=2.9)
    for axes, (key, what) in zip(panels, PANELS.items(), strict=True):
        dots(axes, 0, "", [1e3 * found[name,][key] for name in POLICIES])
        axes.set(title=what, xlim=(0, None))
    rows(panels, list(POLICIES))
    style.caption(
        figure,
        f"Requests: {source()}, at {RATE_RPS:g} requests/s; {SEATS} seats, {MEMORY.num_blocks:,} blocks of "
        f"{MEMORY.block_size} tokens. A seed is another stretch of them; mean response longer than with vllm in so "
        f"many stretches: {_longer(found)}. {note}",
    )
    return figure


def _longer(found: Found) -> str:
    """Stretches differ more than policies do: each is compared with itself."""
    base = found["vllm",]["response_mean_s"]
    counts = {name: int((found[name,]["response_mean_s"] > base).sum()) for name in tuple(POLICIES)[1:]}
    return ", ".join(f"{name} {count}" for name, count in counts.items())


EXPERIMENT = Experiment("trace_policies", ("policy",), 1_200, 6, measure, finding, draw)

if __name__ == "__main__":
    main(EXPERIMENT)
