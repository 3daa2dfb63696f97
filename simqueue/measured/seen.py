"""`Seen`: what clients saw of the requests of one run, measured or simulated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from simqueue.metrics import Sample

Column = NDArray[np.float64]
Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class Seen:
    """The completed requests of a run, by arrival. Columns have one value a request, ``(requests,)``.

    Attributes:
        arrival_s: when it was sent, in seconds since the run began.
        response_s: last token - sent.
        prompt_tokens, output_tokens: how long it was.
        ttft_s: first token - sent; None where answers come as a whole.
        gaps: seconds between the tokens of an answer, of all requests together; None where nobody knows.
    """

    arrival_s: Column
    response_s: Column
    prompt_tokens: Tokens
    output_tokens: Tokens
    ttft_s: Column | None = None
    gaps: Sample | None = None

    @classmethod
    def of(
        cls,
        arrival_s: Column,
        response_s: Column,
        prompt_tokens: NDArray[Any],
        output_tokens: NDArray[Any],
        ttft_s: Column | None = None,
        gaps: Sample | None = None,
    ) -> Self:
        """Requests in any order; tokens are whole numbers of any type."""
        order = np.argsort(arrival_s, kind="stable")
        prompts, outputs = (tokens[order].astype(np.int64) for tokens in (prompt_tokens, output_tokens))
        first = None if ttft_s is None else ttft_s[order]
        return cls(arrival_s[order], response_s[order], prompts, outputs, first, gaps)

    @property
    def first_s(self) -> float:
        """When the first request was sent."""
        return float(self.arrival_s.min())

    @property
    def end_s(self) -> float:
        """When the last answer was whole."""
        return float((self.arrival_s + self.response_s).max())

    @property
    def all_output_tokens(self) -> int:
        """Of all requests together."""
        return int(self.output_tokens.sum())


def response(seen: Seen) -> Sample:
    """Last token - sent, of every request."""
    return Sample(seen.response_s)


def ttft(seen: Seen) -> Sample | None:
    """First token - sent, of every request."""
    return None if seen.ttft_s is None else Sample(seen.ttft_s)


def tpot(seen: Seen) -> Sample | None:
    """(Last token - first token) / (output tokens - 1), of every request with two tokens or more."""
    if seen.ttft_s is None:
        return None
    several = seen.output_tokens > 1
    return Sample((seen.response_s - seen.ttft_s)[several] / (seen.output_tokens[several] - 1))


def gaps(seen: Seen) -> Sample | None:
    """Every gap between two tokens of an answer, all requests pooled."""
    return seen.gaps


def rate(count: float, seconds: float) -> Sample:
    """So many in so many seconds: the one value of a throughput, none where no time passed."""
    return Sample(np.array([count / seconds] if seconds > 0 else []))
