"""Prefix affinity: where most of the prompt has been computed before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from simqueue.checks import at_least
from simqueue.cluster.fleet import Asked, Counts, Least, View, check_age, column_of
from simqueue.cluster.session_affinity import within_reach

_WHERE = "router prefix-affinity"


class PrefixAffinity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="prefix-affinity"):
    """Each request goes to a replica to which the longest part of its prompt has been sent before.

    The prompt is known by the workload's column ``hash_ids``: ids of its blocks from the first on, separated by
    spaces, where equal ids stand for equal blocks after equal ones (as the Mooncake traces have them). Of several such
    replicas, or of all if not even the first block has been anywhere, the one with the fewest outstanding requests is
    taken. If it has over ``max_ahead`` outstanding requests more than the replica with the fewest of all, the request
    goes to the latter. The router remembers all that it has sent; what a replica has thrown out of its cache since, it
    does not know.

    ``signal_age_s``: see `simqueue.cluster.fleet.Router`.
    """

    max_ahead: int = 32
    signal_age_s: float = 0.0
    blind: ClassVar[bool] = False
    counts: ClassVar[Counts] = None

    def __post_init__(self) -> None:
        at_least(_WHERE, "max_ahead", self.max_ahead, 0)
        check_age(_WHERE, self)

    def chooser(self, asked: Asked) -> PrefixChooser:
        """See `Router`."""
        return PrefixChooser(column_of(asked, _WHERE, "hash_ids").tolist(), self.max_ahead)


class PrefixChooser:
    """Which blocks have been sent where: of each block a bit for every replica."""

    def __init__(self, prompts: Sequence[str], max_ahead: int) -> None:
        self._prompts, self._max_ahead = prompts, max_ahead
        self._sent: dict[str, int] = {}
        self._least = Least("outstanding")

    def choose(self, request: int, view: View) -> int:
        """The longest match, unless it is too far ahead."""
        blocks = str(self._prompts[request]).split()
        matching = self._matching(blocks, view.ready)
        favourite = self._least.among(matching, view)
        chosen = within_reach(favourite, self._max_ahead, view, self._least)
        for block in blocks:
            self._sent[block] = self._sent.get(block, 0) | 1 << chosen
        return chosen

    def _matching(self, blocks: Sequence[str], ready: Sequence[int]) -> Sequence[int]:
        matching = everybody = sum(1 << replica for replica in ready)
        for block in blocks:
            still = matching & self._sent.get(block, 0)
            if not still:
                break
            matching = still
        return ready if matching == everybody else [replica for replica in ready if matching >> replica & 1]
