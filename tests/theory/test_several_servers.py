"""M/M/c, M/M/c/K, Erlang A, the shortest queue and the power of d choices, against chains and crude simulations."""

import math
from fractions import Fraction

import numpy as np
import pytest
from crude import agree, poisson_arrivals, several_servers, shortest_queues
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from simqueue.errors import ConfigError
from simqueue.theory import (
    MM1,
    MMC,
    MMCK,
    ErlangA,
    JoinShortestQueue,
    PowerOfChoices,
    erlang_b,
    erlang_c,
    impatience,
    shortest_queue,
)

LOADS = st.floats(0.01, 0.97)
SERVERS = st.integers(1, 12)
SERVICE_S = 2.0


def balance(flow: np.ndarray) -> np.ndarray:
    """Stationary distribution of a finite chain from its rates between states, by brute force."""
    generator = flow - np.diag(flow.sum(axis=1))
    generator[:, 0] = 1.0
    return np.linalg.solve(generator.T, np.eye(len(flow))[0])


def one_line(rate: float, leaving: np.ndarray) -> np.ndarray:
    """As many states as there are rates of leaving state 1, 2, ..., and one more."""
    return balance(np.diag(np.full(len(leaving), rate), 1) + np.diag(leaving, -1))


class TestErlang:
    @pytest.mark.parametrize(("servers", "offered"), [(3, 0.602), (9, 4.345), (25, 17.505), (51, 41.189), (89, 77.342)])
    def test_published_table(self, servers: int, offered: float) -> None:
        """Lucent's "Erlang-B capacity table" for 2 % blocking, garywagoner.tripod.com/traffic/ERLANG.HTML."""
        assert erlang_b(servers, offered - 0.001) < 0.02 < erlang_b(servers, offered + 0.001)

    @given(servers=SERVERS, offered=st.integers(1, 30))
    def test_formula_with_factorials(self, servers: int, offered: int) -> None:
        terms = [Fraction(offered) ** n / math.factorial(n) for n in range(servers + 1)]
        assert erlang_b(servers, offered / 1) == pytest.approx(float(terms[-1] / sum(terms)), rel=1e-13)
        if offered < servers:
            queued = terms[-1] / (1 - Fraction(offered, servers))
            assert erlang_c(servers, offered) == pytest.approx(float(queued / (sum(terms[:-1]) + queued)), rel=1e-13)

    def test_large_systems_lose_no_digits(self) -> None:
        """Halfin and Whitt (1981), "Heavy-traffic limits for queues with many exponential servers", proposition 1."""
        servers, beta = 10**6, 0.5
        density = math.exp(-(beta**2) / 2) / math.sqrt(2 * math.pi)
        below = (1 + math.erf(beta / math.sqrt(2))) / 2
        assert erlang_c(servers, servers - beta * math.sqrt(servers)) == pytest.approx(
            1 / (1 + beta * below / density), rel=2e-3
        )

    def test_losses_of_no_room_to_wait(self) -> None:
        for servers in (1, 4, 50):
            queue = MMCK(1.7 * servers, 0.5, servers, servers)
            assert queue.blocking_probability == pytest.approx(erlang_b(servers, 0.85 * servers), rel=1e-12)
            assert queue.mean_queueing_s == 0.0


