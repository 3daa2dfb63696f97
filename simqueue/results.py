"""Results on disk: Parquet files that hold all of a run, and its figures as JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from simqueue import folders
from simqueue.cost.linear import Affine
from simqueue.cost.noise import Noise
from simqueue.cost.profile import Measured
from simqueue.errors import OutputError
from simqueue.fates import OUTCOMES, SPELL, Fates
from simqueue.profile import decode_profile
from simqueue.record import Column
from simqueue.result import TICKS
from simqueue.sim.steps import Durations
from simqueue.system import Overheads
from simqueue.units import Grid
from simqueue.workload import Workload

if TYPE_CHECKING:
    import pyarrow

    from simqueue.result import Result

REQUESTS, STEPS, SUMMARY = "requests.parquet", "steps.parquet", "summary.json"
PREEMPTIONS = "preemptions.parquet"
_NAMES = (REQUESTS, STEPS, PREEMPTIONS, SUMMARY)
_ASIDE = ".simqueue-"
_SCHEMA = 3
_ABOUT, _PROFILE = b"simqueue", b"simqueue.profile"
_WORKLOAD = ("arrival_s", "prompt_tokens", "output_tokens")


class _Table(NamedTuple):
    columns: dict[str, NDArray[Any]]
    metadata: Mapping[bytes, bytes]


def write(result: Result, folder: Path, summary: Mapping[str, Any]) -> None:
    """Write a result and its figures: every file aside first, then renamed; a result that is there already is replaced.

    ``requests.parquet`` has the columns of `Result.requests`, ``steps.parquet`` those of ``Result.leaps``, and
    ``preemptions.parquet``, where answers can be interrupted, a row for each time, in ticks. All have
    the provenance as JSON in their metadata under ``simqueue``, and the second has the profile itself where the cost
    is a measured one, so that steps can be expanded wherever the files go.

    Raises:
        OutputError: the folder holds something else, or cannot be written.
    """
    import pyarrow
    from pyarrow import parquet

    refuse_unusable(folder)
    requests = requests_table(result)
    about = {_ABOUT: requests.schema.metadata[_ABOUT]}
    with written_aside(folder) as aside:
        parquet.write_table(requests, aside[REQUESTS])
        if result.fates:
            spells = pyarrow.table(dict(zip(SPELL, result.fates.spells.T, strict=True)))
            parquet.write_table(spells.replace_schema_metadata(about), aside[PREEMPTIONS])
        leaps = pyarrow.table(dict(result.leaps)).replace_schema_metadata({**about, **_profile_of(result)})
        parquet.write_table(leaps, aside[STEPS])
        aside[SUMMARY].write_bytes(strict_json({**summary, "provenance": result.provenance}))


def requests_table(result: Result) -> pyarrow.Table:
    """The columns of `Result.requests`, and in the metadata what they are of."""
    import pyarrow

    about = {_ABOUT: json.dumps(_about(result)).encode()}
    return pyarrow.table(result.requests()).replace_schema_metadata(about)


def read(folder: Path) -> dict[str, Any]:
    """The fields of the `Result` that `write` wrote.

    Raises:
        OutputError: there is none, it is of another version, damaged, or put together from two.
    """
    requests, steps = _read(folder / REQUESTS), _read(folder / STEPS)
    about = _about_of(requests, folder / REQUESTS)
    others = {STEPS: steps} | ({PREEMPTIONS: _read(folder / PREEMPTIONS)} if about["fates"] else {})
    for name, table in others.items():
        if about != _about_of(table, folder / name):
            raise OutputError(f"{folder}: {REQUESTS} and {name} are of two different runs: simulate again")
    provenance = about["provenance"]
    columns = {name: requests.columns[name] for name in _WORKLOAD}
    columns |= {name: requests.columns[column] for column, name in about["extra"].items()}
    return {
        "workload": Workload.of(columns, provenance["workload"]),
        "grid": Grid(about["ticks_per_s"]),
        **{name: requests.columns[f"{name}_ticks"] for name in TICKS},
        "leaps": steps.columns,
        **{name: about[name] for name in ("with_batch", "warmup")},
        "durations": _durations(steps, about, folder / STEPS),
        "saturation_rps": lambda: about["saturation_rps"],
        "provenance": provenance,
        "fates": _fates(requests.columns, others[PREEMPTIONS].columns) if PREEMPTIONS in others else None,
    }


def _fates(requests: Mapping[str, NDArray[Any]], spells: Mapping[str, Column]) -> Fates:
    return Fates(
        outcome=np.array([OUTCOMES.index(name) for name in requests["outcome"]], np.int64),
        preemptions=requests["preemptions"],
        recomputed_tokens=requests["recomputed_tokens"],
        cached_tokens=requests["cached_tokens"],
        spells=np.stack([spells[name] for name in SPELL], axis=1),
    )


def strict_json(value: Any) -> bytes:
    """As JSON on lines of its own; what is not finite, which JSON has no word for, as null."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def refuse_unusable(folder: Path) -> None:
    """Refuse a folder that holds anything but a result of simqueue, or that cannot be written.

    Raises:
        OutputError: what is in the way, and where.
    """
    folders.refuse_unusable(folder, _strange, "simqueue did not write")


