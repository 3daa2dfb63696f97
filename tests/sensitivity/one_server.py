"""Small scenarios of queues that are known exactly, and a profile for them."""

from __future__ import annotations

from pathlib import Path

from profiles import flat_curve, profile

from simqueue.profile import Curves, Point, save_profile

SERVICE_S, ERROR = 0.01, 0.02
AFFINE = f'{{ kind = "affine", base_s = {SERVICE_S} }}'
FLAT = '{ kind = "profile", path = "flat.json" }'


def cell(kind: str, seconds: float, **changes: int) -> Point:
    """A held-out cell."""
    sizes = {"rows": 1, "width": 1, "context": 0, "decode_rows": 0, "longest": 0, **changes}
    times = dict.fromkeys(("seconds", "mean_s", "device_s"), seconds)
    return Point(kind=kind, cv=0.0, repeats=1, held_out=True, **sizes, **times)  # type: ignore[arg-type]


def written(folder: Path, load: float = 0.5, cost: str = AFFINE, requests: int = 1000, more: str = "") -> Path:
    """One server, Poisson arrivals, constant service: M/D/1. The profile is off by `ERROR` on its one held-out cell."""
    held = cell("total", SERVICE_S / (1 + ERROR))
    curves = Curves(totals=flat_curve(base_s=(SERVICE_S,)))
    save_profile(
        profile(None, None, name="flat", runner="samples", noise=None, curves=curves, points=(held,)),
        folder / "flat.json",
    )
    path = folder / "one.toml"
    path.write_text(f"""
[workload]
requests = {requests}
arrivals = {{ kind = "poisson", rate = {load / SERVICE_S} }}
prompt_tokens = {{ kind = "fixed", value = 1 }}
output_tokens = {{ kind = "fixed", value = 1 }}
[system]
policy = {{ kind = "none" }}
cost = {cost}
[run]
seed = 3
{more}
""")
    return path
