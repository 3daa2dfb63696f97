"""One table of a scenario to one object, strictly: each refusal names the place, the value and the remedy."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, TypeVar, cast

import msgspec

from simqueue.errors import ConfigError, SimqueueError

T = TypeVar("T")

_MAY_BE_INFINITE = ".max_wait_s"
_WORDS = {
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "a boolean",
    "array": "a list",
    "object": "a table",
    "date": "a date",
    "datetime": "a date and time",
    "time": "a time",
}
_MISFIT = re.compile(r"Expected `(?P<wanted>.+)`, got `(?P<given>.+)`")


def require_table(value: Any, place: str, example: str) -> dict[str, Any]:
    """The table itself; refuses anything else."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{place} = {shown(value)} is not a table: write {example}")
    return dict(value)


def choose(kinds: Mapping[str, type[T]], table: Any, place: str) -> T:
    """The object that a table with a ``kind`` describes.

    Raises:
        ConfigError: the kind is missing or unknown, or see `convert`.
    """
    fields = require_table(table, place, example(kinds, table))
    return convert(kinds[kind_of(fields, kinds, place)], without_kind(fields), place)


def example(kinds: Mapping[str, type[T]], given: Any) -> str:
    """A table to write in place of what was given: of the kind that it names, if it names one."""
    kind = given if isinstance(given, str) and given in kinds else next(iter(kinds))
    info = _type_info(cast(Any, kinds[kind]))
    more = ", ..." if any(field.required for field in info.fields) else ""
    return f'{{ kind = "{kind}"{more} }}'


def kind_of(fields: Mapping[str, Any], kinds: Iterable[str], place: str) -> str:
    """The table's ``kind``, one of ``kinds``."""
    if "kind" not in fields:
        raise ConfigError(f"{place}: the key 'kind' is missing: give one of {', '.join(kinds)}")
    kind = fields["kind"]
    if not isinstance(kind, str) or kind not in kinds:
        raise unknown(place, "kind", kind, kinds)
    return kind


def without_kind(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The rest of the table."""
    return {key: value for key, value in fields.items() if key != "kind"}


def convert(cls: type[T], fields: Mapping[str, Any], place: str) -> T:
    """A ``msgspec.Struct`` or dataclass from its fields.

    Raises:
        ConfigError: a key is unknown or missing, or a value is of the wrong type.
        SimqueueError: the object refuses a value.
    """
    info = _type_info(cast(Any, cls))
    known = {field.encode_name: field for field in info.fields}
    refuse_unknown(fields, known, place)
    missing = [key for key, field in known.items() if field.required and key not in fields]
    if missing:
        rest = f"; {_listed(known)}" if len(known) > 1 else ": give it"
        raise ConfigError(f"{place}: the key {missing[0]!r} is missing{rest}")
    tag = {info.tag_field: info.tag} if getattr(info, "tag_field", None) else {}
    try:
        # Keys of a TOML table are words, also where they count something.
        return msgspec.convert({**tag, **fields}, cls, str_keys=True)
    except msgspec.ValidationError as error:
        raise ConfigError(_explained(str(error), fields, known, place)) from None
    except SimqueueError as error:
        raise placed(error, place) from None


def refuse_unknown(fields: Iterable[str], known: Iterable[str], place: str) -> None:
    """Refuse the first key that is not known. Raises ConfigError with a suggestion."""
    for key in fields:
        if key not in known:
            raise unknown(place, "key", key, known)


def unknown(place: str, what: str, given: Any, known: Iterable[str]) -> ConfigError:
    """The refusal of a word that nothing goes by."""
    near = difflib.get_close_matches(str(given), known := list(known), 1)
    hint = f"did you mean {near[0]!r}?" if near else _listed(known)
    return ConfigError(f"{place}: unknown {what} {shown(given)}; {hint}".removeprefix(": "))


def placed(error: SimqueueError, place: str) -> SimqueueError:
    """The same refusal behind its place in the scenario, which is not said twice (``system.policy: policy none: ``)."""
    name = re.escape(place.rsplit(".", 1)[-1])
    said = re.sub(rf"^((\w+ )?{name}( \w+)?|\w+ (lengths|times|count)): ", "", str(error))
    return type(error)(f"{place}: {said}")


def refuse_endless(value: Any, place: str) -> None:
    """Refuse NaN anywhere below, and infinity anywhere but in ``max_wait_s``. Raises ConfigError."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            refuse_endless(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            refuse_endless(inner, f"{place}[{index}]")
    elif isinstance(value, float) and not (math.isfinite(value) or (value > 0 and place.endswith(_MAY_BE_INFINITE))):
        raise ConfigError(f"{place} = {value} is not finite: give a finite number (only max_wait_s may be inf)")


def shown(value: Any) -> str:
    """A value as a message shows it: short, and as TOML has it where the two differ."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@lru_cache(maxsize=256)
def _type_info(cls: Any) -> Any:
    """Takes a millisecond, and the cells of a sweep ask for the same types thousands of times."""
    return msgspec.inspect.type_info(cls)


def _listed(known: Iterable[str]) -> str:
    return f"there are {', '.join(known)}" if known else "it takes none"


def _explained(message: str, fields: Mapping[str, Any], known: Mapping[str, Any], place: str) -> str:
    """What msgspec refused, in the words of a scenario."""
    said, _, path = message.partition(" - at `$")
    path = path.removesuffix("`")
    where = f"{place}{path}"
    misfit = _MISFIT.match(said)
    if misfit:
        wanted = [_WORDS.get(word, word) for word in misfit["wanted"].split(" | ") if word != "null"]
        given = _WORDS.get(misfit["given"], misfit["given"])
        return f"{where} = {_at(fields, path)} is {given}: give {' or '.join(wanted)}"
    options = getattr(getattr(known.get(path.removeprefix(".")), "type", None), "values", None)
    if options:
        return f"{where} = {_at(fields, path)} is unknown: give one of {', '.join(map(shown, options))}"
    return f"{where}: {said}"


def _at(fields: Any, path: str) -> str:
    """The value at msgspec's path (``.rates[1]``)."""
    for key, index in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        fields = fields[key] if key else fields[int(index)]
    return shown(fields)
