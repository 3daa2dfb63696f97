"""The table of docs/validation.md from a validation's JSON; below it, whether the plans were alike in a replay.

    python experiments/validation/table.py

prints that of the H200; that of another run, if it is named.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from simqueue.errors import ConfigError, SimqueueError
from simqueue.validate.record import Cell, decode
from simqueue.validate.table import plans

H200 = Path(__file__).parent / "results" / "h200" / "validation.json"
FIGURES = [(metric, name) for metric in ("response_s", "ttft_s") for name in ("mean", "p50", "p95", "p99")]
MARKS = {"MISSED": " **missed**", "not told apart": " ?", "not judged": " *"}


def row(cell: Cell, *, stolen: bool) -> str:
    """One cell: errors in per cent, each beside the spread of the live runs; then the share of time that was stolen."""
    saturation = cell.figures.get("saturation_rps")
    chosen = [saturation["mean"]] if saturation else [cell.figures[metric][name] for metric, name in FIGURES]
    shown = [f"{100 * f.error:+.1f}{_beside(f.spread)}{MARKS.get(f.verdict, '')}" for f in chosen]
    load = "saturation" if saturation else f"{cell.load:g}"
    shown += [""] * (len(FIGURES) - len(shown))
    if stolen:
        shown.append("" if cell.stolen is None else f"{100 * cell.stolen:.1f}")
    return " | ".join([f"| {cell.file}", load, f"{cell.requests:,}", *shown]) + " |"


def _beside(spread: float | None) -> str:
    """One live run has none."""
    return "" if spread is None else f" ± {100 * spread:.1f}"


def read(path: Path) -> Sequence[Cell]:
    """The cells of a validation. Raises ConfigError if it cannot be read."""
    try:
        return decode(path.read_bytes(), path).cells
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}): name a validation.json") from None


def show(cells: Sequence[Cell]) -> None:
    """Print them."""
    stolen = any(cell.stolen is not None for cell in cells)
    heads = ["cell", "load", "requests", *(f"{metric.removesuffix('_s')} {name}" for metric, name in FIGURES)]
    heads += ["stolen"] * stolen
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for cell in cells:
        print(row(cell, stolen=stolen))
    print(f"\n{plans(cells)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Exits with 2 after a refusal in one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("validation", type=Path, nargs="?", default=H200, help="validation.json; that of the H200")
    try:
        show(read(parser.parse_args(arguments).validation))
    except SimqueueError as error:
        print(f"table: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
