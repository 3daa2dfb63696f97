"""Scenarios: a TOML file to the objects that `simqueue.simulate` takes, strictly."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import msgspec

from simqueue.analysis.figures import FIGURES
from simqueue.analysis.replicated import Precision
from simqueue.analysis.replications import AUTO
from simqueue.checks import at_least, within
from simqueue.cluster.autoscaling import Autoscaling
from simqueue.cluster.cluster import MOST_REPLICAS, ROUTERS, Cluster
from simqueue.cluster.disaggregation import Disaggregation
from simqueue.cluster.failures import Failures
from simqueue.cluster.transfer import Transfer
from simqueue.cost.linear import Affine
from simqueue.cost.noise import Noise, NoNoise
from simqueue.cost.profile import Measured
from simqueue.custom import custom_policy
from simqueue.errors import ConfigError, SimqueueError
from simqueue.estimate import refuse_if_too_much
from simqueue.order import ORDERS as ORDER_KINDS
from simqueue.policy import SHIPPED, BatchingPolicy
from simqueue.sim.simulate import check
from simqueue.system import Admission, CostSpec, Memory, Overheads, System
from simqueue.tables import (
    choose,
    convert,
    example,
    kind_of,
    placed,
    refuse_endless,
    refuse_unknown,
    require_table,
    shown,
    unknown,
    without_kind,
)
from simqueue.testbed import Live
from simqueue.units import INT64_MAX
from simqueue.workload import Arrivals, ClientClass, GeometricCount, Lengths, PairedLengths, Single, Think, WorkloadSpec


def _by_kind(*classes: Any) -> dict[str, Any]:
    return {cls.__struct_config__.tag: cls for cls in classes}


POLICIES = _by_kind(*SHIPPED)
ORDERS = _by_kind(*ORDER_KINDS)
COSTS = _by_kind(Affine, Measured)
NOISES = _by_kind(*get_args(Noise))
ARRIVALS = _by_kind(*get_args(Arrivals))
LENGTHS = _by_kind(*get_args(Lengths))
PAIRED_LENGTHS = _by_kind(*get_args(PairedLengths))
THINKS = _by_kind(*get_args(Think))
SINGLES = _by_kind(*get_args(Single))
COUNTS = _by_kind(GeometricCount)


class Run(msgspec.Struct, frozen=True):
    """How to run it.

    Attributes:
        seed: of every draw.
        warmup: how many first requests of every run to leave out of every figure; ``"auto"``: as many as
            `simqueue.analysis.warmup` finds. Not given: see `simqueue.analysis.replications.replicate`.
        replications: how many independent runs; 10 if not given, or 1 of a recorded trace.
        precision: how narrow intervals shall be: half-widths over values. Runs are made longer until they are.
        precision_of: the figures that this is asked of, by their place in the summary.
        max_replications: where to stop if it is not reached: so many runs, or as much in longer ones.
    """

    seed: int = 0
    warmup: int | str | None = None
    replications: int | None = None
    precision: float | None = None
    precision_of: tuple[str, ...] = ("response_s.p99",)
    max_replications: int = 160

    def __post_init__(self) -> None:
        at_least("run", "seed", self.seed, 0)
        if self.seed > INT64_MAX:
            raise ConfigError(f"run: seed = {self.seed} must be at most {INT64_MAX}")
        if isinstance(self.warmup, str) and self.warmup != AUTO:
            raise ConfigError(f'run: warmup = {self.warmup!r} is neither "auto" nor a number of requests')
        if isinstance(self.warmup, int):
            at_least("run", "warmup", self.warmup, 0)
        if self.replications is not None:
            at_least("run", "replications", self.replications, 1)
        at_least("run", "max_replications", self.max_replications, 1)
        if self.precision is not None and not 0 < self.precision < 1:
            raise ConfigError(f"run: precision = {self.precision} is no share of a value: 0.02, say, for 2 %")
        if not self.precision_of:
            raise ConfigError(f'run: precision_of names no figure: give some, such as "{FIGURES[0]}"')
        for figure in self.precision_of:
            if figure not in FIGURES:
                raise unknown("run: precision_of", "figure", figure, FIGURES)

    @property
    def asked_precision(self) -> Precision | None:
        """What is asked of intervals, if anything is."""
        if self.precision is None:
            return None
        return Precision(self.precision, self.precision_of, self.max_replications)

    @property
    def fixed_warmup(self) -> int:
        """For a single run, whose warm-up is not looked for. Raises ConfigError where it would have to be."""
        if self.warmup == AUTO:
            raise ConfigError('run: warmup = "auto" is for `simqueue simulate`: give a number of requests')
        return int(self.warmup or 0)


@dataclass(frozen=True)
class Scenario:
    """What a scenario file describes.

    Attributes:
        workload: what arrives; a trace's path starts from the folder of ``path``.
        system: what serves it; of a cluster the first replica.
        cluster: the replicas and their routers; None without a ``[cluster]`` table.
        run: how to run it.
        live: what really runs, for `simqueue live` and `simqueue validate`; None without a ``[live]`` table.
        sweep: the ``[sweep]`` table as it stands, for `simqueue.sweep`; None without one.
        path: the file.
    """

    workload: WorkloadSpec
    system: System
    cluster: Cluster | Disaggregation | None
    run: Run
    live: Live | None
    sweep: dict[str, Any] | None
    path: Path


def load(path: Path | str, overrides: Iterable[str] = ()) -> Scenario:
    """Read a scenario, ``key.key=value`` overrides applied (see `read_table`).

    Raises:
        SimqueueError: in one line, what is wrong, where, and what would do.
    """
    overrides = list(overrides)
    table = read_table(path, overrides)
    try:
        return scenario_from(table, path)
    except SimqueueError as error:
        raise type(error)(f"{error} (with --set {' --set '.join(overrides)})" if overrides else str(error)) from None


@contextmanager
def named(path: Path | str) -> Iterator[None]:
    """What is refused in here is refused with the name of the scenario's file before it."""
    try:
        yield
    except SimqueueError as error:
        raise type(error)(f"{path}: {error}") from None


