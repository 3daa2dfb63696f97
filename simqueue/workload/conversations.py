"""The turns of sessions as rows of a workload: when they come if every answer comes at once, and what is said in them.

The rows of a session are in the order of its turns, whatever a system does with them: a run puts the rows of all into
another order and gives them other arrivals, and what it made of them can be run again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simqueue.workload.checks import refuse_if_too_many
from simqueue.workload.clients import Clients, Drawn
from simqueue.workload.columns import Column
from simqueue.workload.counts import GeometricCount, draw_counts, mean_count
from simqueue.workload.sessions import BLOCK_TOKENS, Sessions
from simqueue.workload.streams import Streams, streams

Seconds = NDArray[np.float64]
Whole = NDArray[np.int64]


class Turns(NamedTuple):
    """Turns, session by session: ``(turns,)`` each. Sessions and their turns count from 0. A session comes with its
    first turn that is not ``past``; ``think_s`` lies before each later one, and ``arrival_s`` is when it comes if every
    answer comes at once."""

    arrival_s: Seconds
    session: Whole
    turn: Whole
    think_s: Seconds
    past: NDArray[np.bool_]

    @classmethod
    def of(cls, start_s: Seconds, past: Whole, turns: Whole, think_s: Seconds) -> Turns:
        """Sessions of so many ``turns``, so many of which are past when they come at ``start_s``: ``(sessions,)``."""
        session, first = np.repeat(np.arange(len(turns)), turns), np.cumsum(turns) - turns
        turn = np.arange(len(session)) - first[session]
        ahead = turn - past[session]
        think_s = np.where(ahead > 0, think_s, 0.0)
        passed = np.cumsum(think_s)
        return cls(start_s[session] + (passed - passed[first][session]), session, turn, think_s, ahead < 0)


class _Group(NamedTuple):
    """Sessions, ``(sessions,)`` each: when they come, how many turns are past then, how many they have; and the streams
    that the rest is drawn from."""

    start_s: Seconds
    past: Whole
    turns: Whole
    rng: Streams


def conversations(arrivals: Sessions, clients: Clients, requests: int, seed: int) -> Drawn:
    """The first ``requests`` turns, in the order in which they come if every answer comes at once."""
    groups, turns = _first_turns(arrivals, requests, seed)
    parts = [clients.drawn_lengths(int(group.turns.sum()), group.rng) for group in groups]
    said, answers = (
        np.concatenate([part.columns[name] for part in parts]) for name in ("prompt_tokens", "output_tokens")
    )
    columns = spoken(turns, said, answers, arrivals.shared_prefix_tokens, requests)
    weights = [len(part.columns["output_tokens"]) for part in parts]
    shares = {name: float(np.average([part.meta[name] for part in parts], weights=weights)) for name in parts[0].meta}
    return Drawn({**columns, **clients.known(columns["output_tokens"], groups[-1].rng)}, shares)


def spoken(turns: Turns, said: Whole, answers: Whole, shared_prefix_tokens: int, requests: int) -> dict[str, Column]:
    """The first ``requests`` rows of a workload in which users say so many new tokens and are answered so many: a
    prompt is the shared prefix and all that was said and answered before in the session, and the new tokens."""
    first = turns.turn == 0
    prompts = shared_prefix_tokens + _sum_before(said + answers, first) + said
    shared = shared_prefix_tokens // BLOCK_TOKENS
    blocks = (prompts + answers) // BLOCK_TOKENS
    own = np.maximum.reduceat(blocks - shared, np.flatnonzero(first))
    to_come = np.flatnonzero(~turns.past)
    order = to_come[np.argsort(turns.arrival_s[to_come], kind="stable")][:requests]
    columns = {"prompt_tokens": prompts, "output_tokens": answers, **turns._asdict()}
    rows: dict[str, Column] = {name: column[order] for name, column in columns.items() if name != "past"}
    rows["hash_ids"] = _hash_ids(rows["session"], blocks[order], shared + np.cumsum(own) - own, shared)
    return rows


def following(session: Whole, turn: Whole) -> Whole:
    """The row of the next turn of each row's session, -1 where it is the last."""
    order = np.lexsort((turn, session))
    goes_on = np.flatnonzero(session[order][1:] == session[order][:-1])
    rows = np.full(len(order), -1)
    rows[order[goes_on]] = order[goes_on + 1]
    return rows


