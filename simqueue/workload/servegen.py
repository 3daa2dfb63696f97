"""ServeGen: what each client of a large service sent, window by window, and requests drawn from it.

The folder of a model in https://github.com/alibaba/ServeGen (Xiang et al., NSDI 2026) has two files for each client.
``chunk-I-trace.csv``, without a header, has a line for every window of 10 minutes: its begin in seconds, requests per
second, the coefficient of variation of their gaps, the law fitted to the gaps (``Gamma``, ``Weibull`` or nothing), its
shape, its scale. ``chunk-I-dataset.json`` has for every window of some hours, by its begin in seconds, the
distributions of ``input_tokens`` and ``output_tokens``, each the text of a Python dictionary from tokens to
probability.
"""

from __future__ import annotations

import csv
import math
import warnings
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simqueue.errors import WorkloadError
from simqueue.workload.checks import MAX_TOKENS, refuse_if_too_many
from simqueue.workload.columns import Column, checked
from simqueue.workload.stamped import TraceWarning
from simqueue.workload.streams import Streams, streams
from simqueue.workload.trace import NUMBER, WHOLE, check_width, explained, opened

_TRACE, _DATASET = "-trace.csv", "-dataset.json"
_NAMES = ("begin", "rate", "cv", "law", "shape", "scale")
_LAWS = ("Gamma", "Weibull")
_FIELDS = {"prompt_tokens": "input_tokens", "output_tokens": "output_tokens"}
# A single window says nothing about its width; those that are published have this one.
_WIDTH_S = 600
_LONGEST_S = 10**9


class Window(NamedTuple):
    """Of one client: so many ``requests`` from ``begin_s`` to ``end_s``, whose gaps follow ``law`` with ``shape``."""

    begin_s: int
    end_s: int
    requests: int
    law: str
    shape: float

    def times(self, rng: Generator) -> NDArray[np.float64]:
        """Arrivals in seconds, ``(requests,)``: of a renewal process of which so many come in the window. The gaps,
        one more than there are requests, fill it."""
        upto = np.cumsum(self._gaps(rng))
        # All gaps of a very small shape can be too small for a double.
        return self.begin_s + (self.end_s - self.begin_s) * upto[:-1] / (upto[-1] or 1.0)

    def _gaps(self, rng: Generator) -> NDArray[np.float64]:
        """In units of any length."""
        if self.law == "Gamma":
            return rng.standard_gamma(self.shape, self.requests + 1)
        # A Weibull gap is a power of an exponential one; of a small shape that can be too large for a double.
        logs = np.log(rng.standard_exponential(self.requests + 1)) / self.shape
        return np.asarray(np.exp(logs - logs.max()))


class Lengths(NamedTuple):
    """Values in tokens and the sums of their probabilities, ``(values,)`` each."""

    tokens: NDArray[np.int64]
    upto: NDArray[np.float64]

    def draw(self, count: int, rng: Generator) -> NDArray[np.int64]:
        """Independent lengths, ``(count,)``."""
        drawn = np.searchsorted(self.upto[:-1], rng.random(count) * self.upto[-1], side="right")
        return np.asarray(self.tokens[drawn])


class Client(NamedTuple):
    """One client: its name in the files, and the windows in which it sends something."""

    name: str
    windows: list[Window]


def read_servegen(folder: Path, seed: int, begin_s: float, requests: int | None) -> dict[str, Column]:
    """The columns of a workload drawn from the clients of ``folder``: at least the first ``requests`` requests after
    ``begin_s``, from where arrivals count; all of them if not given. ``client`` is the name of a client's files.

    Warns:
        TraceWarning: lengths of 0 tokens were left out.

    Raises:
        WorkloadError: with the file and the place of the first thing that is wrong; or there are more requests than the
            memory can hold, or none.
    """
    clients = [_since(client, begin_s) for client in _clients(folder)]
    until_s = math.inf if requests is None else _known_until(clients, begin_s, requests)
    clients = [client._replace(windows=[w for w in client.windows if w.begin_s < until_s]) for client in clients]
    refuse_if_too_many(sum(window.requests for client in clients for window in client.windows))
    parts = [_drawn(folder, client, streams(seed, client.name)) for client in clients if client.windows]
    if not parts:
        raise WorkloadError(f"{folder}: nobody sends anything after begin_s = {begin_s:g}; begin earlier")
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    columns["arrival_s"] -= begin_s
    order = np.argsort(columns["arrival_s"], kind="stable")
    first = np.count_nonzero(columns["arrival_s"] < 0)
    return checked({name: column[order[first:]] for name, column in columns.items()})


def _since(client: Client, begin_s: float) -> Client:
    return client._replace(windows=[window for window in client.windows if window.end_s > begin_s])


def _known_until(clients: Sequence[Client], begin_s: float, requests: int) -> float:
    """When so many requests after ``begin_s`` have come, at the latest: the end of a window."""
    whole = sorted((w.end_s, w.requests) for client in clients for w in client.windows if w.begin_s >= begin_s)
    counts = accumulate(count for _, count in whole)
    return next((end_s for (end_s, _), count in zip(whole, counts, strict=True) if count >= requests), math.inf)


def _drawn(folder: Path, client: Client, rng: Streams) -> dict[str, Column]:
    windows, dataset = client.windows, _Dataset(folder / f"{client.name}{_DATASET}")
    parts: dict[str, list[NDArray[np.int64]]] = {
        name: [dataset.at(window.begin_s, field).draw(window.requests, drawn) for window in windows]
        for (name, field), drawn in zip(_FIELDS.items(), (rng.prompts, rng.outputs), strict=True)
    }
    arrival_s = np.concatenate([window.times(rng.gaps) for window in windows])
    lengths = {name: np.concatenate(part) for name, part in parts.items()}
    return {"arrival_s": arrival_s, **lengths, "client": np.full(len(arrival_s), client.name, object)}


