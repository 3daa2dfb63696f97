"""What a validation found, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from simqueue.validate.compare import CENTRE, JUDGED, SATURATION, TAIL, TOO_WIDE
from simqueue.validate.record import Cell, Figure

_NAMES = {"response_s": "response", "ttft_s": "TTFT", SATURATION: "saturation"}
_OTHERS = {
    "queueing_s": ("mean", "queueing"),
    "service_s": ("mean", "service"),
    "tpot_s": ("mean", "TPOT"),
    "itl_s": ("mean", "ITL"),
    "batch_size": ("mean_per_step", "batch size"),
    "throughput_rps": ("mean", "throughput"),
    "utilisation": ("mean", "utilisation"),
}
_STATISTICS = (*CENTRE, *TAIL)
_LOOKS = {"reached": "", "MISSED": "bold red", "not told apart": "yellow", "not judged": "dim"}
# Without colours it must show too.
_MARKS = {"reached": "{} ", "MISSED": "{}!", "not told apart": "{}?", "not judged": "({})"}
_BY_THE_FLOOR = "{}~"
_FIRST, _WIDTH = 12, 14
_LEGEND = (
    "Error of the prediction in % (predicted / live - 1, live the mean of its runs), ± the standard deviation of the "
    "live runs in %. ! missed; ~ reached thanks to the noise floor alone, twice that deviation; ? not told apart, the "
    f"noise floor being wider than {TOO_WIDE:g} targets; ( ) not judged. Last column: by how many % the mean grows if "
    "every step takes 1 % more. Stolen: processor time that the hypervisor gave to others while a cell ran live, in % "
    "of the time used."
)


class Judged(NamedTuple):
    """A figure with a verdict, and whose it is."""

    cell: Cell
    metric: str
    statistic: str
    figure: Figure

    @property
    def strain(self) -> float:
        """The error as a share of what is allowed."""
        return abs(self.figure.error or 0.0) / (self.figure.allowed or 1.0)

    def told(self) -> str:
        """In one line, with both sides."""
        figure, name, shown = self.figure, _NAMES[self.metric], _time
        if self.metric == SATURATION:
            shown = _rate
        else:
            name = f"{name} {self.statistic}"
        return (
            f"{self.cell.name}: {name} {shown(figure.simulated)} predicted, {shown(_mean(figure))} live, "
            f"{_error(figure)} %, {_percent(figure.allowed)} % allowed"
        )


def judged(cells: Sequence[Cell]) -> list[Judged]:
    """Every figure that has a target, or has none for a reason."""
    return [Judged(cell, *names, figure) for cell in cells for names, figure in cell.verdicts().items()]


def counts(cells: Sequence[Cell]) -> str:
    """How many figures were reached, missed, not told apart and not judged."""
    every = [j.figure for j in judged(cells)]
    reached, missed, unclear, left = (sum(figure.verdict == verdict for figure in every) for verdict in _LOOKS)
    floor = sum(figure.by_the_floor for figure in every)
    thanks = f" ({floor} thanks to the noise floor)" if floor else ""
    return f"{reached} reached{thanks}, {missed} MISSED, {unclear} not told apart, {left} not judged"


def plans(cells: Sequence[Cell]) -> str:
    """Whether a fresh engine planned what was planned live."""
    replayed = [cell for cell in cells if cell.plans is not None]
    every, differing = (sum(getattr(cell, name) for cell in replayed) for name in ("plans", "differing_plans"))
    unknown = len(cells) - len(replayed)
    told = f"{differing:,} of {every:,} plans DIFFER in replay" if differing else f"all {every:,} plans alike in replay"
    return ", ".join([told] * bool(replayed) + [f"plans of {unknown} cells not replayed"] * bool(unknown))


def summary(cells: Sequence[Cell]) -> str:
    """All that in a sentence, and the worst."""
    every = judged(cells)
    told = f"{counts(cells)}, of {len(every)} figures in {len(cells)} cells; {plans(cells)}."
    worst = max((j for j in every if j.figure.verdict in ("reached", "MISSED")), key=lambda j: j.strain, default=None)
    return f"{told} Worst: {worst.told()}." if worst else told


def show(cells: Sequence[Cell], console: Console) -> None:
    """The table, what was missed and where it may come from, which plans differ, and the summary."""
    wrong = (*_missed(cells), *_differing(cells))
    lines = (*_sources(cells), "", *_table(cells), "", _LEGEND, *wrong, Text(summary(cells)))
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _sources(cells: Sequence[Cell]) -> Iterator[Text]:
    """What ran and what predicted, once for all cells that say the same."""
    yield from map(Text, dict.fromkeys(line for cell in cells for line in _source(cell)))


def _source(cell: Cell) -> Iterator[str]:
    here, profile = cell.provenance["machine"], cell.provenance["profile"]
    machine = here["gpu"] if here["gpu"] != "none" else here.get("cpu", "no device")
    yield f"Live: {here['runner']} executor, {here['model']}, {here.get('dtype', '-')}, on {machine}."
    cost = f"profile {profile['name']} ({profile['sha256'][:12]}, {profile['date']})" if profile else "a formula"
    yield f"Predicted: {cost}, mean over {cell.seeds} noise seeds."
    if cell.provenance["foreign"]:
        yield f"OTHER MACHINE: {'; '.join(cell.provenance['foreign'])}."
    if unchecked := cell.provenance.get("compared", {}).get("unchecked"):
        yield f"Compared again without knowing whether the live runs had the same {', '.join(unchecked)}."


def _table(cells: Sequence[Cell]) -> Iterator[Text]:
    """Every cell's name above its errors, so that it fits 80 letters."""
    yield Text.assemble(" " * _FIRST, *(f"{name:>{_WIDTH}}" for name in _STATISTICS), "  per 1 %")
    for cell in cells:
        load = "" if cell.load is None or "load=" in cell.label else f", load {cell.load:.3g}"
        stolen = "" if cell.stolen is None else f", {_percent(cell.stolen)} % stolen"
        yield Text.assemble((cell.name, "bold"), f"{load}, {cell.repeats} x {cell.counted:,} requests{stolen}")
        for metric in [SATURATION] if SATURATION in cell.figures else JUDGED:
            yield Text.assemble(f"  {_NAMES[metric]}".ljust(_FIRST), *_row(cell, metric))
        yield Text(f"  {'means':<{_FIRST - 2}}  {', '.join(_means(cell))}")


