"""`Profile`: measured step costs, their file format, and what its tables and curves mean."""

from __future__ import annotations

import difflib
import os
import tempfile
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from simqueue.errors import OutputError, ProfileError
from simqueue.lag import Lag
from simqueue.profile_checks import problems

SCHEMA = 1

Rule = Literal["ceil", "linear"]
Runner = Literal["graph", "eager", "samples"]
Kind = Literal["decode", "prefill", "chunk", "mixed", "total"]
Row = tuple[float, ...]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every part of a profile: unknown keys are refused."""


class Model(_Strict, frozen=True):
    """What was measured: its context window in tokens, and its size.

    ``kv_hidden``: numbers that the keys of a token have in a layer, and its values; fewer than ``hidden`` where heads
    of queries share them (grouped-query attention). None: as many.
    """

    name: str
    max_context: int
    parameters: int
    layers: int
    hidden: int
    dtype: str
    kv_hidden: int | None = None


class Provenance(_Strict, frozen=True):
    """Where the numbers come from. ``precision`` is the reached relative half-width of the cells' medians."""

    gpu: str
    driver: str
    cpu: str
    python: str
    torch: str
    transformers: str
    dtype: str
    attention: str
    weights: str
    command: str
    date: str
    repeats: str
    precision: str
    samples: str
    simqueue: str
    notes: tuple[str, ...] = ()


class DecodeTable(_Strict, frozen=True):
    """Seconds of a decode step by rows and ``longest``: most tokens in any row's cache before the step.

    ``rule = "ceil"``: sizes are padded up to the next axis value; ``"linear"``: interpolated along both axes.
    ``seconds`` and ``cv`` (standard deviation / mean over the repeats) are ``[rows][longest]``.
    """

    rows: tuple[int, ...]
    longest: tuple[int, ...]
    rule: Rule
    seconds: tuple[Row, ...]
    cv: tuple[Row, ...]

    def at(self, rows: int, longest: int) -> float:
        """Seconds of a step that decodes ``rows`` rows. Raises ProfileError outside what was measured."""
        within("rows", rows, self.rows[-1])
        within("longest", longest, self.longest[-1])
        columns = [_look(self.longest, column, longest, self.rule) for column in self.seconds]
        return _look(self.rows, columns, rows, self.rule)


class PrefillTable(_Strict, frozen=True):
    """Seconds of a prefill by rows, ``width`` (most new tokens of any row) and context.

    ``context`` is ``(0,)`` (only prompts from their start) or ``(0, n)``: the second entry holds for rows
    with any context of 1 to n tokens. ``seconds`` and ``cv`` are ``[rows][width][context]``; None where so
    many rows of that width are more than one launch: then groups of the most rows measured at that width run
    one after another.
    """

    rows: tuple[int, ...]
    width: tuple[int, ...]
    context: tuple[int, ...]
    rule: Rule
    seconds: tuple[tuple[tuple[float | None, ...], ...], ...]
    cv: tuple[tuple[tuple[float | None, ...], ...], ...]

    def at(self, rows: int, width: int, context: int = 0) -> float:
        """Seconds of a prefill of ``rows`` rows. Raises ProfileError outside what was measured."""
        within("width", width, self.width[-1])
        within("context", context, self.context[-1], least=0)
        within("rows", rows, self.rows[-1])
        layer = min(context, 1)
        columns = [self._rows(rows, w, layer) for w in range(len(self.width))]
        return _look(self.width, columns, width, self.rule)

    def launch_rows(self, width_index: int, layer: int) -> int:
        """How many entries of the rows axis fit one launch at that width."""
        return sum(plane[width_index][layer] is not None for plane in self.seconds)

    def _rows(self, rows: int, width_index: int, layer: int) -> float:
        """Whole groups one after another, then what is left."""
        fits = self.launch_rows(width_index, layer)
        column = [plane[width_index][layer] or 0.0 for plane in self.seconds[:fits]]
        groups, left = divmod(rows, self.rows[fits - 1])
        last = _look(self.rows[:fits], column, left, self.rule) if left else 0.0
        return groups * column[-1] + last