def _first_turns(arrivals: Sessions, requests: int, seed: int) -> tuple[list[_Group], Turns]:
    """Sessions under way and those that start, as many as it takes to know the first ``requests`` turns of all."""
    sessions = int(requests / mean_count(arrivals.turns)) + 16
    while True:
        sessions = min(sessions, requests + 1)
        starting = _starting(arrivals, sessions, streams(seed))
        until_s = float(starting.start_s[-1])
        both = _under_way(arrivals, until_s, streams(seed, "under way")), starting
        groups = [group for group in both if len(group.turns)]
        turns = _turns(arrivals, groups)
        # All that comes before the last one starts is known; one turn of each does.
        if sessions > requests or np.count_nonzero(~turns.past & (turns.arrival_s < until_s)) >= requests:
            return groups, turns
        sessions *= 2


def _starting(arrivals: Sessions, sessions: int, rng: Streams) -> _Group:
    start_s = np.cumsum(rng.gaps.standard_exponential(sessions)) / arrivals.rate
    return _Group(start_s, np.zeros(sessions, np.int64), draw_counts(arrivals.turns, sessions, rng.turns), rng)


def _under_way(arrivals: Sessions, until_s: float, rng: Streams) -> _Group:
    """Those in which somebody thinks at 0, and asks before ``until_s``: a Poisson number.

    Every think of a session is as likely as every other. Of a geometric number of turns those before and those after it
    are then both geometric, with the same mean; of a fixed one they share it.
    """
    refuse_if_too_many(int(arrivals.mean_under_way), "sessions under way")
    count = int(rng.gaps.poisson(arrivals.mean_under_way))
    start_s = np.sort(arrivals.think.rest(count, rng.thinks))
    if isinstance(arrivals.turns, GeometricCount):
        past, left = (draw_counts(arrivals.turns, count, rng.turns) for _ in range(2))
    else:
        past = rng.turns.integers(1, max(arrivals.turns, 2), count)
        left = arrivals.turns - past
    kept = slice(int(np.searchsorted(start_s, until_s)))
    return _Group(start_s[kept], past[kept], (past + left)[kept], rng)


def _turns(arrivals: Sessions, groups: list[_Group]) -> Turns:
    totals = [int(group.turns.sum()) for group in groups]
    refuse_if_too_many(sum(totals), "turns of the sessions that come")
    think_s = [arrivals.think.draw(total, group.rng.thinks) for total, group in zip(totals, groups, strict=True)]
    start_s, past, turns = (
        np.concatenate([getattr(group, name) for group in groups]) for name in ("start_s", "past", "turns")
    )
    return Turns.of(start_s, past, turns, np.concatenate(think_s))


def _sum_before(values: Whole, first: NDArray[np.bool_]) -> Whole:
    """The sum of the values before each since the last that was ``first``."""
    before = np.cumsum(values) - values
    return np.asarray(before - before[first][np.cumsum(first) - 1])


def _hash_ids(session: Whole, blocks: Whole, own: Whole, shared: int) -> Column:
    """As text the ids of ``blocks`` full blocks: the first ``shared`` are those of all sessions, the others of a
    session count on from ``own``."""
    common = "".join(f" {block}" for block in range(shared))
    texts: dict[int, tuple[int, str]] = {}
    ids = np.empty(len(session), object)
    for row, (which, count) in enumerate(zip(session.tolist(), blocks.tolist(), strict=True)):
        known, text = texts.get(which, (shared, common))
        begin = int(own[which]) - shared
        text += "".join(f" {begin + block}" for block in range(known, count))
        texts[which] = count, text
        ids[row] = text[1:]
    return ids
