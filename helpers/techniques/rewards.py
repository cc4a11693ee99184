"""What a reward model says of answers."""

import numpy as np
import torch

from helpers.objective.logprobs import evaluating
from helpers.runs.progress import Bar

BATCH = 16


def rewards_of(model, tokenizer, prompts: list[list[dict]], answers: list[str], desc: str = "rewards") -> np.ndarray:
    """The reward of each answer to its prompt, (n,): the chat template is applied as TRL's trainers do it."""
    chats = [
        [*prompt, {"role": "assistant", "content": answer}] for prompt, answer in zip(prompts, answers, strict=True)
    ]
    texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    rewards = []
    with evaluating(model):
        for start in Bar(range(0, len(texts), BATCH), desc=desc):
            batch = tokenizer(
                texts[start : start + BATCH],
                return_tensors="pt",
                padding=True,
                padding_side="right",
                add_special_tokens=False,
            )
            rewards.append(model(**batch.to(model.device)).logits[:, 0].float().cpu())
    return torch.cat(rewards).numpy()


def pair_rewards(model, tokenizer, dataset) -> tuple[np.ndarray, np.ndarray]:
    """Rewards of the chosen and of the rejected answers, (n,) each."""
    sides = ([messages[-1]["content"] for messages in dataset[side]] for side in ("chosen", "rejected"))
    return tuple(rewards_of(model, tokenizer, dataset["prompt"], texts) for texts in sides)
