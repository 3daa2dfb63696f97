"""How fast the live executors are on one GPU, beside what the card can do and beside transformers' own serving.

    python experiments/live_speed.py --out live_speed.json                  # GPT-2, bf16, on a GPU: about 4 minutes
    python experiments/live_speed.py --model tiny --device cpu --dtype fp32 --requests 64      # seconds; only a trial

Sections, in this order; what one cannot do is noted in the file, which is written anew after each:

- steps: the decode launch alone (launch, then wait) and a whole step of the executor (launch, collect), steady.
- floor: how long the card needs to read the weights and the launch's keys and values at its measured bandwidth.
- steady: decoding at a constant number of rows with everything on top: worker, engine, policy, streaming to clients.
- serving: output tokens per second with 64 requests at a time, all of the same closed workload: the live testbed,
  transformers' continuous batching under several settings, `generate` on static batches.
- check: whether the tokens are right; for bfloat16 the share that is equal.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig
from transformers.generation import ContinuousBatchingConfig

from calibration.check import INITIALIZER_RANGE, examine
from simqueue.cost.linear import Affine
from simqueue.errors import SimqueueError
from simqueue.live.device.buckets import bucket
from simqueue.live.device.graph import GraphExecutor
from simqueue.live.device.load import Loaded, load
from simqueue.live.device.machine import notes
from simqueue.live.device.make import KINDS, captured
from simqueue.live.device.memory import cache_bytes, weight_bytes
from simqueue.live.device.naive import NaiveExecutor
from simqueue.live.serve import random_prompts, serve
from simqueue.plan import Work
from simqueue.policy import Continuous
from simqueue.system import System
from simqueue.workload import Workload, WorkloadSpec, make_workload
from simqueue.workload.lengths import Geometric, Lognormal
from simqueue.workload.users import Users

ROWS = (1, 16, 64, 128)
WINDOW = 1024
AT_ONCE = 64
TARGET_MS = {1: 0.83, 16: 1.07, 64: 1.57, 128: 2.15}
STATIC_REQUESTS = 640
# A cache of just this many tokens: 64 requests of the whole window. Captured steps are padded to what it holds, and
# their warm-up has one request as long as it: with a cache of half the GPU it did not end within 100 s.
POSITIONS = AT_ONCE * WINDOW
BOUNDED = {"num_blocks": POSITIONS // 256, "max_batch_tokens": 4096}
GRAPHS = {**BOUNDED, "use_cuda_graph": True, "use_async_batching": True}
FINER = {**GRAPHS, "q_padding_interval_size": 16, "kv_padding_interval_size": 2048}
SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "a cache of 64 windows": BOUNDED,
    "CUDA graphs, asynchronous": GRAPHS,
    "CUDA graphs, asynchronous, finer padding": FINER,
    "CUDA graphs, asynchronous, finer padding, compiled": {**FINER, "default_compile_level": 1},
}
_WORK = Work()


def median_s(act: Callable[[], object], repeats: int) -> float:
    """Median wall-clock seconds of ``act``."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter_ns()
        act()
        times.append(time.perf_counter_ns() - begin)
    return float(np.median(times)) / 1e9


