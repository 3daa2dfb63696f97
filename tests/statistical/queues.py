"""Queues that have a closed form or an exact chain: as a workload and a system, and what theory says of them.

A service takes about a second, so that times can be read as multiples of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from replications import Control, Figure, Measure, Queue, Run

from simqueue import Affine, Continuous, Dynamic, ExponentialNoise, NoBatching, Static, System, WorkloadSpec
from simqueue.cost.noise import ErlangNoise, Noise, NoNoise
from simqueue.policy.base import BatchingPolicy
from simqueue.theory import (
    GIM1,
    MD1,
    MG1,
    MM1,
    MMPPM1,
    BatchQueue,
    MachineRepairman,
    bulk_service,
    continuous_batching,
    inoue_response_bound_s,
    unlimited_batching,
)
from simqueue.theory.chain import poisson, stationary
from simqueue.workload import (
    MMPP,
    Arrivals,
    ExponentialThink,
    Fixed,
    Gamma,
    Geometric,
    Lengths,
    LognormalThink,
    Poisson,
    Think,
    Users,
)

Single = MM1 | MD1 | MG1 | GIM1 | MMPPM1 | MachineRepairman
Rivals = Mapping[str, float]

WARMUP = 1000
# Of single servers; `test_a_single_server_is_lindleys_recursion` holds them to more than that.
PRECISION = 0.02
ONE = Fixed(value=1)
QUIET = NoNoise()
SECOND = Affine(base_s=1.0)
COST = Affine(base_s=2.0, per_row_s=0.2)
EVEN = Affine(base_s=0.5, per_row_s=0.5)
STEP = Affine(base_s=0.5, per_row_s=0.05)


def seconds_of(cost: Affine) -> Callable[[int], float]:
    """Seconds of a step with n rows."""
    return lambda n: cost.base_s + cost.per_row_s * n


# Measures.


def mean(time: str) -> Measure:
    return lambda run: float(run.summary[f"{time}_s"]["mean"])


def percentile(time: str, percent: int) -> Measure:
    return lambda run: float(run.summary[f"{time}_s"][f"p{percent}"])


def beyond(time: str, t_s: float) -> Measure:
    return lambda run: float(np.mean(run.seconds(time) > t_s))


def batch_share(rows: int) -> Measure:
    return lambda run: float(np.mean(run.batch_sizes == rows))


def batch_size(key: str) -> Measure:
    return lambda run: float(run.summary["batch_size"][key])


def utilisation(run: Run) -> float:
    return float(run.summary["utilisation"])


def waiting(run: Run) -> float:
    return run.mean_waiting


def throughput(run: Run) -> float:
    return float(run.summary["throughput_rps"])


# Controls.


def mean_gap(run: Run) -> float:
    arrival_s, warmup = run.result.workload.arrival_s, run.result.warmup
    return float(arrival_s[-1] - arrival_s[warmup - 1]) / (len(arrival_s) - warmup)


def mean_column(name: str) -> Measure:
    return lambda run: float(run.result.workload.columns[name][run.result.warmup :].mean())


def controls(arrivals: Arrivals, system: System, outputs: Lengths) -> tuple[Control, ...]:
    """Gaps or think times, which no server changes; service times where each request has its own, of a second in the
    mean; and lengths."""
    if isinstance(arrivals, Users):
        found = [Control(mean_column("think_s"), arrivals.think.mean)]
    else:
        assert arrivals.mean_rate is not None
        found = [Control(mean_gap, 1 / arrivals.mean_rate)]
    if outputs.cv:
        found.append(Control(mean_column("output_tokens"), outputs.mean))
    if isinstance(system.policy, NoBatching) and not isinstance(system.noise, NoNoise):
        found.append(Control(mean("service"), 1.0))
    return tuple(found)


# Figures.


def times(queue: Single | BatchQueue, rate: float, rivals: Rivals, precision: float = 0.01) -> tuple[Figure, ...]:
    """Means, the number waiting by Little's law and utilisation; ``rivals`` are other mean queueing times."""
    ended = {"queueing counted to the end of service": queue.mean_response_s}
    means = (
        Figure("mean queueing time, s", mean("queueing"), queue.mean_queueing_s, {**ended, **rivals}, precision),
        Figure("mean response time, s", mean("response"), queue.mean_response_s, {}, precision),
        Figure("mean number waiting", waiting, rate * queue.mean_queueing_s, {}, 1.2 * precision),
    )
    # An idle server is too rare an event for a normal error where it comes less than once in a thousand seconds.
    rare = queue.utilisation > 0.999
    return means if rare else (*means, Figure("utilisation", utilisation, queue.utilisation, controlled=False))


