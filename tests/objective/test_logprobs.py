"""Log-probs of both layouts against a loop over tokens in plain PyTorch."""

import random

import pytest
import torch

from helpers.data.collate import PreferenceCollator
from helpers.data.tokenize import tokenize_preferences
from helpers.objective.logprobs import pair_logps
from helpers.objective.odds_ratio import orpo_loss
from helpers.objective.shared_row import CHOSEN, PROMPT, REJECTED, is_part, response_index, shared_attention_mask
from tests.conftest import make_pairs


def by_hand(model, ids: list[int], start: int) -> float:
    """Mean log-prob of ids[start:], one row without padding, one token at a time."""
    logits = model(torch.tensor([ids])).logits[0].double()
    return sum(logits[t - 1].log_softmax(-1)[ids[t]].item() for t in range(start, len(ids))) / (len(ids) - start)


@pytest.mark.parametrize("layout", ["rows", "shared"])
@pytest.mark.parametrize("row_tokens", [1, 100, 4096])
def test_log_probs_agree_with_a_loop_over_tokens(model, tokenized, layout, row_tokens):
    batch = PreferenceCollator(0, layout, row_tokens=row_tokens)(list(tokenized))
    with torch.no_grad():
        chosen, rejected = pair_logps(model, batch)
        for i, row in enumerate(tokenized):
            for values, side in ((chosen, "chosen"), (rejected, "rejected")):
                expected = by_hand(model, row[f"{side}_input_ids"], row["prompt_length"])
                assert values[i].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("seed", range(200))
def test_layouts_agree_in_loss_and_gradient_on_random_batches(model, tokenizer, seed):
    """The textbook layout with all logits against the trainer's default, without."""
    rng = random.Random(seed)

    def text(words):
        return " ".join(
            rng.choice(["list", "the", "7", "topic", "Aurora", "éclair", "\n", "```"]) for _ in range(words)
        )

    answers = {
        text(rng.randint(1, 60)) + str(i): (text(rng.randint(1, 40)) + "a", text(rng.randint(1, 40)) + "b")
        for i in range(rng.randint(1, 5))
    }
    data = list(tokenize_preferences(make_pairs(answers), tokenizer, max_length=rng.choice([24, 48, 96])))
    gradients, values = [], []
    for layout in ("rows", "shared"):
        model.zero_grad()
        batch = PreferenceCollator(0, layout, row_tokens=rng.choice([64, 256]))(data)
        chosen, rejected = pair_logps(model, batch, chunked=layout == "shared")
        loss = orpo_loss(-chosen, chosen, rejected, beta=1.0)
        loss.backward()
        values.append(torch.cat([chosen, rejected, loss[None]]).detach())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(values[0], values[1], rtol=1e-5, atol=1e-6)
    assert (gradients[0] - gradients[1]).norm() <= 1e-5 * gradients[0].norm()


def test_mask_of_two_pairs_worked_by_hand():
    segments = torch.tensor([[0, 0, 1, 1, 2, 3, 4, 5, 6, -1]])
    allowed = shared_attention_mask(segments, torch.float32)[0, 0] == 0
    assert [row.nonzero().flatten().tolist() for row in allowed] == [
        [0],  # the beginning that all prompts share
        [0, 1],
        [0, 1, 2],  # prompt of pair 0
        [0, 1, 2, 3],
        [0, 1, 2, 3, 4],  # its chosen response sees beginning and prompt
        [0, 1, 2, 3, 5],  # its rejected response too, and not the chosen one
        [0, 1, 6],  # prompt of pair 1 sees the beginning, nothing of pair 0
        [0, 1, 6, 7],
        [0, 1, 6, 8],
        [9],  # padding sees itself
    ]


def test_segments_are_told_apart_again():
    segments = torch.tensor([0, 1, 2, 3, 4, 5, 6, -1, -100])
    parts = {part: is_part(segments, part).nonzero().flatten().tolist() for part in (PROMPT, CHOSEN, REJECTED)}
    assert parts == {PROMPT: [1, 4], CHOSEN: [2, 5], REJECTED: [3, 6]}
    assert response_index(torch.tensor([2, 3, 5, 6]), pairs=2).tolist() == [0, 2, 1, 3]


def test_what_all_prompts_begin_with_is_laid_out_once(tokenizer):
    row = {"chosen_input_ids": [7, 8, 9, 1, 2], "rejected_input_ids": [7, 8, 9, 3, 2], "prompt_length": 3, "row": 0}
    other = {
        "chosen_input_ids": [7, 8, 5, 6, 2],
        "rejected_input_ids": [7, 8, 5, 6, 4, 2],
        "prompt_length": 4,
        "row": 1,
    }
    batch = PreferenceCollator(0, "shared")([row, other])
    assert batch["input_ids"].tolist() == [[7, 8, 9, 1, 2, 9, 3, 2, 5, 6, 2, 6, 4, 2]]
    assert batch["segment_ids"].tolist() == [[0, 0, 2, 2, 2, 3, 3, 3, 4, 5, 5, 6, 6, 6]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 2, 3, 4, 2, 3, 4, 3, 4, 5]]
    no = -100
    assert batch["labels"].tolist() == [[no, no, no, 1, 2, no, 3, 2, no, no, 2, no, 4, 2]]
    fixed = PreferenceCollator(0, "shared", max_length=12)([row, other])
    assert fixed["input_ids"].tolist() == [[7, 8, 9, 1, 2, 9, 3, 2, 0, 0, 0, 0], [7, 8, 5, 6, 2, 6, 4, 2, 0, 0, 0, 0]]
    assert fixed["segment_ids"][1].tolist() == [0, 0, 4, 5, 5, 6, 6, 6, -1, -1, -1, -1]
    with pytest.raises(ValueError, match="a row has 8 tokens and the batch 6"):
        PreferenceCollator(0, "shared", max_length=6)([row, other])


def test_padding_changes_nothing(model, tokenized):
    short, padded = (PreferenceCollator(0, "rows", max_length=length)(list(tokenized)) for length in (None, 128))
    assert padded["input_ids"].shape == (8, 128)
    with torch.no_grad():
        torch.testing.assert_close(pair_logps(model, short), pair_logps(model, padded), rtol=1e-5, atol=1e-5)
