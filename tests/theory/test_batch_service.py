"""Bulk service, batching without a cap and continuous batching, against each other and against crude simulations."""

import math
from dataclasses import astuple

import numpy as np
import pytest
from crude import agree, batches, iterations, poisson_arrivals

from simqueue.errors import ConfigError
from simqueue.theory import (
    MD1,
    MG1,
    BatchQueue,
    bulk_service,
    chain,
    continuous_batching,
    inoue_response_bound_s,
    unlimited_batching,
)

LOADS = [0.05, 0.5, 0.8, 0.95]


def affine(n: int) -> float:
    return 2.0 + 0.2 * n


def rough(n: int) -> float:
    """Neither increasing nor smooth."""
    return 2.0 + 0.2 * n + 0.7 * (n % 3 == 1)


def same(one: BatchQueue, other: BatchQueue, rel: float = 1e-9) -> None:
    sizes = min(len(one.batch_size), len(other.batch_size))
    assert one.batch_size[:sizes] == pytest.approx(other.batch_size[:sizes], abs=rel / 10)
    assert astuple(one)[1:-1] == pytest.approx(astuple(other)[1:-1], rel=rel)


def lawful(queue: BatchQueue, rate: float) -> None:
    """Laws that hold whatever the chain: flow in is flow out, and probabilities sum to 1."""
    assert queue.throughput_rps == pytest.approx(rate, rel=1e-9)
    assert queue.batch_size.sum() == pytest.approx(1, abs=1e-12)
    assert queue.batch_size[0] == 0
    assert np.all(queue.batch_size >= 0)
    assert 0 < queue.utilisation <= 1 + 1e-12
    assert queue.mean_per_request * (1 + 1e-12) >= queue.mean_per_step >= 1 - 1e-12
    assert queue.mean_response_s == queue.mean_queueing_s + queue.mean_service_s
    assert queue.mean_waiting == pytest.approx(rate * queue.mean_queueing_s)


def expected(queue: BatchQueue) -> dict[str, float]:
    return {
        "queueing": queue.mean_queueing_s,
        "service": queue.mean_service_s,
        "utilisation": queue.utilisation,
        "per_step": queue.mean_per_step,
        "per_request": queue.mean_per_request,
    }


class TestBulkService:
    @pytest.mark.parametrize("rho", [*LOADS, 0.99])
    def test_one_at_a_time_is_md1(self, rho: float) -> None:
        queue = bulk_service(rho / 2, 2.0, 1)
        exact = MD1(rho / 2, 2.0)
        assert queue.mean_queueing_s == pytest.approx(exact.mean_queueing_s, rel=1e-10)
        assert queue.mean_response_s == pytest.approx(exact.mean_response_s, rel=1e-10)
        assert queue.utilisation == pytest.approx(rho)
        assert queue.mean_per_step == pytest.approx(1, rel=1e-12)
        assert queue.mean_per_request == pytest.approx(1, rel=1e-12)

    @pytest.mark.parametrize("rho", LOADS)
    @pytest.mark.parametrize(("a", "b"), [(1, 1), (1, 8), (3, 8), (8, 8), (10, 64)])
    @pytest.mark.parametrize("service_s", [affine, rough])
    def test_laws(self, rho: float, a: int, b: int, service_s) -> None:
        rate = rho * b / service_s(b)
        queue = bulk_service(rate, service_s, b, a)
        lawful(queue, rate)
        assert np.all(queue.batch_size[:a] == 0)
        assert len(queue.batch_size) == b + 1
        # Work is conserved: the server is busy for as long as its batches take.
        per_batch = queue.batch_size[1:] @ [service_s(n) for n in range(1, b + 1)]
        assert queue.utilisation == pytest.approx(rate * per_batch / queue.mean_per_step)

    def test_full_batches_at_light_load_wait_for_the_last_to_come(self) -> None:
        rate = 1e-6
        assert bulk_service(rate, 2.0, 5, 5).mean_queueing_s == pytest.approx(2 / rate, rel=1e-5)

    @pytest.mark.parametrize("rho", [0.3, 0.9])
    def test_full_batches_of_two_obey_the_generating_function(self, rho: float) -> None:
        """P(z) (z^2 - A(z)) = x0 (z^2 - 1) A(z) + x1 (z^2 - z) A(z): both unknowns from z = 1 and the root in (-1, 0).

        The mean number left by a service then is P'(1), and each arrival's wait follows from Little's law.
        """
        rate, service_s = rho, 2.0
        busy = rate * service_s
        low, high = -1.0, 0.0
        for _ in range(200):
            z = (low + high) / 2
            low, high = (low, z) if z * z - math.exp(busy * (z - 1)) < 0 else (z, high)
        # At the root: x0 (z^2 - 1) + x1 (z^2 - z) = 0; slope at 1: 2 x0 + x1 = 2 - busy.
        x0, x1 = np.linalg.solve([[z * z - 1, z * z - z], [2.0, 1.0]], [0.0, 2 - busy])
        f1, f2 = 2 - busy, 2 - busy**2
        g1, g2 = 2 * x0 + x1, 2 * (x0 + x1) + 2 * busy * (2 * x0 + x1)
        left = (g2 - f2) / (2 * f1) * (f1 / g1)
        short = 2 * x0 + x1
        waited = (2 * x0 + x1 - x0) / rate + (left - 2 + short) * service_s + rate * service_s**2 / 2
        cycle = short / rate + service_s
        queue = bulk_service(rate, service_s, 2, 2)
        assert queue.mean_queueing_s == pytest.approx(waited / cycle / rate, rel=1e-9)

    def test_a_large_cap_is_no_cap(self) -> None:
        same(bulk_service(1.0, affine, 120), unlimited_batching(1.0, affine))

    def test_service_times_may_be_a_list_or_a_function(self) -> None:
        same(bulk_service(1.0, [affine(n) for n in range(1, 9)], 8, 2), bulk_service(1.0, affine, 8, 2))

    @pytest.mark.statistical
    @pytest.mark.parametrize(("rate", "a", "b"), [(0.6, 1, 8), (1.5, 3, 8), (0.8, 4, 4)])
    def test_a_crude_simulation_agrees(self, rate: float, a: int, b: int) -> None:
        def replicate(rng: np.random.Generator) -> dict[str, float]:
            return batches(poisson_arrivals(rng, rate, 20_000), rough, b, a)

        agree(expected(bulk_service(rate, rough, b, a)), replicate, 0.03)


