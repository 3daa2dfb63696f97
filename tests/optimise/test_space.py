"""What may be chosen: read from a table, counted, drawn and put into a scenario."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simqueue.errors import ConfigError
from simqueue.optimise.space import Number, Range, Space
from simqueue.optimise.written import space_of

TWO_KINDS = {
    "load": "0.1..0.9",
    "system": {
        "policy": [
            {"kind": "static", "batch": "1..4", "release": "request"},
            {"kind": "dynamic", "max_batch": "2..3", "max_wait_s": "0..0.5"},
            {"kind": "none"},
        ]
    },
}


class By:
    """Draws a share of every range, and the word of this number."""

    def __init__(self, share: float, number: int = 0) -> None:
        self.share, self.number_of_word, self.names = share, number, list[str]()

    def number(self, name: str, of: Range) -> Number:
        self.names.append(name)
        number = of.low + self.share * (of.high - of.low)
        return round(number) if of.whole else number

    def word(self, name: str, words: Sequence[str]) -> str:
        self.names.append(name)
        return words[self.number_of_word]


def test_a_range_inside_a_table_counts_only_if_that_is_chosen() -> None:
    space = space_of(TWO_KINDS)
    static, dynamic, none = (By(0.5, number) for number in range(3))
    assert space.point(static).named == {"load": 0.5, "system.policy": "static", "system.policy.batch": 2}
    assert space.point(dynamic).named["system.policy.max_wait_s"] == 0.25
    assert space.point(none).named == {"load": 0.5, "system.policy": "none"}
    # A sampler keeps knobs of one name in two tables apart.
    assert "system.policy[dynamic].max_batch" in dynamic.names


def test_a_point_is_put_into_a_scenario_whole_tables_first() -> None:
    given_table = {"system": {"policy": {"kind": "none"}, "cost": 1}}
    table = space_of(TWO_KINDS | {"system.cost.base_s": [1, 2]}).point(By(1.0)).put({"system": {"cost": {}}})
    assert table == {"system": {"policy": {"kind": "static", "batch": 4, "release": "request"}, "cost": {"base_s": 1}}}
    space_of({"cluster.replicas": "1..3"}).point(By(1.0)).put(given_table)
    assert given_table == {"system": {"policy": {"kind": "none"}, "cost": 1}}
    with pytest.raises(ConfigError, match=r"system\.cost = 1 is not a table"):
        space_of({"system.cost.base_s": [1, 2]}).point(By(0.0)).put(given_table)


@given(st.integers(1, 5), st.integers(0, 4), st.integers(1, 3))
def test_every_point_of_a_finite_space_is_there_once(low: int, more: int, options: int) -> None:
    tables = [{"kind": f"k{i}", "knob": f"{low}..{low + more + i}"} for i in range(options)]
    space = space_of({"system.policy": tables, "cluster.replicas": "1..2", "system.noise.cv": [0.5, 1.5]})
    points = [point.key for point in space.each()]
    assert len(set(points)) == len(points) == space.size
    assert space.size == 4 * sum(more + i + 1 for i in range(options))


def test_a_number_that_need_not_be_whole_makes_the_space_endless() -> None:
    assert space_of({"cluster.replicas": "1..2", "system.cost.base_s": "1..2.0"}).size == float("inf")


@given(st.floats(0, 1), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_numbers_are_short_and_in_their_range(share: float, low: float, width: float) -> None:
    of = Range(low, low + width)
    [setting] = of.drawn("key", By(share), "key")
    assert of.low <= setting.value <= of.high
    assert setting.value in (of.low, of.high, float(f"{setting.value:.4g}"))


def test_wide_ranges_are_looked_through_in_ratios() -> None:
    assert [Range(1, 10).log, Range(1, 11).log, Range(0, 100).log, Range(0.1, 2.0).log] == [False, True, False, True]


def test_corners_show_every_option_at_both_ends() -> None:
    corners = list(space_of(TWO_KINDS).corners())
    assert [[point.named["system.policy"] for point in ends] for ends in corners] == [
        ["static", "static"],
        ["dynamic", "dynamic"],
        ["none", "none"],
    ]
    assert [point.named["load"] for point in corners[0]] == [0.1, 0.9]


def test_text_with_points_in_it_is_no_range() -> None:
    space = space_of(
        {"system.cost": [{"kind": "profile", "path": "../a..b.json"}, {"kind": "affine", "base_s": "1..2"}]}
    )
    assert space.point(By(0.0)).put({})["system"]["cost"] == {"kind": "profile", "path": "../a..b.json"}
    assert space.size == 3


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (None, "nothing may be chosen: give --vary or an [optimise] table, with keys such as"),
        ({}, "nothing may be chosen"),
        ([1], "optimise = [1] is not a table"),
        ({"load": "0.9..0.1"}, "optimise: \"load\" = '0.9..0.1': 0.9 is not below 0.1: give the lower end first"),
        ({"load": "0..0.9"}, "load must be more than 0"),
        ({"load": [0.5, 0.9]}, 'write "0.1..0.95"'),
        ({"load": "0.1..0.9", "rate": "1..2"}, "both rate and load set the rate"),
        ({"system.policy.max_seqs": "8"}, 'is no range: write "LOW..HIGH"'),
        ({"system.policy.max_seqs": "8..x"}, "'x' is no number"),
        ({"system.policy.max_seqs": "8..inf"}, "'inf' is no number"),
        ({"system.policy.max_seqs": 8}, 'neither a range nor a list: write "1..64", or [1, 8, 64]'),
        ({"system.policy.max_seqs": []}, "leaves nothing to choose"),
        ({"system.policy.max_seqs": [8, 8]}, "has 8 twice"),
        ({"system.policy.max_seqs": "8..8"}, "have one value each: give a range or several values"),
        (
            {"sytem.policy.max_seqs": "1..8"},
            "unknown key 'sytem.policy.max_seqs'; did you mean 'system.policy.max_seqs'?",
        ),
        ({"raet": "1..8"}, "did you mean 'rate'?"),
        ({"run.seed": "1..8"}, "unknown key 'run.seed'"),
    ],
)
def test_refusals_say_what_would_do(table: Any, said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        space_of(table)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_space_is_of_what_it_says() -> None:
    assert Space({"cluster.replicas": Range(1, 4)}).size == 4
