"""Print the table of docs/theory.md: ``python tests/statistical/report.py`` (about two minutes)."""

from __future__ import annotations

from collections.abc import Iterable

from queues import QUEUES, WARMUP
from replications import REPLICATIONS, Estimate, Figure, replicate

SHOWN = {
    "mean queueing time, s",
    "p99 of response time, s",
    "P(queueing time > 5 s)",
    "rows of a request's step",
}
Row = tuple[Figure, Estimate]


def print_rows(name: str, solver: str, rows: Iterable[Row]) -> None:
    for figure, estimate in rows:
        if figure.name in SHOWN:
            simulated = f"{estimate.mean:.5g} ± {estimate.half_width(0.95):.2g}"
            print(
                f"| {name} | {solver and f'`{solver}`'} | {figure.name} | {figure.exact:.5g} | {simulated} |",
                flush=True,
            )
            name = solver = ""


def main() -> None:
    print("| queue | solver | figure | theory | simulated ± 95 % interval |")
    print("|---|---|---|---|---|")
    everything: list[Row] = []
    for queue in QUEUES:
        rows = list(zip(queue.figures, replicate(queue), strict=True))
        print_rows(queue.name, queue.solver, rows)
        everything += rows
    inside = sum(abs(e.mean - f.exact) <= e.half_width(0.95) for f, e in everything)
    counted = REPLICATIONS * sum((queue.workload.requests or 0) - WARMUP for queue in QUEUES)
    print(
        f"\n{inside} of all {len(everything)} figures ({inside / len(everything):.0%}) lie within their 95 % interval; "
        f"{REPLICATIONS} replications, {counted / 1e6:.1f} million requests counted."
    )


if __name__ == "__main__":
    main()
