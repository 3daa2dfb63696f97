"""A profile's serving run on the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.table import Table

from simqueue.lag import Lag
from simqueue.profile import Jitter, Paths, Serving


def describe_serving(console: Console, serving: Serving) -> None:
    """Print what serving adds to the tables, how well that predicts periods, and how these scatter."""
    terms = Table("serving adds to the tables", "", "standard error", title=f"serving: {serving.steps:,} steps")
    for name, error in serving.standard_errors.items():
        unit, scale = (" us", 1e6) if name.endswith("_s") else ("", 1.0)
        terms.add_row(_words(name), f"{getattr(serving, name) * scale:.4g}{unit}", f"{error * scale:.2g}{unit}")
    console.print(terms)
    errors = Table("held-out error of the period", "median", "p95", "signed mean")
    for sort, found in serving.errors.items():
        errors.add_row(sort, f"{found.median:.2%}", f"{found.p95:.2%}", f"{found.mean:+.2%}")
    console.print(errors)
    for line in (_beside(serving.paths), *_scatter(serving.jitter)):
        console.print(f"  {line}", highlight=False, soft_wrap=True)


def _words(name: str) -> str:
    return name.removesuffix("_s").replace("_", " ")


def _beside(paths: Paths) -> str:
    values = (f"{_words(name)} {_microseconds(getattr(paths, name))}" for name in paths.__struct_fields__)
    return f"beside the steps, in us: {', '.join(values)}"


def _microseconds(value: Lag | None) -> str:
    if value is None:
        return "not known"
    if not isinstance(value, tuple):
        return f"{value * 1e6:.3g}"
    (shortest, least), (longest, most) = value[0], value[-1]
    return f"{least * 1e6:.3g} to {most * 1e6:.3g} (after {shortest * 1e3:.2g} to {longest * 1e3:.3g} ms)"


def _scatter(jitter: Jitter) -> Iterator[str]:
    for name, column in (("decode", jitter.decode), ("with a prefill", jitter.prefill)):
        low, high = np.quantile(column, [0.05, 0.95])
        yield f"scatter, {name}: 90 % of steps take {low:.3f} to {high:.3f} times their mean"
    parts = zip(jitter.persistent, jitter.memory, strict=True)
    lasting = ", ".join(f"{share:.0%} for about {-1 / math.log(memory):.3g} steps" for share, memory in parts)
    yield f"of the scatter persists: {lasting or 'nothing'}"
    measured = ", ".join(f"{r:.2f} at {lag}" for lag, r in zip(jitter.lags, jitter.autocorrelation, strict=True))
    yield f"autocorrelation by lag in steps: {measured}"
    if jitter.stalls:
        every, low, high = 1 / jitter.stall_probability, jitter.stalls[0], jitter.stalls[-1]
        yield f"stalls: one step in {every:,.0f}, by {low:.2g} to {high:.2g} of its mean; {jitter.mean - 1:+.2%} in all"
    yield f"drift: means of tenths of the run are {min(jitter.drift):.3f} to {max(jitter.drift):.3f} times that of all"