def percentiles(
    queue: MM1 | MD1 | GIM1 | MMPPM1 | MachineRepairman, name: str, rival: MM1 | MD1 | MachineRepairman, told: int = 99
) -> tuple[Figure, ...]:
    """p50, p90 and p99 of queueing and response time; ``rival`` of this name has others, which up to p ``told`` are far
    enough away."""
    return tuple(
        Figure(
            f"p{p} of {time} time, s",
            percentile(time, p),
            getattr(queue, f"{time}_quantile_s")(p / 100),
            {name: getattr(rival, f"{time}_quantile_s")(p / 100)} if p <= told else {},
            precision=2 * PRECISION,
        )
        for time in ("queueing", "response")
        for p in (50, 90, 99)
    )


def waiting_law(queue: MD1, rival: MM1, at_s: tuple[float, ...]) -> tuple[Figure, ...]:
    """P(queueing time > t) at several t."""
    return tuple(
        Figure(
            f"P(queueing time > {t:g} s)",
            beyond("queueing", t),
            queue.queueing_ccdf(t),
            {"M/M/1": rival.queueing_ccdf(t)} if t else {},
            precision=8 * PRECISION,
        )
        for t in at_s
    )


def batches(queue: BatchQueue, shown: tuple[int, ...]) -> tuple[Figure, ...]:
    """Rows as steps and as requests see them, and the shares of steps with so many rows."""
    per_step, per_request = queue.mean_per_step, queue.mean_per_request
    return (
        Figure("rows per step", batch_size("mean_per_step"), per_step, {"as requests see them": per_request}),
        Figure("rows of a request's step", batch_size("mean_per_request"), per_request),
        *(Figure(f"share of steps with {n} rows", batch_share(n), queue.batch_size[n], precision=0.05) for n in shown),
    )


def queue(
    name: str,
    solver: str,
    figures: tuple[Figure, ...],
    arrivals: Arrivals,
    policy: BatchingPolicy,
    requests: int,
    *,
    cost: Affine = SECOND,
    noise: Noise = QUIET,
    prompts: Lengths = ONE,
    outputs: Lengths = ONE,
) -> Queue:
    """``requests`` are those counted, in each replication."""
    total = requests + WARMUP
    workload = WorkloadSpec(requests=total, arrivals=arrivals, prompt_tokens=prompts, output_tokens=outputs)
    system = System(policy=policy, cost=cost, noise=noise)
    return Queue(name, solver, workload, system, figures, controls(arrivals, system, outputs), WARMUP)


# One at a time.


def mm1(rate: float, requests: int) -> Queue:
    exact, rival = MM1(rate, 1.0), MD1(rate, 1.0)
    return queue(
        f"M/M/1, load {rate}",
        "MM1",
        times(exact, rate, {"M/D/1": rival.mean_queueing_s}, PRECISION) + percentiles(exact, "M/D/1", rival),
        Poisson(rate=rate),
        NoBatching(),
        requests,
        noise=ExponentialNoise(),
    )


def mm1_by_steps(rate: float, requests: int) -> Queue:
    """A geometric number of exponential steps is exponential again."""
    exact, rival = MM1(rate, 1.0), MD1(rate, 1.0)
    by_tokens = MG1(rate, 1.0, math.sqrt(1 - 1 / 4)).mean_queueing_s
    return queue(
        f"M/M/1 as geometric outputs with noise on every step, load {rate}",
        "MM1",
        times(exact, rate, {"one draw for all steps of a request": _one_draw(rate), "no noise": by_tokens}, PRECISION)
        + percentiles(exact, "M/D/1", rival),
        Poisson(rate=rate),
        NoBatching(),
        requests,
        cost=Affine(base_s=0.25),
        noise=ExponentialNoise(),
        outputs=Geometric(mean=4),
    )


