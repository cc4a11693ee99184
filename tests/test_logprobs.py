"""Log-probs of both layouts against a loop over tokens in plain PyTorch."""

import random

import pytest
import torch

from helpers.logprobs import pair_logps, shared_attention_mask
from helpers.preferences import PreferenceCollator, tokenize_preferences
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


@pytest.mark.parametrize("seed", range(20))
def test_layouts_agree_in_loss_and_gradient_on_random_batches(model, tokenizer, seed):
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
        chosen, rejected = pair_logps(model, PreferenceCollator(0, layout, row_tokens=rng.choice([64, 256]))(data))
        (chosen.sum() - 0.3 * rejected.sum()).backward()
        values.append(torch.cat([chosen, rejected]).detach())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(values[0], values[1], rtol=1e-5, atol=1e-6)
    assert (gradients[0] - gradients[1]).norm() <= 1e-5 * gradients[0].norm()


def test_mask_of_two_pairs_worked_by_hand():
    segments = torch.tensor([[0, 0, 1, 2, 3, 4, 5, -1]])
    allowed = shared_attention_mask(segments, torch.float32)[0, 0] == 0
    assert [row.nonzero().flatten().tolist() for row in allowed] == [
        [0],  # prompt of pair 0
        [0, 1],
        [0, 1, 2],  # its chosen response sees the prompt
        [0, 1, 3],  # its rejected response sees the prompt, not the chosen one
        [4],  # pair 1 sees nothing of pair 0
        [4, 5],
        [4, 6],
        [7],  # padding sees itself
    ]


def test_padding_changes_nothing(model, tokenized):
    short, padded = (PreferenceCollator(0, "rows", max_length=length)(list(tokenized)) for length in (None, 128))
    assert padded["input_ids"].shape == (8, 128)
    with torch.no_grad():
        torch.testing.assert_close(pair_logps(model, short), pair_logps(model, padded), rtol=1e-5, atol=1e-5)
