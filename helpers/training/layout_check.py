"""Is one row a pair right for this model? What its config tells is asked first, then a pair is measured both ways."""

import torch
from datasets import Dataset

from helpers.data.collate import PreferenceCollator
from helpers.data.schema import SIDES
from helpers.data.tokenize import response_tokens
from helpers.objective.logprobs import evaluating, pair_logps

TOLERANCE = 0.02  # nats a token, and relative: bf16 rounds by about this; a model that mixes answers is far off


def shared_row_obstacle(model, tokenized: Dataset, max_length: int) -> str | None:
    """Why the "shared" layout would be wrong for this model on rows of up to `max_length` tokens; None if it is right.

    `tokenized` is the output of `tokenize_preferences`. Of its first pairs the one with the longest answers is measured
    in both layouts. That finds every model whose positions or memory do not follow the position ids and the mask that
    it is given: recurrent ones, position biases, masks of its own.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    window = getattr(base.config, "sliding_window", None)
    if window and getattr(base.config, "use_sliding_window", True) and window < max_length:
        return f"its attention looks back {window} tokens only, and rows may hold {max_length}"
    attention = base.config._attn_implementation
    if attention not in ("eager", "sdpa", "flex_attention"):
        return f"its attention ({attention}) takes no mask of our own"
    pair = max(tokenized.select(range(min(8, len(tokenized)))), key=answer_tokens)
    rows = measure(model, pair, "rows")  # what fails here is not the shared layout's fault
    try:
        shared = measure(model, pair, "shared")
    except (TypeError, ValueError, RuntimeError) as error:
        return f"{type(base).__name__} failed on it: {str(error).partition(chr(10))[0]}"
    if not torch.allclose(rows, shared, rtol=TOLERANCE, atol=TOLERANCE):
        return f"its log-probs change with the layout: {rows.tolist()} in two rows, {shared.tolist()} in one"
    return None


def answer_tokens(pair: dict) -> int:
    """Tokens of both answers."""
    return sum(response_tokens(pair, side) for side in SIDES)


def measure(model, pair: dict, layout: str) -> torch.Tensor:
    """Mean log-prob of the chosen and the rejected response of one pair, in one layout: (2,)."""
    batch = PreferenceCollator(0, layout)([pair])
    with evaluating(model):
        return torch.cat(pair_logps(model, {name: tensor.to(model.device) for name, tensor in batch.items()})).cpu()
