"""Errors, spreads and verdicts against numbers that were worked out by hand."""

from __future__ import annotations

import msgspec
import pytest

from simqueue.validate.compare import SATURATION, compare, judge, target_of
from simqueue.validate.record import Figure

Nested = dict[str, dict[str, float | None]]


def _of(value: float | None, metric: str = "response_s", statistic: str = "mean") -> Nested:
    return {metric: {statistic: value}}


def _verdict(
    figure: Figure, load: float | None, metric: str = "response_s", statistic: str = "mean", **options: object
) -> Figure:
    return judge({metric: {statistic: figure}}, load, **{"counted": 5_000, **options})[metric][statistic]  # type: ignore[arg-type]


def _figure(error: float, spread: float | None = None) -> Figure:
    return Figure(live=(1.0, 1.0), simulated=1 + error, deviation=None, error=error, spread=spread)


def test_the_error_is_of_the_means_and_the_spread_is_that_of_the_live_runs() -> None:
    live, simulated = [_of(9.0), _of(10.0), _of(11.0)], [_of(10.0), _of(12.0)]
    figure = compare(live, simulated)["response_s"]["mean"]
    assert figure.live == (9.0, 10.0, 11.0)
    assert figure.simulated == 11.0
    assert figure.error == pytest.approx(0.1)
    assert figure.spread == pytest.approx(0.1)  # standard deviation 1 over mean 10
    assert figure.deviation == pytest.approx(2**0.5)


def test_a_single_run_has_no_spread() -> None:
    figure = compare([_of(2.0)], [_of(1.0)])["response_s"]["mean"]
    assert (figure.error, figure.spread, figure.deviation) == (-0.5, None, None)


@pytest.mark.parametrize(("live", "simulated"), [((None, 1.0), (1.0,)), ((1.0,), (None,)), ((0.0, 0.0), (1.0,))])
def test_no_error_where_a_side_is_missing_or_nothing(
    live: tuple[float | None, ...], simulated: tuple[float | None, ...]
) -> None:
    figure = compare([_of(value) for value in live], [_of(value) for value in simulated])["response_s"]["mean"]
    assert figure.error is None
    judged = _verdict(figure, 0.5)
    assert (judged.verdict, judged.why) == ("not judged", "one side has no such figure")


@pytest.mark.parametrize(
    ("load", "statistic", "target"),
    [
        (0.2, "mean", 0.03),
        (0.8, "p50", 0.03),
        (0.8, "p95", 0.05),
        (0.8 + 1e-12, "p99", 0.05),
        (0.81, "mean", 0.05),
        (0.9, "p95", 0.08),
        (0.95, "mean", None),
        (None, "mean", None),
        (0.5, "p90", None),
    ],
)
def test_targets(load: float | None, statistic: str, target: float | None) -> None:
    assert target_of("ttft_s", statistic, load) == target
    assert target_of("queueing_s", statistic, load) is None


@pytest.mark.parametrize(
    ("error", "spread", "verdict", "by_the_floor"),
    [
        (0.03, None, "reached", False),
        (-0.0301, None, "MISSED", False),
        (0.0301, 0.015, "MISSED", False),
        (-0.04, 0.02, "reached", True),
        (0.0401, 0.02, "MISSED", False),
    ],
)
def test_an_error_may_be_as_large_as_the_target_or_twice_the_spread(
    error: float, spread: float | None, verdict: str, by_the_floor: bool
) -> None:
    judged = _verdict(_figure(error, spread), 0.8)
    assert (judged.verdict, judged.by_the_floor) == (verdict, by_the_floor)
    assert judged.allowed == max(0.03, 2 * (spread or 0))


@pytest.mark.parametrize(
    ("load", "statistic", "options", "why"),
    [
        (0.95, "mean", {}, "load above 0.9"),
        (1.5, "mean", {}, "above saturation"),
        (None, "mean", {}, "closed loop"),
        (0.5, "p99", {"counted": 1_999}, "p99 of fewer than 2,000 requests"),
        (0.5, "p95", {"counted": 399}, "p95 of fewer than 400 requests"),
        (0.5, "mean", {"unfit": "2 requests were not answered"}, "2 requests were not answered"),
    ],
)
def test_what_is_reported_and_not_judged(
    load: float | None, statistic: str, options: dict[str, object], why: str
) -> None:
    judged = _verdict(_figure(9.0), load, statistic=statistic, **options)
    assert (judged.verdict, judged.why, judged.target) == ("not judged", why, None)


@pytest.mark.parametrize(("statistic", "enough"), [("mean", 1), ("p50", 1), ("p95", 400), ("p99", 2_000)])
def test_a_tail_is_judged_of_enough_requests(statistic: str, enough: int) -> None:
    assert _verdict(_figure(0.06), 0.5, statistic=statistic, counted=enough).verdict == "MISSED"


@pytest.mark.parametrize(("metric", "load"), [("response_s", 0.5), (SATURATION, 20.0)])
def test_a_single_live_run_is_not_judged(metric: str, load: float) -> None:
    for error in (0.0, 0.5):
        alone = msgspec.structs.replace(_figure(error), live=(1.0,))
        judged = _verdict(alone, load, metric=metric)
        assert (judged.verdict, judged.why, judged.target) == ("not judged", "a single live run", None)


@pytest.mark.parametrize("error", [0.0, 0.029, -0.9])
def test_a_noise_floor_of_more_than_five_targets_tells_nothing(error: float) -> None:
    assert _verdict(_figure(error, 0.0749), 0.8).verdict == ("MISSED" if error == -0.9 else "reached")
    judged = _verdict(_figure(error, 0.0751), 0.8)
    # What is farther off than that is wrong nevertheless.
    verdict = "MISSED" if error == -0.9 else "not told apart"
    assert (judged.verdict, judged.target, judged.why) == (verdict, 0.03, "")
    assert not judged.by_the_floor
    saturation = _verdict(_figure(error, 0.0251), 20.0, metric=SATURATION)
    assert saturation.verdict == ("not told apart" if abs(error) <= 0.0502 else "MISSED")


def test_saturation_is_judged_wherever_it_was_measured() -> None:
    for error, verdict in ((0.0099, "reached"), (-0.011, "MISSED")):
        judged = _verdict(_figure(error), 20.0, metric=SATURATION)
        assert (judged.verdict, judged.allowed) == (verdict, 0.01)


def test_other_figures_are_neither_judged_nor_counted() -> None:
    for metric in ("queueing_s", "throughput_rps", "batch_size"):
        judged = _verdict(_figure(9.0), 0.5, metric=metric)
        assert (judged.verdict, judged.why, judged.target) == ("not judged", "", None)