class TestMMC:
    @given(rho=LOADS)
    def test_one_server_is_mm1(self, rho: float) -> None:
        queue, single = MMC(rho / SERVICE_S, SERVICE_S, 1), MM1(rho / SERVICE_S, SERVICE_S)
        assert queue.mean_queueing_s == pytest.approx(single.mean_queueing_s)
        assert queue.mean_response_s == pytest.approx(single.mean_response_s)
        for t_s in (-1.0, 0.0, 1.0, 5.0, 50.0):
            assert queue.queueing_ccdf(t_s) == pytest.approx(single.queueing_ccdf(t_s), rel=1e-9)
            assert queue.response_ccdf(t_s) == pytest.approx(single.response_ccdf(t_s), rel=1e-9)
        assert queue.queueing_quantile_s(0.99) == pytest.approx(single.queueing_quantile_s(0.99), abs=1e-9)
        assert queue.response_quantile_s(0.99) == pytest.approx(single.response_quantile_s(0.99))

    @pytest.mark.parametrize(("servers", "rho"), [(2, 0.5), (3, 0.8), (10, 0.9)])
    def test_balance_of_the_chain(self, servers: int, rho: float) -> None:
        rate = rho * servers / SERVICE_S
        share = one_line(rate, np.minimum(np.arange(1, 500), servers) / SERVICE_S)
        queue = MMC(rate, SERVICE_S, servers)
        assert queue.waiting_probability == pytest.approx(share[servers:].sum())
        waiting = np.maximum(np.arange(500) - servers, 0)
        assert queue.mean_queueing_s * rate == pytest.approx(share @ waiting)
        assert queue.mean_response_s * rate == pytest.approx(share @ np.arange(500))

    @pytest.mark.parametrize(("servers", "rho"), [(2, 0.5), (3, 0.2), (4, 0.75), (20, 0.95), (40, 0.3)])
    def test_tails_integrate_to_means(self, servers: int, rho: float) -> None:
        """Where servers (1 - rho) = 1, service and the rest of the wait have the same rate."""
        queue = MMC(rho * servers / SERVICE_S, SERVICE_S, servers)
        assert quad(queue.queueing_ccdf, 0, np.inf)[0] == pytest.approx(queue.mean_queueing_s)
        assert quad(queue.response_ccdf, 0, np.inf)[0] == pytest.approx(queue.mean_response_s)

    def test_quantiles_invert_the_tails(self) -> None:
        queue = MMC(2.7, 1.0, 3)
        for q in (0.5, 0.9, 0.999):
            assert queue.queueing_ccdf(queue.queueing_quantile_s(q)) == pytest.approx(1 - q)
            assert queue.response_ccdf(queue.response_quantile_s(q)) == pytest.approx(1 - q)
        assert queue.queueing_quantile_s(0.1) == 0.0
        assert MMC(1e-9, 1.0, 500).queueing_quantile_s(0.5) == 0.0

    @pytest.mark.statistical
    def test_a_crude_simulation_agrees(self) -> None:
        queue = MMC(2.1, 1.0, 3)
        p90, p95 = queue.queueing_quantile_s(0.9), queue.response_quantile_s(0.95)

        def replicate(rng: np.random.Generator) -> dict[str, float]:
            seen = several_servers(poisson_arrivals(rng, 2.1, 16_000), rng.exponential(1.0, 16_000), 3)
            waited, response = seen["waited"], seen["response"]
            return {"mean": waited.mean(), "p90": np.mean(waited > p90), "p95": np.mean(response > p95)}

        agree({"mean": queue.mean_queueing_s, "p90": 0.1, "p95": 0.05}, replicate, 0.1)


class TestMMCK:
    @given(rho=st.floats(0.05, 4.0), servers=SERVERS, room=st.integers(0, 30))
    def test_balance_of_the_chain(self, rho: float, servers: int, room: int) -> None:
        rate, capacity = rho * servers / SERVICE_S, servers + room
        share = one_line(rate, np.minimum(np.arange(1, capacity + 1), servers) / SERVICE_S)
        queue = MMCK(rate, SERVICE_S, servers, capacity)
        assert queue.system_size == pytest.approx(share, rel=1e-9, abs=1e-13)
        busy = share @ np.minimum(np.arange(capacity + 1), servers)
        assert queue.blocking_probability == pytest.approx(share[-1], rel=1e-9, abs=1e-13)
        assert queue.throughput_rps == pytest.approx(busy / SERVICE_S)
        assert queue.utilisation == pytest.approx(busy / servers)
        assert queue.mean_response_s * queue.throughput_rps == pytest.approx(share @ np.arange(capacity + 1))

    def test_textbook_values_of_one_server(self) -> None:
        """Kleinrock (1975), section 3.6: (1 - rho) rho^K / (1 - rho^(K+1)), and 1 / (K + 1) where rho = 1."""
        assert MMCK(0.25, 2.0, 1, 3).blocking_probability == pytest.approx(1 / 15)
        assert MMCK(0.5, 2.0, 1, 3).blocking_probability == pytest.approx(1 / 4)
        # At rho = 1 an admitted request finds 0, 1 or 2 with the same probability.
        assert MMCK(0.5, 2.0, 1, 3).mean_queueing_s == pytest.approx(2.0)

    def test_much_room_is_mmc(self) -> None:
        assert MMCK(2.4, 1.0, 3, 500).mean_queueing_s == pytest.approx(MMC(2.4, 1.0, 3).mean_queueing_s)

    def test_overload_is_served_at_full_speed(self) -> None:
        queue = MMCK(1e9, 2.0, 3, 4000)
        assert queue.throughput_rps == pytest.approx(1.5)
        assert queue.mean_queueing_s == pytest.approx(3997 / 1.5)

    @pytest.mark.statistical
    def test_a_crude_simulation_agrees(self) -> None:
        queue = MMCK(2.4, 1.0, 2, 6)

        def replicate(rng: np.random.Generator) -> dict[str, float]:
            seen = several_servers(poisson_arrivals(rng, 2.4, 12_000), rng.exponential(1.0, 12_000), 2, 6)
            return {"mean": seen["waited"].mean(), "blocked": 1 - len(seen["waited"]) / 12_000}

        agree({"mean": queue.mean_queueing_s, "blocked": queue.blocking_probability}, replicate, 0.04)


