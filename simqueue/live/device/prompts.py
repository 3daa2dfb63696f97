"""What an executor takes: prompts that fit, of tokens that there are; no torch."""

from __future__ import annotations

from simqueue.errors import DeviceError
from simqueue.live.executor import Executor, Tokens


def checked(executor: Executor, request: int, prompt: Tokens, rows: int) -> Tokens:
    """The prompt, if ``executor`` with so many rows taken can run it. Raises DeviceError."""
    if rows >= executor.max_rows:
        raise DeviceError(f"request {request}: {rows} requests are on the device already, and that is its max_rows")
    if not 0 < len(prompt) <= executor.window:
        raise DeviceError(
            f"request {request}: a prompt of {len(prompt)} tokens is not within 1 and the window of {executor.window}"
        )
    if prompt.min() < 0 or prompt.max() >= executor.vocabulary:
        raise DeviceError(
            f"request {request}: its token ids {prompt.min()} to {prompt.max()} are not within 0 and "
            f"{executor.vocabulary - 1}, the model's vocabulary"
        )
    return prompt