class Noise(_Strict, frozen=True):
    """How repeats of one step scatter, standardised: ``(t - mean) / standard deviation`` within a cell.

    Quantiles at ``probabilities``, scaled to mean 0 and variance 1, pooled over the decode and over the
    prefill cells. ``mean_over_median``: the pooled ratio of a cell's mean to its median, which is what tables
    hold.
    """

    probabilities: Row
    decode: Row
    prefill: Row
    mean_over_median: float


class Errors(_Strict, frozen=True):
    """Relative error ``predicted / measured - 1`` on held-out cells: median and p95 size, signed mean."""

    median: float
    p95: float
    mean: float


class Curve(_Strict, frozen=True):
    """A fitted service-time curve, in seconds::

        max(floor_s, base_s[k] + per_row_s * rows + per_new_token_s[k] * new
                     + per_context_token_s[k] * context + per_pair_s * pairs)

    decode: ``new = rows``, ``context = rows * longest``, ``pairs = 0``. prefill: ``new = rows * width``,
    ``context = rows * context``, ``pairs = new * max(width / 2, context)``, about the pairs that attention
    multiplies (half the square for a prompt's start, the whole context for a chunk on one). totals: ``new`` and
    ``context`` are summed over the rows, unpadded, and ``pairs = 0``.

    Where they are not empty, rows are first padded up to the next value of ``pad_rows``, longest or width to
    that of ``pad_length``, a context above 0 to that of ``pad_context``. ``k`` is the first knot at or above
    ``rows`` (``axis = "rows"``) or ``new`` (``"new_tokens"``), beyond the last knot the last; with ``rule =
    "linear"`` the coefficients are interpolated between knots. One knot: plain coefficients.
    ``standard_errors`` has the coefficients' names as keys; ``errors`` the held-out errors of every form
    tried, and of the table.
    """

    form: str
    axis: Literal["rows", "new_tokens"]
    knots: tuple[int, ...]
    rule: Rule
    floor_s: float
    base_s: Row
    per_row_s: float
    per_new_token_s: Row
    per_context_token_s: Row
    per_pair_s: float
    pad_rows: tuple[int, ...]
    pad_length: tuple[int, ...]
    pad_context: tuple[int, ...]
    standard_errors: dict[str, Row]
    errors: dict[str, Errors]
    reading: tuple[str, ...]

    def decode(self, rows: int, longest: int) -> float:
        """Seconds of a decode step."""
        padded = _pad(self.pad_rows, rows)
        return self.seconds(padded, padded, padded * _pad(self.pad_length, longest), 0.0)

    def prefill(self, rows: int, width: int, context: int = 0) -> float:
        """Seconds of one prefill launch."""
        padded, wide = _pad(self.pad_rows, rows), _pad(self.pad_length, width)
        behind = _pad(self.pad_context, context) if context else 0
        return self.seconds(padded, padded * wide, padded * behind, padded * wide * max(wide / 2, behind))

    def seconds(self, rows: float, new_tokens: float, context: float, pairs: float = 0.0) -> float:
        """Seconds of a step with these totals, padding already counted."""
        return max(self.floor_s, self.line(rows, new_tokens, context, pairs))

    def line(self, rows: float, new_tokens: float, context: float, pairs: float = 0.0) -> float:
        """The same without the floor: for given rows and new tokens linear in the context."""
        x = rows if self.axis == "rows" else new_tokens
        base, new, behind = (
            _clamped(self.knots, column, x, self.rule)
            for column in (self.base_s, self.per_new_token_s, self.per_context_token_s)
        )
        return base + self.per_row_s * rows + new * new_tokens + behind * context + self.per_pair_s * pairs


class Curves(_Strict, frozen=True):
    """Decode, prefill (from a prompt's start) and chunk (prefill on a context) of a measured profile.

    Or ``totals`` of one fitted to somebody's own samples. ``chunk`` is None where the runner has no chunks.
    """

    decode: Curve | None = None
    prefill: Curve | None = None
    chunk: Curve | None = None
    totals: Curve | None = None


