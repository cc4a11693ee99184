"""Sizes and parameters from a configuration alone, against the models that transformers makes on the meta device."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from helpers.training.sizes import CONFIGS, Sizes, sizes_of

SMALL = {"num_hidden_layers": 3, "hidden_size": 64, "intermediate_size": 160, "vocab_size": 512}
SMALL |= {"num_attention_heads": 4, "num_key_value_heads": 2}
KINDS = ("llama", "qwen3", "qwen2", "mistral", "gemma", "gemma2", "gemma3_text", "granite", "smollm3", "phi3")
# As published for these models (read in public repositories, November 2026), a tied head counted once
PUBLISHED = {"SmolLM2-135M-Instruct": 134_515_008, "Qwen3-0.6B": 596_049_920, "Llama-3.2-1B": 1_235_814_400}
PUBLISHED |= {"Llama-3.1-8B": 8_030_261_248, "Llama-3.1-70B": 70_553_706_496, "Mistral-7B-v0.3": 7_248_023_552}
PUBLISHED |= {"Qwen3-4B": 4_022_468_096, "Qwen3-8B": 8_190_735_360, "Qwen3-14B": 14_768_307_200}
PUBLISHED |= {"Qwen3-32B": 32_762_123_264}


def counted(config) -> int:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())


def small(kind: str, **changes):
    pad = {"pad_token_id": 0} if kind in ("phi3", "smollm3") else {}  # else beyond this vocabulary
    return AutoConfig.for_model(kind, **SMALL | pad | changes)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_those_of_the_model_of_transformers(kind, tied):
    config = small(kind, tie_word_embeddings=tied)
    assert sizes_of(config).parameters == counted(config)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {"attention_bias": True, "mlp_bias": True}),
        ("llama", {"head_dim": 32}),
        ("llama", {"num_key_value_heads": 4}),
        ("qwen3", {"attention_bias": True, "head_dim": 32}),
    ],
)
def test_biases_and_the_size_of_a_head_are_counted(kind, changes):
    config = small(kind, **changes)
    assert sizes_of(config).parameters == counted(config)


@pytest.mark.parametrize("name", [name for name, (kind, *_) in CONFIGS.items() if kind in ("llama", "qwen3")][:5])
def test_a_model_of_the_list_has_the_parameters_that_transformers_makes(name):
    kind, layers, hidden, intermediate, heads, kv_heads, head_dim, vocabulary, tied = CONFIGS[name]
    sizes = {"num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": intermediate}
    sizes |= {"num_attention_heads": heads, "num_key_value_heads": kv_heads, "head_dim": head_dim}
    config = AutoConfig.for_model(kind, **sizes, vocab_size=vocabulary, tie_word_embeddings=tied)
    assert sizes_of(name).parameters == counted(config)


def test_the_list_agrees_with_the_parameters_that_are_published():
    assert {name: sizes_of(name).parameters for name in PUBLISHED} == PUBLISHED


def test_a_name_a_folder_and_the_content_of_a_file_are_the_same(tmp_path):
    config = small("qwen2")
    config.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    found = [sizes_of(each).parameters for each in (config, tmp_path, str(tmp_path), content)]
    assert found == [counted(config)] * 4
    assert sizes_of("Qwen/Qwen3-0.6B") == sizes_of("qwen3-0.6b")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "nobody/has-this",
            "model 'nobody/has-this': its sizes are not known here; give a folder with its config.json",
        ),
        ("other/Qwen3-0.6B", "its sizes are not known here"),
        ({"model_type": "mixtral"}, "its model_type is 'mixtral', whose weights are not counted; take llama"),
        ({}, "its model_type is None"),
        ({"model_type": "llama", "num_hidden_layers": -1}, "num_hidden_layers is -1: give 1 or more"),
        ({"model_type": "llama", "num_key_value_heads": 3}, "num_key_value_heads 3 does not divide"),
    ],
)
def test_what_is_unknown_or_impossible_is_refused_in_one_line(model, message):
    with pytest.raises(ValueError, match=message) as error:
        sizes_of(model)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_the_cores_together_hold_the_model_and_what_is_on_each(ranks):
    sizes = sizes_of("Qwen3-0.6B")
    norms = sizes.layers * (2 * sizes.hidden + 2 * sizes.head_dim) + sizes.hidden
    assert ranks * sizes.on_a_core(ranks) == pytest.approx(sizes.parameters + (ranks - 1) * norms)


def test_key_and_value_heads_are_copied_where_there_are_fewer_than_cores():
    sizes = sizes_of("Llama-3.1-70B")
    copied = 3 * sizes.layers * 2 * sizes.hidden * sizes.keys  # four cores share what one would hold of eight
    norms = 31 * (sizes.parameters - 2 * sizes.embedding - sizes.layers * sizes.linear)
    assert 32 * sizes.on_a_core(32) == pytest.approx(sizes.parameters + copied + norms)


def test_the_adapter_is_the_one_that_peft_makes():
    from peft import get_peft_model

    from helpers.training.recipe import lora_config

    config = small("qwen3", head_dim=32)
    with torch.device("meta"):
        model = get_peft_model(AutoModelForCausalLM.from_config(config), lora_config(4))
    made = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    sizes = sizes_of(config)
    assert sizes.lora(4) == made == sizes.lora_on_a_core(4, 1)
    assert sizes.lora(4) / 2 < sizes.lora_on_a_core(4, 2) < sizes.lora(4)


def test_a_loaded_model_counts_its_own_parameters():
    model = AutoModelForCausalLM.from_config(small("llama"))
    assert Sizes.of(model) == Sizes(3, 64, 160, 4, 512, counted(small("llama")), 2, 16, False)
