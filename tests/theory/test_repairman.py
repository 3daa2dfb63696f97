"""M/M/1//N against its balance equations, exact small cases, open queues as limits, and a crude simulation."""

import math
from heapq import heapify, heapreplace

import numpy as np
import pytest
from crude import agree
from scipy.integrate import quad

from simqueue.errors import ConfigError
from simqueue.theory import MM1, MachineRepairman

SIZES = [(1, 3.0), (2, 0.0), (2, 1.0), (8, 4.0), (30, 20.0), (30, 100.0), (500, 300.0)]


@pytest.mark.parametrize(("users", "think_s"), SIZES)
class TestEverySize:
    def test_flows_up_and_down_balance(self, users: int, think_s: float) -> None:
        size = MachineRepairman(users, think_s, 2.0).system_size
        assert len(size) == users + 1
        assert size.sum() == pytest.approx(1)
        for n in range(users):
            # (users - n) think, each asks at rate 1 / think_s; the server answers at rate 1 / 2.
            assert (users - n) * size[n] * 2.0 == pytest.approx(size[n + 1] * think_s, rel=1e-9, abs=1e-15)

    def test_every_user_thinks_or_waits(self, users: int, think_s: float) -> None:
        queue = MachineRepairman(users, think_s, 2.0)
        assert users / (queue.mean_response_s + think_s) == pytest.approx(queue.throughput_rps)

    def test_asymptotic_bounds(self, users: int, think_s: float) -> None:
        """Denning and Buzen (1978), "The operational analysis of queueing network models", Computing Surveys 10."""
        queue = MachineRepairman(users, think_s, 2.0)
        assert queue.throughput_rps <= min(1 / 2.0, users / (2.0 + think_s)) * (1 + 1e-12)
        assert queue.mean_response_s >= max(2.0, users * 2.0 - think_s) * (1 - 1e-12)

    def test_tails_integrate_to_means(self, users: int, think_s: float) -> None:
        """The law of times comes from what arrivals find, the means from Little's law over time."""
        queue = MachineRepairman(users, think_s, 2.0)
        far = 2.0 * (users + 40 + 9 * math.sqrt(users))
        for ccdf, mean in (
            (queue.queueing_ccdf, queue.mean_queueing_s),
            (queue.response_ccdf, queue.mean_response_s),
        ):
            assert quad(ccdf, 0, far, limit=500)[0] == pytest.approx(mean, rel=1e-6, abs=1e-9)

    def test_quantiles_invert_the_tail(self, users: int, think_s: float) -> None:
        queue = MachineRepairman(users, think_s, 2.0)
        for q in (0.3, 0.9, 0.999):
            assert queue.response_ccdf(queue.response_quantile_s(q)) == pytest.approx(1 - q)
            if queue.queueing_quantile_s(q):
                assert queue.queueing_ccdf(queue.queueing_quantile_s(q)) == pytest.approx(1 - q)
            else:
                assert queue.queueing_ccdf(0.0) <= 1 - q


def test_one_user_never_waits() -> None:
    queue = MachineRepairman(1, 3.0, 2.0)
    assert queue.mean_queueing_s == queue.queueing_ccdf(0.0) == 0.0
    assert queue.throughput_rps == pytest.approx(1 / 5)
    assert queue.response_quantile_s(0.5) == pytest.approx(2.0 * math.log(2))


def test_users_who_do_not_think_are_always_there() -> None:
    queue = MachineRepairman(7, 0.0, 2.0)
    assert (queue.utilisation, queue.throughput_rps) == (1.0, 0.5)
    assert queue.mean_response_s == pytest.approx(14.0)


def test_two_users_by_hand() -> None:
    # 0, 1 or 2 in the system with weights 1, 2 r and 2 r^2, r = service / think = 1 / 2.
    queue = MachineRepairman(2, 4.0, 2.0)
    assert queue.system_size == pytest.approx(np.array([1, 1, 0.5]) / 2.5)
    # The other one is found there with probability r / (1 + r).
    assert queue.queueing_ccdf(0.0) == pytest.approx(1 / 3)
    assert queue.mean_queueing_s == pytest.approx(2.0 / 3)


def test_many_users_who_think_long_are_poisson_arrivals() -> None:
    open_loop = MM1(0.4, 2.0)
    closed = MachineRepairman(400_000, 1e6, 2.0)
    assert closed.mean_queueing_s == pytest.approx(open_loop.mean_queueing_s, rel=1e-3)
    assert closed.response_quantile_s(0.99) == pytest.approx(open_loop.response_quantile_s(0.99), rel=1e-3)


@pytest.mark.statistical
@pytest.mark.parametrize("fixed", [False, True], ids=["exponential thinks", "fixed thinks"])
def test_a_crude_simulation_agrees_however_thinks_are_distributed(fixed: bool) -> None:
    queue = MachineRepairman(8, 5.0, 1.0)
    p90 = queue.response_quantile_s(0.9)

    def replicate(rng: np.random.Generator) -> dict[str, float]:
        times = 5.0 * np.ones(20_000) if fixed else rng.exponential(5.0, 20_000)
        asks, free, response, waited = list(rng.exponential(5.0, 8)), 0.0, [], []
        heapify(asks)
        for think, service in zip(times.tolist(), rng.exponential(1.0, 20_000).tolist(), strict=True):
            start = max(asks[0], free)
            free = start + service
            waited.append(start - asks[0])
            response.append(free - asks[0])
            heapreplace(asks, free + think)
        return {"queueing": np.mean(waited), "throughput": 20_000 / free, "above": np.mean(np.array(response) > p90)}

    agree({"queueing": queue.mean_queueing_s, "throughput": queue.throughput_rps, "above": 0.1}, replicate, 0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MachineRepairman(0, 1.0, 1.0), "MachineRepairman: users = 0 must be at least 1"),
        (lambda: MachineRepairman(2, -1.0, 1.0), "think_s = -1.0 must be a finite number of seconds"),
        (lambda: MachineRepairman(2, 1.0, 0.0), "service_s = 0.0 must be a positive"),
        (lambda: MachineRepairman(2, 1.0, 1.0).response_quantile_s(1.0), "q = 1.0"),
    ],
)
def test_bad_parameters_are_refused(make, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()
