"""What the experiments share: the server and the requests, runs over seeds, and the way from a question to a figure.

Every script here asks one question. It says what to measure with one seed, what the numbers of all seeds say in a
sentence, and how to draw them; `main` does the rest. Seeds make the workload, so that all cases of one seed meet the
same requests (common random numbers), and what differs between cases is compared seed by seed.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

import simqueue as sq
from simqueue.errors import ConfigError, OutputError, SimqueueError
from simqueue.folders import made, refuse_unusable
from simqueue.plot import style
from simqueue.pool import cpus, pool, submit
from simqueue.results import strict_json
from simqueue.workload import Geometric, Lognormal, Open, Poisson, WorkloadSpec

Case = tuple[str | float, ...]
Figures = dict[str, float]
Measure = Callable[[int, int], dict[Case, Figures]]
Array = NDArray[np.float64]
Found = dict[Case, dict[str, Array]]
"""Of every case its figures of merit, each an array with a number for every seed."""

COST = sq.Measured(name="gpt2-h200-bf16-graph")
SERVER = "GPT-2 as measured on an H200"
MAX_OUTPUT = 256
GPT2, LARGE = "GPT-2", "7B"
SERVERS: dict[str, Any] = {GPT2: COST, LARGE: sq.Affine(base_s=14e9 / 1.75e12, per_new_token_s=14e9 / 200e12)}
"""Where a prompt costs little more than a step of decoding, and where it costs much more: the second is an estimate
of a model of 7 billion parameters, which reads 14 GB of weights a step at 1.75 TB/s, and computes 14 GFLOP a token at
200 TFLOP/s."""
# A narrow panel has room for the decades only of an axis that spans more than this.
_WIDE = 12.0


class Experiment(NamedTuple):
    """A question, and what answers it.

    Attributes:
        name: of the script, and of its files.
        parts: what the parts of a case are.
        requests, seeds: how much is run unless told otherwise.
        measure: with a seed and a number of requests the figures of every case.
        finding: what the numbers say, in the letters that a title has room for.
        draw: the numbers under that title, above a note on how they were made.
        table: lines to print besides, if there are any.
    """

    name: str
    parts: tuple[str, ...]
    requests: int
    seeds: int
    measure: Measure
    finding: Callable[[Found], str]
    draw: Callable[[Found, str, str], Figure]
    table: Callable[[Found], list[str]] | None = None


def short_requests(count: int, arrivals: Open | None = None) -> WorkloadSpec:
    """Prompts of 60 tokens on average, and answers of 40, of which clients take at most 256; Poisson unless given."""
    return WorkloadSpec(
        requests=count,
        arrivals=arrivals or Poisson(rate=1.0),
        prompt_tokens=Lognormal(mean=60, cv=0.66, max=512),
        output_tokens=Geometric(mean=40, max=MAX_OUTPUT),
        max_output_tokens=MAX_OUTPUT,
    )


def long_prompts(count: int) -> WorkloadSpec:
    """Prompts of 400 tokens on average, and short answers."""
    return WorkloadSpec(
        requests=count,
        arrivals=Poisson(rate=1.0),
        prompt_tokens=Lognormal(mean=400, cv=0.7, max=900),
        output_tokens=Geometric(mean=40, max=120),
    )


def run(workload: sq.Workload, system: sq.System) -> Figures:
    """One run without its first tenth. Seconds; ``utilisation``: the share of time that the GPU is busy;
    ``preemptions`` for each request."""
    result = sq.simulate(workload, system, warmup=len(workload) // 10)
    # The summary would look for the saturation throughput, which takes longer than the run.
    told = replace(result, saturation_rps=lambda: math.nan).summary()
    figures = {
        f"{name}_{which}_s": told[f"{name}_s"][which]
        for name in ("response", "ttft", "itl")
        for which in ("mean", "p99")
    }
    return figures | {
        "utilisation": told["utilisation"],
        "batch_size": told["batch_size"]["mean_per_step"],
        "throughput_rps": told["throughput_rps"],
        "preemptions": told.get("preemptions", 0) / told["requests"],
    }


def over_seeds(experiment: Experiment, requests: int, seeds: int) -> Found:
    """All cases, a process for each CPU."""
    with pool(min(cpus(), seeds)) as executor:
        if executor is None:
            runs = [experiment.measure(seed, requests) for seed in range(seeds)]
        else:
            futures = submit(executor, partial(_measured, experiment.measure, requests), range(seeds))
            runs = [future.result() for future in futures]
    return {
        case: {name: np.array([each[case][name] for each in runs]) for name in figures}
        for case, figures in runs[0].items()
    }


def _measured(measure: Measure, requests: int, seed: int) -> dict[Case, Figures]:
    return measure(seed, requests)


def half_width(values: Array) -> float:
    """Half of the 95 % confidence interval of the mean, by Student's t; nan for a single seed, without spread."""
    count = len(values)
    if count == 1:
        return math.nan
    from scipy.stats import t

    return float(t.ppf(0.975, count - 1) * values.std(ddof=1) / math.sqrt(count))


def change(found: Found, case: Case, base: Case, figure: str) -> tuple[float, float]:
    """Relative change of a figure from one case to another, compared seed by seed, and its half-width."""
    ratios = found[case][figure] / found[base][figure] - 1
    return float(ratios.mean()), half_width(ratios)