def steps(executor: GraphExecutor, repeats: int) -> list[dict[str, float]]:
    """Each number of rows, with the whole window and with a quarter of it in the launch."""
    sizes = [rows for rows in ROWS if rows <= executor.max_rows]
    return [one_step(executor, rows, slots, repeats) for slots in (WINDOW, WINDOW // 4) for rows in sizes]


def one_step(executor: GraphExecutor, rows: int, slots: int, repeats: int) -> dict[str, float]:
    """A launch of so many rows and cache slots alone, many in a row, and within the executor's step."""
    model, prompt = executor._model, np.zeros(slots // 2 + 1, np.int64)
    place = [(row, prompt, len(prompt)) for row in range(rows)]
    launch: Any = ("decode", bucket(executor.sizes.rows, rows), slots)

    def alone() -> None:
        model.run(launch)
        model.fetch()
        model.wait()

    def together() -> None:
        for _ in range(32):
            model.run(launch)
        model.fetch()
        model.wait()

    executor.pretend(place)
    median_s(alone, min(10, repeats))
    alone_s = median_s(alone, repeats)
    streamed_s = median_s(together, max(1, repeats // 32)) / 32
    count = min(repeats, slots // 2 - 2)
    stamps = np.concatenate([stepping(executor, place, count) for _ in range(max(1, repeats // count))])
    launch_s, collect_s = np.median(stamps, axis=0) / 1e9
    step_s = float(np.median(stamps.sum(axis=1))) / 1e9
    return {
        "rows": rows,
        "slots": slots,
        "alone_s": alone_s,
        "back_to_back_s": streamed_s,
        "step_s": step_s,
        "launch_s": float(launch_s),
        "collect_s": float(collect_s),
        "share": alone_s / step_s,
    }


def stepping(executor: GraphExecutor, place: Sequence[Any], count: int) -> np.ndarray:
    """ns of launch and of collect of ``count`` steps, all within one bucket of cache slots."""
    executor.pretend(place)
    stamps = np.zeros((count, 2))
    for i in range(count):
        begin = time.perf_counter_ns()
        executor.launch((), _WORK)
        launched = time.perf_counter_ns()
        executor.collect(lambda: False)
        stamps[i] = launched - begin, time.perf_counter_ns() - launched
    return stamps


def steady(executor: GraphExecutor, table: Sequence[dict[str, float]]) -> list[dict[str, Any]]:
    """The same steps served: requests that all come at once, each with the longest answer that stays in the bucket."""
    executor.pretend(())
    return [one_steady(executor, step, where) for step in table for where in ("process", "thread")]


def one_steady(executor: GraphExecutor, step: dict[str, float], clients: Any) -> dict[str, Any]:
    """Steps while all rows decode, and where the host's time goes in them."""
    rows, slots = int(step["rows"]), int(step["slots"])
    prompt, output = slots // 2 + 1, slots // 2 - 1
    workload = Workload.from_columns(np.zeros(rows), np.full(rows, prompt), np.full(rows, output))
    served = serve(workload, System(Continuous(rows), Affine(base_s=1e-3)), executor, clients=clients)
    assert served.result is not None
    leaps = served.result.leaps
    kept = (leaps["rows"] == rows) & (leaps["prefill_rows"] == 0)
    periods = served.result.grid.seconds(leaps["total"][kept])
    host = {key: float(np.median(column[kept])) / 1e3 for key, column in served.host.items()}
    period_s = float(np.median(periods))
    return {
        "rows": rows,
        "slots": slots,
        "clients": clients,
        "steps": int(kept.sum()),
        "period_s": period_s,
        "mean_period_s": float(periods.mean()),
        "p99_period_s": float(np.quantile(periods, 0.99)),
        "share": step["alone_s"] / period_s,
        "median_us": host,
    }


def bandwidth(device: torch.device) -> dict[str, float]:
    """Bytes per second: copying (read and written ones counted) and reading (a sum), the best of several."""
    cuda = device.type == "cuda"
    source = torch.randn((2**30 if cuda else 2**24) // 4, device=device)
    target = torch.empty_like(source)
    size = source.numel() * 4

    def best(act: Callable[[], object]) -> float:
        times = []
        for _ in range(20):
            begin = time.perf_counter()
            act()
            if cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begin)
        return min(times)

    return {"copy": 2 * size / best(lambda: target.copy_(source)), "read": size / best(source.sum)}


def floor(loaded: Loaded, table: Sequence[dict[str, float]]) -> dict[str, Any]:
    """What a launch reads (all weights but the positions', and each of its cache slots) over the copy bandwidth."""
    measured = bandwidth(loaded.device)
    positions = sum(p.numel() for name, p in loaded.model.named_parameters() if "wpe" in name)
    weights = weight_bytes(loaded) - positions * loaded.model.dtype.itemsize
    rows = []
    for step in table:
        cache = step["rows"] * step["slots"] * cache_bytes(loaded)
        floor_s = (weights + cache) / measured["copy"]
        times = {f"{key[:-2]}_over_floor": step[key] / floor_s for key in ("alone_s", "step_s")}
        rows.append({"rows": step["rows"], "slots": step["slots"], "cache_bytes": cache, "floor_s": floor_s, **times})
    return {"bytes_per_s": measured, "weight_bytes": weights, "rows": rows}


def closed_workload(requests: int) -> Workload:
    """64 users who never think."""
    spec = WorkloadSpec(
        requests=requests,
        arrivals=Users(users=min(AT_ONCE, requests)),
        prompt_tokens=Lognormal(mean=60, cv=0.8, max=512),
        output_tokens=Geometric(mean=40, max=400),
    )
    return make_workload(spec, 0)


def rate(tokens: int, seconds: float) -> dict[str, float]:
    """Output tokens, how long they took, and how many that is in a second."""
    return {"output_tokens": tokens, "seconds": seconds, "tokens_per_s": tokens / seconds}


def live(executor: GraphExecutor, workload: Workload, clients: Any) -> dict[str, Any]:
    """The live testbed: engine, policy, executor and clients, every token delivered."""
    system = System(Continuous(AT_ONCE), Affine(base_s=1e-3))
    served = serve(workload, system, executor, clients=clients)
    result = served.result
    assert result is not None
    assert served.outcomes["completed"] == len(workload)
    seconds = float(result.grid.seconds(result.finished.max() - result.arrival.min()))
    host = {key: float(np.median(column)) / 1e3 for key, column in served.host.items()}
    return {**rate(int(workload.output_tokens.sum()), seconds), "median_us": host}


def continuous(loaded: Loaded, workload: Workload, prompts: Sequence[Any], settings: dict[str, Any]) -> dict[str, Any]:
    """What `generate_batch` is a wrapper of, which alone takes an output length for each request; all are queued."""
    model, outputs = loaded.copy(), workload.output_tokens.tolist()
    cuda = loaded.device.type == "cuda"
    if settings:
        more_positions(model)
    room = {"max_memory_percent": 0.5} if cuda else {"num_blocks": 256, "max_batch_tokens": 1024}
    given = {"max_requests_per_batch": AT_ONCE, "allow_block_sharing": False, **(settings or room)}
    config = ContinuousBatchingConfig(**given)
    greedy = GenerationConfig(max_new_tokens=max(outputs), do_sample=False, eos_token_id=-1)
    manager_of = model.continuous_batching_context_manager
    with manager_of(generation_config=greedy, continuous_batching_config=config) as manager:
        collect(manager, [[1, 2, 3]] * 3, [3] * 3)
        begin = time.perf_counter()
        tokens = collect(manager, [prompt.tolist() for prompt in prompts], outputs)
        seconds = time.perf_counter() - begin
    assert tokens == sum(outputs)
    return {**rate(tokens, seconds), "attention": str(model.config._attn_implementation), "settings": settings}


def more_positions(model: Any) -> None:
    """Room for its warm-up, where one request has as many tokens as the whole cache: far more than GPT-2's window."""
    known = model.transformer.wpe.weight.detach()
    rows = known.repeat(2 * POSITIONS // len(known), 1)
    model.transformer.wpe = torch.nn.Embedding.from_pretrained(rows)


def collect(manager: Any, prompts: Sequence[list[int]], outputs: Sequence[int]) -> int:
    """Ask for all, wait for all. Returns how many tokens came."""
    for prompt, tokens in zip(prompts, outputs, strict=True):
        manager.add_request(prompt, max_new_tokens=tokens)
    came, finished = 0, 0
    while finished < len(prompts):
        result = manager.get_result(timeout=1)
        if result is None:
            assert manager.is_running(), "its thread died"
        elif result.is_finished():
            finished += 1
            came += len(result.generated_tokens)
    return came


def static(loaded: Loaded, workload: Workload, prompts: Sequence[Any]) -> dict[str, Any]:
    """`generate` on batches of 64 in order of arrival, each to its longest answer; only what was asked for counts."""
    outputs, executor = workload.output_tokens.tolist(), NaiveExecutor(loaded, AT_ONCE, WINDOW)

    def run(batch: Sequence[int], limit: int) -> None:
        for request in batch:
            executor.begin(request, prompts[request])
        executor.launch(
            [(request, len(prompts[request])) for request in batch],
            Work(steps=min(limit, max(outputs[request] for request in batch))),
        )
        executor.collect(lambda: False)
        executor.end(batch)

    count = min(STATIC_REQUESTS, len(outputs)) // AT_ONCE * AT_ONCE
    batches = [range(i, i + AT_ONCE) for i in range(0, count, AT_ONCE)]
    run(batches[0], 4)
    begin = time.perf_counter()
    for batch in batches:
        run(batch, WINDOW)
    return rate(sum(outputs[:count]), time.perf_counter() - begin)


def tried(act: Callable[..., Any], *arguments: Any) -> Any:
    """What it gives, or why not, so that one failure does not cost the other sections."""
    try:
        return act(*arguments)
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {str(error)[:300]}"}


def serving(executor: GraphExecutor, loaded: Loaded, requests: int) -> dict[str, Any]:
    """All ways to serve the same requests, and how many times as fast the first is."""
    workload = closed_workload(requests)
    prompts = random_prompts(workload, executor.vocabulary, 0)
    executor.pretend(())
    tried(live, executor, closed_workload(min(requests, 2 * AT_ONCE)), "process")
    ways = {f"live, clients in a {where}": tried(live, executor, workload, where) for where in ("process", "thread")}
    for name, chosen in SETTINGS.items():
        if loaded.device.type == "cuda" or not chosen:
            ways[f"transformers, continuous: {name}"] = tried(continuous, loaded, workload, prompts, chosen)
    ways["transformers, generate, static 64"] = tried(static, loaded, workload, prompts)
    ours = ways["live, clients in a process"].get("tokens_per_s", float("nan"))
    ratios = {name: ours / way["tokens_per_s"] for name, way in ways.items() if "failed" not in way}
    return {"requests": requests, "at_once": AT_ONCE, "ways": ways, "live_over": ratios}


def checks(model: str, device: str, dtypes: Sequence[str]) -> dict[str, Any]:
    """Every executor in every dtype."""
    found: dict[str, Any] = {}
    for dtype in dtypes:
        loaded = load(model, dtype, device, INITIALIZER_RANGE)
        found |= {f"{kind} {dtype}": tried(lambda kind=kind, at=loaded: vars_of(examine(at, kind))) for kind in KINDS}
    return found


def vars_of(agreement: Any) -> dict[str, float]:
    """A dataclass's fields."""
    return {name: getattr(agreement, name) for name in agreement.__dataclass_fields__}


def show(report: dict[str, Any]) -> None:
    """The tables, in short lines."""
    about = report["provenance"]
    print(f"\n{about['model']} ({about['weights']}), {about['dtype']}, {about['gpu']}, torch {about['torch']}")
    floors = report.get("floor", {}).get("rows", [{}] * 99)
    print(" rows slots  alone ms  target  back-to-back  step ms  launch us  share  over floor")
    for step, least in zip(report.get("steps", ()), floors, strict=False):
        target = TARGET_MS[step["rows"]] if step["slots"] == WINDOW else float("nan")
        print(
            f"{step['rows']:5} {step['slots']:5}  {step['alone_s'] * 1e3:8.3f}  {target:6.2f}"
            f"  {step['back_to_back_s'] * 1e3:12.3f}  {step['step_s'] * 1e3:7.3f}  {step['launch_s'] * 1e6:9.1f}"
            f"  {step['share']:5.1%}  {least.get('alone_over_floor', float('nan')):10.2f}"
        )
    print("bytes per second:", report.get("floor", {}).get("bytes_per_s"))
    print(" rows slots clients  period ms  mean ms  p99 ms  share  host us")
    served = report.get("steady", [])
    for step in served if isinstance(served, list) else []:
        print(
            f"{step['rows']:5} {step['slots']:5} {step['clients']:8} {step['period_s'] * 1e3:9.3f} "
            f"{step['mean_period_s'] * 1e3:8.3f} {step['p99_period_s'] * 1e3:7.3f}  {step['share']:5.1%}  "
            + " ".join(f"{key} {us:.0f}" for key, us in step["median_us"].items())
        )
    for name, way in report.get("serving", {}).get("ways", {}).items():
        print(f"{name:75}", way.get("failed") or f"{way['tokens_per_s']:9.0f} tokens/s {way.get('median_us', '')}")
    for name, found in report.get("check", {}).items():
        found = found if isinstance(found, dict) else {"failed": found}
        print(f"{name:12}", found.get("failed") or f"equal {found['equal']:.2%}, same {found['same']:.2%}")


def main() -> None:
    """Run every section and write after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="gpt2")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--skip", nargs="*", default=[], help="sections to leave out, of those that do not need them")
    parser.add_argument("--out", type=Path, default=Path("live_speed.json"))
    options = parser.parse_args()
    loaded = load(options.model, options.dtype, options.device)
    executor = captured(loaded, max(ROWS), WINDOW, lambda done, of: None)
    report: dict[str, Any] = {
        "provenance": {
            **executor.describe(),
            "notes": notes(loaded.device),
            "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "requests": options.requests,
            "repeats": options.repeats,
        }
    }
    sections: dict[str, Callable[[], Any]] = {
        "steps": lambda: steps(executor, options.repeats),
        "floor": lambda: floor(loaded, report["steps"]),
        "steady": lambda: steady(executor, report["steps"]),
        "serving": lambda: serving(executor, loaded, options.requests),
        "check": lambda: checks(options.model, options.device, sorted({options.dtype, "fp32"})),
    }
    for name, section in sections.items():
        if name in options.skip:
            continue
        begin = time.perf_counter()
        report[name] = tried(section) if name != "steps" else section()
        report["provenance"][f"{name}_took_s"] = round(time.perf_counter() - begin, 1)
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    show(report)


if __name__ == "__main__":
    try:
        main()
    except SimqueueError as error:
        sys.exit(f"live_speed: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
