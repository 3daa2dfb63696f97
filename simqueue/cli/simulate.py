"""`simqueue simulate`: one scenario, its figures with their intervals as a table or as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simqueue.cli import table
from simqueue.cli.table import within

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from simqueue.analysis.replicated import Replicated
    from simqueue.config import Scenario
    from simqueue.sensitivity.carried import Carried


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("simulate")(simulate)


def simulate(
    file: Annotated[Path, typer.Argument(help="The scenario, a TOML file.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for requests.parquet, steps.parquet and summary.json.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")] = False,
    welch: Annotated[
        Path | None, typer.Option(help="Draw the warm-up: response times by arrival, to NAME.svg and NAME.png.")
    ] = None,
    calibration_uncertainty: Annotated[
        bool,
        typer.Option("--calibration-uncertainty", help="A second interval: what the error of measured costs does."),
    ] = False,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a value: system.policy.max_batch=16. Repeatable.")
    ] = None,
) -> None:
    """Simulate a scenario and print queueing, service and response times, TTFT, TPOT and ITL, each with half of its
    95 % interval."""
    from simqueue.analysis.replications import replicate
    from simqueue.config import load, named
    from simqueue.folders import refuse_unusable as refuse_folder
    from simqueue.pool import cpus
    from simqueue.results import refuse_unusable, strict_json

    scenario = load(file, overrides or ())
    if out is not None:
        refuse_unusable(out)
    if welch is not None:
        refuse_folder(welch.parent)
    if scenario.sweep is not None:
        typer.echo(f"notice: {file}: [sweep] is ignored here; it is for `simqueue sweep`", err=True)
    if calibration_uncertainty:
        from simqueue.sensitivity.carried import movable

        movable(scenario)
    asked = scenario.run
    with named(file):
        found = replicate(
            scenario.workload,
            scenario.cluster or scenario.system,
            seed=asked.seed,
            replications=asked.replications,
            warmup=asked.warmup,
            precision=asked.asked_precision,
            workers=cpus(),
            base=scenario.path.parent,
        )
        summary = found.summary()
    carried = _carried(scenario, overrides or (), found) if calibration_uncertainty else None
    if carried is not None:
        summary["calibration"] = carried.told(found.figures)
    if out is not None:
        found.first.save(out, summary)
    files = _drawn(found, file.stem, welch) if welch is not None else []
    if as_json:
        typer.echo(strict_json(summary), nl=False)
    else:
        show(summary, found.warmup.requests)
        if carried is not None:
            from simqueue.cli.calibration_uncertainty import show as show_carried

            show_carried(carried, found)
    for path in ([out] if out is not None else []) + files:
        typer.echo(f"written to {path}", err=True)


def _carried(scenario: Scenario, overrides: Sequence[str], found: Replicated) -> Carried:
    from simqueue.cli.sensitivity import progress
    from simqueue.pool import cpus
    from simqueue.sensitivity.carried import carried

    with progress("calibration") as told:
        return carried(scenario, overrides, found, cpus(), told)


def _drawn(found: Replicated, name: str, path: Path) -> list[Path]:
    from simqueue.plot.welch import plot_welch

    return plot_welch(found, name, path.with_suffix("") if path.suffix in (".svg", ".png") else path)


def show(summary: dict[str, Any], warmup: int) -> None:
    """The figures as a table and some lines."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if summary["unstable"]:
        console.print(_unstable(summary), style="bold red")
    console.print(table.times(summary))
    for name, text in _lines(summary, warmup):
        console.print(f"  {name:<13}{text}")
    if "by_client" in summary:
        console.print(table.clients(summary))
    if "by_replica" in summary:
        console.print(table.replicas(summary["by_replica"]))