class TestErlangA:
    @given(rho=st.floats(0.05, 3.0), servers=SERVERS, patience_s=st.floats(0.2, 20.0))
    def test_every_request_is_served_or_gives_up(self, rho: float, servers: int, patience_s: float) -> None:
        queue = ErlangA(rho * servers / SERVICE_S, SERVICE_S, servers, patience_s)
        assert queue.throughput_rps == pytest.approx(queue.rate * (1 - queue.abandonment_probability))
        assert queue.system_size.sum() == pytest.approx(1)

    @pytest.mark.parametrize(("servers", "rho", "patience_s"), [(1, 0.7, 3.0), (3, 1.2, 0.5), (20, 1.0, 8.0)])
    def test_balance_of_the_chain(self, servers: int, rho: float, patience_s: float) -> None:
        rate, states = rho * servers / SERVICE_S, np.arange(500)
        waiting = np.maximum(states - servers, 0)
        share = one_line(rate, ((states - waiting) / SERVICE_S + waiting / patience_s)[1:])
        queue = ErlangA(rate, SERVICE_S, servers, patience_s)
        assert queue.mean_waiting == pytest.approx(share @ waiting)
        assert queue.abandonment_probability == pytest.approx(share @ waiting / patience_s / rate)
        assert queue.utilisation == pytest.approx(share @ (states - waiting) / servers)

    @given(rho=st.floats(0.05, 3.0), servers=SERVERS)
    def test_patience_of_a_service_makes_the_number_poisson(self, rho: float, servers: int) -> None:
        """Everyone, served or waiting, leaves at the same rate: M/M/infinity."""
        offered = rho * servers
        queue = ErlangA(offered / SERVICE_S, SERVICE_S, servers, SERVICE_S)
        busy = sum(n * offered**n / math.factorial(n) for n in range(servers))
        more = sum(offered**n / math.factorial(n) for n in range(servers))
        mean_busy = servers + math.exp(-offered) * (busy - servers * more)
        assert queue.utilisation * servers == pytest.approx(mean_busy)

    def test_endless_patience_is_mmc_and_none_is_a_loss_system(self) -> None:
        patient = ErlangA(2.4, 1.0, 3, 1e9)
        assert patient.mean_queueing_s == pytest.approx(MMC(2.4, 1.0, 3).mean_queueing_s, rel=1e-6)
        assert patient.mean_queueing_served_s == pytest.approx(patient.mean_queueing_s, rel=1e-6)
        assert ErlangA(2.4, 1.0, 3, 1e-9).abandonment_probability == pytest.approx(erlang_b(3, 2.4), rel=1e-6)

    def test_overload_is_a_fluid(self) -> None:
        """Whitt (2006), "Fluid models for multiserver queues with abandonments": the surplus gives up."""
        queue = ErlangA(2000.0, 1.0, 1000, 100.0)
        assert queue.abandonment_probability == pytest.approx(0.5, rel=1e-6)
        assert queue.mean_queueing_s == pytest.approx(50, rel=1e-6)

    @pytest.mark.parametrize(("rho", "patience_s"), [(0.3, 2.0), (0.95, 200.0), (1.5, 5.0)])
    def test_the_truncation_is_as_small_as_promised(
        self, monkeypatch: pytest.MonkeyPatch, rho: float, patience_s: float
    ) -> None:
        exact = ErlangA(2 * rho, 1.0, 2, patience_s).mean_queueing_s
        monkeypatch.setattr(impatience, "_FIRST_TRY", 1)
        for tail in (1e-2, 1e-4, 1e-6):
            monkeypatch.setattr(impatience, "TAIL", tail)
            rough = ErlangA(2 * rho, 1.0, 2, patience_s)
            assert rough.mean_queueing_s == pytest.approx(exact, rel=tail)
            assert len(rough.system_size) < 500

    @pytest.mark.statistical
    def test_a_crude_simulation_agrees(self) -> None:
        queue = ErlangA(3.3, 1.0, 3, 2.0)

        def replicate(rng: np.random.Generator) -> dict[str, float]:
            arrival, service = poisson_arrivals(rng, 3.3, 12_000), rng.exponential(1.0, 12_000)
            seen = several_servers(arrival, service, 3, patience=rng.exponential(2.0, 12_000))
            waited, served = seen["waited"], seen["served"]
            return {"all": waited.mean(), "served": waited[served].mean(), "abandoned": 1 - served.mean()}

        exact = {"all": queue.mean_queueing_s, "served": queue.mean_queueing_served_s}
        agree(exact | {"abandoned": queue.abandonment_probability}, replicate, 0.05)


