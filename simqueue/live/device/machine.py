"""What runs here: processor, GPU, driver, versions."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import torch
import transformers

from simqueue.live.device.load import Loaded


def describe(loaded: Loaded, runner: str) -> dict[str, str]:
    """What runs, and on what, for the provenance of a profile or a result."""
    return {**before_loading(runner, loaded.name, loaded.model.dtype, loaded.device), "weights": loaded.weights}


def before_loading(runner: str, model: str, dtype: torch.dtype, device: torch.device) -> dict[str, str]:
    """All of `describe` but where the weights come from."""
    cuda = device.type == "cuda"
    pinned = "cuDNN, planned once per captured launch" if runner == "graph" else "flash or memory-efficient; cuDNN off"
    return {
        "runner": runner,
        "model": model,
        "dtype": str(dtype).removeprefix("torch."),
        "gpu": torch.cuda.get_device_name(device) if cuda else "none",
        "driver": driver() if cuda else "none",
        "cpu": cpu(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        "attention": f"sdpa ({pinned})" if cuda else "sdpa (CPU)",
    }


def notes(device: torch.device) -> str:
    """How the device was used, as far as it moves the numbers."""
    if device.type == "cuda":
        return f"float32 matrix products: {torch.get_float32_matmul_precision()} precision (highest: no TF32)"
    return f"{torch.get_num_threads()} CPU thread"


def driver() -> str:
    """The NVIDIA driver's version, or unknown."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return "unknown"


def cpu() -> str:
    """The processor's name and how many cores there are."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {len(names)} cores"
