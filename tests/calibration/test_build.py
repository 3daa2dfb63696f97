"""Profiles from samples: those that ship come out of their samples again; a table of one's own makes one too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.build import build, from_file
from calibration.cells import Cell, eager_cells, graph_cells
from calibration.samples import Repeats, read
from calibration.serving import COEFFICIENTS
from simqueue.accuracy import KINDS, predict, targets
from simqueue.errors import ConfigError, ProfileError
from simqueue.live.device.buckets import bucket, buckets
from simqueue.profile import load_profile, save_profile, shipped

ROOT = Path(__file__).parents[2]
DATA, PAGE = ROOT / "calibration" / "data", ROOT / "docs" / "profiles.md"


@pytest.mark.parametrize("name", shipped())
def test_samples_give_the_shipped_profile(name):
    again, profile = from_file(DATA / f"{name}.csv.gz", name), load_profile(name)
    for field in ("decode", "prefill", "points", "mixed_s", "host_s", "model", "runner"):
        assert getattr(again, field) == getattr(profile, field), field
    for kind in KINDS:
        curve, shipped_curve = getattr(again.curves, kind), getattr(profile.curves, kind)
        assert (curve is None) == (shipped_curve is None)
        if curve:
            assert curve.form == shipped_curve.form
            held = [p for p in again.points if p.kind == kind and p.held_out]
            mine = [predict(curve, kind, p) for p in held]
            assert mine == pytest.approx([predict(shipped_curve, kind, p) for p in held], rel=1e-4)
    assert (again.serving is None) == (profile.serving is None)
    for term in COEFFICIENTS if again.serving else ():
        assert getattr(again.serving, term) == pytest.approx(getattr(profile.serving, term), rel=1e-6)


@pytest.mark.parametrize("name", shipped())
def test_the_page_says_how_good_each_curve_is(name):
    profile, page = load_profile(name), PAGE.read_text()
    for kind in KINDS:
        if curve := getattr(profile.curves, kind):
            missed = [target.figure for target in targets(profile, kind) if not target.reached]
            verdict = f"missed: {', '.join(missed)}" if missed else "reached"
            errors = [told(curve.errors[form]) for form in (curve.form, "table")]
            assert " | ".join([f"| `{name}`", kind, f"`{curve.form}`", *errors, f"{verdict} |"]) in page


def told(errors):
    return f"{errors.median:.2%} | {errors.p95:.2%} | {errors.mean:+.2%}"


def test_targets_are_3_8_and_5_12_and_half_a_per_cent():
    profile = load_profile("gpt2-h200-bf16-graph")
    assert [t.limit for t in targets(profile, "decode")] == [0.03, 0.08, 0.005]
    assert [t.limit for t in targets(profile, "prefill")] == [0.05, 0.12, 0.005]


def test_a_calibration_that_is_not_complete_makes_no_profile():
    header, samples = read(DATA / "gpt2-h200-bf16-graph.csv.gz")
    some = dict(samples)
    some.pop(next(cell for cell in some if cell.kind == "decode" and not cell.held_out))
    with pytest.raises(ProfileError, match=r"1 of 76 decode cells are .*: run calibrate again"):
        build(header, some, "p", "s.csv")
    with pytest.raises(ProfileError, match="has no decode or no prefill cells yet"):
        build(header, {Cell("decode", decode_rows=1, longest=1): Repeats([0.1], [1])}, "p", "s.csv")


@pytest.mark.parametrize(("rows", "window"), [(2, 32), (16, 256), (256, 1024)])
def test_held_out_cells_are_on_no_axis(rows, window):
    sizes = buckets(rows, max(window, 128))
    for cells in (eager_cells(rows, window, 0), graph_cells(sizes, 0)):
        grid = {(c.kind, c.rows, c.width, c.decode_rows, c.longest) for c in cells if not c.held_out}
        held = [c for c in cells if c.held_out]
        assert held
        assert all((c.kind, c.rows, c.width, c.decode_rows, c.longest) not in grid for c in held)
        assert max(c.rows + c.decode_rows for c in cells) <= rows
    assert bucket((1, 4, 8), 5) == 8


COLUMNS = "rows,new_tokens,context,seconds\n"


def my_server(path, lines=80, noise=0.01, columns=COLUMNS):
    rng = np.random.default_rng(4)
    text = columns
    for _ in range(lines):
        rows = int(rng.integers(1, 65))
        new, context = rows + int(rng.choice([0, 0, 128, 512])), int(rows * rng.integers(0, 1000))
        seconds = max(4e-3, 2e-3 + 3e-5 * rows + 4e-6 * new + 2e-8 * context) * np.exp(noise * rng.normal())
        text += f"{rows},{new},{context},{seconds:.9f}\n"
    path.write_text(text)
    return path


def test_a_table_of_ones_own_makes_a_profile(tmp_path):
    profile = from_file(my_server(tmp_path / "mine.csv"), "mine")
    assert profile.runner == "samples"
    curve = profile.curves.totals
    assert curve.errors[curve.form].p95 < 0.04
    assert curve.seconds(30, 542, 20_000) == pytest.approx(2e-3 + 3e-5 * 30 + 4e-6 * 542 + 4e-4, rel=0.03)
    assert sum(p.held_out for p in profile.points) == 16
    assert profile.provenance.command == "simqueue profiles fit mine.csv"
    save_profile(profile, tmp_path / "mine.json")
    assert load_profile(tmp_path / "mine.json") == profile


def test_a_byte_order_mark_and_further_columns_are_fine(tmp_path):
    path = my_server(tmp_path / "mine.csv")
    path.write_text("\ufeff" + path.read_text().replace("seconds\n", "seconds,note\n"))
    assert len(from_file(path, "mine").points) == 80


BAD = [
    ("0,1,0,0.1", r"line 82, column rows: 0 must be at least 1"),
    ("1,0,0,0.1", r"line 82, column new_tokens: 0 must be at least 1"),
    ("1.5,2,0,0.1", r"line 82, column rows: '1.5' is not a whole number"),
    ("1,two,0,0.1", r"line 82, column new_tokens: 'two' is not a whole number"),
    ("1,2,-3,0.1", r"line 82, column context: '-3' is not a whole number, 0 or more"),
    ("1,2,,0.1", r"line 82, column context: '' is not"),
    ("1,2,3,0", r"line 82, column seconds: '0' is not a positive number of seconds"),
    ("1,2,3,-1", r"line 82, column seconds: '-1' is not"),
    ("1,2,3,nan", r"line 82, column seconds: 'nan' is not"),
    ("1,2,3,inf", r"line 82, column seconds: 'inf' is not"),
    ("1,2,3", r"line 82, column seconds: None is not"),
]


@pytest.mark.parametrize(("line", "message"), BAD, ids=[line for line, _ in BAD])
def test_bad_lines_are_named(tmp_path, line, message):
    path = my_server(tmp_path / "mine.csv")
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ConfigError, match=rf"mine\.csv: {message}"):
        from_file(path, "mine")


def test_too_few_lines_a_missing_column_and_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="7 lines, but a fit needs at least 8"):
        from_file(my_server(tmp_path / "few.csv", lines=7), "mine")
    with pytest.raises(ConfigError, match="line 1 has no column 'seconds'"):
        from_file(my_server(tmp_path / "no.csv", columns="rows,new_tokens,context,ms\n"), "mine")
    with pytest.raises(ConfigError, match=r"none\.csv: cannot be read"):
        from_file(tmp_path / "none.csv", "mine")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ConfigError, match="line 1 has no column 'rows'"):
        from_file(tmp_path / "empty.csv", "mine")