def line(axes: Axes, i: int, label: str, x: Sequence[float], figures: Sequence[Array], **look: Any) -> None:
    """Series i: the mean of each point, and its confidence interval."""
    means, halves = [float(v.mean()) for v in figures], [half_width(v) for v in figures]
    look = {"color": style.colour(i), "marker": style.marker(i), "capsize": 2.5, "elinewidth": 1.0, **look}
    axes.errorbar(x, means, halves, label=label, **look)


def dots(axes: Axes, i: int, label: str, figures: Sequence[Array]) -> None:
    """Series i across the rows of a panel: the mean of each row, and its confidence interval."""
    means, halves = [float(v.mean()) for v in figures], [half_width(v) for v in figures]
    look: dict[str, Any] = {"color": style.colour(i), "marker": style.marker(i), "capsize": 2.5, "elinewidth": 1.0}
    axes.errorbar(means, range(len(means)), xerr=halves, linestyle="", label=label, **look)


def rows(panels: Sequence[Axes], names: Sequence[str]) -> None:
    """A row for each name, the first on top, through all panels."""
    for axes in panels:
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_yticks(range(len(names)), [""] * len(names))
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticklabels(names, fontsize=8)


def log_ticks(axes: Axes) -> None:
    """A logarithmic axis below a narrow panel. Call it after drawing the data."""
    style.log_axis(axes.xaxis)
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high > _WIDE * low else (1.0, 2.0, 5.0)))


def explained(figure: Figure, axes: Axes) -> None:
    """The legend of the series that ``axes`` shows, above all panels."""
    handles, labels = axes.get_legend_handles_labels()
    lines: list[Any] = [handle[0] if isinstance(handle, tuple) else handle for handle in handles]
    for handle, label in zip(lines, labels, strict=True):
        handle.set_label(label)
    style.legend(figure, lines)


def by_server(
    title: str, found: Found, series: Mapping[str, str | float], whats: Mapping[str, str]
) -> tuple[Figure, Any]:
    """The two servers below each other, two figures of merit in seconds beside each other, against the last part of a
    case: a line for each of ``series``, by its label the part of a case before the last. Returns the figure and its
    panels."""
    figure, panels = style.sheet(title, 2, 2, height_in=5.6)
    for place, axes in enumerate(panels):
        server, (key, what) = tuple(SERVERS)[place // 2], tuple(whats.items())[place % 2]
        for i, (label, part) in enumerate(series.items()):
            cases = column(found, server, part)
            line(axes, i, label, list(cases), [1e3 * figures[key] for figures in cases.values()])
        style.log_axis(axes.yaxis)
        axes.set(title=f"{server}: {what}", ylabel="ms")
    explained(figure, panels[0])
    return figure, panels


def column(found: Found, *fixed: str | float) -> dict[float, dict[str, Array]]:
    """The cases that begin with these parts, by their last one."""
    return {float(case[-1]): figures for case, figures in found.items() if case[: len(fixed)] == fixed}


def main(experiment: Experiment, arguments: Sequence[str] | None = None) -> None:
    """Measure, say, draw, and write numbers. Exits with 2 after a refusal in one line, with 130 after Ctrl-C."""
    options = _options(experiment, arguments)
    try:
        refuse_unusable(options.out)
        for key, least in (("requests", 20), ("seeds", 1)):
            if getattr(options, key) < least:
                raise ConfigError(f"--{key} {getattr(options, key)} is too few: give at least {least}")
        found = over_seeds(experiment, options.requests, options.seeds)
        print(*_written(experiment, found, options), sep="\n")
        if experiment.table:
            print("", *experiment.table(found), sep="\n")
    except (SimqueueError, OSError) as error:
        print(f"{experiment.name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{experiment.name}: interrupted", file=sys.stderr)
        sys.exit(130)


def _options(experiment: Experiment, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False, prog=experiment.name)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the figure and the numbers")
    parser.add_argument("--requests", type=int, default=experiment.requests, help="of each run")
    parser.add_argument("--seeds", type=int, default=experiment.seeds, help="runs of each case")
    return parser.parse_args(arguments)


def _written(experiment: Experiment, found: Found, options: argparse.Namespace) -> list[Any]:
    """The finding, and the files."""
    finding = experiment.finding(found)
    size = f"{options.requests:,} requests a run, the first tenth left out; {options.seeds} seeds, the same requests"
    note = f"{SERVER}. {size} for every line; bars: 95 % confidence interval of the mean over seeds."
    with style.look():
        files = style.save(experiment.draw(found, finding, note), made(options.out) / experiment.name)
    numbers = options.out / f"{experiment.name}.json"
    rows = [
        {**dict(zip(experiment.parts, case, strict=True)), **{k: v.tolist() for k, v in figures.items()}}
        for case, figures in found.items()
    ]
    told = {"finding": finding, "requests": options.requests, "seeds": options.seeds, "cost": COST.name, "rows": rows}
    try:
        numbers.write_bytes(strict_json(told))
    except OSError as error:
        raise OutputError(f"{numbers} cannot be written: {error.strerror}; choose another --out") from None
    return [finding, *files, numbers]
