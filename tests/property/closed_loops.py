"""Random small scenarios of users who wait for their answers, in two spellings like those of `scenarios`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import reference
from hypothesis import strategies as st
from scenarios import PS, Scenario, scenarios

from simqueue import Workload

_THINKS = st.one_of(
    st.just(st.just(0)),
    st.just(st.sampled_from([0, 0, 10, 20])),
    st.just(st.integers(0, 4)),
    st.just(st.integers(0, 60)),
    st.just(st.integers(0, 10**10)),
)


@dataclass(frozen=True, kw_only=True)
class ClosedScenario(Scenario):
    """``arrivals`` are of no account: ``users`` ask again ``thinks`` after their answers."""

    users: int
    thinks: tuple[int, ...]

    @cached_property
    def workload(self) -> Workload:
        """As `simqueue.make_workload` makes them."""
        thinks = {"think_s": np.array(self.thinks) * PS}
        none = np.zeros(len(self.prompts))
        return Workload(none, np.array(self.prompts), np.array(self.outputs), thinks, {"users": self.users})

    def run_slowly(self) -> reference.Outcome:
        """By the reference."""
        loop = reference.ClosedLoop(self.users, list(zip(self.prompts, self.outputs, strict=True)), self.thinks)
        return reference.simulate(loop, self.slow_policy, self.price, self.overheads, self.draws())


@st.composite
def closed_scenarios(draw: st.DrawFn, kind: str) -> ClosedScenario:
    """A run of a policy of that kind, for at most as many users as there are requests."""
    scenario = draw(scenarios(kind))
    count = len(scenario.arrivals)
    users = draw(st.integers(1, min(count, 12)))
    thinks = draw(st.lists(draw(_THINKS), min_size=count, max_size=count))
    given = {field.name: getattr(scenario, field.name) for field in fields(scenario)}
    return ClosedScenario(**given, users=users, thinks=tuple(thinks))
