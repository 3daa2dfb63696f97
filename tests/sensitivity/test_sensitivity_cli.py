"""`simqueue sensitivity` and `simulate --calibration-uncertainty`: words, JSON and files; refusals in one line."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from one_server import ERROR, FLAT, SERVICE_S, written
from PIL import Image
from pyarrow import parquet

from simqueue import pool
from simqueue.cli.main import main
from simqueue.sensitivity import effort, morris, sobol, study

RANGES = ("--vary", "rate=40..60", "--vary", "system.cost.base_s=0.008..0.012")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(morris, "TRAJECTORIES", 4)
    monkeypatch.setattr(sobol, "ROWS", 16)
    monkeypatch.setattr(effort, "REPLICATIONS", 2)
    for module in (study, pool):
        monkeypatch.setattr(module, "cpus", lambda: 1)


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, verb: str, *args: object
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["simqueue", verb, *map(str, args)])
    with pytest.raises(SystemExit) as end:
        main()
    out = capsys.readouterr()
    return int(end.value.code or 0), out.out, out.err


def test_in_words_and_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = written(tmp_path, requests=200), tmp_path / "out"
    figures = ("--of", "response_s.mean", "--of", "utilisation")
    words = (path, *figures, *RANGES, "--vary", "workload.prompt_tokens.value=1..2", "--out", folder)
    code, out, err = run(capsys, monkeypatch, "sensitivity", *words)
    assert code == 0
    assert "response_s.mean is 1" in out
    assert "at load 0.5" in out
    assert "What moves it most is system.cost.base_s: " in out
    assert "Below what these runs can tell: workload.prompt_tokens.value." in out
    assert "16 points, each 2 runs of 200 requests, with the same customers at all of them." in out
    assert max(map(len, out.splitlines())) < 200
    told = json.loads((folder / "sensitivity.json").read_bytes())
    assert [one["parameter"] for one in told["effects"]["utilisation"]][2] == "workload.prompt_tokens.value"
    rows = parquet.read_table(folder / "effects.parquet").to_pylist()
    assert [row["figure"] for row in rows] == 3 * ["response_s.mean"] + 3 * ["utilisation"]
    lines = csv.DictReader((folder / "effects.csv").read_text().splitlines())
    assert [float(line["size"]) for line in lines] == [row["size"] for row in rows]
    with Image.open(folder / "sensitivity.png") as image:
        assert min(image.size) > 500
    drawn = (folder / "sensitivity.svg").read_text()
    assert all(
        text in drawn for text in ("no more than chance", "what chance alone stays under", "(ms)", "utilisation")
    )
    assert err.count("written to") == 5
    assert not list(folder.glob(".*"))


def test_shares_of_the_variance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effort, "REPLICATIONS", 4)
    path = written(tmp_path, requests=100)
    words = (path, "--of", "response_s.mean", *RANGES, "--method", "sobol", "--out", tmp_path)
    out = run(capsys, monkeypatch, "sensitivity", *words)[1]
    assert "What moves it most is system.cost.base_s: " in out
    assert "% of the variance." in out
    told = json.loads((tmp_path / "sensitivity.json").read_bytes())
    base, rate = told["effects"]["response_s.mean"]
    assert 0 < rate["first"] < base["first"] < 1
    assert len(told["points"]) == 16 * 4
    drawn = (tmp_path / "sensitivity.svg").read_text()
    assert "index of first order" in drawn
    assert all(text in drawn for text in ("share of the variance", ">0.2<", ">0.8<"))


def test_json_is_all_that_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run(capsys, monkeypatch, "sensitivity", written(tmp_path, requests=50), *RANGES, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["question"]["figures"] == ["response_s.p99"]


def test_a_second_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path, folder = written(tmp_path, 0.5, FLAT, 1000), tmp_path / "out"
    out = run(capsys, monkeypatch, "simulate", path, "--calibration-uncertainty", "--out", folder)[1]
    assert " (simulation) ± " in out
    assert " (calibration)\n" in out
    assert "steps are known to: total 2 % (95 % of held-out steps of flat)" in out
    told = json.loads(run(capsys, monkeypatch, "simulate", path, "--calibration-uncertainty", "--json")[1])
    carried = told["calibration"]
    assert carried["coefficients"][0]["half_width"] == pytest.approx(ERROR, abs=1e-9)
    # Service is what was measured, whatever waits for it.
    assert carried["half_width"]["service_s"]["mean"] == pytest.approx(ERROR * SERVICE_S, rel=0.01)
    assert carried["half_width"]["response_s"]["mean"] == pytest.approx(0.0005, rel=0.2)
    assert carried["due_to"]["system.cost.scale.total"].keys() == carried["half_width"].keys()
    assert json.loads((folder / "summary.json").read_bytes())["calibration"] == carried


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("sensitivity", "--vary", "speed"), "--vary 'speed' is no range of a number"),
        (("sensitivity", "--of", "respons_s.p99"), "did you mean 'response_s.p99'"),
        (("sensitivity", "--out", "/dev/null"), "/dev/null is no folder"),
        (("simulate", "--calibration-uncertainty"), "one.toml: --calibration-uncertainty: its costs were not measured"),
    ],
)
def test_refusals_are_one_line(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verb, *more = words
    code, out, err = run(capsys, monkeypatch, verb, written(tmp_path), *more)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_without_salib_it_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "SALib", None)
    code, _, err = run(capsys, monkeypatch, "sensitivity", written(tmp_path))
    assert code == 2
    assert "pip install 'simqueue[study]'" in err
