"""The lab: many concurrent users and one small GPT-2, without batching, with it, and as the simulator foretells it.

    python experiments/batching_lab.py --out out/lab

On a laptop's CPU a tiny model of the same architecture (random weights) takes its place; on a GPU it is GPT-2. Under
two minutes either way. `batching_and_queueing_lab.ipynb` goes through the same steps one by one.

    python experiments/batching_lab.py --redraw out/lab/lab.json --out out/figures

prints and draws what a former run found.

What is simulated is told nothing of the runs that it is compared with: the costs of steps are measured first, on runs
of their own.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lab import figures
from lab.bench import OUTPUTS, PROMPTS, WINDOW, Bench, asked_by, open_bench, told
from lab.curves import Point, against_load, against_users
from lab.lessons import lessons
from lab.machine import Machine, calling, streaming
from lab.trial import SEED, Case, Trial, attempt, same_tokens
from simqueue.errors import ConfigError, OutputError, SimqueueError
from simqueue.folders import made, refuse_unusable
from simqueue.live.device.text import pipeline
from simqueue.live.log import log
from simqueue.plot import style
from simqueue.policy import BatchingPolicy, Continuous, Dynamic, NoBatching, Static
from simqueue.results import strict_json
from simqueue.validate.machine import software

PROMPT = "Why do requests wait?"
IDEAL = ("no batching", "manual batching", "continuous")
_STATIC_OF = 2
_WAIT_STEPS = 5
_PARTS = ("provenance", "trials", "users", "load", "lessons")
_FIGURES = ("at_once", "users", "load")
_FILES = ("lab.json", "profile", *(f"{name}.{kind}" for name in _FIGURES for kind in ("svg", "png")))
_COLUMNS = {
    "total": "total_s",
    "tok/s": "tokens_per_s",
    "queue": "queueing_s",
    "service": "service_s",
    "resp.": "response_s",
    "p99": "response_p99_s",
    "TTFT": "ttft_s",
    "batch": "batch_size",
}


@dataclass(frozen=True)
class Lab:
    """Everything that was found."""

    trials: dict[str, Trial]
    step_s: dict[int, float]
    users: list[Point]
    load: list[Point]

    @property
    def lessons(self) -> list[str]:
        return lessons(self.trials, self.step_s, self.users, self.load)


def ask_pipeline(bench: Bench) -> str:
    """What Hugging Face's text-generation pipeline makes of a prompt."""
    return str(pipeline(bench.loaded)(PROMPT, max_new_tokens=12, do_sample=False)[0]["generated_text"])