def two_queues(rate: float, most: int) -> float:
    """Mean number in both queues of at most so many each, service 1 s, by brute force."""
    first, second = np.divmod(np.arange(most**2), most)
    flow = np.zeros((most**2, most**2))
    for state, (m, n) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        for join, other, step in ((m, n, most), (n, m, 1)):
            if join <= other and join + 1 < most:
                flow[state, state + step] += rate / 2 if m == n else rate
            if join > 0:
                flow[state, state - step] += 1.0
    return float(balance(flow) @ (first + second))


class TestJoinShortestQueue:
    @pytest.mark.parametrize(("rho", "most"), [(0.1, 16), (0.4, 20), (0.6, 28)])
    def test_balance_of_the_chain_of_both_queues(self, rho: float, most: int) -> None:
        queue = JoinShortestQueue(2 * rho / SERVICE_S, SERVICE_S)
        assert queue.rate * queue.mean_response_s == pytest.approx(two_queues(2 * rho, most), rel=1e-9)
        assert queue.mean_queueing_s == queue.mean_response_s - SERVICE_S

    @given(rho=LOADS)
    def test_it_lies_between_one_queue_and_a_coin(self, rho: float) -> None:
        queue = JoinShortestQueue(2 * rho, 1.0)
        assert MMC(2 * rho, 1.0, 2).mean_response_s <= queue.mean_response_s * (1 + 1e-9)
        assert queue.mean_response_s <= MM1(rho, 1.0).mean_response_s
        assert queue.error_s <= 1e-10 * queue.mean_response_s

    def test_the_bounds_close_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        exact = JoinShortestQueue(1.6, 1.0).mean_response_s
        errors = []
        for gap in (3, 5, 8, 12):
            monkeypatch.setattr(shortest_queue, "_GAP", gap)
            rough = JoinShortestQueue(1.6, 1.0)
            assert rough.mean_response_s < exact < rough.mean_response_s + rough.error_s
            errors.append(rough.error_s)
        assert errors == sorted(errors, reverse=True)
        assert 0 < errors[-1] < 1e-5 * errors[0]

    def test_heavy_traffic_is_one_queue(self) -> None:
        """Foschini and Salz (1978), "A basic dynamic routing problem and diffusion": the queues act as one."""
        rho = 0.9999
        pooled = MMC(2 * rho, 1.0, 2).mean_response_s
        assert JoinShortestQueue(2 * rho, 1.0).mean_response_s == pytest.approx(pooled, rel=1e-3)

    @pytest.mark.statistical
    def test_a_crude_simulation_agrees(self) -> None:
        def replicate(rng: np.random.Generator) -> dict[str, float]:
            arrival, service = poisson_arrivals(rng, 1.3, 10_000), rng.exponential(1.0, 10_000)
            return {"mean": shortest_queues(arrival, service, 2, _orders(rng, 10_000)).mean()}

        agree({"mean": JoinShortestQueue(1.3, 1.0).mean_response_s}, replicate, 0.04)


def _orders(rng: np.random.Generator, requests: int) -> np.ndarray:
    first = rng.integers(0, 2, requests)
    return np.stack((first, 1 - first), axis=1)