def _strange(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not _is_ours(path))


def _is_ours(path: Path) -> bool:
    if path.name.startswith(_ASIDE):
        return True
    if path.name not in _NAMES or not path.is_file():
        return False
    if path.name == SUMMARY:
        with suppress(ValueError):
            summary = json.loads(path.read_bytes())
            return isinstance(summary, dict) and "provenance" in summary
        return False
    with suppress(OutputError):
        return _ABOUT in _read(path, columns=[]).metadata
    return False


@contextmanager
def written_aside(folder: Path) -> Iterator[dict[str, Path]]:
    """Where to write each file; they take their places when all went well, and nothing stays when it did not."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    aside = {name: folder / f"{_ASIDE}{os.getpid()}-{name}" for name in _NAMES}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield aside
        for name, path in aside.items():
            if path.exists():
                path.replace(folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
    except BaseException as error:
        for path in aside.values():
            with suppress(OSError):
                path.unlink()
        for path in new:
            with suppress(OSError):
                path.rmdir()
        if isinstance(error, OSError):
            raise OutputError(f"{folder}: cannot be written ({error.strerror or error}): give another folder") from None
        raise


def _about(result: Result) -> dict[str, Any]:
    """What the columns do not say."""
    extra = list(result.workload.extra)
    seed = result.durations.seed if isinstance(result.durations, Durations) else None
    return {
        "schema": _SCHEMA,
        "ticks_per_s": result.grid.ticks_per_s,
        "with_batch": result.with_batch,
        "warmup": result.warmup,
        "fates": result.fates is not None,
        "saturation_rps": result.saturation_rps(),
        # Further columns come last, some under another name.
        "extra": dict(zip(list(result.requests())[-len(extra) :], extra, strict=True)) if extra else {},
        "noise_seed": [seed.entropy, *seed.spawn_key] if seed else None,
        "provenance": dict(result.provenance),
    }


def _profile_of(result: Result) -> dict[bytes, bytes]:
    cost = result.durations.cost if isinstance(result.durations, Durations) else None
    return {_PROFILE: msgspec.json.encode(cost.profile)} if isinstance(cost, Measured) else {}


def _read(path: Path, columns: list[str] | None = None) -> _Table:
    import pyarrow
    from pyarrow import parquet

    try:
        table: pyarrow.Table = parquet.read_table(path, columns=columns, partitioning=None)
    except FileNotFoundError:
        raise OutputError(f"{path}: no such file: give a folder that simqueue wrote") from None
    except (OSError, pyarrow.ArrowException) as error:
        raise OutputError(f"{path}: cannot be read ({str(error).splitlines()[0]}): simulate again") from None
    return _Table({name: table[name].to_numpy() for name in table.column_names}, table.schema.metadata or {})


def _about_of(table: _Table, path: Path) -> dict[str, Any]:
    if _ABOUT not in table.metadata:
        raise OutputError(f"{path}: was not written by simqueue: give a folder that it wrote")
    about: dict[str, Any] = json.loads(table.metadata[_ABOUT])
    if about.get("schema") != _SCHEMA:
        raise OutputError(f"{path}: schema {about.get('schema')}, but this simqueue reads {_SCHEMA}: simulate again")
    return about


def _durations(steps: _Table, about: Mapping[str, Any], path: Path) -> Callable[[], Column]:
    """The same steps again: as they were measured, where each is a leap of its own, or by the cost and the noise as
    they were configured and the embedded profile."""
    if (steps.columns["steps"] == 1).all():
        return lambda: steps.columns["total"]
    system, seed = about["provenance"]["system"], about["noise_seed"]
    kinds = {cls.__struct_config__.tag for cls in (Affine, Measured, *get_args(Noise))}
    if seed is None or not kinds.issuperset((system["cost"]["kind"], system["noise"]["kind"])):
        return lambda: _no_durations(path)
    cost: Affine | Measured = msgspec.convert(system["cost"], Affine | Measured)
    if isinstance(cost, Measured):
        # In place of what its name or path would lead to now.
        cost.__dict__["profile"] = decode_profile(steps.metadata[_PROFILE], f"in {path}")
    noise: Noise = msgspec.convert(system["noise"], Noise)
    overheads = msgspec.convert(system["overheads"], Overheads)
    sequence = np.random.SeedSequence(seed[0], spawn_key=seed[1:])
    return Durations(steps.columns, cost, noise, overheads, Grid(about["ticks_per_s"]), sequence)


def _no_durations(path: Path) -> Column:
    raise OutputError(f"{path}: the durations of single steps need the cost and noise of this run, which are not ours")
