"""Print the table of docs/theory.md: ``python tests/statistical/report.py`` (about five minutes of a core)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import msgspec
from queues import QUEUES, WARMUP
from replications import REPLICATIONS, Estimate, Figure, Queue, replicate

# As many requests as the tests count, so many times.
LONGER = 3

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


def longer(queue: Queue) -> Queue:
    """The same for more requests."""
    counted = LONGER * ((queue.workload.requests or 0) - WARMUP)
    return replace(queue, workload=msgspec.structs.replace(queue.workload, requests=counted + WARMUP))


def main() -> None:
    print("| queue | solver | figure | theory | simulated ± 95 % interval |")
    print("|---|---|---|---|---|")
    everything: list[Row] = []
    queues = [longer(queue) for queue in QUEUES]
    for queue in queues:
        rows = list(zip(queue.figures, replicate(queue), strict=True))
        print_rows(queue.name, queue.solver, rows)
        everything += rows
    inside = sum(abs(e.mean - f.exact) <= e.half_width(0.95) for f, e in everything)
    counted = REPLICATIONS * sum((queue.workload.requests or 0) - WARMUP for queue in queues)
    print(
        f"\n{inside} of all {len(everything)} figures ({inside / len(everything):.0%}) lie within their 95 % interval; "
        f"{REPLICATIONS} replications, {counted / 1e6:.1f} million requests counted."
    )


if __name__ == "__main__":
    main()