def _unstable(summary: dict[str, Any]) -> str:
    load, outcomes, growth = _load(summary), summary.get("outcomes", {}), summary["backlog_growth_rps"]
    if outcomes.get("abandoned") or outcomes.get("rejected"):
        why = "at 1 or more the queue would grow, if nobody gave up or was turned away"
    elif summary["offered_rps"] < summary["saturation_rps"]:
        why = "below 1, and the queue grows all the same for as long as requests come"
    else:
        why = "at 1 or more the queue grows for as long as requests come"
    here = "" if growth is None else f", here by {growth:.4g} requests/s"
    error = "" if growth is None else f" (standard error {summary['backlog_growth_se_rps']:.2g})"
    return (
        f"UNSTABLE: the load is {load}; {why}{here}{error}. The figures below are of this run alone, no steady state."
    )


def _lines(summary: dict[str, Any], warmup: int) -> list[tuple[str, str]]:
    half = summary.get("half_width", {})
    size, sizes = summary["batch_size"], half.get("batch_size", {})
    step, request = (within(size[f"mean_per_{of}"], sizes.get(f"mean_per_{of}")) for of in ("step", "request"))
    waiting = within(summary["waiting"]["mean"], half.get("waiting", {}).get("mean"))
    lines = [
        ("requests", _requests(summary, warmup)),
        ("throughput", f"{within(summary['throughput_rps'], half.get('throughput_rps'))} requests/s"),
        *_goodput(summary),
        _demand(summary),
        ("utilisation", f"{within(summary['utilisation'], half.get('utilisation'), 100)} %"),
        ("batch size", f"{step} a step, {request} as a request sees it"),
        ("waiting", f"{waiting} requests in the mean, {summary['waiting']['max']} at most"),
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
    return lines + (_trust(summary) if half else [])


def _requests(summary: Mapping[str, Any], warmup: int) -> str:
    runs = summary.get("replications", 1)
    if runs > 1:
        left_out = f", the first {warmup} of each left out" if warmup else ""
        return f"{summary['requests']} counted in {runs} replications{left_out}"
    return f"{summary['requests']}" + (f" counted, the first {warmup} left out" if warmup else "")


def _trust(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where the intervals are from, and how far to believe them."""
    lines = [("intervals", _parts(summary["replications"], summary["sections"]))]
    if short := summary["too_short"]:
        first = next((entry for entry in short if entry["figure"] == "response_s.p99"), short[0])
        figures = f"{len(short)} figures, such as {first['figure']}" if short[1:] else first["figure"]
        lines += [("too short", f"for what is in brackets: {figures}:"), ("", first["reason"])]
        lines += [] if summary["unstable"] else [("", "more requests in a run would do")]
    if "precision" in summary:
        lines.append(("precision", _precision(summary["precision"], summary["requests"])))
    return lines + ([("note", summary["note"])] if summary["note"] else [])


def _parts(replications: int, sections: int | None) -> str:
    if sections == 1:
        return "none: one run, which is too short for sections"
    return "± is half of one of 95 %, from " + (f"{sections} sections" if sections else f"{replications} replications")


def _precision(precision: Mapping[str, Any], requests: int) -> str:
    of = ", ".join(f"{100 * width:.2g} % of {name}" for name, width in precision["relative_half_width"].items())
    asked = f"{100 * precision['asked']:.2g} % asked, {of} found in {requests:,} requests"
    return asked if precision["reached"] else f"NOT REACHED: {asked}: raise run.max_replications or workload.requests"


def _goodput(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Where requests have limits of their own."""
    if "goodput_rps" not in summary:
        return []
    half = summary.get("half_width", {}).get("goodput_rps")
    return [("goodput", f"{within(summary['goodput_rps'], half)} requests/s met all their limits")]


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
    calm = "" if summary["unstable"] or offered < saturation else "; the number in the system does not grow"
    return "load", f"{_load(summary)} ({offered:.4g} requests/s offered, {saturation:.4g} at saturation){calm}"


def _load(summary: dict[str, Any]) -> str:
    return f"{summary['offered_rps'] / summary['saturation_rps']:.4g}"