def _clients(folder: Path) -> list[Client]:
    paths = sorted(folder.glob(f"*{_TRACE}"))
    if not paths:
        raise WorkloadError(
            f"{folder}: no file chunk-...{_TRACE}; give a trace's file, or the folder of one of ServeGen's models"
        )
    return [Client(path.name.removesuffix(_TRACE), _windows(path)) for path in paths]


def _windows(path: Path) -> list[Window]:
    """The windows of a client in which it sends something."""
    with explained(path), opened(path) as file:
        reader = csv.reader(file)
        lines = [_Line.of(f"{path}, line {reader.line_num}", row) for row in reader if row]
    begins = [line.begin_s for line in lines]
    late = next((i for i in range(1, len(begins)) if begins[i] <= begins[i - 1]), None)
    if late is not None:
        raise WorkloadError(
            f"{path}: the window at {begins[late]} s comes after that at {begins[late - 1]} s; sort them"
        )
    width_s = begins[-1] - begins[-2] if len(begins) > 1 else _WIDTH_S
    ends = [*begins[1:], begins[-1] + width_s] if begins else []
    counts = [round(line.rate * (end_s - line.begin_s)) for line, end_s in zip(lines, ends, strict=True)]
    return [
        Window(line.begin_s, end_s, count, line.law, line.shape)
        for line, end_s, count in zip(lines, ends, counts, strict=True)
        if count and line.law
    ]


class _Line(NamedTuple):
    begin_s: int
    rate: float
    law: str
    shape: float

    @classmethod
    def of(cls, at: str, row: Sequence[str]) -> _Line:
        check_width(at, _NAMES, row)
        named = dict(zip(_NAMES, (text.strip() for text in row), strict=True))
        law = named["law"]
        if not WHOLE.fullmatch(named["begin"]) or not 0 <= int(named["begin"]) <= _LONGEST_S:
            raise WorkloadError(
                f"{at}, begin: {named['begin']!r} is no time; give whole seconds from 0 to {_LONGEST_S}"
            )
        if law not in ("", *_LAWS):
            raise WorkloadError(
                f"{at}, law: {law!r} is unknown; give {' or '.join(_LAWS)}, or nothing without requests"
            )
        for name in ("rate", "shape"):
            if not NUMBER.fullmatch(named[name]) or not 0 <= float(named[name]) < math.inf:
                raise WorkloadError(f"{at}, {name}: {named[name]!r} is no finite number from 0 on; give one")
        if law and not float(named["shape"]):
            raise WorkloadError(f"{at}, shape: a {law} law has no shape 0; give a number above 0")
        return cls(int(named["begin"]), float(named["rate"]), law, float(named["shape"]))


class _Dataset:
    """The length distributions of one client, read as they are asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with explained(path):
            self._windows = _decoded(path)
        self._known: dict[tuple[int, str], Lengths] = {}
        self._begins = sorted(int(begin) for begin, fields in self._windows.items() if self._full(begin, fields))
        if not self._begins:
            raise WorkloadError(
                f"{path}: no window has both {' and '.join(_FIELDS.values())}; remove the two files of this client"
            )

    def at(self, begin_s: int, field: str) -> Lengths:
        """Those known at that time: of the last window until then, or of the first one if all come later."""
        begin = self._begins[max(bisect_right(self._begins, begin_s) - 1, 0)]
        if (begin, field) not in self._known:
            at = f'{self._path}, "{begin}", "{field}"'
            self._known[begin, field] = _lengths(at, self._windows[str(begin)][field])
        return self._known[begin, field]

    def _full(self, begin: str, fields: dict[str, str]) -> bool:
        if not WHOLE.fullmatch(begin):
            raise WorkloadError(f'{self._path}: the window "{begin}" has no time; give whole seconds')
        return all(fields.get(field, "").strip("{} \n") for field in _FIELDS.values())


def _decoded(path: Path) -> dict[str, dict[str, str]]:
    content = path.read_bytes()
    if content.startswith(b"version https://git-lfs"):
        raise WorkloadError(f"{path}: is a pointer of Git LFS, not the file itself; run git lfs pull in its repository")
    try:
        return msgspec.json.decode(content, type=dict[str, dict[str, str]])
    except msgspec.MsgspecError as error:
        raise WorkloadError(
            f'{path}: {error}; a dataset of ServeGen is {{"seconds": {{"input_tokens": "{{tokens: probability, ...}}", '
            '"output_tokens": ...}, ...}'
        ) from None


def _lengths(at: str, text: str) -> Lengths:
    try:
        pairs = np.array(text.strip("{} \n").replace(":", ",").split(","), np.float64).reshape(-1, 2)
    except ValueError:
        raise WorkloadError(f"{at}: {text[:60]!r} is no distribution; write {{tokens: probability, ...}}") from None
    tokens, share = pairs.T
    whole = (tokens >= 0) & (tokens <= MAX_TOKENS) & (tokens == np.rint(tokens))
    if not (whole & (share >= 0) & (share < np.inf)).all() or not share[tokens > 0].sum():
        raise WorkloadError(
            f"{at}: {text[:60]!r} is no distribution; give tokens from 0 to {MAX_TOKENS} and probabilities from 0 on"
        )
    if none := share[tokens == 0].sum():
        _warn(f"{at}: a share of {none / share.sum():.3g} has 0 tokens (failures) and is left out")
    kept = (tokens > 0) & (share > 0)
    return Lengths(tokens[kept].astype(np.int64), np.cumsum(share[kept]))


def _warn(text: str) -> None:
    warnings.warn(text, TraceWarning, stacklevel=2)
