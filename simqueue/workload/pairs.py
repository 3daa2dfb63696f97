"""Lengths of prompts with those of their answers, from a file: of every request one pair of it, each equally likely.

A conversation's prompt and answer belong together, which two distributions of lengths could not say.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Annotated, NamedTuple, Self

import msgspec
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from simqueue.errors import WorkloadError
from simqueue.workload.checks import MAX_TOKENS, require_within
from simqueue.workload.trace import explained, opened

FEWEST_TOKENS, MOST_PROMPT_TOKENS, MOST_TOKENS = 4, 1024, 2048
"""Conversations that count have at least so many tokens in the prompt and in the answer, at most so many in the prompt,
and at most so many in both. Source: ``is_valid_sequence`` of vLLM's benchmarks (vllm/benchmarks/datasets.py)."""

_TOKENIZER = "tokenizer.json"

Tokens = NDArray[np.int64]


class Pair(NamedTuple):
    """Prompt and output tokens, ``(pairs,)`` each, of at least 1."""

    prompt_tokens: Tokens
    output_tokens: Tokens


class _FromFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="kind"):
    """Pairs of a file, drawn with replacement. A scenario's relative path starts from its folder."""

    path: str

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "path", os.fspath(self.path))

    def found_from(self, folder: Path) -> Self:
        """The same, its relative path starting from ``folder``."""
        return msgspec.structs.replace(self, path=str(folder / self.path))

    def draw(self, requests: int, rng: Generator) -> Pair:
        """Independent pairs, ``(requests,)`` each.

        Raises:
            WorkloadError: the file cannot be used, or there is no such tokenizer.
        """
        prompts, outputs = _known(self, _version(Path(self.path)))
        rows = rng.integers(len(prompts), size=requests)
        return Pair(prompts[rows], outputs[rows])

    def read(self) -> Pair:
        """All pairs of the file."""
        raise NotImplementedError


class Pairs(_FromFile, frozen=True, tag="pairs"):
    """Token counts as they are: a ``.csv`` file with the columns ``prompt_tokens`` and ``output_tokens`` (such as a
    trace), or lines of JSON with these keys; plain or ``.gz``."""

    def read(self) -> Pair:
        """All pairs of the file."""
        path = Path(self.path)
        with explained(path), opened(path) as file:
            rows = list(_rows(path, file))
        if not rows:
            raise WorkloadError(f"{path}: there are no lengths in it; give at least one pair")
        return Pair(*(np.array([getattr(row, name) for row in rows], np.int64) for name in Pair._fields))


class Sharegpt(_FromFile, frozen=True, tag="sharegpt"):
    """Conversations in ShareGPT's JSON: the first turn is the prompt and the second one the answer, as in ``vllm bench
    serve --dataset-name sharegpt``, which leaves out those that are too short or too long (`FEWEST_TOKENS`).

    ``tokenizer`` counts their tokens: the name of a model of Hugging Face, or a folder with ``tokenizer.json``. Without
    one, ``characters_per_token`` estimates them. Give exactly one of the two.
    """

    tokenizer: str | None = None
    characters_per_token: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.tokenizer is None) == (self.characters_per_token is None):
            raise WorkloadError(
                f"sharegpt lengths: tokenizer = {self.tokenizer!r} and characters_per_token = "
                f"{self.characters_per_token!r}; give exactly one of them"
            )
        if self.characters_per_token is not None:
            remedy = "English text has about 4"
            require_within("sharegpt lengths", "characters_per_token", self.characters_per_token, 0.1, 100, remedy)

    def read(self) -> Pair:
        """The pairs of the conversations that are neither too short nor too long."""
        path = Path(self.path)
        talks = [each.conversations for each in _conversations(path) if len(each.conversations) > 1]
        prompts, outputs = (self._count([talk[turn].value for talk in talks]) for turn in (0, 1))
        fits = (np.minimum(prompts, outputs) >= FEWEST_TOKENS) & (prompts <= MOST_PROMPT_TOKENS)
        fits &= prompts + outputs <= MOST_TOKENS
        if not fits.any():
            raise WorkloadError(
                f"{path}: none of {len(talks)} conversations of two turns or more has prompt and answer of "
                f"{FEWEST_TOKENS} tokens or more, at most {MOST_PROMPT_TOKENS} in the prompt and {MOST_TOKENS} in both"
            )
        return Pair(prompts[fits], outputs[fits])

    def found_from(self, folder: Path) -> Self:
        """See `Pairs`; a folder of a tokenizer too, if there is one of this name."""
        found = super().found_from(folder)
        local = folder / (self.tokenizer or "")
        return msgspec.structs.replace(found, tokenizer=str(local)) if self.tokenizer and local.is_dir() else found

    @property
    def _count(self) -> _Count:
        if self.characters_per_token is not None:
            return _estimate(self.characters_per_token)
        assert self.tokenizer is not None  # exactly one of them is given
        return _tokenizer(self.tokenizer)


