"""Processor time, used and stolen."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from simqueue.validate.processors import Processors, processors, stolen_share

STAT = "cpu  100 20 30 4000 500 6 7 80 90 10\ncpu0 1 1 1 1 1 1 1 1 1 1\nintr 5\n"


def test_used_is_what_processes_and_the_kernel_took_and_guests_are_within(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(STAT)
    assert processors(tmp_path / "stat") == Processors(100 + 20 + 30 + 6 + 7, 80)


@pytest.mark.parametrize("text", [None, "", "cpu  1 2 3 4\n", "no such thing as a counter\n"])
def test_what_is_not_counted_is_unknown(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "stat").write_text(text)
    assert processors(tmp_path / "stat") is None


def test_the_share_is_of_the_time_used_between_two_instants() -> None:
    assert stolen_share(Processors(1_000, 50), Processors(1_200, 60)) == 0.05
    assert stolen_share(Processors(1_000, 50), Processors(1_200, 50)) == 0.0


def test_nothing_counted_or_used_has_no_share() -> None:
    some = Processors(1_000, 50)
    assert stolen_share(None, some) is stolen_share(some, None) is stolen_share(some, some) is None


def test_work_on_this_machine_is_counted() -> None:
    before = processors()
    if before is None:
        pytest.skip("this system counts no processor time in /proc/stat")
    used = time.process_time()
    while time.process_time() < used + 0.2:
        pass
    after = processors()
    assert after is not None
    # The kernel counts in hundredths of a second.
    assert after.used - before.used >= 15
    assert stolen_share(before, after) is not None