def policies(bench: Bench, machine: Machine) -> list[BatchingPolicy]:
    """None, static, dynamic and continuous, each streaming tokens as they come."""
    wait_s = round(_WAIT_STEPS * machine.decode_s(1), 6)
    return [
        NoBatching(),
        Static(batch=max(2, bench.users // _STATIC_OF), release="request"),
        Dynamic(max_batch=bench.most, max_wait_s=wait_s, release="request"),
        Continuous(max_seqs=bench.most),
    ]


def all_at_once(bench: Bench, calls: Machine, streams: Machine) -> dict[str, Case]:
    """Everybody asks once, at the same time: call by call, as one manual batch, and streamed under every policy."""
    workload = asked_by(bench.users, bench.users)
    cases = {
        "no batching": Case(calls, Static(batch=1), workload),
        "manual batching": Case(calls, Static(batch=bench.users), workload),
    }
    return cases | {case.kind: case for case in (Case(streams, p, workload) for p in policies(bench, streams))}


def curves(bench: Bench, streams: Machine) -> tuple[list[Point], list[Point]]:
    """Without batching and with all of it against users, and every policy against load."""
    own = policies(bench, streams)
    users = against_users(bench, streams, [policy for policy in own if isinstance(policy, NoBatching | Continuous)])
    return list(users), list(against_load(streams, own))


def step_times(machine: Machine, most: int) -> dict[int, float]:
    """Seconds of a decode step by rows: 1, 2, 4, ... and the largest batch."""
    sizes = [2**k for k in range(most.bit_length()) if 2**k < most]
    return {rows: machine.decode_s(rows) for rows in [*sizes, most]}


def run(bench: Bench, out: Path) -> tuple[Lab, dict[str, Any]]:
    """The whole lab. Returns what was found, and where it comes from."""
    log("measuring what steps cost")
    streams, calls = streaming(bench, out / "profile"), calling(bench)
    log("everybody at once")
    trials = {name: attempt(name, case) for name, case in all_at_once(bench, calls, streams).items()}
    log("more and more users, more and more load")
    lab = Lab(trials, step_times(streams, bench.most), *curves(bench, streams))
    return lab, provenance(bench, calls, streams)


def provenance(bench: Bench, calls: Machine, streams: Machine) -> dict[str, Any]:
    """Machine, software, sizes, and what the simulator was told."""
    return {
        **software(),
        "command": shlex.join(["python", *sys.argv]),
        "machine": dict(bench.graph.describe()),
        "users": bench.users,
        "most": bench.most,
        "seed": SEED,
        "workload": {"prompt_tokens": PROMPTS, "output_tokens": OUTPUTS, "window": WINDOW},
        "predicted_by": {"naive": calls.told(), "graph": streams.told()},
    }


def table(trials: Sequence[Trial | SimpleNamespace], title: str) -> Table:
    """Live above simulated; times in milliseconds, means over the requests where nothing else is said."""
    shown = _empty(f"{title} (ms; sim.: simulated)", ["", "", *_COLUMNS])
    for trial in trials:
        for side, found in (("live", trial.live), ("sim.", trial.simulated)):
            cells = (_told(key, found[key]) for key in _COLUMNS.values())
            shown.add_row(trial.name if side == "live" else "", side, *cells)
    return shown


def by_request(trial: Trial) -> Table:
    """The live run, request by request, times in milliseconds."""
    shown = _empty(
        f"{trial.name}, by request (ms)", [name.removesuffix("_s").removesuffix("_tokens") for name in trial.requests]
    )
    for row in zip(*trial.requests.values(), strict=True):
        shown.add_row(*(_told(name, value) for name, value in zip(trial.requests, row, strict=True)))
    return shown


def _empty(title: str, names: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in names:
        table.add_column(name, justify="right" if name else "left")
    return table


def _told(key: str, value: float) -> str:
    value = 1e3 * value if key.endswith("_s") and key != "tokens_per_s" else value
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def show(found: dict[str, Any], console: Console) -> None:
    """Tables and lessons on the terminal, of what `record` made."""
    trials = {trial["name"]: SimpleNamespace(**trial) for trial in found["trials"]}
    console.print(table([trials[name] for name in IDEAL], "No batching, manual batching, ideal (continuous) batching"))
    streamed = [trial for trial in trials.values() if trial.executor == "graph"]
    console.print(table(streamed, "The same users under each policy, tokens streamed"))
    console.print(f"{answers(found)}\n")
    for number, lesson in enumerate(found["lessons"], 1):
        console.print(f"{number}. {lesson}")


def answers(found: dict[str, Any]) -> str:
    """How much of what was answered does not depend on who was in the batch."""
    same = min(trial["same_tokens"] for trial in found["trials"])
    said = f"Answers: at least {same:.1%} of all tokens are those of calls one by one, whoever batched."
    if found["provenance"]["machine"]["dtype"] == "bfloat16":
        said += (
            " In bfloat16 a sum is rounded as the shape of its batch has it; one token that falls out differently, and "
            "all that follow may."
        )
    return said


def draw(found: dict[str, Any]) -> dict[str, Any]:
    """The figures by name, of what `record` made."""
    about = told(found["provenance"]["machine"])
    trials = {trial["name"]: SimpleNamespace(**trial) for trial in found["trials"]}
    users, load = ([Point(**point) for point in found[name]] for name in ("users", "load"))
    with style.look():
        return {
            "at_once": figures.plot_requests([trials[name] for name in IDEAL], about),
            "users": figures.plot_users(users, about),
            "load": figures.plot_load(load, about),
        }


def record(lab: Lab, about: dict[str, Any]) -> dict[str, Any]:
    """All of it in JSON's types."""
    first = lab.trials["no batching"]
    return {
        "provenance": about,
        "trials": [
            {
                "name": trial.name,
                "executor": trial.executor,
                "policy": trial.case.policy,
                "total_s": trial.total_s,
                "live": trial.live,
                "simulated": trial.simulated,
                "held_share": trial.held,
                "same_tokens": same_tokens(trial, first),
                "requests": trial.requests,
            }
            for trial in lab.trials.values()
        ],
        "decode_step_s": {str(rows): seconds for rows, seconds in lab.step_s.items()},
        "users": [asdict(point) for point in lab.users],
        "load": [asdict(point) for point in lab.load],
        "lessons": lab.lessons,
    }


def former(path: Path) -> dict[str, Any]:
    """What `record` made and a run wrote. Raises ConfigError if that is not there."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}): give a lab.json that this lab wrote") from None
    if not isinstance(found, dict) or not set(_PARTS) <= found.keys():
        raise ConfigError(f"{path}: has not {', '.join(_PARTS)}: give a lab.json that this lab wrote")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the lab, print it, and write ``lab.json`` and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="cuda or cpu; whichever there is")
    parser.add_argument("--model", help="gpt2, tiny, or a folder with a causal language model; what suits the device")
    parser.add_argument("--users", type=int, help="how many ask at once; what suits the device")
    parser.add_argument("--redraw", type=Path, metavar="LAB.JSON", help="run nothing, but print and draw a former run")
    parser.add_argument(
        "--out", type=Path, default=Path("out/lab"), help="folder for lab.json, figures and the profile"
    )
    options = parser.parse_args(arguments)
    try:
        _follow(options)
    except SimqueueError as error:
        print(f"lab: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("lab: interrupted; the same command uses what was measured of the steps", file=sys.stderr)
        sys.exit(130)


def _follow(options: argparse.Namespace) -> None:
    refuse_unusable(options.out, _strange, "the lab did not write")
    found = former(options.redraw) if options.redraw else _found(options)
    show(found, Console())
    files = figures.save(draw(found), made(options.out))
    print(f"{len(files)} figures in {options.out}; the run took {found['provenance']['took_s']} s")


def _found(options: argparse.Namespace) -> dict[str, Any]:
    """Run the lab, and write ``lab.json``."""
    began = time.monotonic()
    bench = open_bench(options.device, options.model, options.users)
    print(f"{bench.about}\n{ask_pipeline(bench)!r}")
    lab, about = run(bench, made(options.out))
    found = record(lab, {**about, "took_s": round(time.monotonic() - began, 1)})
    _write(options.out / "lab.json", strict_json(found))
    return found


def _strange(folder: Path) -> list[str]:
    """Whatever is in a folder and no lab's."""
    return sorted(path.name for path in folder.iterdir() if path.name not in _FILES)


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}; choose another --out") from None


if __name__ == "__main__":
    main()
