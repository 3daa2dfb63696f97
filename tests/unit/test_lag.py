"""How long things take by how long ago they were done last."""

from __future__ import annotations

import pytest

from simqueue import Affine, Continuous, NoBatching, Overheads, System, Workload, simulate
from simqueue.errors import ConfigError
from simqueue.lag import on_grid
from simqueue.units import Grid

PAIRS = ((1.0, 0.1), (3.0, 0.5), (4.0, 0.2))


def test_on_the_line_between_two_pairs_and_constant_beyond() -> None:
    takes = on_grid(PAIRS, Grid(1000))
    waits = [0, 1000, 2000, 3000, 3500, 4000, 99_000]
    assert [takes(waited) for waited in waits] == [100, 100, 300, 500, 350, 200, 200]
    assert on_grid(0.25, Grid(1000))(7) == 250


def test_who_finds_the_server_free_is_served_that_much_later() -> None:
    over = Overheads(wake_s=PAIRS)
    # Each takes a second; the server is free for 2 s before the second request, and for 96 before the third.
    result = simulate(
        Workload.from_columns([1.0, 4.1, 101.4], [1] * 3, [1] * 3), System(NoBatching(), Affine(1.0), overheads=over)
    )
    assert result.queueing / 1e12 == pytest.approx([0.1, 0.3, 0.2])


def test_a_start_takes_the_longer_the_longer_ago_the_last_one_was_unless_something_decodes() -> None:
    over = Overheads(start_s=PAIRS)
    # 0 starts 2 s after the run began; 1 joins while 0 decodes, and after that nobody starts for 96 s.
    workload = Workload.from_columns([2.0, 3.5, 100.0], [1] * 3, [4, 1, 2])
    result = simulate(workload, System(Continuous(4), Affine(1.0), overheads=over))
    assert result.service / 1e12 == pytest.approx([4.3, 1.0, 2.2])


@pytest.mark.parametrize(
    ("lag", "message"),
    [
        ((), r"wake_s = \[\] must be a number of seconds, or pairs"),
        (((1.0, 0.1), (1.0, 0.2)), "each of a longer time since"),
        (((1.0, -0.1),), r"wake_s = -0.1 must be a finite number of seconds"),
        (-1.0, r"wake_s = -1.0 must be"),
    ],
)
def test_what_is_no_lag_is_refused(lag: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Overheads(wake_s=lag)  # type: ignore[arg-type]
