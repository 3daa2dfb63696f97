"""Who waits for one replica: the queue of an engine, and what a policy may ask of requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simqueue.errors import InvariantError
from simqueue.plan import Wait
from simqueue.record import NEVER, Requests
from simqueue.units import INT64_MAX


class Waiting:
    """The queue: ids from head to tail, less those picked out of order."""

    # CPython finds 30 attributes of an instance at once, and slots however many there are; an engine has more.
    __slots__ = (
        "_finished", "_head", "_output", "_picked", "_prompt", "_requests", "_tail", "closed", "now", "refused",
        "running", "turns_away", "waiting",
    )  # fmt: skip

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._prompt, self._output, self._finished = requests.prompt, requests.output, requests.finished
        self.now = 0
        self.waiting = 0
        self.running = 0
        self.closed = requests.count == 0
        # Whether it may turn somebody away.
        self.turns_away = False
        # Who was turned away, until a driver has told whoever waits for it.
        self.refused: list[int] = []
        self._head = self._tail = 0
        self._picked: set[int] = set()

    # What a policy may ask.

    @property
    def arrived(self) -> int:
        """Requests that have arrived so far: those with ids below."""
        return self._tail

    def arrival(self, request: int) -> int:
        """When a request came to the queue."""
        return self._requests.arrival[request]

    def oldest(self) -> int:
        """Arrival of the request that has waited longest."""
        return self._requests.arrival[self._head]

    def queue(self) -> Iterator[int]:
        """Ids of the waiting requests, first come first."""
        if not self._picked:
            return iter(range(self._head, self._tail))
        return (i for i in range(self._head, self._tail) if i not in self._picked)

    def prompt_tokens(self, request: int) -> int:
        """Length of a request's prompt."""
        return self._prompt[request]

    def max_output_tokens(self, request: int) -> int | None:
        """The most tokens that a request asks for, if it says so."""
        column = self._requests.max_output
        return None if column is None else column[request]

    def predicted_output_tokens(self, request: int) -> int | None:
        """A prediction of a request's output length, if the workload has one."""
        column = self._requests.predicted_output
        return None if column is None else column[request]

    def priority(self, request: int) -> int:
        """The smaller the more urgent; 0 where the workload has none."""
        column = self._requests.traits.get("priority")
        return 0 if column is None else column[request]

    def client(self, request: int) -> str:
        """Whose it is; one name for all where the workload has none."""
        column = self._requests.traits.get("client")
        return "" if column is None else column[request]

    def ttft_slo(self, request: int) -> int:
        """Ticks within which its first token is wanted; endless where the workload does not say."""
        column = self._requests.traits.get("ttft_slo")
        return INT64_MAX if column is None else column[request]

    def longest_wait(self, now: int) -> int:
        """Ticks that the first to come of those who never ran has waited at ``now``; 0 if there is none."""
        return now - self._requests.arrival[self._head] if self._head < self._tail else 0

    # What a driver calls.

    def submit(self, tail: int) -> None:
        """All requests with ids below ``tail`` have arrived."""
        self.waiting += tail - self._tail
        self._tail = tail
        self.closed = tail == self._requests.count

    def close(self) -> None:
        """No request will come any more, or none before one that has come is answered: until the next `submit`."""
        self.closed = True

    @property
    def looks(self) -> int:
        """When the policy may next turn somebody away by itself; `NEVER` if it turns nobody away."""
        return NEVER

    def look(self, now: int) -> None:
        """The policy turns away whom it does up to and including ``now``; called between two pieces of work."""

    def refuse(self, request: int) -> None:
        """It is turned away as it comes, and told at once."""
        self._turn_away(request, self._requests.arrival[request])

    def _turn_away(self, request: int, at: int) -> None:
        """A waiting request is turned away at that instant."""
        self._withdraw(request, at)
        self._finished[request] = self._requests.first_token[request] = at
        self._requests.outcome[request] = "rejected"
        self.refused.append(request)

    def in_batch(self, request: int) -> bool:
        """Whether it runs in a batch whose answers leave together when that ends."""
        return False

    # What an engine does.

    def _admitted(self, admit: int) -> Sequence[int]:
        """Take the first waiting requests."""
        waiting, head = self.waiting, self._head
        if not 0 < admit <= waiting:
            raise InvariantError(f"the policy admits {admit} of {waiting} waiting requests")
        self.waiting = waiting - admit
        if not self._picked:
            self._head = tail = head + admit
            return (head,) if admit == 1 else range(head, tail)
        queue = self.queue()
        ids = [next(queue) for _ in range(admit)]
        self._picked.update(ids)
        self._skip_picked()
        return ids

    def _pick(self, request: int) -> int:
        """Take one waiting request, wherever it stands; returns its prompt length."""
        if not self._waits(request):
            raise InvariantError(f"the policy starts request {request}, which is not waiting")
        self._withdraw(request, self.now)
        self.running += 1
        return self._prompt[request]

    def _waits(self, request: int) -> bool:
        """Whether it has arrived and neither started nor left."""
        return self._head <= request < self._tail and request not in self._picked

    def _withdraw(self, request: int, now: int) -> None:
        """It leaves the queue at ``now``, from wherever it stands."""
        if request == self._head:
            self._head += 1
        else:
            self._picked.add(request)
        if self._picked:
            self._skip_picked()
        self.waiting -= 1
        self._requests.scheduled[request] = now

    def _skip_picked(self) -> None:
        picked = self._picked
        while self._head in picked:
            picked.remove(self._head)
            self._head += 1

    def _check_wait(self, decision: object) -> Wait:
        if type(decision) is not Wait:
            raise InvariantError(f"the policy answers {decision!r}, which is neither a Step nor a Wait")
        if self.running:
            raise InvariantError(f"the policy waits while {self.running} sequences could run")
        if decision.until is not None and not (type(decision.until) is int and decision.until > self.now):
            raise InvariantError(
                f"the policy waits until tick {decision.until} at tick {self.now}: no later whole tick"
            )
        if decision.until is None and self.closed and self.waiting:
            raise InvariantError(f"the policy waits for ever with {self.waiting} requests waiting and none to come")
        return decision
