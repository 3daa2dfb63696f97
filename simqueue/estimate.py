"""What a run will take, roughly, before it is started."""

from __future__ import annotations

import math
from typing import Any

from simqueue.cost.noise import NoNoise
from simqueue.errors import WorkloadError
from simqueue.policy import NoBatching
from simqueue.system import System
from simqueue.workload import Arrivals, Clients, Sessions, Trace, Users, WorkloadSpec
from simqueue.workload.checks import available_bytes
from simqueue.workload.counts import mean_count
from simqueue.workload.sessions import BLOCK_TOKENS

# Measured on one core of a 2-core machine: the run and its summary.
_SECONDS_A_REQUEST = 10e-6
_SECONDS_A_STEP = 0.6e-6
_SECONDS_A_NOISY_STEP = 2.9e-6
_BYTES_A_REQUEST = 420
_BYTES_A_STEP = 80
_BYTES_A_HASH_ID = 9
_LONGEST_S = 3600.0


def refuse_if_too_much(workload: WorkloadSpec, system: System) -> None:
    """Refuse a run that would take over an hour or more memory than there is. Of what is in files nothing is known
    yet.

    Raises:
        WorkloadError: with the estimate, and how many requests would do.
    """
    in_files = isinstance(workload.arrivals, Trace) or any(part.lengths for part in workload.parts)
    if workload.requests is None or in_files:
        return
    steps = _output_tokens(workload) / min(_widest(system.policy), _most_at_once(workload))
    # Where answers leave with their batch nobody looks at single steps, and without noise they are leapt over.
    looked_at = getattr(system.policy, "release", "request") != "batch"
    step_s = _SECONDS_A_STEP * looked_at if isinstance(system.noise, NoNoise) else _SECONDS_A_NOISY_STEP
    each_s = _SECONDS_A_REQUEST + steps * step_s
    each_bytes = _BYTES_A_REQUEST + steps * _BYTES_A_STEP * looked_at + _hash_bytes(workload)
    requests, memory = workload.requests, available_bytes()
    most = int(min(_LONGEST_S / each_s, memory / each_bytes))
    if requests > most:
        sessions = isinstance(workload.arrivals, Sessions)
        raise WorkloadError(
            f"workload.requests = {requests}{_in_sessions(workload.arrivals)} would take about "
            f"{requests * each_s / 3600:.3g} hours (1 is the most) and {requests * each_bytes / 1e9:.3g} GB of memory "
            f"({memory / 1e9:.3g} GB are available): ask for {'fewer turns, or ' * sessions}at most {most}"
        )


def _in_sessions(arrivals: Arrivals | None) -> str:
    """Of sessions, how long they are: a long one's prompts are what may take the memory."""
    return f" in sessions of {mean_count(arrivals.turns):g} turns" if isinstance(arrivals, Sessions) else ""


def _output_tokens(workload: WorkloadSpec) -> float:
    """Of the mean request: every class counts by its share of the rate."""
    rates = [each.open.mean_rate for each in workload.classes] or [1.0]
    return sum(rate * _mean_output(part) for rate, part in zip(rates, workload.parts, strict=True)) / sum(rates)


def _mean_output(clients: Clients) -> float:
    lengths = clients.outputs
    return min(lengths.mean, lengths.max or math.inf)


def _hash_bytes(workload: WorkloadSpec) -> float:
    """Text of the ids of a session's blocks, in the mean request; a request sees longer sessions than there are."""
    if not isinstance(workload.arrivals, Sessions):
        return 0.0
    assert workload.prompt_tokens is not None  # WorkloadSpec made sure
    turn_tokens = workload.prompt_tokens.mean + _mean_output(workload)
    tokens = workload.arrivals.shared_prefix_tokens + (workload.arrivals.mean_before + 1) * turn_tokens
    return tokens / BLOCK_TOKENS * _BYTES_A_HASH_ID


def _most_at_once(workload: WorkloadSpec) -> float:
    """Requests that can be there at one instant."""
    return workload.arrivals.users if isinstance(workload.arrivals, Users) else math.inf


def _widest(policy: Any) -> float:
    """The most rows of a step: there are at least as many steps as tokens by it."""
    if isinstance(policy, NoBatching):
        return 1.0
    limits = [getattr(policy, key, None) for key in ("batch", "max_batch", "max_seqs")]
    return next((float(limit) for limit in limits if limit), math.inf)
