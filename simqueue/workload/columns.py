"""Columns of a workload: how they are typed, checked and made immutable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simqueue.errors import WorkloadError
from simqueue.workload.checks import MAX_TOKENS

REQUIRED = ("arrival_s", "prompt_tokens", "output_tokens")
TOKEN_COLUMNS = ("prompt_tokens", "output_tokens", "max_output_tokens", "predicted_output_tokens")
SECONDS_COLUMNS = ("patience_s", "ttft_slo_s", "tpot_slo_s")
ARRIVAL_RULE = "arrivals are finite seconds, not negative"
ORDER_RULE = "it comes before the arrival above it; sort the rows by arrival_s"
TOKEN_RULE = f"give a whole number of tokens from 1 to {MAX_TOKENS}"

Column = NDArray[Any]


def frozen(array: Column) -> Column:
    """The same array, not writeable from now on."""
    array.flags.writeable = False
    return array


def checked(columns: Mapping[str, ArrayLike]) -> dict[str, Column]:
    """Immutable columns of one length; a caller's own writeable arrays are copied.

    ``arrival_s`` becomes float64; columns of tokens and ``priority`` int64; ``patience_s``, ``ttft_slo_s`` and
    ``tpot_slo_s`` float64 above 0, infinite where there is no limit; any other column int64, float64, bool or text (an
    object array of str), which files hold exactly.

    Raises:
        WorkloadError: the first value that cannot be used, with its request (counted from 0) and its column.
    """
    made = {name: _typed(name, np.asarray(values)) for name, values in columns.items()}
    _refuse_sizes({name: len(column) for name, column in made.items()})
    if (arrival_s := made.get("arrival_s")) is not None:
        _refuse("arrival_s", arrival_s, ~((arrival_s >= 0) & (arrival_s < np.inf)), ARRIVAL_RULE)
        _refuse("arrival_s", arrival_s, np.append(False, arrival_s[1:] < arrival_s[:-1]), ORDER_RULE)
    return made


def _typed(name: str, array: Column) -> Column:
    if array.ndim != 1:
        raise WorkloadError(f"column {name} has {array.ndim} dimensions; give one value for each request")
    if name == "arrival_s":
        typed: Column = _numbers(name, array).astype(np.float64, copy=False)
    elif name in TOKEN_COLUMNS:
        typed = _tokens(name, _numbers(name, array))
    elif name in SECONDS_COLUMNS:
        typed = _seconds(name, _numbers(name, array))
    elif name == "priority":
        typed = _whole(name, _numbers(name, array))
    else:
        typed = _anything(name, array)
    return frozen(typed.copy() if typed is array and array.flags.writeable else typed)


def _numbers(name: str, array: Column) -> Column:
    if array.dtype.kind not in "iuf":
        raise WorkloadError(f"column {name} holds values of type {array.dtype}; give a number for each request")
    return array


def _tokens(name: str, array: Column) -> NDArray[np.int64]:
    whole = array.dtype.kind in "iu" or array == np.rint(array)
    _refuse(name, array, ~((array >= 1) & (array <= MAX_TOKENS) & whole), TOKEN_RULE)
    return array.astype(np.int64, copy=False)


def _seconds(name: str, array: Column) -> NDArray[np.float64]:
    _refuse(name, array, ~(array > 0), "give seconds above 0, infinite for no limit")
    return array.astype(np.float64, copy=False)


def _whole(name: str, array: Column) -> NDArray[np.int64]:
    whole = (array == np.rint(array)) & (np.abs(array) < 2**53)
    _refuse(name, array, ~whole, "give a whole number; a smaller one is more urgent")
    return array.astype(np.int64, copy=False)


def _anything(name: str, array: Column) -> Column:
    for kinds, dtype in (("iu", np.int64), ("f", np.float64), ("b", np.bool_)):
        if array.dtype.kind in kinds and np.can_cast(array.dtype, dtype):
            return array.astype(dtype, copy=False)
    text = array.astype(object) if array.dtype.kind == "U" else array
    if text.dtype != object or not all(type(value) is str for value in text):
        raise WorkloadError(
            f"column {name} holds values of type {array.dtype} that are not all numbers, booleans or text; "
            "convert it, fill in what is missing, or leave it out"
        )
    return text


def _refuse_sizes(sizes: Mapping[str, int]) -> None:
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise WorkloadError(f"columns differ in length ({listed}); give one value for each request")
    if 0 in sizes.values():
        raise WorkloadError("the workload has no requests; give at least one")


def _refuse(name: str, column: Column, bad: NDArray[np.bool_], remedy: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise WorkloadError(f"{name} of request {row} (counted from 0) is {column[row].item()!r}; {remedy}")
