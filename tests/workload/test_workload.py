"""The workload itself: made once from a seed, immutable, rescalable, cut to a model's context."""

import math
import pickle
import subprocess
import sys
import tomllib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simqueue.errors import WorkloadError
from simqueue.workload import (
    MMPP,
    Constant,
    Empirical,
    Fixed,
    Gamma,
    Geometric,
    Lognormal,
    Poisson,
    Trace,
    Workload,
    WorkloadSpec,
    make_workload,
)

PROCESSES = [
    Constant(2.0),
    Poisson(0.6),
    Gamma(3.0, cv=2.5),
    MMPP((5.0, 0.0), (2.0, 3.0)),
    MMPP((1.0, 3.0, 9.0), (0.1, 1.0, 10.0)),
]
seeds = st.integers(0, 2**63 - 1)
rates = st.floats(0.01, 100.0)


def spec(**changes):
    made = WorkloadSpec(
        requests=100,
        arrivals=Poisson(0.6),
        prompt_tokens=Lognormal(60.0, 0.66, max=200),
        output_tokens=Geometric(40.0),
    )
    return msgspec.structs.replace(made, **changes)


def test_the_toml_table_makes_the_spec():
    table = tomllib.loads("""
        requests = 100
        arrivals = { kind = "poisson", rate = 0.6 }
        prompt_tokens = { kind = "lognormal", mean = 60, cv = 0.66, max = 200 }
        output_tokens = { kind = "geometric", mean = 40 }
    """)
    assert msgspec.convert(table, WorkloadSpec) == spec()


def test_a_seed_makes_the_same_columns_and_says_how():
    workload = make_workload(spec(), 7)
    assert workload == make_workload(spec(), 7)
    assert workload != make_workload(spec(), 8)
    assert len(workload) == 100
    assert workload.rate == 0.6
    assert msgspec.convert(workload.meta["spec"], WorkloadSpec) == spec()
    assert workload.meta["seed"] == 7
    assert workload.meta["requests"] == 100
    free = make_workload(spec(prompt_tokens=Lognormal(60.0, 0.66)), 7)
    assert workload.meta["prompt_clipped_share"] == np.mean(free.prompt_tokens > 200) > 0
    assert workload.meta["output_clipped_share"] == 0
    assert repr(workload) == "<Workload of 100 requests at 0.6/s>"


def test_each_purpose_has_its_own_stream():
    base = make_workload(spec(), 7)
    arrivals = make_workload(spec(arrivals=MMPP((1.0, 2.0), (3.0, 4.0))), 7)
    np.testing.assert_array_equal(arrivals.prompt_tokens, base.prompt_tokens)
    np.testing.assert_array_equal(arrivals.output_tokens, base.output_tokens)
    prompts = make_workload(spec(prompt_tokens=Empirical((1, 2, 3))), 7)
    np.testing.assert_array_equal(prompts.arrival_s, base.arrival_s)
    np.testing.assert_array_equal(prompts.output_tokens, base.output_tokens)
    same = make_workload(spec(prompt_tokens=Geometric(40.0)), 7)
    assert (same.prompt_tokens != same.output_tokens).any()


def test_columns_cannot_be_changed():
    mine = np.array([1.0, 2.0])
    workload = Workload.from_columns(mine, [1, 2], [3, 4], score=[0.5, 1.5])
    mine[0] = 9.0
    assert workload.arrival_s.tolist() == [1.0, 2.0]
    for column in workload.columns.values():
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 1
    with pytest.raises(AttributeError):
        workload.arrival_s = mine
    with pytest.raises(TypeError):
        workload.extra["score"] = mine
    with pytest.raises(TypeError):
        workload.meta["seed"] = 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(workload)


def test_pickling_keeps_everything():
    workload = make_workload(spec(), 1)
    other = pickle.loads(pickle.dumps(workload))
    assert other == workload
    assert other.meta == workload.meta
    assert not other.arrival_s.flags.writeable


