"""A sweep that is ended at any moment and run again is the sweep that nobody disturbed."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from pyarrow import parquet
from scenes import POLICIES, SIMQUEUE, scenario, write

from simqueue.errors import ConfigError, WorkloadError
from simqueue.sweep import Failure, Plan, Store, content, plan, run
from simqueue.sweep.table import table
from simqueue.sweep.table import write as write_table

LOADS = "load = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]\n"


def rows_of(made: Plan, store: Store | None = None, **how: Any) -> list[dict[str, Any]]:
    found = dict(run(made, None, store, **how))
    assert not [outcome for outcome in found.values() if isinstance(outcome, Failure)]
    return [found[number] for number in range(len(made.cells))]  # type: ignore[misc]


def cells_in(folder: Path) -> dict[Path, int]:
    """Every kept file, and which file it is: one that is written again is another."""
    return {path: path.stat().st_ino for path in folder.glob("cells/??/[0-9a-f]*.json")}


@pytest.fixture(scope="module")
def small() -> Plan:
    return plan(scenario(POLICIES + "load = [0.3, 0.8]"), Path("scene.toml"))


def test_killed_at_any_moment_and_run_again_it_is_the_undisturbed_sweep(tmp_path: Path) -> None:
    """The driver with SIGKILL, of whom nobody hears; its processes end too."""
    path, out, rng = write(tmp_path, POLICIES + LOADS), tmp_path / "out", random.Random(5)
    for workers, cells in ((1, rng.randrange(3, 10)), (2, rng.randrange(12, 20))):
        before = cells_in(out)
        with subprocess.Popen([*SIMQUEUE, "sweep", str(path), "--out", str(out), "--workers", str(workers)]) as driver:
            while len(cells_in(out)) < cells:
                assert driver.poll() is None
                time.sleep(0.01)
            time.sleep(rng.random() * 0.05)
            processes = psutil.Process(driver.pid).children(recursive=True)
            driver.kill()
        assert before.items() <= cells_in(out).items()
        assert psutil.wait_procs(processes, timeout=10)[1] == []
    before = cells_in(out)
    assert 12 <= len(before) < 24 + 3
    made = plan(scenario(POLICIES + LOADS), path)
    again, undisturbed = table(made, rows_of(made, Store(out))), table(made, rows_of(made))
    assert before.items() <= cells_in(out).items()
    files = [write_table(one, folder)[0] for one, folder in ((again, out), (undisturbed, tmp_path))]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_what_is_finished_is_not_run_again_and_says_the_same(tmp_path: Path, small: Plan) -> None:
    store = Store(tmp_path)
    fresh = rows_of(small, store)
    before = cells_in(tmp_path)
    assert len(before) == 6 + 3
    assert rows_of(small, store) == fresh == rows_of(small)
    assert cells_in(tmp_path) == before
    # Other cells of another sweep stay, and do not mix.
    other = plan(scenario(POLICIES + "load = [0.3]\n'run.seed' = [4]"), Path("scene.toml"))
    assert [row["run.seed"] for row in rows_of(other, store)] == [4] * 3
    assert rows_of(small, store) == fresh
    # The same cell in a sweep that names it otherwise.
    alone = plan(scenario('"system.policy" = [{ kind = "static", batch = 4 }]\nload = [0.8]'), Path("scene.toml"))
    assert {**fresh[3], "label": None} == {**rows_of(alone, store)[0], "label": None}


@pytest.mark.parametrize("damage", [b"", b"half", None])
def test_a_damaged_cell_is_made_again(tmp_path: Path, small: Plan, damage: bytes | None) -> None:
    store = Store(tmp_path)
    fresh = rows_of(small, store)
    for path in cells_in(tmp_path):
        whole = path.read_bytes()
        path.write_bytes(whole.replace(b"1", b"2", 1) if damage is None else damage)
        path.with_name(f".simqueue-1-{path.name}").write_bytes(whole[:100])
    assert rows_of(small, store) == fresh
    assert all(store.get(path.stem) for path in cells_in(tmp_path))


def test_cells_of_another_version_are_not_taken(tmp_path: Path, small: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    rows_of(small, store)
    before = cells_in(tmp_path)
    theirs = {**content.versions(), "simqueue": "9.9.9"}
    monkeypatch.setattr(content, "versions", lambda: theirs)
    rows_of(small, store)
    assert len(cells_in(tmp_path)) == 2 * len(before)
    assert before.items() <= cells_in(tmp_path).items()


def trace(folder: Path, prompt: int) -> Plan:
    lines = "\n".join(f"{second},{prompt},5" for second in range(40))
    (folder / "t.csv").write_text(f"arrival_s,prompt_tokens,output_tokens\n{lines}\n")
    tables = scenario("load = [0.5]")
    tables["workload"] = {"arrivals": {"kind": "trace", "path": "t.csv"}}
    tables["run"]["warmup"] = 0
    return plan(tables, folder / "scene.toml")


def test_a_key_follows_what_is_in_files_and_not_where_they_are(tmp_path: Path) -> None:
    def keys(folder: Path, prompt: int) -> tuple[str, str]:
        made = content.Content.of(trace(folder, prompt).cells[0].scenario)
        return made.scenario, made.saturation

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    assert keys(tmp_path / "a", 9) == keys(tmp_path / "b", 9)
    assert not set(keys(tmp_path / "a", 9)) & set(keys(tmp_path / "a", 8))


def test_a_key_follows_the_source_of_ones_own_policy(tmp_path: Path) -> None:
    text = "from dataclasses import dataclass\nfrom near_by import seats\nfrom simqueue.policy import Continuous\n"
    text += "@dataclass(frozen=True)\nclass Own:\n    def decider(self, grid):\n"
    text += "        return Continuous(seats()).decider(grid)\n"
    (tmp_path / "own_policy.py").write_text(text)
    (tmp_path / "near_by.py").write_text("def seats():\n    return 8\n")
    made = plan(scenario('"system.policy" = [{kind="own_policy:Own"}]'), tmp_path / "scene.toml")
    scene = made.cells[0].scenario
    assert [path.name for path in content.sources(scene)] == ["near_by.py", "own_policy.py"]
    before = content.Content.of(scene).scenario
    (tmp_path / "near_by.py").write_text("def seats():\n    return 16\n")
    assert content.Content.of(scene).scenario != before


def test_workers_who_see_other_files_are_refused(tmp_path: Path) -> None:
    from simqueue.sweep.task import Task, done

    scene = trace(tmp_path, 9).cells[0].scenario
    task = Task(scene, content.surroundings(scene))
    assert "saturation_rps" in done(task)  # type: ignore[operator]
    trace(tmp_path, 8)
    with pytest.raises(ConfigError, match=r"a worker has .*t\.csv .*, and not .*: start the workers with the same"):
        done(task)
    (tmp_path / "t.csv").unlink()
    with pytest.raises(WorkloadError, match=r"t\.csv: cannot be read"):
        done(task)


def test_a_worker_that_lives_on_reads_a_changed_file_anew(tmp_path: Path) -> None:
    from simqueue.sweep.task import Task, done

    def saturation(prompt: int) -> Any:
        scene = trace(tmp_path, prompt).cells[0].scenario
        return done(Task(scene, content.surroundings(scene)))

    assert saturation(9) != saturation(800)
    assert saturation(9) == saturation(9)


def test_requests_are_left_as_parquet(tmp_path: Path, small: Plan) -> None:
    store = Store(tmp_path)
    without = rows_of(small, store)
    rows = rows_of(small, store, requests=True)
    for row, figures in zip(rows, without, strict=True):
        left = parquet.read_table(tmp_path / row.pop("requests_file"))
        assert left.num_rows == 600
        assert left["response_s"].to_numpy()[50:].mean() == pytest.approx(row["response_s_mean"])
        assert json.loads(left.schema.metadata[b"simqueue"])["warmup"] == 50
        assert row == figures
    # Those of a cell that lost them are made again.
    file = next(tmp_path.glob("requests/??/*.parquet"))
    whole = file.read_bytes()
    file.write_bytes(b"PAR1")
    rows_of(small, store, requests=True)
    assert file.read_bytes() == whole


def test_a_full_disk_is_said_in_one_line_and_nothing_is_corrupted(tmp_path: Path) -> None:
    """As full as for files of more than 1,000 bytes; the small ones, of saturation throughputs, are kept."""
    path, out = write(tmp_path, POLICIES + "load = [0.3, 0.8]"), tmp_path / "out"

    def full() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    command = [*SIMQUEUE, "sweep", str(path), "--out", str(out), "--workers", "1"]
    done = subprocess.run(command, preexec_fn=full, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert "cannot be written (File too large): make room, and run the same command again" in line
    kept = cells_in(out)
    assert len(kept) == 3
    assert all(Store(out).get(path.stem) for path in kept)
    assert [name for _, _, names in os.walk(out) for name in names if not name.endswith(".json")] == []
