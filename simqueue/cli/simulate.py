"""`simqueue simulate`: one scenario, its figures as a table or as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from simqueue.cluster.disaggregated_result import DisaggregatedResult
    from simqueue.cluster.result import ClusterResult
    from simqueue.config import Scenario
    from simqueue.result import Result
    from simqueue.workload import Workload

_TIMES = {
    "queueing": "queueing_s",
    "service": "service_s",
    "response": "response_s",
    "TTFT": "ttft_s",
    "TPOT": "tpot_s",
    "ITL": "itl_s",
    "transfer": "transfer_s",
    "handover": "handover_s",
}
_MEANS = {"queueing": "queueing_s", "TTFT": "ttft_s", "response": "response_s"}
_FIGURES = ("mean", "p50", "p90", "p95", "p99", "max")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("simulate")(simulate)


def simulate(
    file: Annotated[Path, typer.Argument(help="The scenario, a TOML file.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for requests.parquet, steps.parquet and summary.json.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a value: system.policy.max_batch=16. Repeatable.")
    ] = None,
) -> None:
    """Simulate a scenario and print queueing, service and response times, TTFT, TPOT and ITL."""
    from simqueue.config import load, named
    from simqueue.results import refuse_unusable, strict_json
    from simqueue.workload import make_workload

    scenario = load(file, overrides or ())
    if out is not None:
        refuse_unusable(out)
    if scenario.sweep is not None:
        typer.echo(f"notice: {file}: [sweep] is ignored here; it is for `simqueue sweep`", err=True)
    seed = scenario.run.seed
    with named(file):
        workload = make_workload(scenario.workload, seed, scenario.path.parent)
        result = _run(scenario, workload, seed=seed, warmup=scenario.run.warmup)
        summary = result.summary()
    if out is not None:
        result.save(out)
    if as_json:
        typer.echo(strict_json(summary), nl=False)
    else:
        show(summary, scenario.run.warmup)
    if out is not None:
        typer.echo(f"written to {out}", err=True)


def _run(scenario: Scenario, workload: Workload, **how: int) -> Result | ClusterResult | DisaggregatedResult:
    """By what serves it."""
    from simqueue.cluster.disaggregated import simulate_disaggregated
    from simqueue.cluster.disaggregation import Disaggregation
    from simqueue.cluster.simulate import simulate_cluster
    from simqueue.sim.simulate import simulate as simulate_one

    if scenario.cluster is None:
        return simulate_one(workload, scenario.system, **how)
    if isinstance(scenario.cluster, Disaggregation):
        return simulate_disaggregated(workload, scenario.cluster, **how)
    return simulate_cluster(workload, scenario.cluster, **how)


def show(summary: dict[str, Any], warmup: int) -> None:
    """The figures as a table and some lines."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if summary["unstable"]:
        console.print(_unstable(summary), style="bold red")
    console.print(_table(summary))
    for name, text in _lines(summary, warmup):
        console.print(f"  {name:<13}{text}")
    if "by_client" in summary:
        console.print(_clients(summary["by_client"]))
    if "by_replica" in summary:
        console.print(_replicas(summary["by_replica"]))


def _unstable(summary: dict[str, Any]) -> str:
    load = f"UNSTABLE: the load is {_load(summary)}; at 1 or more"
    outcomes = summary.get("outcomes", {})
    if outcomes.get("abandoned") or outcomes.get("rejected"):
        return f"{load} the queue would grow, if nobody gave up or was turned away. The figures are of the others."
    return (
        f"{load} the queue grows for as long as requests come. "
        "The figures below are of this run alone, no steady state."
    )


def _clients(rows: list[dict[str, Any]]) -> Table:
    """A row a class of clients: who was answered, how soon, and, where they have limits, how many met theirs."""
    times = {("TTFT", "p99"): "ttft_s", ("response", "p99"): "response_s"}
    limits = ("met SLO",) if "slo_attainment" in rows[0] else ()
    table = _plain("client", "requests", *(name for names in times for name in names), *limits)
    for row in rows:
        all_of = "" if row["completed"] == row["requests"] else f"{row['completed']} of "
        pairs = ((row[key], which) for key in times.values() for which in ("mean", "p99"))
        figures = (readable(stats[which]) if stats else "-" for stats, which in pairs)
        shares = (f"{100 * row['slo_attainment']:.4g} %" for _ in limits)
        table.add_row(row["client"], f"{all_of}{row['requests']}", *figures, *shares)
    return table