def test_equality_compares_every_column():
    base = Workload.from_columns([1, 2], [1, 2], [3, 4], x=[1.0, math.nan], y=["a", "b"])
    assert base == Workload.from_columns([1, 2], [1, 2], [3, 4], x=[1.0, math.nan], y=["a", "b"])
    assert base != Workload.from_columns([1, 2], [1, 2], [3, 4], x=[1.0, math.nan], y=["a", "c"])
    assert base != Workload.from_columns([1, 2], [1, 2], [3, 4], x=[1.0, math.nan])
    assert base != Workload.from_columns([1, 2.5], [1, 2], [3, 4], x=[1.0, math.nan], y=["a", "b"])
    assert base != "workload"


@settings(deadline=None)
@given(st.sampled_from(PROCESSES), seeds, rates, rates)
def test_at_rate_twice_is_at_rate_once_is_made_at_that_rate(process, seed, first, second):
    workload = make_workload(spec(arrivals=process), seed)
    once = workload.at_rate(second)
    twice = workload.at_rate(first).at_rate(second)
    made = make_workload(spec(arrivals=process.scaled(second / process.mean_rate)), seed)
    assert once.rate == twice.rate == second
    assert made.rate == pytest.approx(second)
    for other in (twice, made):
        np.testing.assert_allclose(other.arrival_s, once.arrival_s, rtol=1e-9)
        np.testing.assert_array_equal(other.prompt_tokens, once.prompt_tokens)
        np.testing.assert_array_equal(other.output_tokens, once.output_tokens)
    assert msgspec.convert(twice.meta["spec"], WorkloadSpec).arrivals.mean_rate == pytest.approx(second)
    assert workload.at_rate(process.mean_rate) == workload


@settings(deadline=None)
@given(st.sampled_from([p for p in PROCESSES if not isinstance(p, MMPP)]), seeds, rates)
def test_renewal_arrivals_are_stretched(process, seed, rate):
    workload = make_workload(spec(arrivals=process), seed)
    stretched = workload.at_rate(rate).arrival_s
    np.testing.assert_allclose(stretched * rate, workload.arrival_s * process.rate, rtol=1e-13)


def test_mmpp_keeps_its_silences_at_another_rate():
    workload = make_workload(spec(requests=20_000, arrivals=MMPP((2000.0, 0.0), (1.0, 1.0))), 3)
    faster = workload.at_rate(4 * workload.rate)

    def silences(arrival_s):
        gaps = np.diff(arrival_s)
        return gaps[gaps > 0.05]

    shared = len(silences(faster.arrival_s))
    assert shared > 2
    np.testing.assert_allclose(silences(faster.arrival_s), silences(workload.arrival_s)[:shared], atol=0.02)


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
def test_rescaling_works_after_a_file_and_on_part_of_the_rows(tmp_path, process):
    workload = make_workload(spec(arrivals=process), 11)
    part = workload.fit_context(100, "drop").head(20)
    part.save(tmp_path / "part.parquet")
    kept = np.flatnonzero(workload.prompt_tokens + workload.output_tokens <= 100)
    loaded = Workload.load(tmp_path / "part.parquet").at_rate(3.0)
    # What is left after dropping goes at 3/s, so all together went at 3/s over the share kept.
    whole = workload.at_rate(3.0 * len(workload) / len(kept))
    np.testing.assert_allclose(loaded.arrival_s, whole.arrival_s[kept[:20]], rtol=1e-9)
    assert loaded.rate == 3.0


def test_rate_of_columns_is_that_of_their_span():
    assert Workload.from_columns([10, 11, 14], [1] * 3, [1] * 3).rate == 0.5
    assert Workload.from_columns([5, 5], [1, 1], [1, 1]).rate == math.inf
    assert math.isnan(Workload.from_columns([5], [1], [1]).rate)


