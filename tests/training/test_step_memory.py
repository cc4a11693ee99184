"""FLOPs against torch's own count, and what bf16 with eager attention keeps against autograd's own count."""

import pytest
import torch
from peft import get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from helpers.training.recipe import lora_config
from helpers.training.sizes import Sizes, sizes_of
from helpers.training.step_memory import (
    BFLOAT16,
    FLOAT32,
    TECHNIQUES,
    Split,
    activations,
    at_peak,
    forward_flops,
    step_memory,
    trained_flops,
)
from tests.techniques.test_techniques import saved_bytes

ROWS, LENGTH = 3, 48


def tiny(kind: str = "llama", attention: str = "eager", **changes):
    sizes = {"num_hidden_layers": 6, "hidden_size": 64, "intermediate_size": 160, "vocab_size": 256}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16} | changes
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes), attn_implementation=attention)


def ids() -> torch.Tensor:
    return torch.randint(0, 256, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))


def counted(model, trained: bool = True) -> int:
    """FLOPs as torch counts them while they happen."""
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(trained):
        loss = model(input_ids=ids(), labels=ids(), use_cache=False).loss
        if trained:
            loss.backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_flops_of_a_forward_and_of_a_trained_pass_are_what_torch_counts(kind):
    model = tiny(kind)
    work = (sizes_of(model.config), ROWS * LENGTH, LENGTH)
    assert forward_flops(*work) == pytest.approx(counted(model, trained=False), rel=0.02)
    assert trained_flops(*work) == pytest.approx(counted(model), rel=0.02)


@pytest.mark.parametrize("scored", [1, 16, LENGTH])
def test_flops_with_logits_for_a_part_of_the_positions_are_what_torch_counts(scored):
    model = tiny()
    work = (sizes_of(model.config), ROWS * LENGTH, LENGTH)
    with FlopCounterMode(display=False) as forward:
        logits = model(input_ids=ids(), use_cache=False, logits_to_keep=scored).logits
    with FlopCounterMode(display=False) as backward:
        logits.sum().backward()
    assert logits.shape[:2] == (ROWS, scored)
    assert forward_flops(*work, scored=ROWS * scored) == pytest.approx(forward.get_total_flops(), rel=0.02)
    both = forward.get_total_flops() + backward.get_total_flops()
    assert trained_flops(*work, scored=ROWS * scored) == pytest.approx(both, rel=0.02)


def test_flops_with_an_adapter_are_what_torch_counts():
    model = tiny()
    sizes = sizes_of(model.config)
    expected = trained_flops(sizes, ROWS * LENGTH, LENGTH, lora_rank=4)
    assert expected == pytest.approx(counted(get_peft_model(model, lora_config(4))), rel=0.02)
    assert expected < trained_flops(sizes, ROWS * LENGTH, LENGTH)


def test_flops_with_recomputation_are_what_torch_counts():
    model = tiny()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    expected = trained_flops(sizes_of(model.config), ROWS * LENGTH, LENGTH, recompute=True)
    assert expected == pytest.approx(counted(model.train()), rel=0.06)


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
@pytest.mark.parametrize("changes", [{}, {"hidden_size": 96}, {"intermediate_size": 320}, {"head_dim": 32}])
def test_bf16_with_eager_attention_keeps_what_the_planner_says(kind, changes):
    model = tiny(kind, **changes).bfloat16()
    mask = torch.ones(ROWS, LENGTH, dtype=torch.long)
    by_hand = activations(sizes_of(model.config), ROWS * LENGTH, LENGTH, BFLOAT16.kept)
    assert saved_bytes(model, ids(), mask) == pytest.approx(by_hand, rel=0.05)


def test_recomputation_keeps_the_inputs_and_one_layer():
    model = tiny().bfloat16().train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    sizes = sizes_of(model.config)
    inputs = activations(sizes, ROWS * LENGTH, LENGTH, BFLOAT16.kept, recompute=True)
    layer = activations(sizes, ROWS * LENGTH, LENGTH, BFLOAT16.kept) / sizes.layers
    kept = saved_bytes(model, ids(), torch.ones(ROWS, LENGTH, dtype=torch.long))
    assert kept < inputs < kept + 1.2 * layer


def test_parts_worked_by_hand():
    sizes = Sizes(layers=2, hidden=10, intermediate=20, heads=2, vocabulary=100, parameters=4000)
    parts = step_memory(sizes, TECHNIQUES["dpo"], 40, 10, BFLOAT16, Split(2, 4))
    # 1,000 of the embedding and 2 × 1,000 of the layers are split over 2 cores, the other 1,000 are on each
    assert parts["weights"] == parts["reference"] == 2 * 2500
    assert parts["gradients"] == 4 * 2500 and parts["optimizer"] == 12 * 2500 / 4
    assert parts["activations"] == 40 * (2 * (16 * 10 + 8 * 10 + 8 * 20 + 6 * 2 * 10) + 8 * 10) / 2
    assert parts["logits"] == 10 * 40 * 100 / 2
    assert at_peak(parts, BFLOAT16) == parts
    fewer = step_memory(sizes, TECHNIQUES["dpo"], 40, 10, BFLOAT16, Split(2, 4), scored=8)
    assert fewer == parts | {"logits": 10 * 8 * 100 / 2}


def test_where_gradients_do_not_stay_the_larger_moment_counts():
    parts = {"weights": 1, "gradients": 10, "activations": 6, "logits": 2}
    assert at_peak(parts, FLOAT32) == parts | {"activations": 0, "logits": 0}
    assert at_peak(parts | {"logits": 7}, FLOAT32, head=1) == parts | {"logits": 7, "gradients": 1}


def test_an_adapter_needs_no_copy_of_the_reference():
    sizes = sizes_of("Qwen3-0.6B")
    parts = step_memory(sizes, TECHNIQUES["dpo"], 512, 512, BFLOAT16, Split(lora_rank=16))
    assert parts["reference"] == 0
