"""M/M/1, M/D/1, M/G/1, GI/M/1 and MMPP/M/1 against each other and against independent calculations."""

import math

import numpy as np
import pytest
from crude import agree, mmpp_arrivals, poisson_arrivals, waits
from scipy.integrate import quad

from simqueue.errors import ConfigError
from simqueue.theory import GIM1, MD1, MG1, MM1, MMPPM1

LOADS = [0.01, 0.3, 0.5, 0.8, 0.95, 0.99]
SERVICE_S = 2.0


def erlang_wait_cdf(rate: float, service_s: float, t_s: float) -> float:
    """Erlang's alternating series for P(W <= t), good for small t only."""
    terms = (
        (-rate * (t_s - k * service_s)) ** k / math.factorial(k) * math.exp(rate * (t_s - k * service_s))
        for k in range(math.floor(t_s / service_s) + 1)
    )
    return (1 - rate * service_s) * math.fsum(terms)


class TestMD1:
    @pytest.mark.parametrize("rho", LOADS)
    def test_the_tail_integrates_to_the_pollaczek_khinchine_mean(self, rho: float) -> None:
        queue = MD1(rho / SERVICE_S, SERVICE_S)
        pieces = range(int(18 / (1 - rho)) + 5)
        area = sum(quad(queue.queueing_ccdf, SERVICE_S * k, SERVICE_S * (k + 1))[0] for k in pieces)
        assert area == pytest.approx(queue.mean_queueing_s, rel=1e-11)
        assert queue.mean_queueing_s == pytest.approx(MG1(rho / SERVICE_S, SERVICE_S, 0.0).mean_queueing_s)

    @pytest.mark.parametrize("rho", LOADS)
    def test_it_is_erlangs_series_where_that_is_accurate(self, rho: float) -> None:
        queue = MD1(rho / SERVICE_S, SERVICE_S)
        for t_s in np.linspace(0, 6 * SERVICE_S, 41):
            expected = 1 - erlang_wait_cdf(queue.rate, SERVICE_S, t_s)
            assert queue.queueing_ccdf(t_s) == pytest.approx(expected, abs=1e-11)

    def test_an_arrival_waits_with_probability_rho(self) -> None:
        for rho in LOADS:
            assert MD1(rho, 1.0).queueing_ccdf(0.0) == pytest.approx(rho, rel=1e-13)
        assert MD1(0.5, 1.0).queueing_ccdf(-1e-9) == 1.0

    def test_the_tail_falls_at_the_rate_of_cramer_and_lundberg(self) -> None:
        queue = MD1(0.95, 1.0)
        decay = 1 / queue.size_ratio - 1
        assert math.exp(0.95 * decay) == pytest.approx(1 + decay)
        for t_s in (50.0, 200.5, 500.25, 5000.5):
            assert queue.queueing_ccdf(t_s + 1) / queue.queueing_ccdf(t_s) == pytest.approx(
                math.exp(-decay * 0.95), rel=1e-9
            )

    def test_it_falls_without_jumps_or_negative_values(self) -> None:
        queue = MD1(0.95, 1.0)
        tail = np.array([queue.queueing_ccdf(t) for t in np.linspace(0, 600, 4001)])
        assert np.all(np.diff(tail) < 0)
        assert tail[-1] > 0
        edges = [(queue.queueing_ccdf(k - 1e-12), queue.queueing_ccdf(k)) for k in range(1, 100)]
        assert all(before == pytest.approx(after, rel=1e-9) for before, after in edges)

    def test_quantiles_invert_the_tail(self) -> None:
        queue = MD1(1.8, 0.5)
        for q in (0.2, 0.5, 0.9, 0.99, 0.9999):
            assert queue.queueing_ccdf(queue.queueing_quantile_s(q)) == pytest.approx(1 - q)
            assert queue.response_ccdf(queue.response_quantile_s(q)) == pytest.approx(1 - q)
        assert queue.queueing_quantile_s(0.05) == 0.0
        assert queue.response_quantile_s(0.05) == 0.5

    def test_system_size_obeys_littles_law(self) -> None:
        for rho in LOADS:
            queue = MD1(rho, 1.0)
            assert queue.system_size.sum() == pytest.approx(1, abs=1e-12)
            mean = queue.system_size @ np.arange(len(queue.system_size))
            assert mean == pytest.approx(queue.rate * queue.mean_response_s, rel=1e-12)

    @pytest.mark.statistical
    def test_a_crude_simulation_agrees(self) -> None:
        queue = MD1(0.7, 1.0)
        p95 = queue.queueing_quantile_s(0.95)

        def replicate(rng: np.random.Generator) -> dict[str, float]:
            wait = waits(poisson_arrivals(rng, 0.7, 40_000), np.ones(40_000))
            return {"mean": float(wait.mean()), "above": float((wait > p95).mean())}

        agree({"mean": queue.mean_queueing_s, "above": 0.05}, replicate, 0.08)