def _one_draw(rate: float) -> float:
    """Geometric steps (mean 4) times one exponential: E S^2 = 2 * (2 - 1/4)."""
    return MG1(rate, 1.0, math.sqrt(2 * (2 - 1 / 4) - 1)).mean_queueing_s


def md1(rate: float, requests: int, at_s: tuple[float, ...]) -> Queue:
    exact, rival = MD1(rate, 1.0), MM1(rate, 1.0)
    return queue(
        f"M/D/1, load {rate}",
        "MD1",
        times(exact, rate, {"M/M/1": rival.mean_queueing_s}, PRECISION)
        + percentiles(exact, "M/M/1", rival)
        + waiting_law(exact, rival, at_s),
        Poisson(rate=rate),
        NoBatching(),
        requests,
    )


def erlang(rate: float, shape: int, requests: int) -> Queue:
    rivals = {"M/M/1": MM1(rate, 1.0).mean_queueing_s, "M/D/1": MD1(rate, 1.0).mean_queueing_s}
    return queue(
        f"M/E{shape}/1, load {rate}",
        "MG1.erlang",
        times(MG1.erlang(rate, 1.0, shape), rate, rivals, PRECISION),
        Poisson(rate=rate),
        NoBatching(),
        requests,
        noise=ErlangNoise(shape=shape),
    )


def gamma(rate: float, cv: float, requests: int) -> Queue:
    exact, rival = GIM1.gamma(rate, cv, 1.0), MM1(rate, 1.0)
    shape = GIM1.gamma(rate, cv**0.5, 1.0)
    rivals = {"M/M/1": rival.mean_queueing_s, "variance in place of cv": shape.mean_queueing_s}
    return queue(
        f"GI/M/1, gamma gaps with cv {cv}, load {rate}",
        "GIM1.gamma",
        times(exact, rate, rivals, PRECISION) + percentiles(exact, "M/M/1", rival),
        Gamma(rate=rate, cv=cv),
        NoBatching(),
        requests,
        noise=ExponentialNoise(),
    )


def mmpp(
    name: str,
    rates: tuple[float, ...],
    stays: tuple[float, ...],
    requests: int,
    transitions: tuple[tuple[float, ...], ...] | None = None,
) -> Queue:
    exact = MMPPM1(rates, stays, 1.0, transitions)
    rate = exact.mean_rate
    rival = MM1(rate, 1.0)
    arrivals = MMPP(rates=rates, mean_stay_s=stays, transitions="cyclic" if transitions is None else transitions)
    rivals = {"M/M/1": rival.mean_queueing_s}
    if transitions is not None:
        rivals["cyclic transitions at the same rate"] = _at_rate(rate, rates, stays).mean_queueing_s
    return queue(
        f"MMPP/M/1, {name}, load {rate:.3g}",
        "MMPPM1",
        times(exact, rate, rivals, PRECISION) + percentiles(exact, "M/M/1", rival),
        arrivals,
        NoBatching(),
        requests,
        noise=ExponentialNoise(),
    )


def _at_rate(rate: float, rates: tuple[float, ...], stays: tuple[float, ...]) -> MMPPM1:
    factor = rate / MMPPM1(rates, stays, 1e-3).mean_rate
    return MMPPM1(tuple(factor * r for r in rates), stays, 1.0)