def _row(cell: Cell, metric: str) -> Iterator[tuple[str, str]]:
    for statistic in _STATISTICS:
        figure = cell.figures[metric].get(statistic)
        if figure:
            mark = _BY_THE_FLOOR if figure.by_the_floor else _MARKS[figure.verdict]
            yield f"{mark.format(_error(figure)):>{_WIDTH}}", _LOOKS[figure.verdict]
    growth = cell.elasticity.get(metric)
    yield f"{growth['mean']:>9.3g}" if growth else "", ""


def _means(cell: Cell) -> Iterator[str]:
    for metric, (statistic, name) in _OTHERS.items():
        if (error := cell.figures[metric][statistic].error) is not None:
            yield f"{name} {_percent(error, sign=True)}"


def _missed(cells: Sequence[Cell]) -> Iterator[Text]:
    for cell in cells:
        missed = [j for j in judged([cell]) if j.figure.verdict == "MISSED"]
        for j in missed:
            yield Text(f"MISSED {j.told()}", "bold red")
        if missed:
            kinds = (f"{kind} {_percent(steps.error, sign=True)} %" for kind, steps in cell.steps.items())
            yield Text(f"  its steps: {', '.join(kinds)}")


def _differing(cells: Sequence[Cell]) -> Iterator[Text]:
    for cell in cells:
        if cell.differing_plans:
            yield Text(
                f"DIFFER {cell.name}: {plans([cell])}: the engine, or its policy, does not decide by what it is told "
                "alone, so that its simulation is of another system",
                "bold red",
            )


def _error(figure: Figure) -> str:
    spread = "" if figure.spread is None else f" ±{_percent(figure.spread)}"
    return f"{_percent(figure.error, sign=True)}{spread}"


def _percent(share: float | None, *, sign: bool = False) -> str:
    return "-" if share is None else f"{100 * share:{'+' if sign else ''}.1f}"


def _mean(figure: Figure) -> float | None:
    known = [value for value in figure.live if value is not None]
    return sum(known) / len(known) if len(known) == len(figure.live) else None


def _time(value: float | None) -> str:
    return "-" if value is None else f"{1e3 * value:.4g} ms"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}/s"