class TestUnlimitedBatching:
    @pytest.mark.parametrize("rate", [0.05, 0.6, 2.0, 4.5])
    @pytest.mark.parametrize("max_wait_s", [0.0, 0.3, 2.5, 20.0])
    @pytest.mark.parametrize("service_s", [affine, rough])
    def test_laws(self, rate: float, max_wait_s: float, service_s) -> None:
        queue = unlimited_batching(rate, service_s, max_wait_s)
        lawful(queue, rate)

    def test_a_timeout_longer_than_any_service_has_a_closed_form(self) -> None:
        rate, wait = 1.5, 7.0
        queue = unlimited_batching(rate, 3.0, wait)
        size = 1 + rate * wait
        assert queue.mean_per_step == pytest.approx(size)
        assert queue.mean_queueing_s == pytest.approx((wait + rate * wait**2 / 2) / size)
        assert queue.mean_per_request == pytest.approx(size + rate * wait / size)
        assert queue.utilisation == pytest.approx(rate * 3.0 / size)

    def test_the_limits_of_the_timeout_are_reached_without_a_jump(self) -> None:
        same(unlimited_batching(1.0, affine, 1e-12), unlimited_batching(1.0, affine))
        below, above = (unlimited_batching(1.0, 3.0, wait) for wait in (3 - 1e-12, 3.0))
        same(below, above)

    def test_at_light_load_everyone_waits_for_the_timer(self) -> None:
        queue = unlimited_batching(1e-7, affine, 4.0)
        assert queue.mean_queueing_s == pytest.approx(4, rel=1e-5)
        assert queue.mean_service_s == pytest.approx(affine(1), rel=1e-5)

    @pytest.mark.statistical
    @pytest.mark.parametrize(("rate", "max_wait_s"), [(0.6, 0.0), (0.6, 1.0), (1.2, 3.0), (0.4, 8.0)])
    def test_a_crude_simulation_agrees(self, rate: float, max_wait_s: float) -> None:
        def replicate(rng: np.random.Generator) -> dict[str, float]:
            return batches(poisson_arrivals(rng, rate, 20_000), rough, max_wait_s=max_wait_s)

        agree(expected(unlimited_batching(rate, rough, max_wait_s)), replicate, 0.03)