def users(count: int, think: Think, name: str, requests: int) -> Queue:
    """Whatever the distribution of the think times, their mean alone counts."""
    exact, more = (MachineRepairman(n, think.mean, 1.0) for n in (count, count + 1))
    rate = exact.throughput_rps
    rivals = {"M/M/1 at the same rate": MM1(rate, 1.0).mean_queueing_s, "one user more": more.mean_queueing_s}
    bound, many = min(1.0, count / (1.0 + think.mean)), {"one user more": more.throughput_rps}
    return queue(
        f"M/M/1//{count}, {name} thinks of {think.mean:g} s",
        "MachineRepairman",
        (
            *times(exact, rate, rivals, PRECISION),
            Figure("requests per second", throughput, rate, many, bound=bound, controlled=False),
            *percentiles(exact, "one user more", more, told=90),
        ),
        Users(users=count, think_s=think),
        NoBatching(),
        requests,
        noise=ExponentialNoise(),
    )


# Batches.


def bulk(
    rate: float, least: int, most: int, policy: BatchingPolicy, name: str, requests: int, shown: tuple[int, ...]
) -> Queue:
    """M/D^(a,b)/1 with seconds of ``COST``."""
    time = seconds_of(COST)
    exact = bulk_service(rate, time, most, least)
    rivals = {"no cap": unlimited_batching(rate, time).mean_queueing_s}
    if least > 1:
        rivals["starts whatever is there"] = bulk_service(rate, time, most).mean_queueing_s
    return queue(
        f"M/D^({least},{most})/1, {name}, load {rate * time(most) / most:.2g}",
        "bulk_service",
        times(exact, rate, rivals) + (batches(exact, shown) if least < most else ()),
        Poisson(rate=rate),
        policy,
        requests,
        cost=COST,
    )


def static_run(rate: float, batch: int, requests: int) -> Queue:
    """Five tokens each on prompts of ten: the batch lasts as long as its five steps, the same for every batch."""
    cost = Affine(base_s=0.2, per_row_s=0.02, per_new_token_s=0.01, per_context_token_s=0.001)
    first = 0.2 + 0.02 * batch + 0.01 * 10 * batch
    decode = [0.2 + 0.02 * batch + 0.01 * batch + 0.001 * batch * (9 + token) for token in (1, 2, 3, 4)]
    service = first + sum(decode)
    exact = bulk_service(rate, service, batch, batch)
    short = bulk_service(rate, service - decode[-1], batch, batch)
    return queue(
        f"M/D^({batch},{batch})/1, static, five tokens each, load {rate * service / batch:.2g}",
        "bulk_service",
        times(exact, rate, {"one step less": short.mean_queueing_s}),
        Poisson(rate=rate),
        Static(batch=batch),
        requests,
        cost=cost,
        prompts=Fixed(value=10),
        outputs=Fixed(value=5),
    )


def greedy(
    rate: float, cost: Affine, policy: BatchingPolicy, name: str, requests: int, cap: int, shown: tuple[int, ...]
) -> Queue:
    """No cap, no wait: Inoue's queue. A simulator that kept to ``cap`` would be noticed."""
    time = seconds_of(cost)
    exact = unlimited_batching(rate, time)
    capped = {f"cap of {cap}": bulk_service(rate, time, cap).mean_queueing_s}
    bound = inoue_response_bound_s(rate, cost.base_s, cost.per_row_s)
    return queue(
        f"no cap, {name}, {cost.base_s} + {cost.per_row_s} n s, load {rate * cost.per_row_s:.2g}",
        "unlimited_batching",
        tuple(
            replace(figure, bound=bound) if figure.name == "mean response time, s" else figure
            for figure in times(exact, rate, capped)
        )
        + batches(exact, shown),
        Poisson(rate=rate),
        policy,
        requests,
        cost=cost,
    )


def timeout(rate: float, max_wait_s: float, requests: int, shown: tuple[int, ...]) -> Queue:
    time = seconds_of(COST)
    exact = unlimited_batching(rate, time, max_wait_s)
    rivals = {
        "no timeout": unlimited_batching(rate, time).mean_queueing_s,
        "timer starts when the server is free": timer_from_free(rate, time, max_wait_s),
    }
    return queue(
        f"no cap, timeout {max_wait_s:g} s, load {rate * COST.per_row_s:.2g}",
        "unlimited_batching",
        times(exact, rate, rivals) + batches(exact, shown),
        Poisson(rate=rate),
        Dynamic(max_wait_s=max_wait_s),
        requests,
        cost=COST,
    )


