"""Priorities, shortest job first and processor sharing, against conservation laws and crude simulations."""

import math

import numpy as np
import pytest
from crude import agree, least_first, poisson_arrivals, shared
from hypothesis import given
from hypothesis import strategies as st

from simqueue.errors import ConfigError
from simqueue.theory import MG1, MM1, PriorityMG1, ProcessorSharing, ShortestJobFirst

LOADS = st.floats(0.01, 0.97)


@st.composite
def classes(draw: st.DrawFn) -> PriorityMG1:
    """One to five classes of any load below 1 in all."""
    shape = st.tuples(st.floats(0.05, 1.0), st.floats(0.1, 5.0), st.floats(0.0, 3.0))
    shares, service_s, cv = zip(*draw(st.lists(shape, min_size=1, max_size=5)), strict=True)
    scale = draw(LOADS) / np.dot(shares, service_s)
    return PriorityMG1([float(share * scale) for share in shares], service_s, cv)


class TestPriorityMG1:
    @given(rho=LOADS, cv=st.floats(0.0, 3.0))
    def test_one_class_is_mg1(self, rho: float, cv: float) -> None:
        queue, single = PriorityMG1([rho / 2], [2.0], [cv]), MG1(rho / 2, 2.0, cv)
        assert queue.class_queueing_s == pytest.approx([single.mean_queueing_s])
        assert queue.mean_response_s == pytest.approx(single.mean_response_s)

    @given(queue=classes())
    def test_work_is_conserved(self, queue: PriorityMG1) -> None:
        """Kleinrock (1965), "A conservation law for a wide class of queueing disciplines", Naval Research Logistics
        Quarterly 12: the sum of load times wait is that of the one class that they make together."""
        rates, service_s = np.array(queue.rates), np.array(queue.service_s)
        mean = np.average(service_s, weights=rates)
        second_moment = np.average(service_s**2 * (1 + np.array(queue.cv) ** 2), weights=rates)
        together = MG1(float(rates.sum()), float(mean), math.sqrt(max(0.0, second_moment / mean**2 - 1)))
        waited = rates * service_s @ queue.class_queueing_s
        assert waited == pytest.approx(queue.utilisation * together.mean_queueing_s)

    @given(queue=classes())
    def test_better_classes_wait_less(self, queue: PriorityMG1) -> None:
        assert np.all(np.diff(queue.class_queueing_s) > 0)

    @given(rho=LOADS)
    def test_a_rare_class_in_front_waits_for_the_rest_of_one_service(self, rho: float) -> None:
        queue = PriorityMG1([1e-12, rho], [1.0, 1.0], [1.0, 1.0])
        assert queue.class_queueing_s[0] == pytest.approx(rho, rel=1e-6)
        assert queue.class_queueing_s[1] == pytest.approx(MM1(rho, 1.0).mean_queueing_s, rel=1e-6)

    def test_means_weigh_classes_by_their_requests(self) -> None:
        queue = PriorityMG1([0.3, 0.1], [1.0, 2.0], [0.0, 0.0])
        # R = (0.3 + 0.4) / 2, loads 0.3 and 0.2.
        assert queue.class_queueing_s == pytest.approx([0.5, 1.0])
        assert queue.class_response_s == pytest.approx([1.5, 3.0])
        assert queue.mean_queueing_s == pytest.approx(0.625)
        assert queue.mean_response_s == pytest.approx(1.875)

    @pytest.mark.statistical
    def test_a_crude_simulation_agrees(self) -> None:
        """Constant, exponential and Erlang-4 services."""
        queue = PriorityMG1([0.2, 0.3, 0.1], [1.0, 1.0, 2.5], [0.0, 1.0, 0.5])

        def replicate(rng: np.random.Generator) -> dict[str, float]:
            requests = 20_000
            kind = rng.choice(3, requests, p=np.array(queue.rates) / 0.6)
            services = [np.ones(requests), rng.exponential(1.0, requests), rng.gamma(4, 2.5 / 4, requests)]
            wait = least_first(poisson_arrivals(rng, 0.6, requests), np.choose(kind, services), kind)
            return {str(k): wait[kind == k].mean() for k in range(3)}

        agree({str(k): float(queue.class_queueing_s[k]) for k in range(3)}, replicate, 0.1)