class TestInoueBound:
    @pytest.mark.parametrize("load", [0.01, 0.1, 0.3, 0.6, 0.9])
    @pytest.mark.parametrize("base_s", [0.0, 0.02, 0.5, 2.0, 10.0])
    def test_it_bounds_the_exact_value_closely(self, load: float, base_s: float) -> None:
        per_request_s = 0.2
        rate = load / per_request_s
        exact = unlimited_batching(rate, lambda n: base_s + per_request_s * n).mean_response_s
        bound = inoue_response_bound_s(rate, base_s, per_request_s)
        assert exact * (1 - 1e-9) <= bound <= 1.2 * exact

    @pytest.mark.parametrize("load", [0.1, 0.5, 0.9])
    def test_the_exact_mean_is_a_function_of_the_mean_batch(self, load: float) -> None:
        per_request_s, base_s = 0.2, 0.5
        rate = load / per_request_s
        queue = unlimited_batching(rate, lambda n: base_s + per_request_s * n)
        m, x = queue.mean_per_step, load
        ratio = (1 + 2 * rate * x * base_s + (rate * base_s) ** 2 / m) / (1 - x**2)
        assert queue.mean_per_request == pytest.approx(ratio)
        response = ratio * per_request_s * (1 + x / 2) + base_s * (1 + x) + rate * base_s**2 / (2 * m)
        assert queue.mean_response_s == pytest.approx(response)

    def test_both_bounds_are_the_exact_function_at_their_mean_batch(self) -> None:
        """m = 1 where the server is nearly always idle, m = rate base / (1 - x) where it is nearly never."""
        for rate, base_s in [(0.01, 1.0), (0.3, 1.0), (1.0, 1.0), (2.0, 1.0), (3.0, 5.0)]:
            x = rate * 0.2
            values = []
            for m in (1.0, rate * base_s / (1 - x)):
                ratio = (1 + 2 * rate * x * base_s + (rate * base_s) ** 2 / m) / (1 - x**2)
                values.append(ratio * 0.2 * (1 + x / 2) + base_s * (1 + x) + rate * base_s**2 / (2 * m))
            assert inoue_response_bound_s(rate, base_s, 0.2) == pytest.approx(min(values))

    def test_light_load_is_one_service(self) -> None:
        assert inoue_response_bound_s(1e-9, 2.0, 0.2) == pytest.approx(2.2)


class TestContinuousBatching:
    @pytest.mark.parametrize("rho", LOADS)
    def test_one_seat_and_one_token_is_md1(self, rho: float) -> None:
        queue, exact = continuous_batching(rho / 2, 2.0, 1, 1.0), MD1(rho / 2, 2.0)
        assert queue.mean_queueing_s == pytest.approx(exact.mean_queueing_s, rel=1e-9)
        assert queue.mean_response_s == pytest.approx(exact.mean_response_s, rel=1e-9)

    @pytest.mark.parametrize("rho", LOADS)
    def test_one_seat_is_mg1_with_geometric_service(self, rho: float) -> None:
        mean, step_s = 7.0, 0.5
        exact = MG1(rho / (mean * step_s), mean * step_s, math.sqrt(1 - 1 / mean))
        queue = continuous_batching(exact.rate, step_s, 1, mean)
        assert queue.mean_queueing_s == pytest.approx(exact.mean_queueing_s, rel=1e-8)
        assert queue.mean_service_s == pytest.approx(mean * step_s)
        assert queue.utilisation == pytest.approx(rho)

    @pytest.mark.parametrize("rho", LOADS)
    def test_one_token_is_bulk_service(self, rho: float) -> None:
        rate = rho * 8 / affine(8)
        same(continuous_batching(rate, affine, 8, 1.0), bulk_service(rate, affine, 8))

    def test_one_token_and_many_seats_is_greedy_batching(self) -> None:
        same(continuous_batching(1.0, affine, 120, 1.0), unlimited_batching(1.0, affine))

    def test_many_seats_and_constant_steps_serve_everyone_alike(self) -> None:
        """With a seat for everyone, a request waits for the rest of a step (if there is one) and runs m steps."""
        rate, step_s, mean = 2.0, 0.5, 6.0
        queue = continuous_batching(rate, step_s, 60, mean)
        assert queue.mean_service_s == pytest.approx(mean * step_s)
        assert queue.mean_queueing_s == pytest.approx(queue.utilisation * step_s / 2)

    @pytest.mark.parametrize("rho", LOADS)
    @pytest.mark.parametrize(("seats", "mean"), [(1, 1.5), (4, 1.0), (4, 20.0), (64, 40.0)])
    def test_laws(self, rho: float, seats: int, mean: float) -> None:
        rate = rho * seats / (mean * affine(seats))
        queue = continuous_batching(rate, affine, seats, mean)
        lawful(queue, rate)
        # Every token is a row of some step, so the rows per second are m tokens for each request.
        steps_per_s = queue.utilisation / (queue.batch_size[1:] @ [affine(n) for n in range(1, seats + 1)])
        assert queue.mean_per_step * steps_per_s == pytest.approx(rate * mean)

    @pytest.mark.statistical
    @pytest.mark.parametrize(("rate", "seats", "mean"), [(0.15, 3, 4.0), (0.3, 16, 6.0), (0.45, 8, 2.5)])
    def test_a_crude_simulation_agrees(self, rate: float, seats: int, mean: float) -> None:
        def replicate(rng: np.random.Generator) -> dict[str, float]:
            arrival = poisson_arrivals(rng, rate, 12_000)
            return iterations(arrival, rng.geometric(1 / mean, len(arrival)), rough, seats)

        agree(expected(continuous_batching(rate, rough, seats, mean)), replicate, 0.06)