@given(st.lists(st.floats(0, 1e6), min_size=2, max_size=20, unique=True), rates, rates)
def test_columns_are_stretched_and_remember_by_how_much(arrivals, first, second):
    arrivals = sorted(np.round(arrivals, 3))
    if arrivals[0] == arrivals[-1]:
        return
    workload = Workload.from_columns(arrivals, [1] * len(arrivals), [1] * len(arrivals))
    moved = workload.at_rate(first).at_rate(second)
    assert moved.rate == pytest.approx(second)
    np.testing.assert_allclose(moved.arrival_s, workload.arrival_s * workload.rate / second, rtol=1e-12)
    assert moved.meta["stretch"] == pytest.approx(workload.rate / second)


@pytest.mark.parametrize("rate", [0, -1, math.nan, math.inf])
def test_at_rate_refuses_what_is_no_rate(rate):
    with pytest.raises(WorkloadError, match=r"at_rate: rate = .* is not a positive"):
        make_workload(spec(), 1).at_rate(rate)


@pytest.mark.parametrize("arrivals", [[5.0], [5.0, 5.0]])
def test_at_rate_refuses_what_has_no_span(arrivals):
    ones = [1] * len(arrivals)
    with pytest.raises(WorkloadError, match=r"cannot be rescaled; give it a span of time"):
        Workload.from_columns(arrivals, ones, ones).at_rate(1.0)


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=30),
    st.integers(2, 80),
)
def test_fit_context_fits_and_changes_nothing_that_fitted(rows, max_context):
    prompts, outputs = np.array(rows).T
    fits = prompts + outputs <= max_context
    workload = Workload.from_columns(np.arange(len(rows)), prompts, outputs, row=np.arange(len(rows)))
    clipped = workload.fit_context(max_context, "clip")
    assert clipped.meta["clipped"] == (~fits).sum()
    assert clipped.meta["overlong"] == "clip"
    assert clipped.meta["max_context"] == max_context
    np.testing.assert_array_equal(clipped.output_tokens, np.minimum(outputs, max_context - 1))
    np.testing.assert_array_equal(clipped.prompt_tokens[fits], prompts[fits])
    assert (clipped.prompt_tokens >= 1).all()
    assert (clipped.prompt_tokens + clipped.output_tokens)[~fits].tolist() == [max_context] * int((~fits).sum())
    if fits.any():
        dropped = workload.fit_context(max_context, "drop")
        assert dropped.meta["dropped"] == (~fits).sum()
        np.testing.assert_array_equal(dropped.extra["row"], np.flatnonzero(fits))
        assert dropped.fit_context(max_context, "error") == dropped
    else:
        with pytest.raises(WorkloadError, match=r"'drop' leaves no request: .*use 'clip'"):
            workload.fit_context(max_context, "drop")


def test_dropping_lowers_the_nominal_rate():
    workload = make_workload(spec(), 1)
    dropped = workload.fit_context(100, "drop")
    assert dropped.rate == pytest.approx(0.6 * len(dropped) / 100)
    assert workload.fit_context(10**6, "drop").rate == 0.6


def test_fit_context_names_the_first_row_that_is_too_long():
    workload = Workload.from_columns([0, 1, 2], [5, 900, 900], [5, 200, 300])
    message = r"request 1 \(counted from 0\) has 900 prompt \+ 200 output tokens, more than the context of 1024; .*max"
    with pytest.raises(WorkloadError, match=message):
        workload.fit_context(1024, "error")
    with pytest.raises(WorkloadError, match=r"overlong = 'cut' is no rule"):
        workload.fit_context(1024, "cut")
    with pytest.raises(WorkloadError, match=r"max_context = 1 is not a whole number from 2"):
        workload.fit_context(1, "clip")