def timer_from_free(rate: float, time: Callable[[int], float], wait: float) -> float:
    """Mean queueing time if the timer ran from the end of the last batch, or the first arrival after it.

    After a service S with arrivals in it the next batch holds all who come in S + T; otherwise 1 + Poisson(rate T).
    """
    sizes = np.arange(1, 300)
    service = np.array([time(int(n)) for n in sizes])
    none = np.exp(-rate * service)
    late = none[:, None] * (poisson(rate * wait, sizes - 1) - poisson(rate * wait, sizes))
    share = stationary(poisson(rate * (service + wait)[:, None], sizes) + late)
    waited = rate * service**2 / 2 + rate * service * wait + rate * wait**2 / 2 + none * wait
    return float(share @ waited / (share @ sizes))


def continuous(rate: float, seats: int, tokens: float, requests: int, shown: tuple[int, ...]) -> Queue:
    time = seconds_of(STEP)
    exact = continuous_batching(rate, time, seats, tokens)
    rivals = {
        "every step costs a full one": continuous_batching(rate, time(seats), seats, tokens).mean_queueing_s,
        "queueing counted to the end of the first step": exact.mean_queueing_s + time(1),
        "one seat less": continuous_batching(rate, time, seats - 1, tokens).mean_queueing_s,
    }
    return queue(
        f"continuous, {seats} seats, geometric outputs, load {rate * tokens * time(seats) / seats:.2g}",
        "continuous_batching",
        times(exact, rate, rivals, precision=0.03) + batches(exact, shown),
        Poisson(rate=rate),
        Continuous(max_seqs=seats),
        requests,
        cost=STEP,
        outputs=Geometric(mean=tokens),
    )


THREE_STATES = ((0.0, 0.7, 0.3), (0.4, 0.0, 0.6), (0.9, 0.1, 0.0))

QUEUES = (
    mm1(0.7, 4_000),
    mm1_by_steps(0.6, 4_500),
    md1(0.6, 3_000, (0.0, 0.5, 1.0, 2.0, 3.0)),
    md1(0.8, 6_000, (0.0, 0.5, 1.0, 2.5, 5.0, 8.0)),
    erlang(0.7, 2, 4_000),
    erlang(0.7, 4, 3_000),
    gamma(0.6, 2.0, 6_500),
    gamma(0.8, 0.5, 10_000),
    mmpp("on-off", (1.2, 0.0), (5.0, 5.0), 9_000),
    mmpp("3 states", (0.2, 0.6, 1.2), (8.0, 6.0, 4.0), 7_000, THREE_STATES),
    users(8, ExponentialThink(6.0), "exponential", 3_000),
    users(20, LognormalThink(25.0, 2.0), "lognormal (cv 2)", 6_000),
    bulk(2.0, 1, 8, Dynamic(max_batch=8), "dynamic", 16_000, (1, 3, 8)),
    bulk(1.4, 1, 8, Continuous(max_seqs=8), "continuous", 3_000, (1, 3, 8)),
    bulk(1.4, 3, 8, Dynamic(max_batch=8, min_batch=3, max_wait_s=math.inf), "dynamic", 24_000, (3, 5, 8)),
    bulk(1.6, 8, 8, Static(batch=8), "static", 4_000, ()),
    static_run(1.6, 4, 10_000),
    greedy(1.2, EVEN, Dynamic(), "dynamic", 3_000, 4, (1, 2, 4)),
    greedy(2.5, COST, Dynamic(), "dynamic", 16_000, 18, (5, 10, 16)),
    greedy(4.0, COST, Continuous(max_seqs=100_000), "continuous", 45_000, 46, (32, 40, 50)),
    timeout(2.5, 4.0, 8_000, (6, 11, 16)),
    timeout(2.5, 12.0, 24_000, (25, 30, 40)),
    continuous(0.6, 8, 10.0, 6_000, (1, 4, 8)),
    continuous(0.4, 16, 20.0, 9_000, (4, 8, 12)),
)
