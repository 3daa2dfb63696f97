"""How often the interval that a profile's error leaves holds what really ran: the validation on an H200.

    python tests/bench/bench_calibration.py

Every cell of ``experiments/validation/results/h200`` has live runs, a prediction of each figure, and by how many per
cent the figure grows for every per cent that all steps take longer. That slope times the half-width that the profile
tells is what `simqueue.sensitivity.carried` finds by simulating both ends.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from simqueue.cost.profile import Measured
from simqueue.policy import Continuous
from simqueue.sensitivity.calibration import half_widths

RESULTS = Path(__file__).parents[2] / "experiments" / "validation" / "results" / "h200" / "validation.json"
PROFILE = "gpt2-h200-bf16-graph-128"
HIGHEST_LOAD = 0.9
LIVE_RUNS = 3
# Of a normal variable 95 % are within so many standard deviations.
SURE = 1.96


class Figure(NamedTuple):
    """One figure of one cell: the relative error of its prediction, and the half-widths that are due to the calibration
    and to the scatter of the live runs."""

    name: str
    error: float
    calibration: float
    live: float


def figures(steps: float) -> Iterator[Figure]:
    """Of all cells up to `HIGHEST_LOAD`; ``steps``: the relative half-width of how long steps take."""
    for cell in json.loads(RESULTS.read_bytes())["cells"]:
        if cell["load"] is None or cell["load"] > HIGHEST_LOAD:
            continue
        for metric, slopes in cell["elasticity"].items():
            for statistic, slope in slopes.items():
                found = cell["figures"][metric][statistic]
                live = SURE * found["spread"] / math.sqrt(LIVE_RUNS)
                yield Figure(f"{metric}.{statistic}", found["error"], abs(slope) * steps, live)


def main() -> None:
    """Print a table in Markdown."""
    steps = half_widths(Measured(name=PROFILE), Continuous(max_seqs=64))["decode"]
    every = list(figures(steps))
    print("| figure | cells | in the calibration's interval | in that and the live runs' |\n|---|---|---|---|")
    for name in dict.fromkeys(figure.name for figure in every):
        mine = [figure for figure in every if figure.name == name]
        alone = sum(abs(one.error) <= one.calibration for one in mine)
        both = sum(abs(one.error) <= math.hypot(one.calibration, one.live) for one in mine)
        print(f"| `{name}` | {len(mine)} | {alone} | {both} |")


if __name__ == "__main__":
    main()
