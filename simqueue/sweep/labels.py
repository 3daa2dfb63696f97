"""Short names for what differs between cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_MOST_ITEMS = 4
# What these keys hold is told by its kind alone.
_NAMELESS = ("policy", "arrivals")


def flat(sweep: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """``system.policy.max_batch = [...]`` without quotes is a table in a table; it means the same."""
    for key, value in sweep.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def shown(value: Any, hidden: frozenset[str] = frozenset()) -> str:
    """A value in a few letters: ``{kind = "continuous", max_seqs = 64}`` is ``continuous(max_seqs=64)``."""
    if isinstance(value, Mapping):
        knobs = ", ".join(f"{k}={shown(v)}" for k, v in value.items() if k != "kind" and k not in hidden)
        kind = str(value.get("kind", "")).rpartition(":")[2]
        return f"{kind}({knobs})" if knobs or not kind else kind
    if isinstance(value, list):
        items = [shown(item) for item in value[:_MOST_ITEMS]]
        return f"[{', '.join(items)}{', ...' if len(value) > _MOST_ITEMS else ''}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def common(values: Sequence[Any]) -> dict[str, Any]:
    """The knobs that several tables of a list have, all with one value: they tell none from another."""
    tables = [value for value in values if isinstance(value, Mapping)]
    knobs = {knob for table in tables for knob in table if knob != "kind"}
    held = {knob: [table[knob] for table in tables if knob in table] for knob in sorted(knobs)}
    return {knob: of[0] for knob, of in held.items() if len(of) > 1 and all(v == of[0] for v in of)}


def names(keys: Sequence[str]) -> dict[str, str]:
    """For each dotted key its shortest end that no other has."""
    return {key: _shortest(key, [other for other in keys if other != key]) for key in keys}


def _shortest(key: str, others: list[str]) -> str:
    parts = key.split(".")
    ends = (".".join(parts[-n:]) for n in range(1, len(parts)))
    return next((end for end in ends if not any(f".{other}".endswith(f".{end}") for other in others)), key)


def words(values: Sequence[Any], hidden: frozenset[str] = frozenset()) -> list[str]:
    """A name for each value of a swept key, no two the same, without ``hidden`` knobs and those in `common`."""
    told = hidden | common(values).keys()
    full, short = [shown(value) for value in values], [shown(value, told) for value in values]
    chosen = short if len(set(short)) == len(short) else full
    times = Counter(chosen)
    return [word if times[word] == 1 else f"{word} #{i + 1}" for i, word in enumerate(chosen)]


def entry(name: str, value: Any, word: str) -> str:
    """``max_batch=8``; the kind of a policy or of arrivals says what it is by itself."""
    return word if name in _NAMELESS and isinstance(value, Mapping) else f"{name}={word}"