def read_table(path: Path | str, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The tables of a TOML file as they are, with overrides ``key.key=value`` applied in order.

    The value is TOML, or else text as it stands; it may be a whole table.

    Raises:
        ConfigError: the file cannot be read or is no TOML, or an override is none.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}): give the path of a scenario file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text: save it as UTF-8") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is no TOML: {error}") from None
    for override in overrides:
        _override(table, override)
    return table


def scenario_from(table: Mapping[str, Any], path: Path | str) -> Scenario:
    """The scenario that these tables describe; ``path`` is where they come from.

    Raises:
        SimqueueError: in one line, what is wrong, where, and what would do.
    """
    path = Path(path)
    with named(path):
        refuse_unknown(table, ("workload", "system", "cluster", "run", "live", "sweep", "optimise"), "")
        parts = {key: value for key, value in table.items() if key != "sweep"}
        refuse_endless(parts, "")
        workload = _workload(_part(table, "workload"), path.parent)
        cluster = _cluster(table, path.parent) if "cluster" in table else None
        system = _first(cluster) if cluster else _system(_part(table, "system"), path.parent, "system")
        run = convert(Run, require_table(table.get("run", {}), "run", "[run]"), "run")
        live = convert(Live, require_table(table["live"], "live", "[live]"), "live") if "live" in table else None
        sweep = require_table(table["sweep"], "sweep", "[sweep]") if "sweep" in table else None
        refuse_if_too_much(workload, system)
        if workload.requests is not None and isinstance(run.warmup, int) and run.warmup >= workload.requests:
            raise ConfigError(f"run.warmup = {run.warmup} leaves none of {workload.requests} requests: lower it")
    return Scenario(workload, system, cluster, run, live, sweep, path)


