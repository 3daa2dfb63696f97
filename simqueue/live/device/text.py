"""Text in, text out: the model's own tokenizer where it can be had, else one that knows bytes only."""

from __future__ import annotations

from typing import Any

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer

from simqueue.live.device.load import Loaded
from simqueue.live.log import log

_END = "<|endoftext|>"


def tokenizer(loaded: Loaded) -> Any:
    """A tokenizer whose ids the model knows."""
    if loaded.weights == "random":
        return byte_level()
    try:
        found = AutoTokenizer.from_pretrained(loaded.source, padding_side="left")
    except (OSError, ValueError) as error:
        log(f"no tokenizer for {loaded.source}, bytes in its place: {str(error)[:120]}")
        return byte_level()
    found.pad_token = found.pad_token or found.eos_token
    return found


def byte_level() -> Any:
    """A token for each of the 256 bytes, and one for the end: any text there and back, in any vocabulary above 256."""
    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bytes_only = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_only.decoder = decoders.ByteLevel()
    fast: Any = transformers.PreTrainedTokenizerFast
    return fast(tokenizer_object=bytes_only, eos_token=_END, pad_token=_END, padding_side="left")


def pipeline(loaded: Loaded) -> Any:
    """Hugging Face's text-generation pipeline of this model."""
    return transformers.pipeline("text-generation", model=loaded.model, tokenizer=tokenizer(loaded))
