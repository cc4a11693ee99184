"""Every model class of scripts/tiny_models.py: ORPO's loss and all its gradients against each answer alone, in float64.

The reference knows nothing of layouts, masks and padding: one prompt and answer at a time goes through a copy of the
model, in evaluation mode, and the loss is the paper's. The model has a dropout of 0.1, which the trainer switches off.
"""

import copy

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig

from helpers.data.schema import SIDES
from helpers.data.tokenize import tokenize_preferences
from helpers.files import REPOSITORY
from helpers.training.orpo import ORPOTrainer
from scripts import models
from scripts.tiny_models import EXPERTS, FLOAT32, LONGEST, MODELS, PAIRS, available, drawn_pairs, tiny_model
from tests.conftest import make_pairs, trl_orpo
from tests.training.test_layout_check import config

BETA = 0.7
REFUSED = {"RecurrentGemma": "keeps the state of one batch for the next"}
TRAINED = [name for name in available() if name not in REFUSED]
FEW = ("Llama", "GPT-2", "Gemma 3", "Mixtral", "LFM2")
WITH_PROMPTS = (*FEW, "Qwen3", "Phi", "GPT-NeoX", "OPT", "Falcon, rotary", "BLOOM", "Cohere", "Mamba")


def reference(model, pairs) -> tuple[float, dict[str, torch.Tensor]]:
    """The mean ORPO loss of the pairs, and the gradient of every weight that has one."""
    model = copy.deepcopy(model).eval()
    losses = []
    for pair in pairs:
        mean = {}
        for side in ("chosen", "rejected"):
            ids = torch.tensor([pair[f"{side}_input_ids"]])
            logps = model(input_ids=ids, use_cache=False).logits[0].double().log_softmax(-1)
            asked = pair["prompt_length"]
            mean[side] = torch.stack([logps[at - 1, ids[0, at]] for at in range(asked, ids.shape[1])]).mean()
        odds = {side: value.exp() / (1 - value.exp()) for side, value in mean.items()}
        ratio = odds["chosen"] / odds["rejected"]
        losses.append(-mean["chosen"] - BETA * torch.log(torch.sigmoid(torch.log(ratio))))
    loss = torch.stack(losses).mean()
    loss.backward()
    return loss.item(), gradients(model)


def exact(name: str, model):
    """The model in float64, where its class computes in it."""
    return model.float() if name in FLOAT32 else model.double()


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: p.grad.double() for name, p in model.named_parameters() if p.grad is not None}


def trainer_of(model, folder, tokenizer, pairs=PAIRS, **changes) -> ORPOTrainer:
    peft = changes.pop("peft_config", None)
    args = config(folder, beta=BETA, **{"max_length": LONGEST} | changes)
    return ORPOTrainer(model, args, pairs, processing_class=tokenizer, peft_config=peft)


def step(trainer, pairs=PAIRS) -> tuple[float, dict[str, torch.Tensor]]:
    """The trainer's own loss of the pairs, and the gradients."""
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model.train(), trainer.data_collator(list(pairs)))
    loss.backward()
    return loss.item(), gradients(trainer.model)


def assert_alike(found, expected, tolerance: float) -> None:
    """The loss, and every gradient; those that are zero but for rounding are held to the size of all."""
    (loss, gradient), (right_loss, right) = found, expected
    assert loss == pytest.approx(right_loss, rel=tolerance)
    assert set(gradient) == set(right)
    total = torch.stack([part.norm() for part in right.values()]).norm()
    for name, part in right.items():
        assert (gradient[name] - part).norm() <= tolerance * (part.norm() + 0.1 * total), name


def test_the_page_is_what_the_code_says():
    page = (REPOSITORY / "docs" / "models.md").read_text(encoding="utf-8")
    assert models.table() in page, "run make figures, or python -m scripts.models in this environment"
    assert len({MODELS[name][0] for name in available()}) >= 45


@pytest.mark.parametrize("name", TRAINED)
def test_loss_and_gradients_are_those_of_each_answer_alone(name, tmp_path, tokenizer):
    """In the layout that the trainer picks: all pairs in one row and few, and with all logits and a block at a time.

    Where that is the shared row, in two rows a pair as well.
    """
    model = exact(name, tiny_model(name))
    expected = reference(model, PAIRS)
    trainer = trainer_of(model, tmp_path, tokenizer)
    layout, chunked, collate = trainer.args.layout, trainer.chunked, trainer.data_collator
    ways = [(layout, chunked, 512), (layout, False, 40)] + [("rows", chunked, 0)] * (layout == "shared")
    for collate.layout, trainer.chunked, collate.row_tokens in ways:
        assert_alike(step(trainer), expected, tolerance=1e-5 if name in FLOAT32 else 2e-6)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory, tokenizer):
    """TRL's trainer. Its loss takes any model, so one is enough."""
    config, trainer = trl_orpo()
    settings = {"beta": BETA, "max_length": LONGEST, "padding_value": 0}
    settings |= dict.fromkeys({"max_prompt_length"} & config.__dataclass_fields__.keys(), LONGEST)  # TRL 1 has none
    settings |= {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": []}
    args = config(output_dir=str(tmp_path_factory.mktemp("trl")), **settings)
    text = Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}])
    return trainer(tiny_model("Llama"), args, train_dataset=text, processing_class=tokenizer)