class TestMG1:
    def test_erlang_runs_from_exponential_to_constant(self) -> None:
        exponential = MG1.erlang(0.4, SERVICE_S, 1)
        assert exponential.mean_response_s == pytest.approx(MM1(0.4, SERVICE_S).mean_response_s)
        constant = MD1(0.4, SERVICE_S).mean_queueing_s
        for shape in (2, 5, 100):
            queue = MG1.erlang(0.4, SERVICE_S, shape)
            assert queue.mean_queueing_s == pytest.approx(constant * (1 + 1 / shape))


class TestMM1:
    def test_textbook_values(self) -> None:
        queue = MM1(0.8, 1.0)
        assert queue.mean_response_s == pytest.approx(5)
        assert queue.mean_queueing_s == pytest.approx(4)
        assert queue.response_quantile_s(0.95) == pytest.approx(5 * math.log(20))
        assert queue.queueing_ccdf(0.0) == pytest.approx(0.8)
        assert queue.queueing_quantile_s(0.2) == 0.0
        assert queue.response_quantile_s(0.0) == 0.0

    def test_tails_integrate_to_means(self) -> None:
        queue = MM1(0.8, 1.0)
        assert quad(queue.queueing_ccdf, 0, np.inf)[0] == pytest.approx(queue.mean_queueing_s)
        assert quad(queue.response_ccdf, 0, np.inf)[0] == pytest.approx(queue.mean_response_s)


class TestGIM1:
    @pytest.mark.parametrize("rho", LOADS)
    def test_cv_1_is_mm1(self, rho: float) -> None:
        bursty, plain = GIM1.gamma(rho / SERVICE_S, 1.0, SERVICE_S), MM1(rho / SERVICE_S, SERVICE_S)
        assert bursty.mean_queueing_s == pytest.approx(plain.mean_queueing_s, rel=1e-10)
        assert bursty.queueing_quantile_s(0.999) == pytest.approx(plain.queueing_quantile_s(0.999), rel=1e-10)

    def test_erlang_2_gaps_give_a_quadratic(self) -> None:
        """Without the root 1, x = (a / (a + 1 - x))^2 leaves x^2 - (1 + 2a) x + a^2 = 0, with a = 2 rate service."""
        a = 2 * 0.8
        sigma = ((1 + 2 * a) - math.sqrt(1 + 4 * a)) / 2
        assert 1 - GIM1.gamma(0.4, math.sqrt(0.5), SERVICE_S).idle_found == pytest.approx(sigma, rel=1e-12)

    def test_constant_gaps_are_the_limit_of_cv_0(self) -> None:
        clock = GIM1(0.4, SERVICE_S, lambda s: math.exp(-s / 0.4))
        assert GIM1.gamma(0.4, 1e-3, SERVICE_S).mean_queueing_s == pytest.approx(clock.mean_queueing_s, rel=1e-5)
        light = GIM1(1e-4, 1.0, lambda s: math.exp(-s / 1e-4))
        assert light.mean_queueing_s == pytest.approx(0, abs=1e-300)

    def test_heavy_traffic_is_kingmans_bound_nearly_reached(self) -> None:
        rate, cv = 0.999, 3.0
        bound = rate * ((cv / rate) ** 2 + 1) / (2 * (1 - rate))
        assert GIM1.gamma(rate, cv, 1.0).mean_queueing_s == pytest.approx(bound, rel=0.01)

    @pytest.mark.statistical
    def test_a_crude_simulation_agrees(self) -> None:
        queue = GIM1.gamma(0.5, 2.0, 1.0)
        p90 = queue.queueing_quantile_s(0.9)

        def replicate(rng: np.random.Generator) -> dict[str, float]:
            arrival = np.cumsum(rng.gamma(0.25, 8.0, 60_000))
            wait = waits(arrival, rng.exponential(1.0, 60_000))
            return {"mean": float(wait.mean()), "above": float((wait > p90).mean())}

        agree({"mean": queue.mean_queueing_s, "above": 0.1}, replicate, 0.06)

    def test_a_transform_of_another_rate_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="check the rate"):
            GIM1(0.4, 1.0, lambda s: 2.0 / (2.0 + s)).idle_found  # noqa: B018


