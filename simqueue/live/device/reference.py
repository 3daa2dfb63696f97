"""What the model says, by plain passes over one prompt at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from simqueue.live.device.load import Loaded
from simqueue.live.executor import Tokens


@torch.inference_mode()
def regret(loaded: Loaded, prompt: Tokens, tokens: Sequence[int]) -> NDArray[np.float64]:
    """By a plain forward pass: how far each emitted token's logit is below the best, in the logits' deviations."""
    loaded.model.set_attn_implementation("sdpa")
    ids = torch.tensor([*prompt.tolist(), *tokens[:-1]], device=loaded.device)[None]
    logits = loaded.model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 :].float()
    chosen = logits.gather(1, torch.tensor(tokens, device=loaded.device)[:, None])[:, 0]
    below: NDArray[np.float64] = ((logits.max(-1).values - chosen) / logits.std(-1)).double().cpu().numpy()
    return below