@pytest.mark.parametrize(
    ("name", "nll_on_prompt"), [(name, False) for name in TRAINED] + [(name, True) for name in WITH_PROMPTS]
)
def test_loss_and_gradients_are_trls(name, nll_on_prompt, theirs, tmp_path, tokenizer):
    """TRL lays a pair out in two padded rows, and its NLL is a mean over all tokens of a batch, of prompts as well.

    So its own loss is taken one pair at a time; without prompts, its mean log-probs and odds ratio of all pairs.
    """
    model = exact(name, tiny_model(name)).eval()  # TRL leaves on what dropout attention reads from the config
    rows = [pair | {f"{side}_attention_mask": [1] * len(pair[f"{side}_input_ids"]) for side in SIDES} for pair in PAIRS]
    if nll_on_prompt:
        alone = [theirs.get_batch_loss_metrics(model, theirs.data_collator([row]))[0] for row in rows]
        loss = torch.stack(alone).mean()
    else:
        chosen, rejected, *_ = theirs.concatenated_forward(model, theirs.data_collator(rows))
        loss = -chosen.mean() - theirs.odds_ratio_loss(chosen, rejected)[0].mean()
    loss.backward()
    expected = loss.item(), gradients(model)
    trainer = trainer_of(model, tmp_path, tokenizer, nll_on_prompt=nll_on_prompt)
    assert_alike(step(trainer), expected, tolerance=1e-5 if name in FLOAT32 else 2e-6)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why(name, tmp_path, tokenizer):
    with pytest.raises(ValueError, match=REFUSED[name]):
        trainer_of(tiny_model(name), tmp_path, tokenizer)


def test_zamba2_is_refused_beyond_the_chunk_in_which_transformers_4_is_right(tmp_path, tokenizer):
    model, pairs = tiny_model("Zamba2", chunk_size=16), drawn_pairs((9, 7, 2), (9, 8, 2))
    if models.transformers.__version__.startswith("4."):
        with pytest.raises(
            ValueError, match="train_dataset, row 1: 17 tokens, and in transformers 4 Zamba2 sees later"
        ):
            trainer_of(model, tmp_path, tokenizer, pairs)
        pairs = pairs.select([0])
    expected = reference(model.double(), pairs)
    assert_alike(step(trainer_of(model, tmp_path, tokenizer, pairs), pairs), expected, tolerance=2e-6)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", FEW)
def test_adapters_checkpointing_and_attention_change_nothing(name, attention, lora, checkpointing, tmp_path, tokenizer):
    model = tiny_model(name)
    model.set_attn_implementation(attention)
    adapter = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM") if lora else None
    trainer = trainer_of(model, tmp_path, tokenizer, gradient_checkpointing=checkpointing, peft_config=adapter)
    trainer.model.double()
    draw = torch.Generator().manual_seed(0)
    for weight in [p for p in trainer.model.parameters() if p.requires_grad] if lora else []:
        weight.data.copy_(0.2 * torch.randn(weight.shape, generator=draw))  # one of a new adapter's matrices is zero
    expected = reference(trainer.model, PAIRS)
    if checkpointing:
        trainer.model.gradient_checkpointing_enable({"use_reentrant": False})
    assert trainer.args.layout == ("rows" if name == "LFM2" else "shared")
    assert_alike(step(trainer), expected, tolerance=2e-6)


@pytest.mark.parametrize("name", FEW)
def test_bf16_autocast_rounds_and_no_more(name, tmp_path, tokenizer):
    """The gradients of all weights together: a wrong mask changes them by 15% and more.

    Every token goes to all experts. A choice of two may turn where they nearly tie, in rows of their own as well, and
    what one such token changes is not rounding.
    """
    model = tiny_model(name, num_experts_per_tok=EXPERTS["num_experts"])
    right_loss, right = reference(copy.deepcopy(model).double(), PAIRS)
    trainer = trainer_of(model, tmp_path, tokenizer, bf16=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, gradient = step(trainer)
    assert loss == pytest.approx(right_loss, rel=0.01)
    error = torch.stack([(gradient[name] - part).norm() for name, part in right.items()]).norm()
    total = torch.stack([part.norm() for part in right.values()]).norm()
    assert 1e-4 * total < error < 0.05 * total


@pytest.mark.parametrize("name", FEW)
def test_truncated_pairs_of_text(name, tmp_path, tokenizer):
    pairs = tokenize_preferences(make_pairs(), tokenizer, max_length=18)
    assert max(pairs["prompt_cut"]) > 0 and max(pairs["chosen_cut"]) > 0 and max(pairs["rejected_cut"]) > 0
    model = tiny_model(name, vocab_size=len(tokenizer)).double()
    expected = reference(model, pairs)
    assert_alike(step(trainer_of(model, tmp_path, tokenizer, pairs), pairs), expected, tolerance=2e-6)