class TestPowerOfChoices:
    @given(rho=LOADS, choices=st.integers(1, 6))
    def test_fixed_point_of_the_mean_field(self, rho: float, choices: int) -> None:
        """rate (s[k-1]^d - s[k]^d) = (s[k] - s[k+1]) / service: as many queues grow to k as shrink from it."""
        queue = PowerOfChoices(rho / SERVICE_S, SERVICE_S, choices)
        tail = np.array(queue.size_ccdf(40))
        grow = queue.rate * (tail[:-2] ** choices - tail[1:-1] ** choices)
        assert grow == pytest.approx((tail[1:-1] - tail[2:]) / SERVICE_S, rel=1e-9, abs=1e-15)

    @given(rho=LOADS)
    def test_one_choice_is_mm1_and_more_are_better(self, rho: float) -> None:
        means = [PowerOfChoices(rho / SERVICE_S, SERVICE_S, d).mean_response_s for d in (1, 2, 3, 10)]
        assert means[0] == pytest.approx(MM1(rho / SERVICE_S, SERVICE_S).mean_response_s)
        assert means == sorted(means, reverse=True)
        assert PowerOfChoices(rho, 1.0, 1).size_ccdf(9) == pytest.approx(rho ** np.arange(10))

    def test_extreme_parameters(self) -> None:
        assert PowerOfChoices(0.9, 1.0, 10**400).mean_response_s == pytest.approx(1.0)
        assert PowerOfChoices(0.9, 1.0, 2).size_ccdf(100)[-1] == 0.0
        # 1 / (1 - rho) = 10^12: the mean grows like its logarithm to the base 2 (Mitzenmacher 1996).
        assert PowerOfChoices(1 - 1e-12, 1.0, 2).mean_response_s == pytest.approx(math.log2(1e12), rel=0.05)

    @pytest.mark.statistical
    def test_a_crude_simulation_of_many_servers_agrees(self) -> None:
        """Of 500: the difference of about 1 / 500 lies within what the test can see."""
        servers, requests = 500, 10_000

        def replicate(rng: np.random.Generator) -> dict[str, float]:
            arrival, service = poisson_arrivals(rng, 0.7 * servers, requests), rng.exponential(1.0, requests)
            response = shortest_queues(arrival, service, servers, rng.integers(0, servers, (requests, 3)))
            return {"mean": response[requests // 2 :].mean()}

        agree({"mean": PowerOfChoices(0.7, 1.0, 3).mean_response_s}, replicate, 0.04)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: erlang_b(0, 1.0), "erlang_b: servers = 0 must be at least 1"),
        (lambda: erlang_b(2, -1.0), "erlang_b: offered = -1.0"),
        (lambda: erlang_c(2, 2.0), "erlang_c: load = 1 is not below 1"),
        (lambda: MMC(3.0, 1.0, 3), "MMC: load = 1 is not below 1"),
        (lambda: MMC(1.0, 1.0, 2.0), "servers = 2.0 is not a whole number"),
        (lambda: MMC(1.0, 1.0, 2).queueing_quantile_s(1.0), "MMC: q = 1.0"),
        (lambda: MMC(1.0, 1.0, 2).response_quantile_s(-0.5), "MMC: q = -0.5"),
        (lambda: MMCK(1.0, 1.0, 3, 2), "capacity = 2 must be at least servers = 3"),
        (lambda: MMCK(math.inf, 1.0, 3, 4), "MMCK: rate = inf"),
        (lambda: ErlangA(1.0, 1.0, 1, 0.0), "ErlangA: patience_s = 0.0"),
        (lambda: ErlangA(2.0, 1.0, 1, 1e8).mean_queueing_s, "more than 4194304 requests wait: lower it or the rate"),
        (lambda: JoinShortestQueue(2.0, 1.0), "JoinShortestQueue: load = 1"),
        (lambda: JoinShortestQueue(2.0, 0.0), "service_s = 0.0"),
        (lambda: PowerOfChoices(1.0, 1.0, 2), "PowerOfChoices: load = 1"),
        (lambda: PowerOfChoices(0.5, 1.0, 0), "choices = 0"),
        (lambda: PowerOfChoices(0.5, 1.0, 2).size_ccdf(-1), "largest = -1"),
    ],
)
def test_bad_parameters_are_refused_in_one_line(make, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refusal:
        make()
    assert "\n" not in str(refusal.value)
