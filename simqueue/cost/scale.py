"""`Scale`: a profile whose steps take longer or shorter than was measured, by kind of step."""

from __future__ import annotations

from typing import Any

import msgspec

from simqueue.checks import positive
from simqueue.errors import ConfigError
from simqueue.lag import Lag, pairs
from simqueue.profile import Curve, Curves, DecodeTable, PrefillTable, Profile, Serving

_CURVE = ("floor_s", "base_s", "per_row_s", "per_new_token_s", "per_context_token_s", "per_pair_s")


class Scale(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How many times as long steps take as the profile says.

    Attributes:
        decode: what rows that decode take.
        prefill: what prompts add to a step in which rows decode; of a profile without serving run all prompts.
        start: prompts where nothing decodes, as the serving run has them.
        total: every step, of a profile that was fitted to somebody's step times.
    """

    decode: float = 1.0
    prefill: float = 1.0
    start: float = 1.0
    total: float = 1.0

    def __post_init__(self) -> None:
        for kind in self.__struct_fields__:
            positive("scale", kind, getattr(self, kind))


def kinds_of(profile: Profile) -> tuple[str, ...]:
    """Which kinds of steps there are to scale."""
    if profile.curves.totals is not None:
        return ("total",)
    return ("decode", "prefill") if profile.serving is None else ("decode", "prefill", "start")


def scaled(profile: Profile, scale: Scale) -> Profile:
    """The profile with every step of a kind so many times as long, what serving adds to it included.

    Raises:
        ConfigError: it has no such steps.
    """
    known = kinds_of(profile)
    for kind in scale.__struct_fields__:
        if getattr(scale, kind) != 1 and kind not in known:
            raise ConfigError(f"scale: profile {profile.name} does not tell {kind} apart: give {' or '.join(known)}")
    serving = profile.serving
    # Tables are the price of prompts where nothing decodes; beside rows that decode a factor turns it into the other.
    alone = scale.prefill if serving is None else scale.start
    return msgspec.structs.replace(
        profile,
        decode=profile.decode and _decode(profile.decode, scale.decode),
        prefill=profile.prefill and _prefill(profile.prefill, alone),
        mixed_s=profile.mixed_s * alone,
        curves=_curves(profile.curves, scale, alone),
        serving=serving and _serving(serving, scale),
    )


def _decode(table: DecodeTable, factor: float) -> DecodeTable:
    return msgspec.structs.replace(table, seconds=tuple(tuple(factor * s for s in row) for row in table.seconds))


def _prefill(table: PrefillTable, factor: float) -> PrefillTable:
    seconds = tuple(
        tuple(tuple(None if s is None else factor * s for s in cell) for cell in row) for row in table.seconds
    )
    return msgspec.structs.replace(table, seconds=seconds)


def _curves(curves: Curves, scale: Scale, alone: float) -> Curves:
    factors = {"decode": scale.decode, "prefill": alone, "chunk": alone, "totals": scale.total}
    return Curves(**{name: _curve(getattr(curves, name), factor) for name, factor in factors.items()})


def _curve(curve: Curve | None, factor: float) -> Curve | None:
    return curve and msgspec.structs.replace(curve, **{name: _times(getattr(curve, name), factor) for name in _CURVE})


def _serving(serving: Serving, scale: Scale) -> Serving:
    paths = serving.paths
    exposed = None if paths.exposed_s is None else scale.decode * paths.exposed_s
    return msgspec.structs.replace(
        serving,
        prefill_factor=serving.prefill_factor * scale.prefill / scale.start,
        per_step_s=scale.decode * serving.per_step_s,
        per_row_s=scale.decode * serving.per_row_s,
        per_prefill_s=scale.prefill * serving.per_prefill_s,
        per_prefill_row_s=scale.prefill * serving.per_prefill_row_s,
        per_start_row_s=scale.start * serving.per_start_row_s,
        paths=msgspec.structs.replace(
            paths,
            start_s=_lag(paths.start_s, scale.start),
            exposed_s=exposed,
            exposed_per_row_s=scale.decode * paths.exposed_per_row_s,
            pause_s=scale.start * paths.pause_s,
            pause_per_row_s=scale.start * paths.pause_per_row_s,
        ),
    )


def _lag(lag: Lag, factor: float) -> Lag:
    if not isinstance(lag, tuple):
        return factor * lag
    return tuple((since, factor * taken) for since, taken in pairs(lag))


def _times(value: Any, factor: float) -> Any:
    return tuple(factor * one for one in value) if isinstance(value, tuple) else factor * value