JUMPS = [[0.0, 0.7, 0.3], [0.5, 0.0, 0.5], [0.9, 0.1, 0.0]]


class TestMMPPM1:
    @pytest.mark.parametrize("rho", LOADS)
    def test_equal_rates_are_mm1(self, rho: float) -> None:
        rate = rho / SERVICE_S
        bursty, plain = MMPPM1([rate] * 3, [1.0, 20.0, 3.0], SERVICE_S, JUMPS), MM1(rate, SERVICE_S)
        assert bursty.mean_response_s == pytest.approx(plain.mean_response_s, rel=1e-9)
        for q in (0.5, 0.995):
            assert bursty.queueing_quantile_s(q) == pytest.approx(plain.queueing_quantile_s(q), rel=1e-8)
            assert bursty.response_quantile_s(q) == pytest.approx(plain.response_quantile_s(q), rel=1e-8)
        assert bursty.system_size(5) == pytest.approx((1 - rho) * rho ** np.arange(6), rel=1e-9)

    def test_one_state_is_mm1(self) -> None:
        assert MMPPM1([0.4], [5.0], SERVICE_S).mean_queueing_s == pytest.approx(8)

    def test_on_off_is_a_renewal_process(self) -> None:
        """Kuczura (1973): the gaps of an interrupted Poisson process are independent; so GI/M/1 must say the same."""
        on, leave, back = 2.0, 1 / 3.0, 1 / 7.0

        def transform(s: float) -> float:
            return on * (back + s) / ((on + leave + s) * (back + s) - leave * back)

        mean_rate = on * back / (back + leave)
        for service_s in (0.1, 0.8, 1.5):
            renewal = GIM1(mean_rate, service_s, transform)
            modulated = MMPPM1([on, 0.0], [1 / leave, 1 / back], service_s)
            assert modulated.mean_rate == pytest.approx(mean_rate)
            assert modulated.mean_queueing_s == pytest.approx(renewal.mean_queueing_s, rel=1e-9)
            for t_s in (0.0, 1.0, 10.0, 40.0):
                assert modulated.queueing_ccdf(t_s) == pytest.approx(renewal.queueing_ccdf(t_s), rel=1e-9)
                assert modulated.response_ccdf(t_s) == pytest.approx(renewal.response_ccdf(t_s), rel=1e-9)

    def test_it_solves_the_balance_equations_of_the_whole_chain(self) -> None:
        rates, stays, service_s, levels = [0.3, 1.2, 0.0], [4.0, 2.0, 1.0], 1.0, 300
        queue = MMPPM1(rates, stays, service_s, JUMPS)
        phases = (np.array(JUMPS) - np.eye(3)) / np.array(stays)[:, None]
        up, down = np.diag(np.ones(levels - 1), 1), np.diag(np.ones(levels - 1), -1)
        flow = np.kron(np.eye(levels), phases) + np.kron(up, np.diag(rates)) + np.kron(down, np.eye(3) / service_s)
        flow -= np.diag(flow.sum(axis=1))
        flow[:, 0] = 1.0
        right = np.eye(3 * levels)[0]
        share = np.linalg.solve(flow.T, right).reshape(levels, 3)
        assert queue.system_size(40) == pytest.approx(share.sum(axis=1)[:41], abs=1e-12)
        assert queue.mean_in_system == pytest.approx(share.sum(axis=1) @ np.arange(levels), rel=1e-9)
        assert queue.system_size(0)[0] == pytest.approx(1 - queue.utilisation)
        seen = share @ np.array(rates) / queue.mean_rate
        assert queue.queueing_ccdf(0.0) == pytest.approx(1 - seen[0])

    def test_tails_integrate_to_means(self) -> None:
        queue = MMPPM1([0.3, 1.2, 0.0], [4.0, 2.0, 1.0], 1.0, JUMPS)
        assert quad(queue.queueing_ccdf, 0, np.inf)[0] == pytest.approx(queue.mean_queueing_s, rel=1e-6)
        assert quad(queue.response_ccdf, 0, np.inf)[0] == pytest.approx(queue.mean_response_s, rel=1e-6)

    def test_fast_and_slow_switching(self) -> None:
        fast = MMPPM1([0.2, 0.8], [1e-6, 1e-6], 1.0)
        assert fast.mean_queueing_s == pytest.approx(MM1(0.5, 1.0).mean_queueing_s, rel=1e-4)
        slow = MMPPM1([0.2, 0.8], [1e7, 1e7], 1.0)
        mixture = (0.2 * MM1(0.2, 1.0).mean_queueing_s + 0.8 * MM1(0.8, 1.0).mean_queueing_s) / 1.0
        assert slow.mean_queueing_s == pytest.approx(mixture, rel=1e-4)

    @pytest.mark.statistical
    def test_a_crude_simulation_agrees(self) -> None:
        rates, stays = [0.3, 1.5, 0.0], [4.0, 2.0, 3.0]
        queue = MMPPM1(rates, stays, 1.0, JUMPS)
        p90 = queue.queueing_quantile_s(0.9)

        def replicate(rng: np.random.Generator) -> dict[str, float]:
            arrival = mmpp_arrivals(rng, rates, stays, np.array(JUMPS), 60_000.0)
            wait = waits(arrival, rng.exponential(1.0, len(arrival)))
            return {"mean": float(wait.mean()), "above": float((wait > p90).mean())}

        agree({"mean": queue.mean_queueing_s, "above": 0.1}, replicate, 0.06)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: MM1(1.0, 1.0), "load = 1 is not below 1"),
        (lambda: MD1(1.2, 1.0), "MD1: load = 1.2"),
        (lambda: MG1(2.0, 0.5, 1.0), "MG1: load"),
        (lambda: GIM1.gamma(2.0, 2.0, 1.0), "GIM1: load = 2"),
        (lambda: MMPPM1([0.0, 3.0], [1.0, 1.0], 1.0), "MMPPM1: load = 1.5"),
        (lambda: MM1(math.nan, 1.0), "rate = nan"),
        (lambda: MD1(0.5, -1.0), "service_s = -1.0"),
        (lambda: MG1(0.5, 1.0, math.inf), "cv = inf"),
        (lambda: MG1.erlang(0.5, 1.0, 0), "shape = 0"),
        (lambda: GIM1.gamma(0.5, 0.0, 1.0), "cv = 0"),
        (lambda: MM1(0.5, 1.0).response_quantile_s(1.0), "q = 1.0"),
        (lambda: MD1(0.5, 1.0).queueing_quantile_s(-0.1), "q = -0.1"),
        (lambda: MMPPM1([1.0], [1.0, 2.0], 0.1), "1 rates and 2 mean_stay_s"),
        (lambda: MMPPM1([], [], 0.1), "0 rates"),
        (lambda: MMPPM1([1.0, -1.0], [1.0, 2.0], 0.1), r"rates\[1\] = -1.0"),
        (lambda: MMPPM1([1.0, 1.0], [1.0, 0.0], 0.1), r"mean_stay_s\[1\] = 0"),
        (lambda: MMPPM1([0.0, 0.0], [1.0, 1.0], 0.1), "mean arrival rate"),
        (lambda: MMPPM1([1.0, 1.0], [1.0, 1.0], 0.1, [[1.0]]), "2 rows of 2"),
        (lambda: MMPPM1([1.0, 1.0], [1.0, 1.0], 0.1, [[0.0, 0.9], [1.0, 0.0]]), "sum to 1"),
        (lambda: MMPPM1([1.0, 1.0], [1.0, 1.0], 0.1, [[1.0, 0.0], [0.0, 1.0]]), "never meet"),
    ],
)
def test_bad_parameters_are_refused_in_one_line(make, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refusal:
        make()
    assert "\n" not in str(refusal.value)
