"""Random small scenarios of conversations, in two spellings like those of `scenarios`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import reference
from hypothesis import strategies as st
from reference import Conversation, Turn
from scenarios import PS, Scenario, scenarios

from simqueue import Workload
from simqueue.workload.conversations import Turns, spoken

_THINKS = st.one_of(
    st.just(st.just(0)),
    st.just(st.sampled_from([0, 0, 10, 20])),
    st.just(st.integers(0, 60)),
    st.just(st.integers(0, 10**10)),
)
# The tables of random profiles hold up to 50 prompt and 70 cached tokens.
_MOST_TOKENS = 45


@dataclass(frozen=True, kw_only=True)
class TalkScenario(Scenario):
    """Arrivals, prompts and outputs are of no account: ``conversations`` have their own."""

    conversations: tuple[Conversation, ...]

    @cached_property
    def workload(self) -> Workload:
        """As `simqueue.make_workload` makes them."""
        turns = [turn for each in self.conversations for turn in each.turns]
        start_s = np.array([each.start for each in self.conversations]) * PS
        think_s = np.array([turn.think for turn in turns]) * PS
        counts = np.array([len(each.turns) for each in self.conversations])
        said, answers = (np.array([getattr(turn, name) for turn in turns]) for name in ("said", "answer"))
        shared = self.conversations[0].context
        columns = spoken(Turns.of(start_s, np.zeros_like(counts), counts, think_s), said, answers, shared, len(turns))
        return Workload.of(columns, {"sessions": True})

    def run_slowly(self) -> reference.Outcome:
        """By the reference."""
        return reference.simulate(
            reference.Conversations(self.conversations), self.slow_policy, self.price, self.overheads, self.draws()
        )


@st.composite
def talks(draw: st.DrawFn) -> tuple[Conversation, ...]:
    """Up to ten conversations of up to five turns, in order of their starts."""
    thinks = draw(_THINKS)
    turn = st.builds(Turn, thinks, st.integers(1, 4), st.integers(1, 4))
    shared = draw(st.integers(0, 5))
    starts = sorted(draw(st.lists(draw(_THINKS), min_size=1, max_size=10)))
    return tuple(Conversation(start, draw(st.lists(turn, min_size=1, max_size=5)), shared) for start in starts)


@st.composite
def talk_scenarios(draw: st.DrawFn, kind: str) -> TalkScenario:
    """A run of a policy of that kind."""
    scenario = draw(scenarios(kind))
    given = {field.name: getattr(scenario, field.name) for field in fields(scenario)}
    return TalkScenario(**given, conversations=draw(talks()))
