"""Fair shares of tokens for clients."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heapreplace
from typing import TYPE_CHECKING

import msgspec

from simqueue.order.base import require
from simqueue.order.ranked import Ranked
from simqueue.units import Grid

if TYPE_CHECKING:
    from simqueue.policy.base import PagedView
    from simqueue.record import Requests

INPUT_WEIGHT, OUTPUT_WEIGHT = 1, 2


class Vtc(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="vtc"):
    """Virtual token counter (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024, Algorithm 2): next
    is the first request of the waiting client that has been served least. A client's counter grows by 1 for each prompt
    token when a request starts, and by 2 for each output token. A client who comes back to the queue is lifted to the
    least counter of those who wait, or, if nobody does, to that of the client who left the queue last.

    Counters are read when somebody has come or gone, and after a decision that held for one step. Who was preempted is
    the first of its client, and its prompt is not counted again. After such a change a decision costs O(running +
    clients), and each request looked at O(log clients).
    """

    def line(self, view: PagedView, requests: Requests, grid: Grid) -> Counters:
        """By client. Raises ConfigError if the workload has none."""
        require("client" in requests.traits, "vtc", "client", "give a client to each of workload.classes")
        return Counters(view)


class Counters:
    """Who waits, by client.

    Attributes:
        count: what each client has been served, in weighted tokens.
    """

    def __init__(self, view: PagedView) -> None:
        self._view = view
        self.count: dict[str, int] = {}
        self._lines: dict[str, Ranked] = {}
        # Of who has started: output tokens that have been counted.
        self._counted: dict[int, int] = {}
        self._last_to_leave: str | None = None

    def __iter__(self) -> Iterator[int]:
        """As the rule would start them one after the other."""
        heads = [(self.count[client], next(iter(line)), iter(line)) for client, line in self._lines.items()]
        for _, _, behind in heads:
            next(behind)
        heapify(heads)
        while heads:
            count, request, behind = heads[0]
            yield request
            after = next(behind, None)
            if after is None:
                heappop(heads)
            else:
                heapreplace(heads, (count + self._price(request), after, behind))

    def join(self, request: int) -> None:
        """See `Line`."""
        view = self._view
        client = view.client(request)
        if view.preempted(request):
            self._counted[request] = view.emitted(request)
        elif client not in self._lines:
            self._lift(client)
        self._lines.setdefault(client, Ranked(lambda i: ())).join(request)

    def take(self, request: int) -> None:
        """See `Line`."""
        self.count[self._view.client(request)] += self._price(request)
        self._counted.setdefault(request, 0)
        self._out(request)

    def leave(self, request: int) -> None:
        """See `Line`."""
        self._counted.pop(request, None)
        self._out(request)

    def stop(self, request: int) -> None:
        """See `Line`."""
        self._charge(request)
        del self._counted[request]

    def look(self) -> None:
        """Count what has been emitted since."""
        for request in self._view.seats:
            self._charge(request)

    def _price(self, request: int) -> int:
        """What starting it adds to its client's counter."""
        return 0 if request in self._counted else INPUT_WEIGHT * self._view.prompt_tokens(request)

    def _charge(self, request: int) -> None:
        emitted = self._view.emitted(request)
        self.count[self._view.client(request)] += OUTPUT_WEIGHT * (emitted - self._counted[request])
        self._counted[request] = emitted

    def _lift(self, client: str) -> None:
        """Nobody saves up what it did not ask for."""
        self.look()
        least = self.count.get(client, 0)
        if self._lines:
            least = max(least, min(self.count[other] for other in self._lines))
        elif self._last_to_leave is not None:
            least = max(least, self.count[self._last_to_leave])
        self.count[client] = least

    def _out(self, request: int) -> None:
        client = self._view.client(request)
        line = self._lines[client]
        line.take(request)
        if not len(line):
            del self._lines[client]
            self._last_to_leave = client