class Point(_Strict, frozen=True):
    """One measured cell: wall clock (median, mean) and device time (median) over ``repeats``.

    ``rows`` of ``width`` new tokens prefill on ``context`` tokens each, and ``decode_rows`` decode with
    ``longest`` tokens in the cache. Kind "total" has ``width`` = new tokens and ``context``, both summed over
    the rows.
    """

    kind: Kind
    rows: int
    width: int
    context: int
    decode_rows: int
    longest: int
    seconds: float
    mean_s: float
    device_s: float
    cv: float
    repeats: int
    held_out: bool


class Jitter(_Strict, frozen=True):
    """How the periods of served steps scatter: multipliers of their mean without stalls, and the stalls.

    ``decode`` and ``prefill`` (steps that prefill) are quantiles at probabilities ``(i + 1/2) / n``, with mean 1. Which
    quantile a step takes is told by a standard normal state: each share ``persistent`` of its variance is an
    autoregression that keeps its ``memory`` of itself from step to step, the rest is new each time. In addition a step
    stalls with ``stall_probability``; ``stalls`` are quantiles, in the same way, of how many times its mean that adds.

    ``autocorrelation``: as measured, of the normal scores at ``lags`` steps. ``drift``: the mean multiplier of each
    tenth of the run.
    """

    decode: Row
    prefill: Row
    persistent: Row
    memory: Row
    stall_probability: float
    stalls: Row
    lags: tuple[int, ...]
    autocorrelation: Row
    drift: Row

    @property
    def mean(self) -> float:
        """Mean of a period over its mean without stalls."""
        return 1 + self.stall_probability * sum(self.stalls) / max(1, len(self.stalls))


class Paths(_Strict, frozen=True):
    """What serving costs beside the steps, in seconds, as `simqueue.system.Overheads` names it.

    ``exposed_s`` is None where no policy was served for which nothing is launched ahead.
    """

    request_path_s: float
    wake_s: Lag
    handover_s: float
    handover_per_request_s: float
    response_path_s: float
    response_per_row_s: float
    timer_late_s: float
    start_s: Lag = 0.0
    exposed_s: float | None = None
    exposed_per_row_s: float = 0.0
    pause_s: float = 0.0
    pause_per_row_s: float = 0.0


class Serving(_Strict, frozen=True):
    """What a step takes when served: from the end of the step before to its own, its tokens on the host::

        decode_factor * decode + prefill_factor * (prefill + mixed_s)
            + per_step_s + per_row_s * rows + per_prefill_s + per_prefill_row_s * prefill rows

    ``decode`` and ``prefill`` are the tables' seconds; ``rows`` decode or are held; the last two terms belong to steps
    that prefill. Where nothing decodes, nothing hides what the host does for each prompt, and the time from the
    decision to the step's end is, beside ``paths.start_s``::

        prefill + per_start_row_s * prefill rows

    That is the mean without stalls; with them it is ``jitter.mean`` times as much. ``standard_errors``
    has the coefficients' names as keys. ``steps`` were recorded, and ``errors`` are those of shapes of steps that were
    left out of the fit, by the kind of step ("decode", "prefill", "chunk", and "start" where nothing decodes).
    """

    decode_factor: float
    prefill_factor: float
    per_step_s: float
    per_row_s: float
    per_prefill_s: float
    per_prefill_row_s: float
    per_start_row_s: float
    standard_errors: dict[str, float]
    steps: int
    errors: dict[str, Errors]
    jitter: Jitter
    paths: Paths


class Profile(_Strict, frozen=True):
    """What the steps of one runner of one model on one machine cost; wall clock, host included.

    ``iteration_level``: requests can join and leave between steps. ``mixed_s``: what a step with both prefill
    and decode costs beyond their sum (may be negative). ``host_s``: host time between steps (wall clock less
    device time), a part of the seconds in the tables. ``decode`` and ``prefill`` are None for runner
    "samples".
    """

    schema: int
    name: str
    runner: Runner
    iteration_level: bool
    model: Model
    provenance: Provenance
    decode: DecodeTable | None
    prefill: PrefillTable | None
    mixed_s: float
    host_s: float
    noise: Noise | None
    curves: Curves
    points: tuple[Point, ...]
    serving: Serving | None = None


class ProfileWarning(UserWarning):
    """A profile does not know all that it is asked for."""


class _Version(msgspec.Struct):
    schema: int


