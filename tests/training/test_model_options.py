"""Every model class with what people train it with: truncated pairs, eager attention, LoRA, checkpointing, bf16."""

import copy
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig

from helpers.data.schema import SIDES
from helpers.data.tokenize import fit_pair
from helpers.training.autocast import adapters_cast_once
from scripts.tiny_models import (
    EXPERTS,
    IGNORES_CHECKPOINTING,
    LORA_ON,
    MODELS,
    NO_BF16,
    TOKENS,
    available,
    drawn_pairs,
    tiny_model,
)
from tests.training.test_models import TRAINED, assert_alike, exact, reference, step, trainer_of

LENGTH = 16
# Rounding alone would move their gradients by more than a fifth: attention without its usual scale, weights that are
# too large, a choice of experts that turns
STEADY = {
    "GPT-Neo": {"initializer_range": 0.05},
    "Granite": {"attention_multiplier": 0.25},
    "GraniteMoe": {"attention_multiplier": 0.25},
    "Jamba": {"initializer_range": 0.05},
    "Zamba": {"initializer_range": 0.1},
    "Zamba2": {"initializer_range": 0.1},
    "Qwen3-Next": {"initializer_range": 0.05},
    "DBRX": {"ffn_config": MODELS["DBRX"][1]["ffn_config"] | {"moe_top_k": 4}},
    "Phi-3.5-MoE": {"num_local_experts": 2},
}


def truncated(*lengths: tuple[int, int, int]) -> Dataset:
    """Drawn pairs with so many tokens of prompt, chosen and rejected, cut to LENGTH as `tokenize_preferences` cuts."""
    ends, rows = SimpleNamespace(**TOKENS), []
    for pair in drawn_pairs(*lengths, seed=1):
        asked = pair["prompt_length"]
        ids = {"prompt": pair["chosen_input_ids"][:asked]}
        ids |= {side: pair[f"{side}_input_ids"][asked:] for side in SIDES}
        rows.append(fit_pair(ids, ends, LENGTH) | {"row": pair["row"]})
    return Dataset.from_list(rows)


CUT = truncated((30, 4, 3), (5, 30, 6), (25, 40, 20))


def test_the_pairs_lost_their_prompt_an_answer_and_both():
    cuts = [[pair[f"{part}_cut"] for part in ("prompt", *SIDES)] for pair in CUT]
    assert cuts == [[18, 0, 0], [0, 19, 0], [17, 32, 12]]


@pytest.mark.parametrize("name", TRAINED)
def test_truncated_pairs_in_float32_with_eager_attention(name, tmp_path, tokenizer):
    """All in one shared row where the class gets it, and in two rows a pair."""
    model = tiny_model(name).float()
    model.set_attn_implementation("eager")
    expected = reference(exact(name, copy.deepcopy(model)), CUT)
    trainer = trainer_of(model, tmp_path, tokenizer, CUT, max_length=LENGTH)
    collate, layout = trainer.data_collator, trainer.args.layout
    assert layout == "rows" or len(collate(list(CUT))["input_ids"]) == 1
    for collate.layout in dict.fromkeys([layout, "rows"]):
        assert_alike(step(trainer, CUT), expected, tolerance=1e-4)


@pytest.mark.parametrize("name", TRAINED)
def test_lora_checkpointing_and_bf16_together_round_no_more_than_each_answer_alone(name, tmp_path, tokenizer):
    """Beside the model in float64, and what the same autocast makes of each answer alone without checkpointing.

    Every token goes to all experts, whose choice rounding may turn.
    """
    model = tiny_model(name, **{"num_experts_per_tok": EXPERTS["num_experts"]} | STEADY.get(name, {}))
    checkpointing, bf16 = model.supports_gradient_checkpointing, name not in NO_BF16
    trainer = trainer_of(
        model,
        tmp_path,
        tokenizer,
        CUT,
        max_length=LENGTH,
        bf16=bf16,
        gradient_checkpointing=checkpointing,
        peft_config=adapter(name),
    )
    draw = torch.Generator().manual_seed(0)
    for weight in (p for p in trainer.model.parameters() if p.requires_grad):
        weight.data.copy_(0.1 * torch.randn(weight.shape, generator=draw))  # one of a new adapter's matrices is zero
    right_loss, right = reference(exact(name, copy.deepcopy(trainer.model)), CUT)
    passes = forward_passes(trainer.model)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        plain_loss, plain = reference(trainer.model, CUT)
        once = {part: count / len(CUT) / len(SIDES) for part, count in passes.items()}
        passes.clear()
        if checkpointing:
            trainer.model.gradient_checkpointing_enable({"use_reentrant": False})
        with adapters_cast_once(trainer):
            loss, gradient = step(trainer, CUT)
    times = 2 if checkpointing and name not in IGNORES_CHECKPOINTING else 1
    assert passes == {part: times * count for part, count in once.items()}
    assert loss == pytest.approx(right_loss, rel=0.01) and plain_loss == pytest.approx(right_loss, rel=0.01)
    assert set(gradient) == set(right) and all("lora_" in weight for weight in right)
    rounded = furthest(plain, right)
    assert rounded < 0.2 and furthest(gradient, right) < 1.25 * rounded + (0.02 if bf16 else 1e-5)
    assert not bf16 or furthest(gradient, right) > 1e-3


def adapter(name: str, **changes) -> LoraConfig:
    layers = {"target_modules": LORA_ON.get(name, "all-linear")} | changes
    return LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", **layers)


def forward_passes(model) -> Counter:
    """Will count how often each part of the adapter computes."""
    passes = Counter()
    for name, module in model.named_modules():
        if name.endswith("lora_A.default"):
            module.register_forward_hook(lambda *_, name=name: passes.update([name]))
    return passes


def furthest(found: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    """The largest error of a gradient in its own size, as `assert_alike` takes it."""
    total = torch.stack([part.norm() for part in right.values()]).norm()
    return max(((found[name] - part).norm() / (part.norm() + 0.1 * total)).item() for name, part in right.items())


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("GPT", {"gradient_checkpointing": True}, "OpenAIGPTLMHeadModel can't recompute its activations: leave it out"),
        (
            "CTRL",
            {"gradient_checkpointing": True, "peft_config": adapter("CTRL")},
            "gradient_checkpointing: CTRLLMHeadModel can't recompute its activations",
        ),
        (
            "Llama 4",
            {"peft_config": adapter("Llama 4", target_modules="all-linear")},
            "peft_config: Llama4ForCausalLM fails so .'tuple' object has no attribute 'dtype'.: give other target_mod",
        ),
        ("Mamba", {"peft_config": adapter("Mamba", target_modules="all-linear")}, "peft_config: .*out_proj"),
        *[("DBRX", {"bf16": True}, "bf16: DbrxForCausalLM fails so .*leave bf16 out") for _ in NO_BF16],
    ],
)
def test_options_that_a_class_does_not_have_are_refused_in_one_line(name, arguments, message, tmp_path, tokenizer):
    with pytest.raises(ValueError, match=message) as error:
        trainer_of(tiny_model(name), tmp_path, tokenizer, **arguments)
    assert "\n" not in str(error.value)


def test_what_is_said_of_a_class_is_of_one_that_is_there():
    assert {*LORA_ON, *NO_BF16, *IGNORES_CHECKPOINTING, *STEADY} - {"Nemotron-H"} <= set(available())
