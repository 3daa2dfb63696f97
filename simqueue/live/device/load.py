"""A causal language model on its device, and where it comes from."""

from __future__ import annotations

import copy
import inspect
import os
import socket
import threading
from dataclasses import dataclass
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

import torch
from huggingface_hub import constants as hub
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from simqueue.errors import ConfigError
from simqueue.live.log import log

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
TINY: dict[str, Any] = {
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 64,
    "vocab_size": 1024,
    "n_positions": 1024,
    "bos_token_id": None,
    "eos_token_id": None,
}
_SECONDS_TO_REACH_HUB = 5.0
_NOT_THERE = (OSError, ValueError)


@dataclass(frozen=True)
class Loaded:
    """A model on its device, where its weights come from, and from where it was asked for."""

    model: Any
    name: str
    weights: str
    source: str

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.device)

    @property
    def window(self) -> int:
        return int(self.model.config.max_position_embeddings)

    @property
    def cache_keyword(self) -> str:
        """What ``forward`` calls the cache: transformers renamed it in 5.2x."""
        return "cache" if "cache" in inspect.signature(self.model.forward).parameters else "past_key_values"

    def check_window(self, max_context: int) -> None:
        """Refuse rows of more tokens than the model has positions for."""
        if max_context > self.window:
            raise ConfigError(
                f"max context = {max_context}: model {self.source} has a window of {self.window} tokens: ask for no "
                "more (live.max_context in a scenario, --max-context otherwise)"
            )

    def copy(self) -> Any:
        """The model's modules again, on the same weights: what is changed in one copy does not show in another."""
        shared = {id(t): t for t in chain(self.model.parameters(), self.model.buffers())}
        return copy.deepcopy(self.model, shared)

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.model.parameters())


def load(name: str, dtype: str, device: str, initializer_range: float = 0.02) -> Loaded:
    """``gpt2`` (pretrained where it can be had), ``tiny``, or a folder with a causal language model.

    The attention backend of uncaptured passes is pinned: with cuDNN's, every new length of the cache costs a plan of
    about 40 ms.

    Raises:
        ConfigError: there is no such model, dtype or device here.
    """
    check_device(dtype, device)
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.manual_seed(0)
    if device == "cpu":
        torch.set_num_threads(1)
    model, weights = _weights(name, initializer_range)
    model = model.to(device=torch.device(device), dtype=DTYPES[dtype]).eval()
    model.config.pad_token_id = None  # else transformers looks for padding in every batch, on the host
    model.config.eos_token_id = model.generation_config.eos_token_id = None  # the request says how long an answer is
    return Loaded(model, name_of(name), weights, name)


def name_of(source: str) -> str:
    """What a model is called that is asked for so."""
    return "gpt2-tiny" if source == "tiny" else source.rstrip("/").rsplit("/", 1)[-1]


def check_device(dtype: str, device: str) -> None:
    """Refuse a dtype or a device that there is not here. Raises ConfigError."""
    if dtype not in DTYPES:
        raise ConfigError(f"dtype = {dtype!r} is not one of {', '.join(DTYPES)}")
    if device not in ("cuda", "cpu"):
        raise ConfigError(f"device = {device!r} is not one of cuda, cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device {device}: there is no GPU that torch can use; without one, a tiny model is quick (for a scenario "
            "--set live.device=cpu --set live.model=tiny --set live.dtype=fp32, otherwise --device cpu --model tiny)"
        )


def _weights(name: str, initializer_range: float) -> tuple[Any, str]:
    if name == "tiny":
        return GPT2LMHeadModel(GPT2Config(**TINY, initializer_range=initializer_range)), "random"
    if name != "gpt2":
        return _folder(name), f"pretrained ({name})"
    if not _hub_answers():
        hub.HF_HUB_OFFLINE = True  # what is on this disk is still found
    try:
        return AutoModelForCausalLM.from_pretrained("gpt2"), "pretrained (gpt2)"
    except _NOT_THERE as error:
        log(f"no pretrained weights: {_first_line(error)[:120]}")
    log("using random weights in the same architecture; the cost of a step does not depend on them")
    return GPT2LMHeadModel(GPT2Config(initializer_range=initializer_range)), "random"


def _folder(name: str) -> Any:
    """What is on this disk; the hub is not asked."""
    try:
        return AutoModelForCausalLM.from_pretrained(name, local_files_only=True)
    except _NOT_THERE as error:
        if os.path.isdir(name):
            why = f"the folder holds no causal language model that can be loaded ({_first_line(error)})"
        else:
            why = "there is no such folder"
        raise ConfigError(
            f"model = {name!r}: {why}: give gpt2, tiny, or a folder with a Hugging Face causal language model "
            "(live.model in a scenario, --model otherwise)"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _hub_answers() -> bool:
    """Whether the hub can be reached at all; without a network its client would retry for minutes."""
    reached = threading.Event()

    def reach() -> None:
        try:
            address = urlsplit(hub.ENDPOINT)
            socket.create_connection((address.hostname or "", address.port or 443), _SECONDS_TO_REACH_HUB).close()
            reached.set()
        except OSError:
            pass

    threading.Thread(target=reach, daemon=True).start()
    return reached.wait(_SECONDS_TO_REACH_HUB)