def shipped() -> list[str]:
    """Names of the profiles that come with the package, sorted."""
    folder = resources.files("simqueue") / "profiles"
    return sorted(f.name.removesuffix(".json") for f in folder.iterdir() if f.name.endswith(".json"))


def load_profile(name_or_path: str | Path) -> Profile:
    """The shipped profile of that name, or the one in that file.

    Raises:
        ProfileError: there is none, it cannot be read, is of another version, or fails a check.
    """
    path = profile_path(name_or_path)
    try:
        stat = path.stat()
        return _loaded(path, (stat.st_mtime_ns, stat.st_size))
    except OSError as error:
        raise ProfileError(f"profile {path}: cannot be read ({error.strerror})") from None


def profile_path(name_or_path: str | Path) -> Path:
    """The file of the shipped profile of that name, or the path itself. Raises ProfileError: there is no such name."""
    path = Path(name_or_path)
    if path.suffix != ".json" and len(path.parts) == 1 and not path.is_file():
        return _shipped_path(str(name_or_path))
    return path


@lru_cache(maxsize=16)
def _loaded(path: Path, version: object) -> Profile:
    """A version of a file, read once: the cells of a sweep ask for it thousands of times."""
    return decode_profile(path.read_bytes(), str(path))


def _shipped_path(name: str) -> Path:
    path = Path(str(resources.files("simqueue") / "profiles" / f"{name}.json"))
    if path.is_file():
        return path
    names = shipped()
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names) or 'none'}; or give a path to a .json"
    raise ProfileError(f"no shipped profile is named {name!r}: {hint}")


def decode_profile(raw: bytes, where: str) -> Profile:
    """A profile from its JSON, every check made. Raises ProfileError."""
    try:
        version = msgspec.json.decode(raw, type=_Version).schema
    except msgspec.ValidationError as error:
        raise ProfileError(f"profile {where}: is no simqueue profile ({error})") from None
    except msgspec.DecodeError as error:
        raise ProfileError(f"profile {where}: is not whole JSON ({error}); write or copy it again") from None
    if version != SCHEMA:
        raise ProfileError(
            f"profile {where}: schema {version}, but this simqueue reads schema {SCHEMA}: calibrate again"
        )
    try:
        profile = msgspec.json.decode(raw, type=Profile)
    except msgspec.ValidationError as error:
        raise ProfileError(f"profile {where}: {error}") from None
    check(profile, where)
    return profile


def save_profile(profile: Profile, path: str | Path) -> None:
    """Write a profile, aside first and then in place.

    Raises:
        ProfileError: it is not sound.
        OutputError: it cannot be written there.
    """
    path = Path(path)
    check(profile, str(path))
    lines = [f'"{key}": {msgspec.json.encode(getattr(profile, key)).decode()}' for key in profile.__struct_fields__]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(aside, 0o644)
        os.replace(aside, path)
    except OSError as error:
        raise OutputError(f"profile {path}: cannot be written ({error.strerror}): choose another place") from None


def check(profile: Profile, where: str) -> None:
    """Refuse a profile whose numbers cannot be used. Raises ProfileError naming the field."""
    if profile.schema != SCHEMA:
        raise ProfileError(f"profile {where}: schema {profile.schema}, but this simqueue knows schema {SCHEMA}")
    for problem in problems(profile):
        raise ProfileError(f"profile {where}: {problem}")


def within(name: str, value: int, most: int, *, least: int = 1) -> None:
    """Refuse a size outside what was measured. Raises ProfileError naming the range."""
    if not least <= value <= most:
        raise ProfileError(f"{name} = {value} is outside what the profile measured ({least} to {most})")


def _pad(buckets: Sequence[int], size: int) -> int:
    """The first bucket that holds ``size``; without buckets, or beyond the last, the size itself."""
    i = bisect_left(buckets, size)
    return buckets[i] if i < len(buckets) else size


def _look(axis: Sequence[int], column: Sequence[float], x: float, rule: Rule) -> float:
    if rule == "linear":
        return float(np.interp(x, axis, column))
    return column[bisect_left(axis, x)]


def _clamped(knots: Sequence[int], column: Sequence[float], x: float, rule: Rule) -> float:
    return _look(knots, column, min(x, knots[-1]), rule)