class TestShortestJobFirst:
    @given(rho=LOADS)
    def test_one_length_is_md1(self, rho: float) -> None:
        queue = ShortestJobFirst(rho / 2, [2.0], [1.0])
        assert queue.mean_queueing_s == pytest.approx(MG1(rho / 2, 2.0, 0.0).mean_queueing_s)
        assert queue.mean_response_s == pytest.approx(MG1(rho / 2, 2.0, 0.0).mean_response_s)

    @given(rho=LOADS, times=st.lists(st.floats(0.1, 50.0), min_size=2, max_size=8, unique=True), data=st.data())
    def test_work_is_conserved_and_the_mean_falls(self, rho: float, times: list[float], data: st.DataObject) -> None:
        weights = np.array(data.draw(st.lists(st.floats(0.05, 1), min_size=len(times), max_size=len(times))))
        share, length = weights / weights.sum(), np.array(sorted(times))
        mean = float(share @ length)
        queue = ShortestJobFirst(rho / mean, length.tolist(), share.tolist())
        variation = math.sqrt(share @ (length - mean) ** 2) / mean
        in_order = MG1(rho / mean, mean, variation).mean_queueing_s
        assert queue.utilisation == pytest.approx(rho)
        assert share @ (length * queue.queueing_by_service_s) == pytest.approx(mean * in_order)
        assert queue.mean_queueing_s <= in_order * (1 + 1e-12)

    def test_many_points_approach_the_published_integral_of_exponential_service(self) -> None:
        """Phipps (1956): the mean is the integral of R f(x) / (1 - load of those shorter than x)^2."""
        rho, points = 0.8, 4000
        edges = -np.log1p(-np.arange(points) / points)
        middle = -np.log1p(-(np.arange(points) + 0.5) / points)
        shorter = rho * (1 - (1 + edges) * np.exp(-edges))
        exact = float(np.mean(rho / (1 - shorter) ** 2))
        queue = ShortestJobFirst(rho, middle.tolist(), [1 / points] * points)
        assert queue.mean_queueing_s == pytest.approx(exact, rel=3e-3)

    @pytest.mark.statistical
    def test_a_crude_simulation_agrees(self) -> None:
        length, share = np.array([0.2, 1.0, 4.0]), np.array([0.5, 0.3, 0.2])
        queue = ShortestJobFirst(0.6, length.tolist(), share.tolist())

        def replicate(rng: np.random.Generator) -> dict[str, float]:
            service = rng.choice(length, 20_000, p=share)
            wait = least_first(poisson_arrivals(rng, 0.6, 20_000), service, service)
            return {"mean": wait.mean()} | {str(x): wait[service == x].mean() for x in length}

        by_length = zip(length, queue.queueing_by_service_s.tolist(), strict=True)
        agree({"mean": queue.mean_queueing_s} | {str(x): w for x, w in by_length}, replicate, 0.08)


class TestProcessorSharing:
    @given(rho=LOADS)
    def test_the_mean_is_that_of_mm1(self, rho: float) -> None:
        """Exponential service forgets how it was served: the number present is the same chain."""
        assert ProcessorSharing(rho / 2, 2.0).mean_response_s == pytest.approx(MM1(rho / 2, 2.0).mean_response_s)

    @pytest.mark.statistical
    @pytest.mark.parametrize("kind", ["constant", "two lengths"])
    def test_a_crude_simulation_agrees_however_service_is_distributed(self, kind: str) -> None:
        length, share = ([1.0], [1.0]) if kind == "constant" else ([0.25, 4.0], [0.8, 0.2])
        queue = ProcessorSharing(0.6, 1.0)

        def replicate(rng: np.random.Generator) -> dict[str, float]:
            work = rng.choice(length, 12_000, p=share)
            response = shared(poisson_arrivals(rng, 0.6, 12_000), work)
            return {"mean": response.mean()} | {str(x): response[work == x].mean() for x in length}

        by_length = {str(x): queue.response_by_service_s(x) for x in length}
        agree({"mean": queue.mean_response_s} | by_length, replicate, 0.08)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: PriorityMG1([], [], []), "PriorityMG1: 0 rates, 0 service_s and 0 cv: give one of each"),
        (lambda: PriorityMG1([0.1, 0.2], [1.0], [1.0, 1.0]), "2 rates, 1 service_s and 2 cv"),
        (lambda: PriorityMG1([0.1, 0.0], [1.0, 1.0], [1.0, 1.0]), r"rates\[1\] = 0.0"),
        (lambda: PriorityMG1([0.1], [math.nan], [1.0]), r"service_s\[0\] = nan"),
        (lambda: PriorityMG1([0.1], [1.0], [-1.0]), r"cv\[0\] = -1.0"),
        (lambda: PriorityMG1([0.5, 0.5], [1.0, 1.0], [1.0, 1.0]), "PriorityMG1: load = 1 is not below 1"),
        (lambda: ShortestJobFirst(0.0, [1.0], [1.0]), "ShortestJobFirst: rate = 0.0"),
        (lambda: ShortestJobFirst(0.5, [], []), "0 service_s and 0 probabilities"),
        (lambda: ShortestJobFirst(0.5, [1.0, 2.0], [1.0]), "2 service_s and 1 probabilities"),
        (lambda: ShortestJobFirst(0.5, [-1.0, 2.0], [0.5, 0.5]), r"ShortestJobFirst: service_s\[0\] = -1.0"),
        (lambda: ShortestJobFirst(0.5, [2.0, 1.0], [0.5, 0.5]), r"service_s\[1\] = 1.0 .*sort the times, each once"),
        (lambda: ShortestJobFirst(0.5, [1.0, 2.0], [0.5, 0.4]), "probability sums to 0.9 and must sum to 1"),
        (lambda: ShortestJobFirst(0.5, [1.0, 2.0], [1.0, 0.0]), r"probability\[1\] = 0.0"),
        (lambda: ShortestJobFirst(0.5, [1.0, 3.0], [0.5, 0.5]), "ShortestJobFirst: load = 1 is not below 1"),
        (lambda: ProcessorSharing(0.5, 2.0), "ProcessorSharing: load = 1"),
        (lambda: ProcessorSharing(0.5, 1.0).response_by_service_s(-1.0), "service_s = -1.0"),
    ],
)
def test_bad_parameters_are_refused_in_one_line(make, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refusal:
        make()
    assert "\n" not in str(refusal.value)
