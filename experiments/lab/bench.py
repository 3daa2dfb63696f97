"""What the lab runs on: a model on the device that is there, two executors around it, and who asks what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from calibration.check import INITIALIZER_RANGE
from simqueue.checks import at_least
from simqueue.live.device.graph import GraphExecutor
from simqueue.live.device.load import Loaded, load
from simqueue.live.device.make import around
from simqueue.live.device.naive import NaiveExecutor
from simqueue.workload import Geometric, Lognormal, Poisson, Users, Workload, WorkloadSpec, make_workload
from simqueue.workload.arrivals import Arrivals

PROMPTS = Lognormal(mean=60, cv=0.66, max=128)
OUTPUTS = Geometric(mean=40, max=128)
WINDOW = 256


@dataclass(frozen=True)
class Size:
    """What a device can do in two minutes.

    Attributes:
        model, dtype: unless another model is asked for.
        users: how many ask at once.
        most: the largest batch, and the most users of a curve.
        calibration_minutes: how long steps are measured.
    """

    model: str
    dtype: str
    users: int
    most: int
    calibration_minutes: float


SIZES = {"cpu": Size("tiny", "fp32", 16, 32, 0.5), "cuda": Size("gpt2", "bf16", 16, 256, 0.3)}


@dataclass(frozen=True)
class Bench:
    """A loaded model and two ways to run it.

    Attributes:
        naive: Hugging Face's `generate`, a call for a request or for a padded batch.
        graph: a static cache, a step at a time; on a GPU as CUDA graphs.
        users: how many ask at once.
        most: the largest batch.
    """

    loaded: Loaded
    naive: NaiveExecutor
    graph: GraphExecutor
    users: int
    most: int
    size: Size

    @property
    def about(self) -> str:
        """One line on what runs here; that weights are random is said."""
        return told(self.graph.describe())


def told(machine: Mapping[str, str]) -> str:
    """One line on what an executor describes."""
    where = machine["cpu"] if machine["gpu"] == "none" else machine["gpu"]
    return f"{machine['model']} ({machine['weights']} weights, {machine['dtype']}) on {where}"


def open_bench(device: str | None = None, model: str | None = None, users: int | None = None) -> Bench:
    """Load a model and put both executors around it: on a GPU GPT-2, else a tiny model of the same architecture.

    Random weights are spread wide, so that what is answered depends on what was asked.

    Raises:
        ConfigError: there is no such device or model, or a number of users that makes no sense.
        DeviceError: it does not fit the device.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    size = SIZES.get(device, SIZES["cpu"])
    users = size.users if users is None else users
    at_least("lab", "users", users, 2)
    most = max(users, size.most)
    loaded = load(model or size.model, size.dtype, device, INITIALIZER_RANGE)
    naive, graph = (around(loaded, kind, most, WINDOW) for kind in ("naive", "graph"))
    assert isinstance(naive, NaiveExecutor)
    assert isinstance(graph, GraphExecutor)
    return Bench(loaded, naive, graph, users, most, size)


def asked_by(users: int, requests: int, seed: int = 1) -> Workload:
    """A closed loop: everybody asks at once, and again as soon as the answer is there, until all has been asked."""
    return _workload(Users(users=users), requests, seed)


def coming_at(rate: float, requests: int, seed: int = 1) -> Workload:
    """An open loop: Poisson arrivals, whatever the server does."""
    return _workload(Poisson(rate=rate), requests, seed)


def _workload(arrivals: Arrivals | Users, requests: int, seed: int) -> Workload:
    spec = WorkloadSpec(requests=requests, arrivals=arrivals, prompt_tokens=PROMPTS, output_tokens=OUTPUTS)
    return make_workload(spec, seed, Path())
