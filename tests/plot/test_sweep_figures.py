"""The figures of a sweep: what they say, what they leave out, and that they are the same every time."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from simqueue.plot.caption import duration, of_sweep
from simqueue.plot.sweep import plot_sweep
from simqueue.sweep import plan, run

FIGURES = ("response_time", "queueing_and_service", "batch_size", "ttft_and_tpot")
SCENARIO: dict[str, Any] = {
    "workload": {
        "requests": 300,
        "arrivals": {"kind": "poisson", "rate": 20.0},
        "prompt_tokens": {"kind": "lognormal", "mean": 60, "cv": 0.66},
        "output_tokens": {"kind": "geometric", "mean": 10},
    },
    "system": {
        "policy": {"kind": "none"},
        "cost": {"kind": "affine", "base_s": 0.8e-3, "per_new_token_s": 8e-6, "per_context_token_s": 2e-9},
    },
    "run": {"warmup": 20},
}
POLICIES = [{"kind": "none"}, {"kind": "static", "batch": 4}, {"kind": "continuous", "max_seqs": 16}]
LOADS = [0.2, 0.5, 0.8]


def swept(**axes: Any) -> tuple[list[dict[str, Any]], str, str]:
    """Rows, x axis and caption."""
    made = plan(SCENARIO | {"sweep": axes}, Path("scene.toml"))
    found = dict(run(made))
    return [found[number] for number in range(len(made.cells))], made.x, of_sweep(made)  # type: ignore[misc]


def texts(path: Path) -> list[str]:
    """All that a figure says, piece by piece."""
    tree = ElementTree.parse(path)
    return ["".join(text.itertext()).strip() for text in tree.iter("{http://www.w3.org/2000/svg}text")]


def curves(path: Path) -> list[str]:
    """The outlines of all lines in the axes."""
    return re.findall(r'<g id="line2d_\d+">\s*<path d="([^"]*L[^"]*)"', path.read_text())


@pytest.fixture(scope="module")
def by_load(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Path]:
    rows, x, caption = swept(**{"system.policy": POLICIES, "load": LOADS})
    folder = tmp_path_factory.mktemp("figures")
    files = plot_sweep(rows, x, caption, folder)
    assert [file.name for file in files] == [f"{name}.{kind}" for name in FIGURES for kind in ("svg", "png")]
    return rows, folder


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("response_time", ["response time (s)", "arrival rate (requests/s)", "mean", "p99", "saturation throughput"]),
        ("queueing_and_service", ["mean time (s)", "queueing", "service"]),
        ("batch_size", ["rows in a step (batch size)", "mean over steps", "mean as a request sees it"]),
        ("ttft_and_tpot", ["TTFT (s)", "TPOT (s)", "arrival rate (requests/s)"]),
    ],
)
def test_axes_units_legend_and_caption(by_load: tuple[Any, Path], name: str, labels: list[str]) -> None:
    said = texts(by_load[1] / f"{name}.svg")
    for label in [*labels, "none", "static(batch=4)", "continuous(max_seqs=16)"]:
        assert label in said
    caption = " ".join(said)
    assert "A step takes 800 µs + 8 µs a new token + 2 ns a token in the cache." in caption
    assert (
        "Prompts lognormal (mean 60, cv 0.66), outputs geometric (mean 10), arrivals poisson, 300 requests" in caption
    )
    assert "the first 20 left out, seed 0." in caption
    assert "load (arrival rate / saturation throughput)" in said or name == "ttft_and_tpot"


def test_drawn_side_by_side_they_are_the_same(by_load: tuple[list[dict[str, Any]], Path], tmp_path: Path) -> None:
    rows, folder = by_load
    caption = of_sweep(plan(SCENARIO | {"sweep": {"system.policy": POLICIES, "load": LOADS}}, Path("scene.toml")))
    files = plot_sweep(rows, "rate", caption, tmp_path, processes=2)
    assert [file.name for file in files] == [f"{name}.{kind}" for name in FIGURES for kind in ("svg", "png")]
    for file in files:
        assert file.read_bytes() == (folder / file.name).read_bytes()


def test_each_saturation_is_marked(by_load: tuple[list[dict[str, Any]], Path]) -> None:
    said = texts(by_load[1] / "response_time.svg")
    assert {f"{row['saturation_rps']:.3g}/s" for row in by_load[0]} <= set(said)


def test_limits_that_are_close_are_marked_to_both_sides_and_read_as_numbers(
    by_load: tuple[list[dict[str, Any]], Path], tmp_path: Path
) -> None:
    limits = dict(zip(["none", "static(batch=4)", "continuous(max_seqs=16)"], [100.0, 1324.0, 1413.0], strict=True))
    rows = [{**row, "saturation_rps": limits[row["series"]]} for row in by_load[0]]
    plot_sweep(rows, "rate", "", tmp_path)
    assert {"100/s", "1,320/s", "1,410/s"} <= set(texts(tmp_path / "response_time.svg"))


def test_the_axis_of_response_times_is_logarithmic(by_load: tuple[Any, Path]) -> None:
    said = texts(by_load[1] / "response_time.svg")
    assert {"0.01", "0.02", "0.05", "0.1"} <= set(said)


def test_who_has_no_tpot_is_said(by_load: tuple[Any, Path]) -> None:
    assert any(text.startswith("No TPOT: static(batch=4) (") for text in texts(by_load[1] / "ttft_and_tpot.svg"))


@pytest.mark.parametrize("name", FIGURES)
def test_png_is_as_large_as_the_svg(by_load: tuple[Any, Path], name: str) -> None:
    width, height = struct.unpack(">II", (by_load[1] / f"{name}.png").read_bytes()[16:24])
    root = ElementTree.parse(by_load[1] / f"{name}.svg").getroot()
    points = [float(root.attrib[side].removesuffix("pt")) for side in ("width", "height")]
    assert (width, points[0]) == (1280, 576.0)
    assert height == pytest.approx(points[1] / 72 * 160, abs=1)


def test_a_caption_says_how_long_runs_are_where_they_get_longer() -> None:
    scenario = SCENARIO | {"run": {"precision": 0.07}, "sweep": {"load": LOADS}}
    said = of_sweep(plan(scenario, Path("scene.toml")))
    assert "300 requests a run or more (until response_s.p99 is known to 7 %), seed 0." in said


def test_the_same_table_is_the_same_file(by_load: tuple[list[dict[str, Any]], Path], tmp_path: Path) -> None:
    rows, x, caption = swept(**{"system.policy": POLICIES, "load": LOADS})
    assert rows == by_load[0]
    for file in plot_sweep(rows, x, caption, tmp_path):
        assert file.read_bytes() == (by_load[1] / file.name).read_bytes()


def test_unstable_cells_are_not_drawn_and_said(by_load: tuple[list[dict[str, Any]], Path], tmp_path: Path) -> None:
    rows, x, caption = swept(**{"system.policy": POLICIES, "load": [*LOADS, 1.0, 3.0]})
    plot_sweep(rows, x, caption, tmp_path)
    assert len(curves(tmp_path / "response_time.svg")) > 12
    for name in FIGURES:
        assert curves(tmp_path / f"{name}.svg") == curves(by_load[1] / f"{name}.svg")
        note = "6 of 15 cells are unstable: they have no steady state and are not drawn."
        assert note in texts(tmp_path / f"{name}.svg")


def test_a_sweep_without_a_steady_state_says_so(tmp_path: Path) -> None:
    plot_sweep(*swept(load=[2.0]), tmp_path)
    assert "no cell has a steady state" in texts(tmp_path / "response_time.svg")


def test_one_saturation_puts_the_load_above_the_rate(tmp_path: Path) -> None:
    arrivals = [{"kind": "poisson", "rate": 1.0}, {"kind": "gamma", "rate": 1.0, "cv": 3.0}]
    plot_sweep(*swept(**{"workload.arrivals": arrivals, "load": LOADS}), tmp_path)
    said = texts(tmp_path / "response_time.svg")
    assert {"arrival rate (requests/s)", "load (arrival rate / saturation throughput)", "gamma(cv=3)"} <= set(said)
    assert "arrivals as labelled" in " ".join(said)


def test_a_swept_knob_is_the_x_axis(tmp_path: Path) -> None:
    axes = {"system.policy": [{"kind": "continuous"}, {"kind": "continuous", "max_tokens": 900}]}
    plot_sweep(*swept(**axes, **{"system.policy.max_seqs": [2, 4, 8]}), tmp_path)
    said = texts(tmp_path / "response_time.svg")
    assert {"system.policy.max_seqs", "continuous", "continuous(max_tokens=900)"} <= set(said)
    assert "saturation throughput" not in said


def test_users_are_the_x_axis_and_the_caption_tells_how_long_they_think(tmp_path: Path) -> None:
    arrivals = {"kind": "users", "users": 2, "think_s": {"kind": "exponential", "mean": 0.5}}
    tables = SCENARIO | {"workload": SCENARIO["workload"] | {"arrivals": arrivals}}
    made = plan(tables | {"sweep": {"workload.arrivals.users": [1, 8, 64], "system.policy": POLICIES}}, Path("s.toml"))
    found = dict(run(made))
    plot_sweep([found[number] for number in range(len(made.cells))], made.x, of_sweep(made), tmp_path)  # type: ignore[misc]
    said = texts(tmp_path / "response_time.svg")
    assert {"users", "none", "static(batch=4)", "continuous(max_seqs=16)"} <= set(said)
    assert {"1", "2", "5", "10", "20", "50"} <= set(said)
    assert "arrivals users (think_s exponential(mean=0.5))," in " ".join(said)


def test_what_labels_leave_out_is_in_the_caption() -> None:
    policies = [{**policy, "release": "request"} for policy in ({"kind": "static", "batch": 2}, {"kind": "dynamic"})]
    caption = swept(**{"system.policy": policies, "load": [0.5]})[2]
    assert "release=request wherever it applies." in caption


def test_a_measured_cost_names_profile_and_machine() -> None:
    cost = {"kind": "profile", "name": "gpt2-h200-bf16-graph"}
    tables = SCENARIO | {"system": {"policy": {"kind": "none"}, "cost": cost}, "sweep": {"load": [0.5]}}
    caption = of_sweep(plan(tables, Path("scene.toml")))
    assert caption.startswith("gpt2-h200-bf16-graph: gpt2, bfloat16, on NVIDIA H200")


@pytest.mark.parametrize(
    ("seconds", "said"), [(2.0, "2 s"), (0.0008, "800 µs"), (2e-9, "2 ns"), (8.5e-3, "8.5 ms"), (1e-11, "0.01 ns")]
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
