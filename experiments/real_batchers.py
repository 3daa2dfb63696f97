"""Recorded runs of five real batching servers, replayed: what they did, and what their rules say.

    python experiments/real_batchers.py --out docs/real_batchers

``batchers/runs`` has a folder a run (see its README.md). Each is simulated with its own arrivals, its service times and
the server's measured overheads, once under the policy of that name and once under the rule that such servers are
documented by: a free server takes what waits, or waits until the oldest has waited as long as the delay.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

import simqueue as sq
from simqueue.errors import SimqueueError
from simqueue.folders import made, refuse_unusable
from simqueue.metrics import quantiles
from simqueue.plot import style
from simqueue.policy import BatchingPolicy, BentoML, Dynamic, LitServe, Mosec, RayServe, Triton

RUNS = Path(__file__).parent / "batchers" / "runs"
FIGURES = ("mean", "p95", "p99")
# Of a rule that is randomised.
SEEDS = 20
# Ray's event loop is late by so much, also while batches run.
RAY_LATE_S = 1.2e-3
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """A recorded run: when requests were sent, how long their responses took (seconds), and under what."""

    name: str
    config: dict[str, Any]
    arrival_s: Array
    response_s: Array
    overheads: sq.Overheads


@dataclass(frozen=True)
class Replay:
    """`FIGURES` of the responses of a run, seconds: recorded, by the server's rule, by the documented one."""

    run: Run
    recorded: Array
    rule: Array
    documented: Array

    def errors(self, predicted: Array) -> Array:
        """Relative to what was recorded."""
        return np.asarray(predicted / self.recorded - 1)


def runs(folder: Path = RUNS) -> list[Run]:
    """The runs of a folder, by name."""
    overheads = json.loads((folder / "overheads.json").read_text())
    return [_run(path.parent, overheads) for path in sorted(folder.glob("*/config.json"))]


def _run(folder: Path, overheads: dict[str, dict[str, float]]) -> Run:
    config = json.loads((folder / "config.json").read_text())
    missing = [key for key in ("server", "max_batch", "delay_ms", "tau0_ms", "alpha_ms") if key not in config]
    if missing:
        raise SimqueueError(f"{folder}/config.json: has no {missing[0]}; see batchers/runs/README.md")
    if config["server"] not in RULES:
        raise SimqueueError(f"{folder}/config.json: server = {config['server']!r} is none of {', '.join(RULES)}")
    with gzip.open(folder / "requests.csv.gz", "rt", encoding="utf-8", newline="") as file:
        rows = sorted((float(row["arrival_s"]), float(row["response_s"])) for row in csv.DictReader(file))
    arrival_s, response_s = np.array(rows).T
    costs = overheads["triton_max_batch_1" if _is_alone(config) else config["server"]]
    over = sq.Overheads(
        request_path_s=costs["d_in_s"],
        handover_s=costs["handover_h0_s"],
        handover_per_request_s=costs["handover_h1_s_per_request"],
        response_path_s=costs["d_out_s"],
    )
    return Run(folder.name, config, arrival_s, response_s, over)


def _is_alone(config: dict[str, Any]) -> bool:
    return bool(config["server"] == "triton" and config["max_batch"] == 1)


def _triton(config: dict[str, Any], seed: int) -> BatchingPolicy:
    preferred = tuple(config.get("preferred", ()))
    return Triton(config["max_batch"], preferred, round(config["delay_ms"] * 1e3), seed=seed)


# What runs in each server, by its settings and a seed. mosec's ``--wait`` was 0 where it has no delay.
RULES: dict[str, Callable[[dict[str, Any], int], BatchingPolicy]] = {
    "triton": _triton,
    "mosec": lambda c, _: Mosec(c["max_batch"], c["delay_ms"], wait=0.0),
    "litserve": lambda c, _: LitServe(c["max_batch"], c["delay_ms"] / 1e3),
    "ray": lambda c, _: RayServe(c["max_batch"], c["delay_ms"] / 1e3 + (RAY_LATE_S if c["delay_ms"] else 0.0)),
    "bentoml": lambda c, _: BentoML(c["max_batch"]),
}