@pytest.mark.parametrize(
    "solve",
    [
        lambda: bulk_service(2.0, rough, 8, 3),
        lambda: unlimited_batching(2.0, rough, 1.0),
        lambda: continuous_batching(0.5, rough, 8, 3.0),
    ],
)
def test_the_truncation_does_not_show(monkeypatch: pytest.MonkeyPatch, solve) -> None:
    usual = solve()
    monkeypatch.setattr(chain, "TAIL", 1e-26)
    same(usual, solve(), rel=1e-10)
    monkeypatch.setattr(chain, "TAIL", 1e-6)
    same(usual, solve(), rel=1e-4)


def test_the_tail_bound_is_a_bound() -> None:
    """The chain of M/D/1 is cut where its known tail is below the promise, but not absurdly far beyond."""
    for rho in LOADS:
        queue = MD1(rho, 1.0)
        arrivals = rho * np.expm1(chain.THETAS)
        last = chain.last_state(chain.drift_moment(arrivals - chain.THETAS, arrivals))
        beyond = queue.queueing_ccdf(last * 1.0)
        assert beyond <= chain.TAIL
        assert queue.queueing_ccdf(0.5 * last) > chain.TAIL


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: bulk_service(0.5, 2.0, 1), "bulk_service: load = 1 is not below 1"),
        (lambda: bulk_service(0.5, 2.0, 4, 5), "min_batch = 5 must not exceed max_batch = 4"),
        (lambda: bulk_service(0.5, 2.0, 0), "max_batch = 0"),
        (lambda: bulk_service(0.0, 2.0, 1), "rate = 0"),
        (lambda: bulk_service(0.5, [1.0, 1.0], 3), "one time each for 1 to 3 rows"),
        (lambda: bulk_service(0.5, [1.0, -1.0], 2), "service_s for 2 rows is -1.0"),
        (lambda: bulk_service(0.99999, 1.0, 1), "more than 4000 states"),
        (lambda: unlimited_batching(5.0, affine), "load = 1"),
        (lambda: unlimited_batching(1.0, affine, math.inf), "max_wait_s = inf"),
        (lambda: unlimited_batching(1.0, affine, -1.0), "max_wait_s = -1.0"),
        (lambda: unlimited_batching(1.0, math.nan), "service_s for 1 rows is nan"),
        (lambda: unlimited_batching(4.99, affine), "more than 4000 states"),
        (lambda: continuous_batching(1.0, 1.0, 4, 0.5), "mean_output_tokens = 0.5"),
        (lambda: continuous_batching(1.0, 1.0, 4, math.nan), "mean_output_tokens = nan"),
        (lambda: continuous_batching(1.0, 1.0, 4, 8.0), "continuous_batching: load = 2"),
        (lambda: continuous_batching(1.0, 1.0, 0, 8.0), "max_seqs = 0"),
        (lambda: inoue_response_bound_s(5.0, 1.0, 0.2), "inoue_response_bound_s: load = 1"),
        (lambda: inoue_response_bound_s(1.0, -1.0, 0.2), "base_s = -1.0"),
    ],
)
def test_bad_parameters_are_refused_in_one_line(make, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refusal:
        make()
    assert "\n" not in str(refusal.value)
