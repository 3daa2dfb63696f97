"""Clients: when they ask, how long their requests are, and what else is known of each."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from simqueue.errors import WorkloadError
from simqueue.workload.arrivals import Arrivals, Open
from simqueue.workload.checks import MAX_CV, MAX_TOKENS, require_positive, require_whole, require_within
from simqueue.workload.columns import Column
from simqueue.workload.lengths import Draws, Lengths
from simqueue.workload.pairs import PairedLengths
from simqueue.workload.streams import Streams
from simqueue.workload.users import FixedThink, LognormalThink, Think, think_of

_LARGEST_PRIORITY = 2**53 - 1
_SLOS = ("ttft_slo_s", "tpot_slo_s")


class Drawn(NamedTuple):
    """Columns of requests by name, ``(requests,)`` each, and the entries of `Workload.meta` that say how."""

    columns: dict[str, Column]
    meta: dict[str, Any]


class Clients(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """When requests come, how long they are, and what is known of each.

    Attributes:
        arrivals: when they come.
        prompt_tokens, output_tokens: how long they are.
        lengths: both together, in place of these two.
        max_output_tokens: what every request asks for at most: longer outputs are cut. Column ``max_output_tokens``.
        prediction: coefficient of variation of predicted over true output tokens. Column ``predicted_output_tokens``.
        patience_s: how long a client waits for its first token, seconds or a distribution. Column ``patience_s``.
        ttft_slo_s, tpot_slo_s: seconds that it is promised at most, if it is. Columns of these names.
    """

    arrivals: Arrivals | None = None
    prompt_tokens: Lengths | None = None
    output_tokens: Lengths | None = None
    lengths: PairedLengths | None = None
    max_output_tokens: int | None = None
    prediction: float | None = None
    patience_s: float | Think | None = None
    ttft_slo_s: float | None = None
    tpot_slo_s: float | None = None

    @property
    def needed_lengths(self) -> tuple[str, ...]:
        """Keys that say how long requests are, where ``lengths`` does not."""
        return () if self.lengths is not None else ("prompt_tokens", "output_tokens")

    @property
    def outputs(self) -> Lengths:
        """Lengths of the outputs, cut at what a request asks for."""
        assert self.output_tokens is not None  # what is made has been checked
        if self.max_output_tokens is None:
            return self.output_tokens
        most = min(self.max_output_tokens, self.output_tokens.max or MAX_TOKENS)
        return msgspec.structs.replace(self.output_tokens, max=most)

    def drawn_lengths(self, requests: int, rng: Streams) -> Drawn:
        """Prompts and outputs, and the share of each that a limit changed."""
        prompts, outputs = self._pairs(self.lengths, requests, rng) if self.lengths else self._apart(requests, rng)
        return Drawn(
            {"prompt_tokens": prompts.tokens, "output_tokens": outputs.tokens},
            {"prompt_clipped_share": prompts.clipped_share, "output_clipped_share": outputs.clipped_share},
        )

    def _apart(self, requests: int, rng: Streams) -> tuple[Draws, Draws]:
        assert self.prompt_tokens is not None  # what is made has been checked
        return self.prompt_tokens.draw(requests, rng.prompts), self.outputs.draw(requests, rng.outputs)

    def _pairs(self, lengths: PairedLengths, requests: int, rng: Streams) -> tuple[Draws, Draws]:
        prompts, outputs = lengths.draw(requests, rng.prompts)
        return Draws(prompts, 0.0), self.cut(outputs)

    def cut(self, output_tokens: NDArray[np.int64]) -> Draws:
        """Outputs from elsewhere, cut at what a request asks for."""
        kept = np.minimum(output_tokens, self.max_output_tokens or MAX_TOKENS)
        return Draws(kept, float(np.mean(kept != output_tokens)))

    def known(self, output_tokens: NDArray[np.int64], rng: Streams) -> dict[str, Column]:
        """What else is known of requests with these outputs: the columns that were asked for."""
        requests, columns = len(output_tokens), dict[str, Column]()
        if self.max_output_tokens is not None:
            columns["max_output_tokens"] = np.full(requests, self.max_output_tokens)
        if self.prediction is not None:
            noise = LognormalThink(1.0, self.prediction).draw(requests, rng.predictions)
            columns["predicted_output_tokens"] = np.clip(np.rint(output_tokens * noise), 1, MAX_TOKENS).astype(np.int64)
        if self.patience_s is not None:
            columns["patience_s"] = think_of(self.patience_s).draw(requests, rng.patiences)
        promised = {name: getattr(self, name) for name in _SLOS}
        return columns | {name: np.full(requests, float(s)) for name, s in promised.items() if s is not None}

    def check(self, what: str) -> None:
        """Refuse values that cannot be. Raises WorkloadError."""
        if self.lengths is not None:
            refuse_given(what, self, ("prompt_tokens", "output_tokens"), "lengths, which has both")
        if self.max_output_tokens is not None:
            require_whole(what, "max_output_tokens", self.max_output_tokens, "give tokens")
            if self.output_tokens is not None and (self.output_tokens.min or 1) > self.max_output_tokens:
                raise WorkloadError(
                    f"{what}: max_output_tokens = {self.max_output_tokens} is below the min = "
                    f"{self.output_tokens.min} of output_tokens; raise it, or lower the min"
                )
        if self.prediction is not None:
            require_within(what, "prediction", self.prediction, 0, MAX_CV, "give a coefficient of variation")
        if self.patience_s is not None:
            _check_patience(what, self.patience_s)
        for key in _SLOS:
            if getattr(self, key) is not None:
                require_positive(what, key, getattr(self, key), "give seconds, or leave it out for no promise")


class ClientClass(Clients, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One of several kinds of clients, whose requests come one among the other.

    Attributes:
        name: column ``client``; its random streams follow from it.
        priority: smaller is more urgent. Column ``priority``.
    """

    name: str
    priority: int = 0

    def __post_init__(self) -> None:
        what = f"class {self.name}"
        if not self.name:
            raise WorkloadError("workload: a class has name = ''; give each a name of its own")
        _refuse_missing(what, self, ("arrivals", *self.needed_lengths))
        if not isinstance(self.arrivals, Open):
            assert self.arrivals is not None
            kind = self.arrivals.__struct_config__.tag
            raise WorkloadError(
                f"{what}: arrivals of kind '{kind}' cannot be one class of several; give those that come whatever "
                "becomes of others (poisson, gamma, batches, ...)"
            )
        require_whole(what, "priority", self.priority, "smaller is more urgent", -_LARGEST_PRIORITY, _LARGEST_PRIORITY)
        self.check(what)

    @property
    def open(self) -> Open:
        """Its arrivals."""
        assert isinstance(self.arrivals, Open)  # checked when it was made
        return self.arrivals


def refuse_given(what: str, clients: msgspec.Struct, keys: tuple[str, ...], beside: str) -> None:
    """Refuse keys that something else makes needless."""
    given = [key for key in keys if getattr(clients, key) is not None]
    if given:
        raise WorkloadError(f"{what}: {' and '.join(given)} given beside {beside}; remove one or the other")


def _refuse_missing(what: str, clients: msgspec.Struct, keys: tuple[str, ...]) -> None:
    missing = [key for key in keys if getattr(clients, key) is None]
    if missing:
        raise WorkloadError(f"{what}: {' and '.join(missing)} missing")


def _check_patience(what: str, patience_s: float | Think) -> None:
    seconds = patience_s.value if isinstance(patience_s, FixedThink) else patience_s
    if not isinstance(seconds, Think):
        require_positive(what, "patience_s", seconds, "give seconds, or leave it out for clients who never give up")