def replay(run: Run) -> Replay:
    """The run again, by its server's rule (the mean over `SEEDS` where that is randomised) and the documented one."""
    config = run.config
    seeds = range(SEEDS if config["server"] == "triton" else 1)
    rule = np.mean([_simulated(run, RULES[config["server"]](config, seed)) for seed in seeds], axis=0)
    documented = _simulated(run, Dynamic(config["max_batch"], config["delay_ms"] / 1e3))
    return Replay(run, _figures(run.response_s), rule, documented)


def _simulated(run: Run, policy: BatchingPolicy) -> Array:
    ones = [1] * len(run.arrival_s)
    cost = sq.Affine(base_s=run.config["tau0_ms"] / 1e3, per_row_s=run.config["alpha_ms"] / 1e3)
    system = sq.System(policy, cost, overheads=run.overheads)
    result = sq.simulate(sq.Workload.from_columns(run.arrival_s, ones, ones), system)
    return _figures(result.grid.seconds(result.response))


def _figures(response_s: Array) -> Array:
    return np.array([response_s.mean(), *quantiles(np.sort(response_s), np.array([0.95, 0.99]))])


def show(replays: Sequence[Replay], console: Console) -> None:
    """One line a run: what was recorded, and the errors of the two rules in per cent."""
    table = Table("run", *(f"{name}, ms" for name in FIGURES), box=box.SIMPLE, title="Response times, recorded")
    for whose in ("rule", "documented"):
        for name in FIGURES:
            table.add_column(f"{whose}: {name}", justify="right")
    for found in replays:
        errors = [*found.errors(found.rule), *found.errors(found.documented)]
        table.add_row(
            found.run.name, *(f"{1e3 * s:.1f}" for s in found.recorded), *(f"{100 * error:+.1f} %" for error in errors)
        )
    console.print(table)


def draw(replays: Sequence[Replay], folder: Path) -> list[Path]:
    """``real_batchers.svg`` and ``.png``."""
    with style.look():
        figure, panels = style.sheet(
            "What real batching servers do is not what one reads of them", 1, 3, height_in=1.9 + 0.27 * len(replays)
        )
        for column, axes in enumerate(panels):
            _panel(axes, replays, column)
        panels[0].set_yticks(range(len(replays)), [found.run.name for found in replays])
        for axes in panels[1:]:
            axes.set_yticks(range(len(replays)), [])
        handles, _ = panels[0].get_legend_handles_labels()
        style.legend(figure, handles)
        style.caption(
            figure,
            "Error of simulated response times against recorded ones. Five servers on a machine of 2 cores, service "
            "time exactly 40 ms + 5 ms a request, Poisson arrivals; b: largest batch, d: delay in ms, p: load in per "
            "cent, pref: preferred sizes.",
        )
        return style.save(figure, folder / "real_batchers")


def _panel(axes: Axes, replays: Sequence[Replay], column: int) -> None:
    looks = (
        ("the rule as it is", "rule", style.COLOURS[0], "o"),
        ("as documented", "documented", style.COLOURS[1], "X"),
    )
    for name, which, colour, marker in looks:
        errors = [100 * found.errors(getattr(found, which))[column] for found in replays]
        axes.plot(errors, range(len(replays)), linestyle="", marker=marker, markersize=6, color=colour, label=name)
    axes.axvline(0, color="black", linewidth=0.8, zorder=0)
    axes.set(
        title=f"response, {FIGURES[column]}", xlabel="simulated / recorded - 1 (%)", ylim=(len(replays) - 0.5, -0.5)
    )
    axes.tick_params(axis="y", length=0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Replay, print and draw. Exits with 2 after a refusal in one line, with 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of recorded runs")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the figure")
    options = parser.parse_args(arguments)
    try:
        refuse_unusable(options.out)
        found = runs(options.runs)
        if not found:
            raise SimqueueError(f"{options.runs}: has no recorded run (*/config.json) in it: give another --runs")
        made(options.out)
        replays = [replay(run) for run in found]
        show(replays, Console(width=160))
        print(*draw(replays, options.out), sep="\n")
    except KeyError as error:
        print(f"real_batchers: {options.runs}: a file of a run has no {error}; see its README.md", file=sys.stderr)
        sys.exit(2)
    except (SimqueueError, OSError, ValueError) as error:
        print(f"real_batchers: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("real_batchers: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
