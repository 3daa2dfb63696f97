"""Every combination of a sweep table, its names, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import POLICIES, scenario

from simqueue.errors import ConfigError, SimqueueError
from simqueue.policy import Continuous, Dynamic, NoBatching, Static
from simqueue.sweep import labels, plan

PATH = Path("scene.toml")
VALUES = st.one_of(
    st.integers(), st.floats(), st.text(max_size=3), st.lists(st.integers(), max_size=6), st.booleans(),
    st.dictionaries(st.sampled_from(["kind", "rate", "cv"]), st.integers(0, 3)),
)  # fmt: skip


def test_every_combination_in_order() -> None:
    made = plan(scenario(POLICIES + "load = [0.5, 1]"), PATH)
    assert [(cell.series, cell.load) for cell in made.cells] == [
        ("none", 0.5), ("none", 1), ("static(batch=4)", 0.5), ("static(batch=4)", 1),
        ("continuous(max_seqs=16)", 0.5), ("continuous(max_seqs=16)", 1),
    ]  # fmt: skip
    assert made.cells[3].label == "static(batch=4), load=1"
    assert made.cells[3].scenario.system.policy == Static(batch=4)
    assert made.x == "rate"


def test_a_table_is_set_before_a_value_inside_it() -> None:
    sweep = '"system.policy.max_batch" = [2, 3]\n"system.policy" = [{kind="dynamic"}, {kind="dynamic", max_wait_s=1.0}]'
    policies = [cell.scenario.system.policy for cell in plan(scenario(sweep), PATH).cells]
    assert policies == [Dynamic(m, w) for m in (2, 3) for w in (0.0, 1.0)]


def test_keys_need_no_quotes() -> None:
    cells = plan(scenario("workload.arrivals.rate = [1.0, 2.0]\nsystem.policy = [{kind='none'}]"), PATH).cells
    assert [cell.scenario.workload.arrivals.mean_rate for cell in cells] == [1.0, 2.0]
    assert cells[0].scenario.system.policy == NoBatching()


def test_labels_tell_what_differs() -> None:
    sweep = """
    "system.policy" = [
        { kind = "static", batch = 4, release = "request" },
        { kind = "dynamic", max_batch = 8, release = "request" },
    ]
    "workload.prompt_tokens" = [{ kind = "fixed", value = 1 }, { kind = "geometric", mean = 9.5 }]
    "run.seed" = [7]
    """
    made = plan(scenario(sweep), PATH)
    assert [cell.label for cell in made.cells] == [
        "static(batch=4), prompt_tokens=fixed(value=1)",
        "static(batch=4), prompt_tokens=geometric(mean=9.5)",
        "dynamic(max_batch=8), prompt_tokens=fixed(value=1)",
        "dynamic(max_batch=8), prompt_tokens=geometric(mean=9.5)",
    ]
    assert made.cells[1].values == {
        "system.policy": "static(batch=4)",
        "workload.prompt_tokens": "geometric(mean=9.5)",
        "run.seed": 7,
    }


def test_a_rate_that_load_replaces_is_no_label() -> None:
    sweep = 'load = [0.5]\n"workload.arrivals" = [{kind="gamma", rate=1, cv=2}, {kind="constant", rate=3}]'
    assert [cell.series for cell in plan(scenario(sweep), PATH).cells] == ["gamma(cv=2)", "constant"]


def test_keys_with_the_same_end_keep_more_of_it() -> None:
    keys = ["workload.prompt_tokens.mean", "workload.output_tokens.mean", "run.seed"]
    assert list(labels.names(keys).values()) == ["prompt_tokens.mean", "output_tokens.mean", "seed"]


def test_a_swept_number_is_the_x_axis_where_no_rate_is() -> None:
    made = plan(scenario('"system.policy" = [{kind="continuous"}]\n"system.policy.max_seqs" = [4, 8]'), PATH)
    assert (made.x, [cell.series for cell in made.cells]) == ("system.policy.max_seqs", ["continuous"] * 2)
    assert [cell.scenario.system.policy for cell in made.cells] == [Continuous(4), Continuous(8)]


def test_users_are_the_x_axis() -> None:
    sweep = '"system.policy.max_seqs" = [4, 8]\n"workload.arrivals.users" = [1, 9]'
    tables = scenario('"system.policy" = [{kind="continuous"}]\n' + sweep)
    tables["workload"]["arrivals"] = {"kind": "users", "think_s": {"kind": "exponential", "mean": 2.0}}
    made = plan(tables, PATH)
    assert made.x == "workload.arrivals.users"
    assert [(cell.series, cell.scenario.workload.arrivals.users) for cell in made.cells] == [
        ("max_seqs=4", 1), ("max_seqs=4", 9), ("max_seqs=8", 1), ("max_seqs=8", 9),
    ]  # fmt: skip


@pytest.mark.parametrize("key", ["load", "workload.arrivals.rate"])
def test_users_have_no_rate_to_sweep(key: str) -> None:
    said = f'"{key}" sets a rate, but users send as fast as they are answered: sweep over "workload.arrivals.users"'
    tables = scenario(f'"{key}" = [0.5]')
    tables["workload"]["arrivals"] = {"kind": "users", "users": 3}
    with pytest.raises(ConfigError, match=said):
        plan(tables, PATH)
    # Also where only one of several arrivals is of that kind.
    arrivals = '"workload.arrivals" = [{kind="poisson", rate=1.0}, {kind="users", users=3}]'
    with pytest.raises(ConfigError, match=said):
        plan(scenario(f'"{key}" = [0.5]\n{arrivals}'), PATH)


@given(st.lists(VALUES, min_size=1, max_size=6))
def test_no_two_labels_are_the_same(values: list[object]) -> None:
    assert len(set(labels.words(values))) == len(values)


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ("", "has no [sweep] table"),
        ("load = []", '"load" = [] leaves nothing to run'),
        ("load = 0.5", "is not a list: write [0.5]"),
        ("load = [0.5, 0.5]", "has 0.5 twice"),
        ("load = [0.0]", "load = 0.0 is no fraction"),
        ("load = [-1]", "load = -1 is no fraction"),
        ("load = [nan]", "load = nan is no fraction"),
        ("load = [inf]", "load = inf is no fraction"),
        ("load = [true]", "load = true is no fraction"),
        ("load = ['a']", "load = 'a' is no fraction"),
        ("loads = [0.5]", "unknown key 'loads'; did you mean 'load'?"),
        ("'sytem.policy' = [{kind='none'}]", "did you mean 'system.policy'?"),
        ("'system.polcy' = [{kind='none'}]", "did you mean 'policy'?"),
        ("'system.policy.max_batch' = [8]", "unknown key 'max_batch'"),
        ("'system.policy' = [{kind='contnuous', max_seqs=1}]", "did you mean 'continuous'?"),
        (
            "'workload.requests.x' = [1]",
            'workload.requests = 600 is not a table: sweep "workload.requests.x" cannot be set',
        ),
        ("'workload.arrivals.rate' = [0.0]", "rate = 0.0"),
        ("load = [0.5]\n'workload.arrivals.rate' = [1.0]", 'both load and "workload.arrivals.rate"'),
        ("'run.warmup' = [600]", "leaves none of 600 requests"),
        ("'run.warmup' = ['often']", "warmup = 'often' is neither \"auto\" nor a number of requests"),
    ],
)
def test_bad_tables_are_refused(sweep: str, said: str) -> None:
    with pytest.raises(SimqueueError) as refusal:
        plan(scenario(sweep), PATH)
    assert said in str(refusal.value)
    assert "scene.toml" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_sweep_that_is_no_table_is_refused() -> None:
    with pytest.raises(ConfigError, match="sweep = 3 is not a table"):
        plan(scenario("") | {"sweep": 3}, PATH)


def test_the_plan_leaves_the_tables_as_they_are() -> None:
    table = scenario(POLICIES)
    plan(table, PATH)
    assert table == scenario(POLICIES)