PairedLengths = Pairs | Sharegpt


@lru_cache(maxsize=4)
def _known(lengths: PairedLengths, version: object) -> Pair:
    """The pairs of a version of a file, read once: whoever compares systems draws from it again and again."""
    return lengths.read()


def _version(path: Path) -> object:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


_Length = Annotated[int, msgspec.Meta(ge=1, le=MAX_TOKENS)]


class _Row(msgspec.Struct):
    prompt_tokens: _Length
    output_tokens: _Length


def _rows(path: Path, file: IO[str]) -> Iterator[_Row]:
    lines = _json_lines(file) if file.read(1) == "{" else _csv_lines(file)
    number = 0
    try:
        file.seek(0)
        for number, row in lines:  # noqa: B007 (the refusal tells it)
            yield row()
    except msgspec.MsgspecError as error:
        raise WorkloadError(
            f"{path}, line {number}: {error}; give prompt_tokens and output_tokens from 1 to {MAX_TOKENS}, as columns "
            "of CSV or keys of JSON lines"
        ) from None


def _json_lines(file: IO[str]) -> Iterator[tuple[int, Callable[[], _Row]]]:
    decode = msgspec.json.Decoder(_Row).decode
    return ((number, partial(decode, text)) for number, text in enumerate(file, 1) if text.strip())


def _csv_lines(file: IO[str]) -> Iterator[tuple[int, Callable[[], _Row]]]:
    reader = csv.DictReader(file)
    return ((reader.line_num, partial(msgspec.convert, row, _Row, strict=False)) for row in reader)


class _Turn(msgspec.Struct):
    value: str


class _Conversation(msgspec.Struct):
    conversations: list[_Turn] = []


def _conversations(path: Path) -> list[_Conversation]:
    with explained(path), opened(path) as file:
        text = file.read()
    try:
        return msgspec.json.decode(text, type=list[_Conversation])
    except msgspec.MsgspecError as error:
        raise WorkloadError(
            f'{path}: {error}; ShareGPT\'s JSON is [{{"conversations": [{{"value": text}}, ...]}}, ...]'
        ) from None


_Count = Callable[[list[str]], Tokens]
"""How many tokens each text has."""


def _estimate(characters_per_token: float) -> _Count:
    return lambda texts: np.rint(np.array([len(text) for text in texts]) / characters_per_token).astype(np.int64)


def _tokenizer(name: str) -> _Count:
    try:
        from huggingface_hub import try_to_load_from_cache
        from tokenizers import Tokenizer
    except ModuleNotFoundError:
        raise WorkloadError(
            f"sharegpt lengths: tokenizer = {name!r} needs the package tokenizers; pip install tokenizers, or give "
            "characters_per_token"
        ) from None
    file = Path(name) / _TOKENIZER
    try:
        # Looked for first, so that it need not be asked for in the net, and does not change.
        known = str(file) if file.exists() else try_to_load_from_cache(name, _TOKENIZER)
        found = Tokenizer.from_file(known) if isinstance(known, str) else Tokenizer.from_pretrained(name)
    except Exception as error:  # those of Rust have no class of their own
        raise WorkloadError(
            f"sharegpt lengths: tokenizer = {name!r} cannot be had ({str(error).splitlines()[0]}); give the name of a "
            f"model of Hugging Face, or a folder with {_TOKENIZER}"
        ) from None
    found.no_truncation()
    found.no_padding()
    return lambda texts: np.array([len(each.ids) for each in found.encode_batch_fast(texts)], np.int64)
