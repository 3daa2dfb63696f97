"""What one learns, in sentences that are made from the numbers of this run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from lab.curves import Point
from lab.trial import Trial

# A batch that costs less than so many times a single request costs "hardly more".
_HARDLY = 1.5


def lessons(
    trials: Mapping[str, Trial], step_s: Mapping[int, float], users: Sequence[Point], load: Sequence[Point]
) -> list[str]:
    """A sentence or two for each thing that can be seen."""
    return [
        _manual(trials["no batching"], trials["manual batching"]),
        _step(step_s),
        _held(trials["manual batching"], trials["static"], trials["continuous"]),
        _factors(trials["no batching"], trials["none"], trials["continuous"]),
        *_users(users),
        *_limits(load),
        *_company(load),
        _prediction([*trials.values()], [*users, *load]),
    ]


def _manual(alone: Trial, together: Trial) -> str:
    waited = alone.live["queueing_s"] / alone.live["response_s"]
    return (
        f"The same {len(alone.answers)} prompts took {_s(alone.live['total_s'])} one call after another and "
        f"{_s(together.live['total_s'])} as one padded batch, {_times(together, alone)} the tokens per second. "
        f"Without batching {waited:.0%} of the mean response time was waiting for others."
    )


def _step(step_s: Mapping[int, float]) -> str:
    one, most = step_s[1], max(step_s)
    ratio = step_s[most] / one
    told = (
        f"A decode step of {most} rows takes {_s(step_s[most])}, one of a single row {_s(one)}: {ratio:.2g} times as "
        f"long for {most} times the tokens"
    )
    if ratio < _HARDLY:
        return f"{told}. A batch of {most} costs hardly more than one request."
    wide = max(rows for rows, seconds in step_s.items() if seconds < _HARDLY * one)
    return (
        f"{told}, so that a token costs {most / ratio:.3g} times less. Up to {wide} rows a step costs less than "
        f"{_HARDLY} times a single row's."
    )


def _held(manual: Trial, static: Trial, continuous: Trial) -> str:
    times = [_s(trial.live["response_s"]) for trial in (continuous, manual, static)]
    return (
        f"In the manual batch {manual.held:.0%} of the rows computed belonged to answers that were finished already, "
        "and every user got the answer with the last one. Continuous batching computes none of these: its mean "
        f"response time was {times[0]}, against {times[1]} for the manual batch and {times[2]} for batches of a fixed "
        "size."
    )


def _factors(calls: Trial, none: Trial, continuous: Trial) -> str:
    return (
        f"Continuous batching gave {_times(continuous, calls)} the tokens per second of one call after another: a "
        f"factor of {_times(none, calls, '')} is the other way of running a step (no batching on both sides), one of "
        f"{_times(continuous, none, '')} is batching."
    )


def _users(points: Sequence[Point]) -> Iterator[str]:
    for kind, name in (("none", "Without batching"), ("continuous", "With continuous batching")):
        own = [(point.users, point.live) for point in points if point.kind == kind and point.live]
        if len(own) > 1:
            (few, before), (many, after) = own[0], own[-1]
            yield (
                f"{name}, {many} users in place of {few} are answered in "
                f"{after['response_s'] / before['response_s']:.3g} times the time on average, and get "
                f"{after['tokens_per_s'] / before['tokens_per_s']:.3g} times the tokens per second."
            )


def _limits(points: Sequence[Point]) -> Iterator[str]:
    limits = {p.kind: p.rate / p.load for p in points if p.rate and p.load}
    none, continuous = limits["none"], limits["continuous"]
    yield (
        f"The same device sustains {_rate(none)} requests/s without batching and {_rate(continuous)} with continuous "
        f"batching, {continuous / none:.3g} times as many (predicted)."
    )


def _company(points: Sequence[Point]) -> Iterator[str]:
    """Of static batching at the lowest load, where it waits most."""
    first = {point.kind: point for point in reversed(points)}
    static, continuous = first["static"], first["continuous"]
    took = static.simulated["response_s"]
    if took > continuous.simulated["response_s"]:
        yield (
            f"At its lowest load, {static.rate:.3g} requests/s, static batching answers in {_s(took)} on average, of "
            f"which {static.simulated['queueing_s'] / took:.0%} is queueing, mostly for company; continuous batching, "
            f"at {continuous.rate:.3g} requests/s, in {_s(continuous.simulated['response_s'])} (predicted)."
        )


def _prediction(trials: Sequence[Trial], points: Sequence[Point]) -> str:
    pairs = [(t.simulated["response_s"], t.live["response_s"]) for t in trials]
    pairs += [(p.simulated["response_s"], p.live["response_s"]) for p in points if p.live]
    off = np.array([predicted / live - 1 for predicted, live in pairs])
    size = np.abs(off)
    return (
        f"Of {len(off)} mean response times that were predicted and also measured, half are within "
        f"{np.median(size):.1%} and the worst is off by {off[np.argmax(size)]:+.0%}. Runs of a second are short: "
        "repeats of them differ, too."
    )


def _times(more: Trial, less: Trial, unit: str = " times") -> str:
    return f"{more.live['tokens_per_s'] / less.live['tokens_per_s']:.2g}{unit}"


def _rate(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.3g}"


def _s(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"
