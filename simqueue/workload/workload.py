"""The workload: what arrives, as immutable columns made once from a seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from simqueue.errors import WorkloadError
from simqueue.workload import files, superposition
from simqueue.workload.arrivals import Open, Overlong, require_overlong
from simqueue.workload.checks import require_positive, require_whole
from simqueue.workload.columns import REQUIRED, Column, checked, frozen
from simqueue.workload.conversations import conversations
from simqueue.workload.sessions import Sessions
from simqueue.workload.spec import WorkloadSpec
from simqueue.workload.streams import streams

_MADE_BY_HAND: Mapping[str, Any] = {
    "spec": None,
    "seed": None,
    "requests": None,
    "rate": None,
    "users": None,
    "sessions": False,
    "hash_block_tokens": None,
    "adopted": False,
    "stretch": 1.0,
    "prompt_clipped_share": 0.0,
    "output_clipped_share": 0.0,
    "max_context": None,
    "overlong": None,
    "dropped": 0,
    "clipped": 0,
}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Workload:
    """One row per request, in order of arrival; the row is the request's id. No column can be written to.

    Attributes:
        arrival_s: float64 ``(requests,)``, seconds, sorted. In a closed loop zeros, until a run has found them out; of
            sessions as if every answer came at once, until then.
        prompt_tokens: int64 ``(requests,)``, at least 1.
        output_tokens: int64 ``(requests,)``, at least 1.
        extra: further columns by name: int64, float64, bool or text. ``max_output_tokens`` and
            ``predicted_output_tokens`` are what policies may look at, and are int64 of at least 1. ``patience_s``,
            float64, is how long a client waits for its first token, inf if it never gives up. ``ttft_slo_s`` and
            ``tpot_slo_s``, float64, are what it is promised, inf for no promise. Of classes there are ``client`` (a
            name) and ``priority`` (int64, smaller is more urgent). A closed loop has ``think_s``, float64: the think
            times in the order in which they begin. Sessions have ``session`` and ``turn``, int64 from 0, and
            ``think_s``, before each turn. ``hash_ids``, text, are ids of blocks of ``meta["hash_block_tokens"]``
            tokens, with a space between them.
        meta: what made it, in JSON's types: ``spec`` (the ``[workload]`` table) and ``seed``, none if it was
            made from columns; ``requests`` as made; ``rate``, the nominal mean rate where the spec has one;
            ``users``, how many there are in a closed loop, none otherwise; ``sessions``, whether turns wait for
            answers; ``hash_block_tokens``, the size of the blocks of ``hash_ids``;
            ``adopted``, whether requests come with the cache of their prompts, less the last token;
            ``stretch``, by how much the time of a trace or of columns was stretched; ``prompt_clipped_share``
            and ``output_clipped_share``, the share of lengths that ``min``, ``max`` or ``max_output_tokens`` changed;
            and of ``fit_context`` its ``max_context`` and ``overlong`` rule and how many rows it ``dropped`` and
            ``clipped``.
    """

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    extra: Mapping[str, Column] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    __hash__ = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        columns = checked(self.columns)
        for name in REQUIRED:
            object.__setattr__(self, name, columns.pop(name))
        meta = {**_MADE_BY_HAND, "requests": len(self), **self.meta}
        object.__setattr__(self, "extra", MappingProxyType(columns))
        object.__setattr__(self, "meta", MappingProxyType(meta))

    @classmethod
    def from_columns(
        cls,
        arrival_s: ArrayLike,
        prompt_tokens: ArrayLike,
        output_tokens: ArrayLike,
        **extra: ArrayLike,
    ) -> Self:
        """A workload from columns of your own, one value for each request, sorted by arrival.

        Raises:
            WorkloadError: the first value that cannot be used.
        """
        further = {name: np.asarray(values) for name, values in extra.items()}
        return cls(np.asarray(arrival_s), np.asarray(prompt_tokens), np.asarray(output_tokens), further)

    @classmethod
    def of(cls, columns: Mapping[str, Column], meta: Mapping[str, Any]) -> Self:
        """A workload from all its columns by name, and what made it."""
        further = {name: column for name, column in columns.items() if name not in REQUIRED}
        return cls(columns["arrival_s"], columns["prompt_tokens"], columns["output_tokens"], further, meta)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what ``save`` wrote, or other files with its columns: ``.parquet``, ``.csv`` or ``.csv.gz``."""
        return cls.of(*files.read(Path(path)))

    def save(self, path: Path | str) -> None:
        """Write to ``.parquet`` (all of it, exactly) or to ``.csv``, ``.csv.gz``.

        CSV holds every value exactly, but neither meta nor types: text that reads as numbers becomes numbers.

        Raises:
            WorkloadError: the name ends in something else, or CSV is to hold a closed loop or sessions.
            OutputError: the place cannot be written.
        """
        if self.waits and Path(path).suffix != ".parquet":
            raise WorkloadError(f"{path}: CSV cannot say that users wait for their answers; save as .parquet")
        files.write(self.columns, self.meta, Path(path))

    @property
    def columns(self) -> dict[str, Column]:
        """All columns by name, the required three first."""
        return {name: getattr(self, name) for name in REQUIRED} | dict(self.extra)

    @property
    def closed_loop(self) -> bool:
        """Whether users who wait for their answers send it (`simqueue.workload.Users`): every run finds its arrivals
        out anew."""
        return self.meta["users"] is not None

    @property
    def sessions(self) -> bool:
        """Whether turns of sessions wait for the answers before (`simqueue.workload.Sessions`): every run finds out
        anew when they come, and in which order. When sessions start is known."""
        return bool(self.meta["sessions"])

    @property
    def waits(self) -> bool:
        """Whether arrivals depend on answers: a closed loop, or sessions."""
        return self.closed_loop or self.sessions

    @property
    def overlong(self) -> Overlong:
        """What its spec says of requests longer than the model's context (see `fit_context`). Of sessions always
        ``"drop"``: later prompts of a session are longer still, so that the conversation ends there."""
        arrivals = (self.meta["spec"] or {}).get("arrivals", {})
        return "drop" if self.sessions else arrivals.get("overlong", "error")

    @property
    def rate(self) -> float:
        """Mean requests per second.

        Of generated arrivals the nominal rate of their process, of sessions that of their turns (times the share kept,
        after rows were dropped); of a trace or of columns the rate at their own span, ``(requests - 1) / (last - first
        arrival)``: infinite where all come at one instant, and nan for a single request. Of a closed loop the
        rate that a run has found out, and nan before.
        """
        if self.meta["rate"] is not None:
            return float(self.meta["rate"])
        if len(self) == 1:
            return math.nan
        span_s = float(self.arrival_s[-1] - self.arrival_s[0])
        return (len(self) - 1) / span_s if span_s > 0 else math.nan if self.closed_loop else math.inf

    def at_rate(self, rate: float) -> Workload:
        """The same draws at another mean rate: time stretched; of an MMPP the rates scaled, the stays kept. Of several
        classes every rate is scaled alike; where not all are stretched, their requests come in another order. Sessions
        are made anew, for with more of them a second more are under way; think times are what they were.

        Times agree with those made at that rate in the first place up to rounding (a few parts in 1e16). A
        workload that was read from CSV no longer knows its process, and is stretched.

        Raises:
            WorkloadError: the rate is no positive number, or the workload has none (see ``rate``) to start
            from, or none that could be set: a closed loop's is what the system makes of it.
        """
        if self.closed_loop:
            raise WorkloadError(
                f"at_rate: {self.meta['users']} users wait for their answers and send as fast as those come; change "
                "how many they are, or how long they think"
            )
        require_positive("at_rate", "rate", rate, "give the mean requests per second")
        if not 0 < self.rate < math.inf:
            raise WorkloadError(f"the workload has rate {self.rate} and cannot be rescaled; give it a span of time")
        factor = rate / self.rate
        if factor == 1:
            return self
        return self._stretched(factor) if self.meta["rate"] is None else self._rescaled(factor, rate)

    def realised(self, arrival_s: NDArray[np.float64], rows: ArrayLike | None = None) -> Workload:
        """A closed loop, or sessions, with the arrivals that a run has found out, in seconds, in order; ``rows`` are
        those of this workload in the order in which they came, where that is another."""
        if rows is None:
            return self._but(arrival_s=frozen(arrival_s))
        columns = {name: frozen(column[np.asarray(rows)]) for name, column in self.columns.items()}
        return self.of({**columns, "arrival_s": frozen(arrival_s)}, self.meta)

    def fit_context(self, max_context: int, overlong: str) -> Workload:
        """The workload with prompt + output of every request at most ``max_context`` tokens.

        ``overlong`` says how: ``"error"`` refuses; ``"drop"`` leaves such requests out; ``"clip"`` keeps the
        output and cuts the prompt (where the output alone leaves no room, the output is cut so that one
        prompt token fits).

        Raises:
            WorkloadError: under ``"error"`` the first request that is too long; under ``"drop"`` if none is
            left; under ``"clip"`` if the prompts are what sessions have said.
        """
        require_overlong("fit_context", overlong)
        if self.sessions and overlong == "clip":
            raise WorkloadError("fit_context: 'clip' would cut what sessions have said; 'drop' ends them there")
        require_whole("fit_context", "max_context", max_context, "a request has at least two tokens", at_least=2)
        over = self.prompt_tokens + self.output_tokens > max_context
        meta = dict(self.meta) | {"max_context": max_context, "overlong": overlong}
        if not over.any():
            return self._but(meta)
        if overlong == "error":
            self._refuse_overlong(int(np.argmax(over)), max_context)
        return self._dropped(~over, meta) if overlong == "drop" else self._clipped(max_context, int(over.sum()), meta)

    def head(self, requests: int) -> Workload:
        """The first ``requests`` requests."""
        require_whole("head", "requests", requests, "ask for no more than there are", at_most=len(self))
        return self._rows(slice(requests), dict(self.meta))

    def __len__(self) -> int:
        return len(self.arrival_s)

    def __eq__(self, other: object) -> bool:
        """Whether every column is the same, value by value; how they were made is not compared."""
        if not isinstance(other, Workload):
            return NotImplemented
        mine, theirs = self.columns, other.columns
        return mine.keys() == theirs.keys() and all(_same(mine[name], theirs[name]) for name in mine)

    def __repr__(self) -> str:
        source = f"from {self.meta['users']} users" if self.closed_loop else f"at {self.rate:.6g}/s"
        source += " in sessions" if self.sessions else ""
        return f"<Workload of {len(self)} requests {source}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # A mapping proxy cannot be pickled, and sweeps send workloads to other processes.
        required = (self.arrival_s, self.prompt_tokens, self.output_tokens)
        return type(self), (*required, dict(self.extra), dict(self.meta))

    def _stretched(self, factor: float) -> Workload:
        meta = dict(self.meta) | {"stretch": self.meta["stretch"] / factor}
        return self._but(meta, arrival_s=frozen(self.arrival_s / factor))

    def _rescaled(self, factor: float, rate: float) -> Workload:
        spec, seed = msgspec.convert(self.meta["spec"], WorkloadSpec), self.meta["seed"]
        if isinstance(spec.arrivals, Sessions):
            return self._other_sessions(spec.scaled(factor), rate)
        if spec.classes:
            arrival_s = superposition.rescaled(spec.classes, self.columns, factor, seed)
        else:
            assert isinstance(spec.arrivals, Open)  # the others have no nominal rate
            arrival_s = spec.arrivals.rescale(self.arrival_s, factor, streams(seed))
        meta = {**self.meta, "spec": plain(spec.scaled(factor)), "rate": float(rate)}
        if (arrival_s[1:] >= arrival_s[:-1]).all():
            return self._but(meta, arrival_s=frozen(arrival_s))
        order = np.argsort(arrival_s, kind="stable")
        return self.realised(arrival_s[order], order)._but(meta)

    def _other_sessions(self, spec: WorkloadSpec, rate: float) -> Workload:
        assert isinstance(spec.arrivals, Sessions)
        meta = dict(self.meta) | {"spec": plain(spec), "dropped": 0}
        columns, shares = conversations(spec.arrivals, spec, meta["requests"], meta["seed"])
        made = self.of(columns, meta | shares)
        if meta["max_context"] is not None:
            made = made.fit_context(meta["max_context"], meta["overlong"])
        made = made.head(min(len(made), len(self)))
        return made._but({**made.meta, "rate": float(rate)})

    def _but(self, meta: Mapping[str, Any] | None = None, **columns: Column) -> Workload:
        """The same with these required columns and this meta. What stays is not checked again, which would take as long
        as many a run."""
        made = object.__new__(type(self))
        changed: dict[str, Any] = checked(columns) if columns else {}
        changed |= {} if meta is None else {"meta": MappingProxyType(dict(meta))}
        for name in self.__slots__:
            object.__setattr__(made, name, changed[name] if name in changed else getattr(self, name))
        return made

    def _rows(self, kept: slice | NDArray[np.bool_], meta: dict[str, Any]) -> Workload:
        columns = {name: frozen(column[kept]) for name, column in self.columns.items()}
        return self.of(columns, meta)

    def _dropped(self, kept: NDArray[np.bool_], meta: dict[str, Any]) -> Workload:
        if not kept.any():
            raise WorkloadError(
                f"overlong = 'drop' leaves no request: all are longer than the context of "
                f"{meta['max_context']}; use 'clip', shorter lengths or a model with a longer context"
            )
        if meta["rate"] is not None:
            meta["rate"] *= float(np.mean(kept))
        return self._rows(kept, meta | {"dropped": meta["dropped"] + int((~kept).sum())})

    def _clipped(self, max_context: int, rows: int, meta: dict[str, Any]) -> Workload:
        output_tokens = frozen(np.minimum(self.output_tokens, max_context - 1))
        prompt_tokens = frozen(np.minimum(self.prompt_tokens, max_context - output_tokens))
        meta["clipped"] += rows
        return self._but(meta, prompt_tokens=prompt_tokens, output_tokens=output_tokens)

    def _refuse_overlong(self, row: int, max_context: int) -> None:
        prompt, output = int(self.prompt_tokens[row]), int(self.output_tokens[row])
        raise WorkloadError(
            f"request {row} (counted from 0) has {prompt} prompt + {output} output tokens, more than the "
            f"context of {max_context}; shorten the lengths (max = ...), for a trace set overlong = 'drop' "
            "or 'clip', or use a model with a longer context"
        )


def plain(spec: WorkloadSpec) -> Any:
    """In JSON's types, so that what is read from a file is the same."""
    return msgspec.json.decode(msgspec.json.encode(spec))


def _same(mine: Column, theirs: Column) -> bool:
    return np.array_equal(mine, theirs, equal_nan=mine.dtype.kind == theirs.dtype.kind == "f")
