"""Log-probabilities of chosen and rejected responses, from one forward pass over a collated batch.

A batch comes from `helpers.preferences.PreferenceCollator` in one of two layouts:

- "rows", the textbook one: B chosen rows, then B rejected rows, each prompt + response, right-padded;
- "shared", the fast one: `prompt chosen rejected` laid end to end, so that the prompt is computed once. The
  rejected answer restarts its positions after the prompt and cannot see the chosen one, so every log-prob is
  the same as in "rows", and vocabulary logits are made for response tokens only.
"""

import torch
import torch.nn.functional as F

IGNORE = -100  # the label that the cross entropy of PyTorch leaves out


def token_logps(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """log p(label) at every position, float32; 0 where the label is −100. (rows, T, V), (rows, T) → (rows, T)."""
    losses = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORE, reduction="none")
    return -losses.view_as(labels)


def mean_logps(logps: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over the labelled tokens of each row: (rows, T), (rows, T) → (rows,)."""
    return logps.sum(-1) / (labels != IGNORE).sum(-1)


def pair_logps(model, batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean token log-prob of each chosen and each rejected response: two float32 tensors of shape (B,)."""
    if "segment_ids" in batch:
        return _shared_pair_logps(model, batch)
    logits, labels = next_token_logits(model, batch), batch["labels"][:, 1:]
    chosen, rejected = mean_logps(token_logps(logits, labels), labels).chunk(2)
    return chosen, rejected


def next_token_logits(model, batch) -> torch.Tensor:
    """Logits for tokens 1 … L−1 of every row of a "rows" batch: (2B, L−1, V). Position t predicts token t+1."""
    outputs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)
    return outputs.logits[:, :-1]


def _shared_pair_logps(model, batch) -> tuple[torch.Tensor, torch.Tensor]:
    logps = torch.cat([_scored_logps(model, batch, row) for row in range(len(batch["input_ids"]))])
    responses = 2 * len(batch["row"])
    sums = torch.zeros(responses, device=logps.device).index_add(0, batch["score_of"], logps)
    chosen, rejected = (sums / torch.bincount(batch["score_of"], minlength=responses)).chunk(2)
    return chosen, rejected


def _scored_logps(model, batch, row: int) -> torch.Tensor:
    """Log-probs (float32) of the response tokens of one packed row, with logits at their positions only."""
    scored = batch["score_row"] == row
    length = int((batch["segment_ids"][row] >= 0).sum())  # each row runs alone, so none needs its padding
    logits = model(
        input_ids=batch["input_ids"][row : row + 1, :length],
        position_ids=batch["position_ids"][row : row + 1, :length],
        attention_mask=shared_attention_mask(batch["segment_ids"][row : row + 1, :length], model.dtype),
        use_cache=False,
        logits_to_keep=batch["score_column"][scored],
    ).logits
    return token_logps(logits, batch["score_token"][scored][None])[0]


def shared_attention_mask(segments: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Additive attention mask (R, 1, W, W) of the "shared" layout: 0 where position i may look at position j.

    It may look back at its own segment and, from a response, at the prompt of its pair: segments 3i, 3i+1 and
    3i+2 are one pair. Padding looks at padding: a row of the softmax with nothing to look at would be NaN.
    """
    query, key = segments[:, :, None], segments[:, None, :]
    own_prompt = (key >= 0) & (key == query - query % 3)
    allowed = torch.tril((key == query) | own_prompt)
    mask = torch.zeros(allowed.shape, dtype=dtype, device=segments.device)
    return mask.masked_fill(~allowed, torch.finfo(dtype).min)[:, None]
