"""The script that makes the table of docs/validation.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXPERIMENTS / script), *arguments], capture_output=True, text=True, check=False
    )


def test_the_table_of_the_validation_is_printed_as_the_page_says(tmp_path: Path) -> None:
    done = run("validation/table.py")
    assert done.returncode == 0
    assert done.stdout.startswith("| cell | load |")
    results = EXPERIMENTS / "validation" / "results"
    other = run("validation/table.py", str(results / "cpu" / "validation.json"))
    assert other.returncode == 0
    assert other.stdout != done.stdout


@pytest.mark.parametrize("text", [None, "[]"])
def test_what_is_no_validation_is_refused(tmp_path: Path, text: str | None) -> None:
    if text:
        (tmp_path / "v.json").write_text(text)
    done = run("validation/table.py", str(tmp_path / "v.json"))
    assert done.returncode == 2
    assert done.stderr.startswith(f"table: {tmp_path}/v.json: ")
    assert done.stderr.count("\n") == 1