def _replicas(rows: list[dict[str, Any]]) -> Table:
    """A row a replica of a cluster: means of the requests that it served."""
    times = {name: key for name, key in _MEANS.items() if key in rows[0]}
    table = _plain("replica", "requests", "utilisation", *times)
    for row in rows:
        means = (readable(row[key]) if row[key] is not None else "-" for key in times.values())
        table.add_row(str(row["replica"]), str(row["requests"]), f"{100 * row['utilisation']:.4g} %", *means)
    return table


def _plain(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE, pad_edge=True)
    for column in table.columns:
        column.justify, column.no_wrap = "right", True
    return table


def _table(summary: dict[str, Any]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=True)
    table.add_column("UNSTABLE" if summary["unstable"] else "", no_wrap=True)
    for figure in _FIGURES:
        table.add_column(figure, justify="right", no_wrap=True)
    for name, key in _TIMES.items():
        if key not in summary:
            continue
        stats = summary[key]
        table.add_row(name, *(readable(stats[figure]) if stats else "-" for figure in _FIGURES))
    return table


def _lines(summary: dict[str, Any], warmup: int) -> list[tuple[str, str]]:
    size, waiting = summary["batch_size"], summary["waiting"]
    left_out = f" counted, the first {warmup} left out" if warmup else ""
    lines = [
        ("requests", f"{summary['requests']}{left_out}"),
        ("throughput", f"{summary['throughput_rps']:.4g} requests/s"),
        *_goodput(summary),
        _demand(summary),
        ("utilisation", f"{100 * summary['utilisation']:.4g} %"),
        ("batch size", f"{size['mean_per_step']:.4g} a step, {size['mean_per_request']:.4g} as a request sees it"),
        ("waiting", f"{waiting['mean']:.4g} requests in the mean, {waiting['max']} at most"),
    ]
    dropped, clipped = summary["dropped"], summary["clipped"]
    if dropped or clipped:
        lines.append(("overlong", f"{dropped} requests dropped, {clipped} clipped to the model's context"))
    if "replicas" in summary:
        cost = f"{summary['replica_seconds']:.4g} replica-seconds"
        most = f"the most asked one with {summary['imbalance']:.4g} times its part of the requests"
        lines.append(("replicas", f"{summary['replicas']}, {most}; {cost}"))
    lines += _fates(summary)
    prompts, outputs = (100 * summary[f"{name}_clipped_share"] for name in ("prompt", "output"))
    if prompts or outputs:
        lines.append(("clipped", f"{prompts:.3g} % of prompts and {outputs:.3g} % of outputs, to a limit of lengths"))
    return lines


def _goodput(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Where requests have limits of their own."""
    if "goodput_rps" not in summary:
        return []
    return [("goodput", f"{summary['goodput_rps']:.4g} requests/s met all their limits")]


def _fates(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Who was not served, what preemption cost, and what a prefix cache spared."""
    if "outcomes" not in summary:
        return []
    lines = []
    if lost := {name: count for name, count in summary["outcomes"].items() if count and name != "completed"}:
        lines.append(("not served", ", ".join(f"{count} {name}" for name, count in lost.items())))
    if summary["preemptions"]:
        lines.append(("preemptions", f"{summary['preemptions']}, {summary['recomputed_tokens']} tokens computed again"))
    if summary["prefix_hit_rate"]:
        lines.append(("prefix cache", f"{100 * summary['prefix_hit_rate']:.4g} % of prompt tokens were found there"))
    return lines


def _demand(summary: dict[str, Any]) -> tuple[str, str]:
    """Who asks for how much: users send as fast as they are answered, and are no load that could be too high."""
    offered, saturation = summary["offered_rps"], summary["saturation_rps"]
    if summary["users"]:
        return "users", f"{summary['users']}, who wait for their answers ({saturation:.4g} requests/s at saturation)"
    return "load", f"{_load(summary)} ({offered:.4g} requests/s offered, {saturation:.4g} at saturation)"


def _load(summary: dict[str, Any]) -> str:
    return f"{summary['offered_rps'] / summary['saturation_rps']:.4g}"


def readable(seconds: float) -> str:
    """A duration with its unit, to four digits."""
    for unit, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= unit:
            return f"{seconds / unit:.4g} {name}"
    return f"{seconds / 1e-9:.4g} ns" if seconds else "0 s"
