"""What the model says, by plain passes over one prompt at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from simqueue.live.device.load import Loaded
from simqueue.live.executor import Tokens


def greedy(tokens: int) -> dict[str, Any]:
    """What `generate` is told, for so many tokens by argmax."""
    return {"max_new_tokens": tokens, "do_sample": False, "pad_token_id": 0}


@torch.inference_mode()
def generate(loaded: Loaded, prompt: Tokens, tokens: int) -> tuple[list[int], NDArray[np.float32]]:
    """What Hugging Face's `generate` gives for one prompt alone: token ids, and the logits ``[tokens, vocabulary]``
    that they are the argmax of."""
    ids = torch.tensor(prompt, device=loaded.device)[None]
    out = loaded.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        **greedy(tokens),
        return_dict_in_generate=True,
        output_logits=True,
    )
    logits: NDArray[np.float32] = torch.cat(out.logits).float().cpu().numpy()
    return out.sequences[0, len(prompt) :].tolist(), logits


@torch.inference_mode()
def regret(loaded: Loaded, prompt: Tokens, tokens: Sequence[int]) -> NDArray[np.float64]:
    """By a plain forward pass: how far each emitted token's logit is below the best, in the logits' deviations."""
    ids = torch.tensor([*prompt.tolist(), *tokens[:-1]], device=loaded.device)[None]
    logits = loaded.model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :].float()
    chosen = logits.gather(1, torch.tensor(tokens, device=loaded.device)[:, None])[:, 0]
    below: NDArray[np.float64] = ((logits.max(-1).values - chosen) / logits.std(-1)).double().cpu().numpy()
    return below
