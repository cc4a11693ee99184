"""The log-prob of every token of a pair's two answers: where do models differ?"""

import torch
from datasets import Dataset

from helpers.data.schema import SIDES
from helpers.data.tokenize import tokenize_preferences
from helpers.objective.logprobs import evaluating, token_logps


def answer_logps(model, tokenizer, pair: dict, max_length: int) -> dict[str, list[tuple[str, float]]]:
    """{"chosen": [(token as text, log p in nats), …], "rejected": […]} of a pair's answers, EOS included."""
    row, found = tokenize_preferences(Dataset.from_list([pair]), tokenizer, max_length)[0], {}
    for side in SIDES:
        ids, labels = (torch.tensor([row[f"{side}_{name}"]], device=model.device) for name in ("input_ids", "labels"))
        with evaluating(model):
            logps = token_logps(model(ids, use_cache=False).logits[:, :-1], labels[:, 1:])[0]
        told = zip(ids[0, 1:].tolist(), logps.tolist(), labels[0, 1:].tolist(), strict=True)
        found[side] = [(tokenizer.decode([token]), logp) for token, logp, label in told if label >= 0]
    return found