def test_head_takes_the_first_rows():
    workload = make_workload(spec(), 1)
    assert workload.head(100) == workload
    assert workload.head(3).prompt_tokens.tolist() == workload.prompt_tokens[:3].tolist()
    assert workload.head(3).rate == workload.rate
    for count in (0, 101):
        with pytest.raises(WorkloadError, match=rf"requests = {count} is not a whole number from 1 to 100"):
            workload.head(count)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (([], [], []), r"the workload has no requests; give at least one"),
        (([1, 2], [1], [1, 1]), r"columns differ in length \(arrival_s 2, prompt_tokens 1, output_tokens 2\)"),
        (([2, 1], [1, 1], [1, 1]), r"arrival_s of request 1 \(counted from 0\) is 1.0; it comes before .*sort"),
        (([1, math.nan], [1, 1], [1, 1]), r"arrival_s of request 1 .* is nan; arrivals are finite"),
        (([-0.5, 1], [1, 1], [1, 1]), r"arrival_s of request 0 .* is -0.5"),
        (([1, math.inf], [1, 1], [1, 1]), r"arrival_s of request 1 .* is inf"),
        (([1, 2], [1, 0], [1, 1]), r"prompt_tokens of request 1 .* is 0; give a whole number of tokens"),
        (([1, 2], [1, 1], [1, 1.5]), r"output_tokens of request 1 .* is 1.5; give a whole number"),
        (([1, 2], [1, 1], [1, 2**31]), r"output_tokens of request 1 .* is 2147483648"),
        (([1, 2], ["a", "b"], [1, 1]), r"column prompt_tokens holds values of type <U1; give a number"),
        (([[1], [2]], [1, 1], [1, 1]), r"column arrival_s has 2 dimensions"),
    ],
)
def test_bad_columns_are_refused_by_row_and_column(columns, message):
    with pytest.raises(WorkloadError, match=message):
        Workload.from_columns(*columns)


@pytest.mark.parametrize(
    "values",
    [[None, "a"], np.array([1, 2], "M8[s]"), np.array([1, 2], np.uint64), [1j, 2j]],
    ids=["missing", "dates", "uint64", "complex"],
)
def test_columns_that_files_cannot_hold_are_refused(values):
    with pytest.raises(WorkloadError, match=r"column x holds values of type .*convert it"):
        Workload.from_columns([1, 2], [1, 1], [1, 1], x=values)


def test_whole_floats_are_tokens():
    assert Workload.from_columns([1.0], [3.0], [4.0]).prompt_tokens.dtype == np.int64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spec(requests=0), r"workload: requests = 0 is not a whole number from 1"),
        (lambda: spec(requests=-5), r"workload: requests = -5"),
        (lambda: spec(requests=None), r"workload: requests missing; only arrivals of kind 'trace'"),
        (lambda: spec(prompt_tokens=None), r"workload: prompt_tokens missing"),
        (lambda: spec(output_tokens=None, requests=None), r"workload: requests and output_tokens missing"),
        (lambda: spec(arrivals=Trace("a.csv")), r"prompt_tokens and output_tokens given beside a trace"),
        (
            lambda: WorkloadSpec(arrivals=Trace("a.csv"), output_tokens=Fixed(1)),
            r"workload: output_tokens given beside a trace, which brings its own lengths; remove",
        ),
        (lambda: make_workload(spec(), -1), r"seed = -1 is not a whole number"),
        (
            lambda: make_workload(spec(requests=10**15), 1),
            r"requests = 1000000000000000 would take about 2e\+08 GB of memory and .* available; ask for at most \d",
        ),
    ],
)
def test_bad_specs_are_refused_by_name(make, message):
    with pytest.raises(WorkloadError, match=message):
        make()


def test_unknown_keys_and_kinds_are_refused():
    table = msgspec.to_builtins(spec())
    for wrong in ({"request": 5}, {"arrivals": {"kind": "poison", "rate": 1}}, {"requests": True}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(table | wrong, WorkloadSpec)


def test_importing_loads_nothing_heavy():
    heavy = "pyarrow", "scipy", "pandas", "matplotlib", "simpy", "torch"
    code = f"import sys, simqueue.workload; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
