"""Measured costs: interpolation, padding, launches, ranges and curves, on small tables whose answers are known."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import MODEL, NORMAL, cost_of, flat_curve, jitter, profile, serving
from scipy import stats

import simqueue
from simqueue.cost.base import UNLIMITED
from simqueue.cost.noise import all_draws
from simqueue.cost.spread import ProfileSpread, ServingSpread
from simqueue.cost.table import TableCost
from simqueue.errors import ConfigError, ProfileError
from simqueue.plan import Shape
from simqueue.profile import Curves, DecodeTable, Noise, PrefillTable, Profile, Serving
from simqueue.units import Grid

GRID = Grid()
MS = 10**9
WINDOW = 50


def made(rule: str, **changes: Any) -> Profile:
    """Milliseconds. A width of 32 fits one row a launch, of 8 two, of 1 all three sizes."""
    decode = DecodeTable(
        rows=(1, 4, 8),
        longest=(1, 10, 49),
        rule=rule,  # type: ignore[arg-type]
        seconds=((1e-3, 2e-3, 5e-3), (4e-3, 6e-3, 9e-3), (8e-3, 7e-3, 16e-3)),
        cv=((0.1, 0.2, 0.3), (0.4, 0.5, 0.6), (0.7, 0.8, 0.9)),
    )
    prefill = PrefillTable(
        rows=(1, 4, 8),
        width=(1, 8, 32),
        context=(0, 49),
        rule=rule,  # type: ignore[arg-type]
        seconds=(
            ((3e-3, 4e-3), (5e-3, 6e-3), (7e-3, 8e-3)),
            ((9e-3, 10e-3), (11e-3, 12e-3), (None, None)),
            ((17e-3, 18e-3), (None, None), (None, None)),
        ),
        cv=(
            ((0.01, 0.02), (0.03, 0.04), (0.05, 0.06)),
            ((0.07, 0.08), (0.09, 0.10), (None, None)),
            ((0.11, 0.12), (None, None), (None, None)),
        ),
    )
    return profile(decode, prefill, model=msgspec.structs.replace(MODEL, max_context=WINDOW), **changes)


def price(rule: str = "ceil", *, curve: bool = False, extrapolate: bool = False, **changes: Any) -> TableCost:
    cost = cost_of(made(rule, **changes), curve=curve, extrapolate=extrapolate).on(GRID)
    assert isinstance(cost, TableCost)
    return cost


def decode(rows: int, longest: int, held: int = 0) -> Shape:
    return Shape(decode_rows=rows - held, held_rows=held, context=rows * longest, longest=longest)


def prefill(rows: int, width: int, context: int = 0) -> Shape:
    return Shape(prefill_rows=rows, new_tokens=rows * width, widest=width, prefill_context=context)


def test_ceil_takes_the_next_size_up() -> None:
    cost = price("ceil")
    assert cost.step(decode(1, 1)) == 1 * MS
    assert cost.step(decode(2, 1)) == cost.step(decode(4, 1)) == 4 * MS
    assert cost.step(decode(4, 2)) == cost.step(decode(4, 10)) == 6 * MS
    assert cost.step(decode(5, 11)) == cost.step(decode(5, 11, held=3)) == 16 * MS
    assert cost.step(prefill(1, 2)) == 5 * MS
    assert cost.step(prefill(3, 8)) == 11 * MS


def test_linear_interpolates_along_both_axes() -> None:
    cost = price("linear")
    assert cost.step(decode(2, 1)) == 2 * MS
    assert cost.step(decode(4, 4)) == round((4 + 2 * 3 / 9) * MS)
    assert cost.step(decode(6, 10)) == 6.5 * MS
    assert cost.step(prefill(2, 1)) == 5 * MS
    assert cost.step(prefill(1, 20)) == 6 * MS


def test_a_context_however_short_takes_the_chunk_layer() -> None:
    cost = price()
    assert [cost.step(prefill(1, 8, context)) for context in (0, 1, 49)] == [5 * MS, 6 * MS, 6 * MS]


def test_rows_beyond_one_launch_run_in_groups() -> None:
    cost = price("ceil")
    assert cost.step(prefill(5, 8)) == (11 + 5) * MS
    assert cost.step(prefill(8, 8)) == 2 * 11 * MS
    assert cost.step(prefill(7, 32)) == 7 * 7 * MS
    assert cost.step(prefill(8, 1)) == 17 * MS


@pytest.mark.parametrize("rule", ["ceil", "linear"])
def test_the_cost_reads_tables_as_the_profile_does(rule: str) -> None:
    made_up, cost = made(rule), price(rule)
    assert made_up.decode is not None
    assert made_up.prefill is not None
    for rows in range(1, 9):
        for longest in range(1, 50):
            assert cost.step(decode(rows, longest)) == GRID.ticks(made_up.decode.at(rows, longest))
        for width in range(1, 33):
            for context in (0, 1, 49):
                assert cost.step(prefill(rows, width, context)) == GRID.ticks(made_up.prefill.at(rows, width, context))


def test_a_mixed_step_is_both_and_what_that_saves() -> None:
    shape = Shape(decode_rows=1, context=1, longest=1, prefill_rows=1, new_tokens=1, widest=1)
    assert price(mixed_s=-1e-3).step(shape) == (1 + 3 - 1) * MS
    assert price(mixed_s=-1.0).step(shape) == 1
    assert price(mixed_s=-1.0).step(decode(1, 1)) == 1 * MS


def test_means_in_place_of_medians() -> None:
    noise = Noise(probabilities=(0.1, 0.9), decode=(-1.0, 1.0), prefill=(-1.0, 1.0), mean_over_median=1.25)
    cost = price(noise=noise, mixed_s=4e-3)
    assert cost.step(decode(1, 1)) == 1.25 * MS
    assert cost.step(Shape(1, 0, 1, 1, 1, 1, 0, 1)) == 1.25 * (1 + 3 + 4) * MS


SERVED = serving(
    decode_factor=2.0,
    prefill_factor=3.0,
    per_step_s=0.5e-3,
    per_row_s=0.1e-3,
    per_prefill_s=0.25e-3,
    per_prefill_row_s=0.01e-3,
    per_start_row_s=0.02e-3,
)


@pytest.mark.parametrize("rule", ["ceil", "linear"])
def test_what_serving_adds_to_the_table(rule: str) -> None:
    cost = price(rule, serving=SERVED, mixed_s=1e-3)
    assert cost.step(decode(1, 1)) == (2 * 1 + 0.5 + 0.1) * MS
    # Rows that are padded to the same size cost something each; those held too.
    for rows in (3, 4):
        table = 2 * price(rule).step(decode(rows, 1)) / MS
        assert cost.step(decode(rows, 1, held=1)) == round((table + 0.5 + 0.1 * rows) * MS)
    # Where nothing decodes, nothing of the prefill is hidden.
    assert cost.step(prefill(1, 1)) == round((3 + 0.02) * MS)
    assert cost.step(prefill(4, 1)) == round((9 + 0.08) * MS)
    # What mixing costs is multiplied as the prefill is.
    mixed = Shape(decode_rows=1, context=1, longest=1, prefill_rows=1, new_tokens=1, widest=1)
    assert cost.step(mixed) == (2 * 1 + 0.5 + 0.1 + 3 * (3 + 1) + 0.25 + 0.01) * MS


def test_stalls_count_in_the_mean_and_cells_means_do_not() -> None:
    noise = Noise(probabilities=(0.1, 0.9), decode=(-1.0, 1.0), prefill=(-1.0, 1.0), mean_over_median=1.25)
    stalling = msgspec.structs.replace(SERVED, jitter=jitter(stall_probability=0.1, stalls=(4.0, 6.0)))
    assert stalling.jitter.mean == 1.5
    cost = price(noise=noise, serving=stalling)
    assert cost.step(decode(1, 1)) == round(1.5 * (2 * 1 + 0.5 + 0.1) * MS)


def test_a_step_lasts_a_tick_at_least_whatever_serving_takes_off() -> None:
    cost = price(serving=serving(per_step_s=-1.0, per_start_row_s=-1.0))
    assert cost.step(decode(1, 1)) == cost.step(prefill(1, 1)) == 1


@pytest.mark.parametrize(
    ("shape", "what"),
    [
        (decode(9, 1), "1 to 8 rows in a step, and 9 are asked for"),
        (prefill(9, 1), "1 to 8 rows in a step, and 9 are asked for"),
        (prefill(1, 33), "1 to 32 prompt tokens of a row in a step, and 33 are asked for"),
    ],
)
def test_outside_the_range_is_an_error_that_names_it(shape: Shape, what: str) -> None:
    with pytest.raises(ProfileError, match=f"profile made-up was measured for {what}.*extrapolate = true"):
        price().step(shape)
    assert price(extrapolate=True).step(shape) > 0


def test_a_row_beyond_the_longest_context_is_an_error_unless_its_window_ends_there() -> None:
    eager = price("linear", runner="eager", iteration_level=False)
    assert eager.step(decode(1, 49)) == 5 * MS
    for ask in (lambda: eager.step(decode(1, 50)), lambda: eager.leap(1, 40, 40, 20, UNLIMITED)):
        with pytest.raises(ProfileError, match=r"1 to 49 tokens in the cache of a row, and [56]0 are asked for"):
            ask()
    # The rows that a batch holds stay at the end of their window of 50 tokens.
    graph = price("ceil")
    assert graph.step(decode(1, 80, held=1)) == graph.step(decode(1, 49)) == 5 * MS
    # Of a window that was not measured to its end nothing is known there.
    short = cost_of(profile(made("ceil").decode, made("ceil").prefill)).on(GRID)
    with pytest.raises(ProfileError, match="1 to 49 tokens in the cache of a row, and 50 are asked for"):
        short.step(decode(1, 50))


def test_a_leap_that_is_cut_within_the_range_is_no_error() -> None:
    eager = price("linear", runner="eager", iteration_level=False)
    steps, total = eager.leap(1, 45, 45, 100, 5 * MS)
    assert (steps, total) == (2, eager.step(decode(1, 45)) + eager.step(decode(1, 46)))


def test_extrapolation_goes_on_along_the_last_two_points() -> None:
    cost = price("linear", extrapolate=True)
    assert cost.step(decode(1, 88)) == round((5 + 3) * MS)
    assert cost.step(decode(12, 1)) == (8 + 4) * MS
    assert cost.step(decode(12, 10)) == (7 + 1) * MS
    assert cost.step(prefill(1, 56)) == 9 * MS
    assert cost.step(prefill(12, 1)) == (17 + 8) * MS


def test_extrapolation_never_falls() -> None:
    falling = DecodeTable(rows=(1,), longest=(1, 10), rule="linear", seconds=((2e-3, 1e-3),), cv=((0.0, 0.0),))
    cost = cost_of(profile(falling, made("linear").prefill), extrapolate=True).on(GRID)
    assert cost.step(decode(1, 1000)) == 1 * MS


def test_prompts_in_chunks_that_were_not_measured() -> None:
    plain = PrefillTable(
        rows=(1,), width=(1, 8), context=(0,), rule="linear", seconds=(((1e-3,), (2e-3,)),), cv=(((0.0,), (0.0,)),)
    )
    cost = cost_of(profile(made("linear").decode, plain)).on(GRID)
    with pytest.raises(ProfileError, match=r"did not measure prompts in chunks.*without max_tokens"):
        cost.step(prefill(1, 2, 5))


def test_the_curve_in_place_of_the_table() -> None:
    """base + per_row * rows + per_new * new + per_context * context + per_pair * pairs, padded, above a floor."""
    curves = Curves(
        decode=flat_curve(
            base_s=(1e-3,), per_row_s=1e-4, per_new_token_s=(2e-4,), per_context_token_s=(1e-6,), pad_rows=(1, 4, 8)
        ),
        prefill=flat_curve(floor_s=5e-3, base_s=(0.0,), per_new_token_s=(1e-4,), pad_length=(8, 32)),
        chunk=flat_curve(base_s=(0.0,), per_context_token_s=(1e-5,), per_pair_s=1e-6),
    )
    cost = price(curve=True, curves=curves)
    assert cost.step(decode(3, 10)) == round((1 + 0.4 + 0.8 + 0.04) * MS)
    assert cost.step(prefill(1, 3)) == 5 * MS
    assert cost.step(prefill(1, 20)) == 5 * MS
    assert cost.step(prefill(4, 8)) == 5 * MS
    assert cost.step(prefill(2, 32)) == 2 * 5 * MS  # a row a launch
    # A chunk is priced with the context that was measured, 49 tokens, and its width is padded as the table's is, to 32.
    assert cost.step(prefill(1, 10, 3)) == round((0.49 + 32 * 49e-3) * MS)
    with pytest.raises(ProfileError, match="1 to 8 rows"):
        cost.step(decode(9, 1))


@settings(max_examples=300)
@given(
    st.sampled_from(["ceil", "linear"]),
    st.booleans(),
    st.sampled_from([None, SERVED]),
    st.integers(1, 8),
    st.integers(1, 48),
    st.integers(1, 120),
    st.integers(1, 400 * MS) | st.just(UNLIMITED),
)
def test_a_leap_is_the_sum_of_its_steps(
    rule: str, curve: bool, served: Serving | None, rows: int, longest: int, steps: int, limit: int
) -> None:
    growing = Curves(decode=flat_curve(per_context_token_s=(1e-4,)), prefill=flat_curve(), chunk=flat_curve())

    def fresh() -> TableCost:
        return price(rule, curve=curve, curves=growing, serving=served)

    cost = fresh()
    durations = [cost.step(decode(rows, longest + age)) for age in range(steps)]
    ends = list(accumulate(durations))
    j = next((j for j, end in enumerate(ends, 1) if end >= limit), steps)
    assert fresh().leap(rows, 0, longest, steps, limit) == (j, ends[j - 1])
    assert list(fresh().series(rows, 0, longest, steps)) == durations
    ages = np.arange(steps)
    assert cost.column(np.full(steps, rows), ages, longest + ages).tolist() == durations


# A curve over sums, as `simqueue profiles fit` makes.

SUMS = flat_curve(
    floor_s=3e-3,
    knots=(1, 4),
    rule="linear",
    base_s=(1e-3, 4e-3),
    per_row_s=1e-4,
    per_new_token_s=(1e-5, 1e-5),
    per_context_token_s=(2e-6, 1e-6),
)


def sums() -> simqueue.Measured:
    return cost_of(profile(None, None, runner="samples", noise=None, curves=Curves(totals=SUMS), iteration_level=True))


def test_a_curve_over_sums() -> None:
    cost = sums().on(GRID)
    assert cost.step(decode(1, 100)) == 3 * MS
    assert cost.step(decode(4, 100)) == round((4 + 0.4 + 0.04 + 0.4) * MS)
    shape = Shape(decode_rows=1, held_rows=1, context=30, longest=20, prefill_rows=2, new_tokens=50, prefill_context=10)
    assert cost.step(shape) == round((4 + 0.4 + 0.52 + 0.04) * MS)


@given(st.integers(1, 9), st.integers(0, 3000), st.integers(1, 3000), st.integers(1, 10**13) | st.just(UNLIMITED))
def test_a_leap_of_a_curve_over_sums(rows: int, context: int, steps: int, limit: int) -> None:
    cost = sums().on(GRID)
    durations = list(cost.series(rows, context, 0, steps))[:steps]
    ages = np.arange(steps)
    assert cost.column(np.full(steps, rows), context + rows * ages, ages).tolist() == durations
    for age in (0, steps // 2, steps - 1):
        exact = cost.step(Shape(decode_rows=rows, context=context + rows * age))
        assert abs(durations[age] - exact) <= 1 + (context + rows * age) // 2
    ends = list(accumulate(durations))
    j = next((j for j, end in enumerate(ends, 1) if end >= limit), steps)
    assert cost.leap(rows, context, 0, steps, limit) == (j, ends[j - 1])


# Which profile, and its noise.


@pytest.mark.parametrize("where", [{}, {"name": "a", "path": "b.json"}])
def test_a_name_or_a_path(where: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"give either name .* or path"):
        simqueue.Measured(**where)


def test_residuals_are_scaled_to_the_spread_of_the_shape() -> None:
    spread = ProfileSpread(made("ceil"), NORMAL)
    # (1, 2): a decode residual of one standard deviation, a prefill residual of two.
    assert spread.decode(1, 1, (1.0, 2.0)) == 1.1
    assert spread.decode(3, 11, (1.0, 2.0)) == 1.6
    assert spread.decode(20, 1000, (1.0, 2.0)) == 1.9
    assert spread.first(prefill(1, 1), (1.0, 2.0)) == pytest.approx(1.02)
    assert spread.first(prefill(2, 5, 3), (1.0, 2.0)) == pytest.approx(1.2)
    assert spread.first(prefill(8, 32), (1.0, 2.0)) == pytest.approx(1.1)
    assert spread.decode(8, 49, (-5.0, 0.0)) == 0.1
    rows, longest = np.array([1, 3, 20]), np.array([1, 11, 1000])
    assert spread.column(rows, longest, np.array([[1.0, 2.0]] * 3)).tolist() == [1.1, 1.6, 1.9]


def test_residuals_have_mean_0_and_variance_1_as_they_are_read() -> None:
    draws = ProfileSpread(made("ceil"), NORMAL).draw(np.random.default_rng(1), 400_000)
    assert draws.shape == (400_000, 2)
    assert np.abs(draws.mean(axis=0)).max() < 4 / np.sqrt(400_000)
    assert np.abs(draws.var(axis=0) - 1).max() < 0.01


STATE = jitter()
# 1 + 2 * the sum of 0.3 * 0.5^k + 0.4 * 0.9^k.
FEWER = 1 + 2 * (0.3 * 0.5 / 0.5 + 0.4 * 0.9 / 0.1)


@pytest.fixture(scope="module")
def served_draws() -> np.ndarray[Any, Any]:
    """``(steps, 2)`` multipliers over some sixty blocks."""
    return all_draws(ServingSpread(STATE), np.random.SeedSequence(7), 1_000_000)


def test_served_draws_have_the_measured_quantiles_and_mean_1(served_draws: Any) -> None:
    count = len(served_draws)
    # A step's multiplier without its stall, which adds twice its mean or more.
    for column, quantiles in zip(served_draws.T * STATE.mean, (STATE.decode, STATE.prefill), strict=True):
        body = column[column < 1.9]
        at = (np.arange(len(quantiles)) + 0.5) / len(quantiles)
        below = [np.mean(body < q) for q in quantiles[1:-1]]
        # Correlated draws count as so many times fewer.
        tolerance = 4 * np.sqrt(at[1:-1] * (1 - at[1:-1]) / count * FEWER)
        assert np.all(np.abs(below - at[1:-1]) < tolerance)
        assert body.min() == quantiles[0]
        assert body.max() == quantiles[-1]
    deviation = served_draws.std(axis=0) * np.sqrt(FEWER / count)
    assert np.all(np.abs(served_draws.mean(axis=0) - 1) < 4 * deviation)


def test_served_draws_stall_as_often_and_as_long_as_measured(served_draws: Any) -> None:
    count, p = len(served_draws), STATE.stall_probability
    stalled = served_draws[:, 0] * STATE.mean > 1.9
    assert abs(stalled.sum() - count * p) < 4 * np.sqrt(count * p)
    # Uniform between the two quantiles, and flat in the outer quarters: mean 4, deviation about 1.8.
    sizes = (served_draws[stalled, 0]) * STATE.mean - 1
    assert abs(sizes.mean() - 4) < 4 * 1.9 / np.sqrt(count * p)
    assert np.all(np.diff(served_draws[stalled], axis=1) != 0)
    assert np.allclose(served_draws[stalled].min(), 2.8 / STATE.mean, rtol=0.2)


def test_served_draws_remember_each_other_as_measured(served_draws: Any) -> None:
    """By their normal scores, across blocks too: the correlation at lag k is 0.3 * 0.5^k + 0.4 * 0.9^k."""
    quiet = all_draws(ServingSpread(jitter(stall_probability=0.0, stalls=())), np.random.SeedSequence(8), 400_000)
    # Uniform quantiles are the copula itself, where they are not flat.
    flat = jitter(decode=tuple(np.linspace(0.002, 1.998, 500)), stall_probability=0.0, stalls=())
    uniform = all_draws(ServingSpread(flat), np.random.SeedSequence(9), 400_000)[:, 0] / 2
    scores = stats.norm.ppf(np.clip(uniform, 1e-3, 1 - 1e-3))
    for lag in (1, 2, 5, 10, 30):
        assert np.corrcoef(scores[lag:], scores[:-lag])[0, 1] == pytest.approx(
            0.3 * 0.5**lag + 0.4 * 0.9**lag, abs=0.012
        )
    assert np.corrcoef(quiet[1:, 0], quiet[:-1, 1])[0, 1] > 0.3


def test_the_state_crosses_the_edge_of_a_block() -> None:
    """With all of it persistent and hardly anything forgotten, neighbours are alike wherever they are."""
    slow = jitter(persistent=(1.0,), memory=(0.9999,), stall_probability=0.0, stalls=())
    draws = all_draws(ServingSpread(slow), np.random.SeedSequence(3), 3 << 14)[:, 0]
    assert np.abs(np.diff(draws)).max() < 0.02
    assert np.ptp(draws) > 0.1


def test_leaps_over_many_blocks_of_served_draws_are_the_steps() -> None:
    cost = cost_of(made("ceil", serving=msgspec.structs.replace(SERVED, jitter=STATE)))
    rng = np.random.default_rng(2)
    arrivals = np.cumsum(rng.exponential(0.05, 8000))
    workload = simqueue.Workload.from_columns(arrivals, rng.integers(1, 20, 8000), rng.integers(1, 30, 8000))
    system = simqueue.System(simqueue.Continuous(4), cost, simqueue.ServingNoise())
    leaping, stepping = (simqueue.simulate(workload, system, longest_leap=n) for n in (1 << 30, 1))
    assert len(stepping.leaps["total"]) > 20_000 > len(leaping.leaps["total"])
    assert np.array_equal(leaping.finished, stepping.finished)
    assert np.array_equal(leaping.durations(), stepping.leaps["total"])


def test_a_served_step_takes_the_column_of_its_kind() -> None:
    spread = ServingSpread(STATE)
    assert spread.decode(3, 5, (1.5, 0.5)) == 1.5
    assert spread.first(prefill(1, 1), (1.5, 0.5)) == 0.5
    assert spread.column(np.array([1, 2]), np.array([1, 1]), np.array([[1.5, 0.5], [2.0, 0.1]])).tolist() == [1.5, 2.0]


def test_empirical_noise_needs_repeats() -> None:
    with pytest.raises(ConfigError, match="has no repeats to take it from"):
        sums().spread()
    system = simqueue.System(simqueue.NoBatching(), simqueue.Affine(1.0), simqueue.EmpiricalNoise())
    with pytest.raises(ConfigError, match="only a measured cost has residuals"):
        simqueue.simulate(simqueue.Workload.from_columns([0.0], [1], [1]), system)


def test_serving_noise_needs_a_serving_run() -> None:
    with pytest.raises(ConfigError, match=r"noise serving: profile made-up has no serving run: .*calibrate"):
        cost_of(made("ceil")).serving_spread()
    system = simqueue.System(simqueue.NoBatching(), simqueue.Affine(1.0), simqueue.ServingNoise())
    with pytest.raises(ConfigError, match="noise serving: only a measured cost has residuals"):
        simqueue.simulate(simqueue.Workload.from_columns([0.0], [1], [1]), system)


def test_continuous_batching_on_an_eager_profile_is_refused() -> None:
    eager = cost_of(made("linear", runner="eager", iteration_level=False))
    workload = simqueue.Workload.from_columns([0.0], [1], [1])
    with pytest.raises(ConfigError, match=r"eager runner.*cannot join or leave"):
        simqueue.simulate(workload, simqueue.System(simqueue.Continuous(4), eager))
    simqueue.simulate(workload, simqueue.System(simqueue.Dynamic(4), eager))


def test_a_request_longer_than_the_window_is_refused() -> None:
    cost = cost_of(made("ceil"))
    workload = simqueue.Workload.from_columns([0.0], [30], [21])
    with pytest.raises(simqueue.SimqueueError, match="30 prompt \\+ 21 output tokens, more than the context of 50"):
        simqueue.simulate(workload, simqueue.System(simqueue.NoBatching(), cost))


def test_every_shipped_profile_runs_to_its_edges() -> None:
    for name in ("gpt2-h200-bf16-graph", "gpt2-h200-bf16-eager", "gpt2-h200-fp32-eager"):
        for curve in (False, True):
            cost = simqueue.Measured(name=name, curve=curve)
            window = cost.profile.model.max_context
            workload = simqueue.Workload.from_columns([0.0, 0.0], [1, window - 1], [window - 1, 1])
            for policy in (simqueue.NoBatching(), simqueue.Static(2)):
                result = simqueue.simulate(workload, simqueue.System(policy, cost, simqueue.EmpiricalNoise()))
                assert result.durations().min() > 10**8
