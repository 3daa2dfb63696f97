"""A profile from raw samples: tables, fitted curves, noise, and what they are worth on held-out cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.cells import Cell, eager_cells, graph_cells
from calibration.fit import Padding, errors_of, fit_curve
from calibration.measure import PRECISION, half_width
from calibration.provenance import installed_version
from calibration.reading import read_decode, read_prefill
from calibration.records import Records, beside, recorded
from calibration.samples import Repeats, Samples, is_samples, read
from calibration.serving import serving_of
from calibration.totals import from_totals
from simqueue.errors import ProfileError
from simqueue.live.device.buckets import Buckets, buckets
from simqueue.profile import SCHEMA, Curve, Curves, DecodeTable, Model, Noise, Point, PrefillTable, Profile, Provenance
from simqueue.units import digits

Array = NDArray[np.float64]
_QUANTILES = 200
_ENOUGH_FOR_NOISE = 5


def cells_of(header: Mapping[str, str]) -> list[Cell]:
    """The cells that a calibration with this header measures."""
    rows, window = int(header["max_rows"]), int(header["max_context"])
    if header["runner"] == "eager":
        return eager_cells(rows, window, seed=0)
    return graph_cells(buckets(rows, window), seed=0)


def build(
    header: Mapping[str, str], samples: Samples, name: str, source: str, records: Records | None = None
) -> Profile:
    """The profile of what was measured, on the grid it was measured on, and of serving runs, where there were any.

    Raises:
        ProfileError: cells are missing.
    """
    cells = [cell for cell, repeats in samples.items() if repeats.wall]
    if {cell.kind for cell in cells if not cell.held_out} < {"decode", "prefill"}:
        raise ProfileError(f"profile {name}: {source} has no decode or no prefill cells yet: run calibrate again")
    points = [_point(cell, samples[cell]) for cell in cells]
    window, model = int(header["max_context"]), _model(header)
    sizes = None if header["runner"] == "eager" else buckets(int(header["max_rows"]), window)
    decode, prefill = _decode_table(points, sizes), _prefill_table(points, sizes, window)
    profile = Profile(
        schema=SCHEMA,
        name=name,
        runner="eager" if sizes is None else "graph",
        iteration_level=sizes is not None,
        model=model,
        provenance=_provenance(header, cells, samples, source),
        decode=decode,
        prefill=prefill,
        mixed_s=_mixed(points, decode, prefill),
        host_s=max(0.0, digits(float(np.median([p.seconds - p.device_s for p in _of(points, "decode", False)])))),
        noise=_noise(cells, samples),
        curves=_curves(points, sizes, decode, prefill, model),
        points=tuple(points),
    )
    return profile if records is None else msgspec.structs.replace(profile, serving=serving_of(profile, records))


def _model(header: Mapping[str, str]) -> Model:
    return Model(
        name=header["model"],
        max_context=int(header["max_context"]),
        parameters=int(header["parameters"]),
        layers=int(header["layers"]),
        hidden=int(header["hidden"]),
        dtype=header["dtype"],
        kv_hidden=int(header["kv_hidden"]) if "kv_hidden" in header else None,
    )


def _provenance(header: Mapping[str, str], cells: Sequence[Cell], samples: Samples, source: str) -> Provenance:
    widths = np.array([half_width(samples[cell]) for cell in cells])
    repeats = [len(samples[cell].wall) for cell in cells]
    known = float(np.mean(widths <= PRECISION))
    fields = (
        "gpu",
        "driver",
        "cpu",
        "python",
        "torch",
        "transformers",
        "dtype",
        "attention",
        "weights",
        "command",
        "date",
    )
    return Provenance(
        **{key: header[key] for key in fields},
        repeats=f"{min(repeats)} to {max(repeats)} a cell, median {int(np.median(repeats))}, in randomised order",
        precision=(
            f"95 % half-width of the median: at most {PRECISION:.0%} in {known:.0%} of {len(cells)} cells, "
            f"median {np.median(widths):.2%}, worst {widths.max():.1%}"
        ),
        samples=source,
        simqueue=installed_version(),
        notes=("seconds are medians of wall clock per step, host included", header["notes"]),
    )


def _point(cell: Cell, repeats: Repeats) -> Point:
    wall = np.array(repeats.wall)
    seconds = float(np.median(wall))
    device = float(np.median(repeats.device)) if repeats.device else seconds
    return Point(
        **{field: getattr(cell, field) for field in Cell.__slots__},
        seconds=digits(seconds),
        mean_s=digits(float(wall.mean())),
        device_s=digits(device),
        cv=digits(float(wall.std() / wall.mean())),
        repeats=len(wall),
    )


def _of(points: Sequence[Point], kind: str, held_out: bool) -> list[Point]:
    return [p for p in points if p.kind == kind and p.held_out == held_out]


def _decode_table(points: Sequence[Point], sizes: Buckets | None) -> DecodeTable:
    grid = {(p.decode_rows, p.longest): p for p in _of(points, "decode", False)}
    rows, longest = (tuple(sorted({key[i] for key in grid})) for i in (0, 1))
    missing = len(rows) * len(longest) - len(grid)
    if missing:
        raise ProfileError(f"{missing} of {len(rows) * len(longest)} decode cells are missing: run calibrate again")
    return DecodeTable(
        rows=rows,
        longest=longest,
        rule="ceil" if sizes else "linear",
        seconds=tuple(tuple(grid[r, n].seconds for n in longest) for r in rows),
        cv=tuple(tuple(grid[r, n].cv for n in longest) for r in rows),
    )


def _prefill_table(points: Sequence[Point], sizes: Buckets | None, window: int) -> PrefillTable:
    widths = sizes.widths if sizes else tuple(sorted({p.width for p in _of(points, "prefill", False)}))
    grid: dict[tuple[int, int, int], Point] = {}
    for p in _of(points, "prefill", False) + _of(points, "chunk", False):
        grid[p.rows, next(w for w in widths if w >= p.width), int(p.context > 0)] = p
    rows = tuple(sorted({key[0] for key in grid}))
    kinds = (0, 1) if sizes else (0,)

    def table(name: str) -> tuple[tuple[tuple[float | None, ...], ...], ...]:
        return tuple(tuple(tuple(_get(grid.get((r, w, k)), name) for k in kinds) for w in widths) for r in rows)

    context = (0, window - 1) if sizes else (0,)
    rule = "ceil" if sizes else "linear"
    return PrefillTable(rows=rows, width=widths, context=context, rule=rule, seconds=table("seconds"), cv=table("cv"))  # type: ignore[arg-type]


def _get(point: Point | None, name: str) -> float | None:
    return None if point is None else float(getattr(point, name))


def _mixed(points: Sequence[Point], decode: DecodeTable, prefill: PrefillTable) -> float:
    beyond = [
        p.seconds - decode.at(p.decode_rows, p.longest) - prefill.at(p.rows, p.width, p.context)
        for p in _of(points, "mixed", False)
    ]
    return digits(float(np.median(beyond))) if beyond else 0.0


def _noise(cells: Sequence[Cell], samples: Samples) -> Noise:
    p = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    walls = {cell: np.array(samples[cell].wall) for cell in cells if len(samples[cell].wall) >= _ENOUGH_FOR_NOISE}
    skew = [wall.mean() / np.median(wall) for wall in walls.values()]
    return Noise(
        probabilities=tuple(float(x) for x in p.round(6)),
        decode=_quantiles(p, [wall for cell, wall in walls.items() if cell.kind == "decode"]),
        prefill=_quantiles(p, [wall for cell, wall in walls.items() if cell.kind in ("prefill", "chunk")]),
        mean_over_median=digits(float(np.mean(skew))) if skew else 1.0,
    )


def _quantiles(p: Array, walls: Sequence[Array]) -> tuple[float, ...]:
    """Quantiles of the pooled standardised residuals, made exactly mean 0 and variance 1; zeros without repeats."""
    pooled = [(wall - wall.mean()) / wall.std() for wall in walls if wall.std() > 0]
    if not pooled:
        return (0.0,) * len(p)
    z = np.quantile(np.concatenate(pooled), p)
    z = (z - z.mean()) / z.std()
    return tuple(digits(float(value)) for value in z)


def _curves(
    points: Sequence[Point], sizes: Buckets | None, decode: DecodeTable, prefill: PrefillTable, model: Model
) -> Curves:
    padding = {kind: _padding(kind, sizes) for kind in ("decode", "prefill", "chunk")}
    fitted = {
        kind: _curve(kind, points, pad, decode, prefill) for kind, pad in padding.items() if _of(points, kind, False)
    }
    reading = {
        kind: (read_decode if kind == "decode" else read_prefill)(curve, model) for kind, curve in fitted.items()
    }
    return Curves(**{kind: msgspec.structs.replace(curve, reading=reading[kind]) for kind, curve in fitted.items()})


def _padding(kind: str, sizes: Buckets | None) -> Padding:
    if sizes is None:
        return Padding()
    if kind == "decode":
        return Padding(rows=sizes.rows, length=tuple(s - 1 for s in sizes.slots))
    return Padding(rows=sizes.prefill_rows, length=sizes.widths, context=(sizes.slots[-1],) if kind == "chunk" else ())


def _curve(kind: str, points: Sequence[Point], padding: Padding, decode: DecodeTable, prefill: PrefillTable) -> Curve:
    """Fitted to the grid's cells less some that held-out cells are padded to; the table's errors beside it."""
    held = _of(points, kind, True)
    grid = _of(points, kind, False)
    seen = _left_out(grid, held, padding) if padding.rows else set()
    train = [p for p in grid if _bucket(p, padding) not in seen]
    curve = fit_curve("decode" if kind == "decode" else "prefill", train, held, padding)
    table = np.array([_table(kind, p, decode, prefill) / p.seconds - 1 for p in held])
    return msgspec.structs.replace(curve, errors={"table": errors_of(table), **curve.errors})


def _left_out(grid: Sequence[Point], held: Sequence[Point], padding: Padding) -> set[tuple[int, int]]:
    """Buckets of held-out cells, that the fit may not see: of each size of rows at most one, and none at an end."""
    lengths = {_bucket(p, padding)[1] for p in grid}
    inner = [_bucket(p, padding) for p in held]
    return set({rows: (rows, n) for rows, n in inner if min(lengths) < n < max(lengths)}.values())


def _bucket(point: Point, padding: Padding) -> tuple[int, int]:
    rows, length = max(point.rows, point.decode_rows), max(point.width, point.longest)
    return (
        next((r for r in padding.rows if r >= rows), rows),
        next((n for n in padding.length if n >= length), length),
    )


def _table(kind: str, point: Point, decode: DecodeTable, prefill: PrefillTable) -> float:
    if kind == "decode":
        return decode.at(point.decode_rows, point.longest)
    return prefill.at(point.rows, point.width, point.context)


def from_file(path: Path, name: str) -> Profile:
    """The profile of a file: raw samples of a calibration (its serving runs beside it), or somebody's own table of step
    times.

    Raises:
        ConfigError: a line cannot be used (line, column and value named).
    """
    if is_samples(path):
        header, samples = read(path)
        return build(header, samples, name, path.name, recorded(beside(path), header))
    return from_totals(path, name)
