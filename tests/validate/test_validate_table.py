"""What is printed."""

from __future__ import annotations

import io

import msgspec
from rehearsals import cell, planned
from rich.console import Console

from simqueue.validate.record import Cell, Figure
from simqueue.validate.table import counts, show, summary


def _shown(*cells: Cell) -> str:
    console = Console(file=io.StringIO(), width=80)
    show(cells, console)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def _with(found: Cell, statistic: str, **changes: object) -> Cell:
    figures = {metric: dict(statistics) for metric, statistics in found.figures.items()}
    figures["response_s"][statistic] = msgspec.structs.replace(figures["response_s"][statistic], **changes)
    return msgspec.structs.replace(found, figures=figures)


def test_missed_figures_are_said_in_words_with_both_sides_and_where_the_steps_are_off() -> None:
    steady, saturated = (cell(case, 1.1) for case in planned("load = [0.5, 20.0]"))
    lines = _shown(steady, saturated).splitlines()
    missed = [line for line in lines if line.startswith("MISSED")]
    assert len(missed) == 7
    assert missed[0].startswith("MISSED scene: load=0.5: response mean ")
    assert missed[0].endswith(" % allowed")
    assert " ms predicted, " in missed[0]
    assert " ms live, -" in missed[0]
    assert missed[-1].startswith("MISSED scene: load=20: saturation ")
    assert "/s predicted, " in missed[-1]
    assert sum(line.startswith("  its steps: decode -9.") for line in lines) == 2
    # Without colours too: a mark at each number.
    assert sum(line.count("!") for line in lines if line.startswith(("  response", "  TTFT", "  saturation"))) == 7
    assert "0 reached, 7 MISSED" in lines[-1]
    assert "Worst: scene: load=0.5: TTFT mean " in lines[-1]


def test_the_table_fits_80_letters() -> None:
    lines = _shown(*map(cell, planned("load = [0.5, 0.95, 20.0]"))).splitlines()
    table = lines[lines.index("") + 1 :]
    assert all(len(line) <= 80 for line in table[: table.index("")] if not line.startswith("  means"))


def test_a_label_without_its_load_gets_it() -> None:
    assert "scene: continuous(max_seqs=8), load 0.95, 3 x 420 requests" in _shown(cell(planned("load = [0.95]")[0]))
    assert "scene: load=0.5, 3 x 420 requests" in _shown(cell(planned("load = [0.5, 0.6]")[0]))


def test_what_is_not_judged_is_in_parentheses() -> None:
    [row] = [line for line in _shown(cell(planned("load = [0.95]")[0])).splitlines() if line.startswith("  response")]
    assert row.count("(") == row.count(")") == 4


def test_figures_reached_thanks_to_the_noise_floor_alone_are_counted_apart() -> None:
    plain = cell(planned("load = [0.5]")[0])
    noisy = _with(plain, "mean", error=-0.10, spread=0.07)
    assert counts([plain]) == "6 reached, 0 MISSED, 0 not told apart, 2 not judged"
    assert counts([noisy]) == "6 reached (1 thanks to the noise floor), 0 MISSED, 0 not told apart, 2 not judged"
    assert "-10.0 ±7.0~" in _shown(noisy)


def test_figures_that_scatter_too_widely_are_counted_apart_and_are_never_the_worst() -> None:
    plain = cell(planned("load = [0.5]")[0])
    wide = _with(plain, "mean", verdict="not told apart", error=-0.9, spread=0.08)
    assert counts([wide]) == "5 reached, 0 MISSED, 1 not told apart, 2 not judged"
    assert "-90.0 ±8.0?" in _shown(wide)
    assert "response mean" not in summary([wide])


def test_the_worst_is_the_one_that_is_farthest_beyond_what_is_allowed() -> None:
    plain = cell(planned("load = [0.5]")[0])
    close = Figure(live=(1.0,), simulated=1.0, deviation=None, error=0.0, spread=None)
    figures = {**plain.figures, "ttft_s": dict.fromkeys(plain.figures["ttft_s"], close)}
    worst = _with(
        _with(msgspec.structs.replace(plain, figures=figures), "p50", error=0.06, spread=0.03),
        "p95",
        error=-0.09,
        spread=0.05,
    )
    assert "3 reached (2 thanks" in summary([worst])
    assert "Worst: scene: continuous(max_seqs=8): response p50" in summary([worst])


def test_plans_that_differ_are_said_of_their_cells() -> None:
    well = cell(planned("load = [0.5]")[0])
    ill = msgspec.structs.replace(well, label="ill", differing_plans=7)
    assert "; all 2,000 plans alike in replay." in summary([well, well])
    assert "; 7 of 2,000 plans DIFFER in replay." in summary([well, ill])
    differ = [line for line in _shown(well, ill).splitlines() if line.startswith("DIFFER")]
    assert [line[:54] for line in differ] == ["DIFFER scene: ill: 7 of 1,000 plans DIFFER in replay: "]


def test_runs_of_a_version_that_kept_less_are_said_to_be_unknown() -> None:
    well = cell(planned("load = [0.5]")[0])
    old = msgspec.structs.replace(well, plans=None, differing_plans=None, stolen=None)
    assert "; plans of 1 cells not replayed." in summary([old])
    assert "; all 1,000 plans alike in replay, plans of 2 cells not replayed." in summary([well, old, old])
    assert "420 requests, 1.2 % stolen\n" in _shown(well)
    assert "420 requests\n" in _shown(old)


def test_another_machine_is_said() -> None:
    found = cell(planned("load = [0.5]")[0])
    found.provenance["foreign"].append("gpu A, live B")
    assert "OTHER MACHINE: gpu A, live B." in _shown(found)


def test_what_could_not_be_checked_is_said() -> None:
    found = cell(planned("load = [0.5]")[0])
    found.provenance["compared"] = {"unchecked": ["live.max_rows"]}
    assert "Compared again without knowing whether the live runs had the same live.max_rows." in _shown(found)