def _part(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    if name not in table:
        raise ConfigError(f"the table [{name}] is missing: `simqueue init` writes a scenario to start from")
    return require_table(table[name], name, f"[{name}] and keys below it")


def _workload(table: Mapping[str, Any], folder: Path) -> WorkloadSpec:
    place = "workload"
    refuse_unknown(table, WorkloadSpec.__struct_fields__, place)
    parts = _clients(table, folder, place)
    if "classes" in parts:
        parts["classes"] = _classes(parts["classes"], folder, f"{place}.classes")
    elif "arrivals" not in table:
        raise ConfigError(f"{place}: the key 'arrivals' is missing; there are {', '.join(ARRIVALS)}")
    try:
        return WorkloadSpec(**parts)
    except SimqueueError as error:
        raise placed(error, place) from None


def _classes(tables: Any, folder: Path, place: str) -> list[ClientClass]:
    if not isinstance(tables, list) or not tables:
        raise ConfigError(f"{place} = {shown(tables)} is no list of tables: write [[{place}]] and keys below it")
    return [_class(table, folder, f"{place}[{index}]") for index, table in enumerate(tables)]


def _class(table: Any, folder: Path, place: str) -> ClientClass:
    fields = require_table(table, place, "[[workload.classes]] and keys below it")
    return convert(ClientClass, _clients(fields, folder, place), place)


def _clients(table: Mapping[str, Any], folder: Path, place: str) -> dict[str, Any]:
    """The table with its inner tables as what they describe."""
    parts = dict(table)
    if "arrivals" in parts:
        parts["arrivals"] = _arrivals(parts["arrivals"], f"{place}.arrivals")
    for key in ("prompt_tokens", "output_tokens"):
        if key in parts:
            parts[key] = choose(LENGTHS, parts[key], f"{place}.{key}")
    if "lengths" in parts:
        lengths: PairedLengths = choose(PAIRED_LENGTHS, parts["lengths"], f"{place}.lengths")
        parts["lengths"] = lengths.found_from(folder)
    return parts | _inner(parts, {"patience_s": THINKS}, place)


def _arrivals(table: Any, place: str) -> Arrivals:
    if isinstance(table, Mapping):
        table = {**table, **_inner(table, {"of": SINGLES, "think_s": THINKS, "size": COUNTS, "turns": COUNTS}, place)}
    arrivals: Arrivals = choose(ARRIVALS, table, place)
    return arrivals


def _inner(table: Mapping[str, Any], kinds: Mapping[str, Mapping[str, Any]], place: str) -> dict[str, Any]:
    """What the inner tables of these names describe; a number in the place of one stays."""
    tables = {key: table[key] for key in kinds if isinstance(table.get(key), Mapping)}
    return {key: choose(kinds[key], inner, f"{place}.{key}") for key, inner in tables.items()}


def _cluster(table: Mapping[str, Any], folder: Path) -> Cluster | Disaggregation:
    place = "cluster"
    fields = require_table(table[place], place, "[cluster] and keys below it")
    if fields.keys() & set(Disaggregation.__struct_fields__):
        return _disaggregation(table, fields, folder)
    return _pool(table, fields, folder, place)


def _first(cluster: Cluster | Disaggregation) -> System:
    return (cluster.prefill if isinstance(cluster, Disaggregation) else cluster).systems[0]


def _disaggregation(table: Mapping[str, Any], fields: Mapping[str, Any], folder: Path) -> Disaggregation:
    """Two pools, each a table that could stand alone, and the links between them."""
    place, keys = "cluster", Disaggregation.__struct_fields__
    refuse_unknown(fields, keys, place)
    if missing := [key for key in keys if key not in fields]:
        raise ConfigError(
            f"{place}: the table [{place}.{missing[0]}] is missing: where prefill and decode are apart "
            f"there are {', '.join(keys)}"
        )
    if "system" in table:
        raise ConfigError(
            f"{place}: prefill and decode have systems of their own: move [system] to [{place}.prefill.system]"
        )
    parts = {key: require_table(fields[key], f"{place}.{key}", f"[{place}.{key}] and keys below it") for key in keys}
    prefill, decode = (_pool(parts[key], parts[key], folder, f"{place}.{key}") for key in ("prefill", "decode"))
    transfer = convert(Transfer, parts["transfer"], f"{place}.transfer")
    try:
        return Disaggregation(prefill, decode, transfer)
    except SimqueueError as error:
        raise placed(error, place) from None


def _pool(table: Mapping[str, Any], fields: Mapping[str, Any], folder: Path, place: str) -> Cluster:
    """Replicas behind a router; where they are equal ``table`` has their ``system``."""
    refuse_unknown(fields, ("replicas", "system", *Cluster.__struct_fields__[1:]), place)
    parts: dict[str, Any] = {}
    if "router" in fields:
        parts["router"] = choose(_by_kind(*ROUTERS), fields["router"], f"{place}.router")
    for key, kind in (("failures", Failures), ("autoscaling", Autoscaling)):
        if key in fields:
            inner = require_table(fields[key], f"{place}.{key}", f"[{place}.{key}] and keys below it")
            parts[key] = convert(kind, inner, f"{place}.{key}")
    systems = _replicas(table, fields, folder, place)
    try:
        return Cluster(systems, **parts)
    except SimqueueError as error:
        raise placed(error, place) from None


def _replicas(table: Mapping[str, Any], fields: Mapping[str, Any], folder: Path, place: str) -> tuple[System, ...]:
    """The system of every replica."""
    inner = table is fields
    if "system" in fields and not (inner and isinstance(fields["system"], dict)):
        return _unequal(table, fields, folder, place)
    if "replicas" not in fields:
        raise ConfigError(f"{place}: give replicas = 4, say, or one table [[{place}.system]] for each replica")
    within(place, "replicas", fields["replicas"], 1, MOST_REPLICAS)
    replicas: int = fields["replicas"]
    where = f"{place}.system" if inner else "system"
    if "system" not in table:
        raise ConfigError(f"the table [{where}] is missing: it says what each replica is")
    return (_system(require_table(table["system"], where, f"[{where}]"), folder, where),) * replicas


def _unequal(table: Mapping[str, Any], fields: Mapping[str, Any], folder: Path, pool: str) -> tuple[System, ...]:
    place, tables = f"{pool}.system", fields["system"]
    twice = table is not fields and "system" in table
    for other, there in ((f"{pool}.replicas", "replicas" in fields), ("[system]", twice)):
        if there:
            raise ConfigError(f"{place}: each of its tables is a replica, so that {other} says it twice: leave one out")
    if not isinstance(tables, list) or not tables:
        raise ConfigError(f"{place} = {shown(tables)} is no list of tables: write [[{place}]] for each replica")
    named = [(require_table(one, f"{place}[{i}]", f"[[{place}]]"), f"{place}[{i}]") for i, one in enumerate(tables)]
    return tuple(_system(one, folder, where) for one, where in named)


def _system(table: Mapping[str, Any], folder: Path, place: str) -> System:
    refuse_unknown(table, System.__struct_fields__, place)
    for key, kinds in (("policy", POLICIES), ("cost", COSTS)):
        if key not in table:
            raise ConfigError(f"{place}: the key {key!r} is missing; there are {', '.join(kinds)}")
    parts = dict(table)
    parts["policy"] = _policy(parts["policy"], folder, f"{place}.policy")
    parts["cost"] = _cost(parts["cost"], folder, f"{place}.cost")
    parts["noise"] = choose(NOISES, parts["noise"], f"{place}.noise") if "noise" in parts else NoNoise()
    over = parts.get("overheads", {})
    parts["overheads"] = _overheads(over, parts["policy"], parts["cost"], f"{place}.overheads")
    if "memory" in parts:
        fields = require_table(parts["memory"], f"{place}.memory", "{ num_blocks = 4096 }")
        parts["memory"] = convert(Memory, fields, f"{place}.memory")
    if "admission" in parts:
        fields = require_table(parts["admission"], f"{place}.admission", "{ max_queue = 100 }")
        parts["admission"] = convert(Admission, fields, f"{place}.admission")
    if "order" in parts:
        parts["order"] = choose(ORDERS, parts["order"], f"{place}.order")
    try:
        system = System(**parts)
        check(system)
    except SimqueueError as error:
        raise placed(error, place) from None
    return system


def _policy(table: Any, folder: Path, place: str) -> BatchingPolicy:
    fields = require_table(table, place, example(POLICIES, table))
    kind = fields.get("kind")
    if isinstance(kind, str) and ":" in kind:
        return custom_policy(kind, without_kind(fields), place, folder)
    kind_of(fields, (*POLICIES, "package.module:Class"), place)
    policy: BatchingPolicy = choose(POLICIES, fields, place)
    return policy


def _cost(table: Any, folder: Path, place: str) -> CostSpec:
    cost: CostSpec = choose(COSTS, table, place)
    if not isinstance(cost, Measured):
        return cost
    if cost.path is not None:
        cost = msgspec.structs.replace(cost, path=str(folder / cost.path))
    try:
        cost.profile  # noqa: B018 (it is read when it is first asked for)
    except SimqueueError as error:
        raise placed(error, place) from None
    return cost


def _overheads(table: Any, policy: BatchingPolicy, cost: CostSpec, place: str) -> Overheads:
    if table != "profile":
        return convert(Overheads, require_table(table, place, '{ request_path_s = ..., ... } or "profile"'), place)
    if not isinstance(cost, Measured):
        raise ConfigError(f'{place} = "profile": the cost has none: use cost = {{ kind = "profile", ... }}')
    try:
        return Overheads.measured(policy, cost)
    except SimqueueError as error:
        raise placed(error, place) from None


def _override(table: dict[str, Any], override: str) -> None:
    """Set one value in place; which keys there may be is found out when the tables are converted."""
    name, equals, text = override.partition("=")
    keys = _keys(name)
    if not equals or not keys:
        raise ConfigError(f"--set {override!r} is no key.key=value, such as system.policy.max_batch=16")
    *above, last = keys
    inner = table
    for depth, key in enumerate(above, 1):
        inner = inner.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override!r}: {'.'.join(above[:depth])} = {shown(inner)} is not a table")
    inner[last] = _value(text)


def _keys(name: str) -> list[str]:
    """The parts of a dotted key as TOML reads it, quotes and all; none if it is no key."""
    try:
        inner: Any = tomllib.loads(f"{name} = 0") if name.isprintable() else 0
    except tomllib.TOMLDecodeError:
        return []
    keys: list[str] = []
    while isinstance(inner, dict):
        [(key, inner)] = inner.items()
        keys.append(key)
    return keys


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"] if text.isprintable() else text
    except tomllib.TOMLDecodeError:
        return text.strip()
