"""What decides whether pairs share a row: the model's structure, what two pairs show, and nothing of the caller's."""

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config

from helpers.data.collate import PreferenceCollator
from helpers.training import layout_check
from helpers.training.base_model import smoke_model
from helpers.training.layout_check import shared_row_obstacle
from helpers.training.orpo import ORPOConfig, ORPOTrainer
from scripts.tiny_models import drawn_pairs, tiny_model

PAIRS = drawn_pairs((12, 9, 5), (20, 3, 14))


def config(folder, **arguments) -> ORPOConfig:
    quiet = {"report_to": [], "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "max_steps": 1}
    return ORPOConfig(output_dir=str(folder), **quiet | {"max_length": 48} | arguments)


@pytest.mark.parametrize("spread", [0.2, 0.02])
@pytest.mark.parametrize("name", ["LFM2", "Mamba-2", "RWKV", "Qwen3-Next", "Bamba", "Falcon-H1", "xLSTM"])
def test_state_and_convolution_show_whatever_the_config_says(name, spread, monkeypatch):
    """Also with weights that are as small as those of a model before its training."""
    model = tiny_model(name, initializer_range=spread)
    assert shared_row_obstacle(model, [PAIRS], 48)
    monkeypatch.setattr(layout_check, "structure_obstacle", lambda *_: None)
    assert shared_row_obstacle(model, [PAIRS], 48) == "its answers depend on tokens that the mask hides from them"


def test_recurrent_gemma_is_refused_and_measured_without_a_crash(tmp_path, tokenizer, monkeypatch):
    """It keeps the state of a batch, which the next backward pass would enter again."""
    model = tiny_model("RecurrentGemma")
    with pytest.raises(ValueError, match="RecurrentGemmaForCausalLM keeps the state of one batch for the next"):
        ORPOTrainer(model, config(tmp_path), PAIRS, processing_class=tokenizer)
    monkeypatch.setattr(layout_check, "structure_obstacle", lambda *_: None)
    assert all(shared_row_obstacle(model, [PAIRS], 48) for _ in range(2))


@pytest.mark.parametrize("pairs", [PAIRS, drawn_pairs((2, 1, 1)), drawn_pairs((3, 1, 2), (1, 2, 1))])
def test_short_pairs_prove_it_too(pairs):
    assert shared_row_obstacle(tiny_model("Llama"), [pairs], None) is None
    assert shared_row_obstacle(tiny_model("LFM2"), [pairs], None)


def test_what_is_not_proved_gets_two_rows():
    """One token that sees itself alone says nothing about positions."""
    assert "do not follow" in shared_row_obstacle(tiny_model("Llama"), [drawn_pairs((1, 1, 1))], None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_low_precision_is_no_obstacle(dtype):
    for name in ("Llama", "GPT-2", "Gemma 2", "Mixtral"):
        assert shared_row_obstacle(tiny_model(name).to(dtype), [PAIRS], 48) is None


def test_an_attention_that_takes_no_mask_of_ours_gets_two_rows():
    model = tiny_model("Llama")
    model.set_attn_implementation("flex_attention")
    told = "its attention (flex_attention) takes no mask of our own"
    assert shared_row_obstacle(model, [PAIRS], 48) == told


def test_positions_by_place_are_found(monkeypatch):
    """A model that takes position ids and counts places all the same."""
    model = tiny_model("Llama", initializer_range=0.02)
    rotary, real = model.model.rotary_emb, model.model.rotary_emb.forward
    monkeypatch.setattr(rotary, "forward", lambda x, position_ids: real(x, torch.arange(x.shape[1])[None]))
    assert shared_row_obstacle(model, [PAIRS], 48) == "its log-probs do not follow the position ids"


SHORT = drawn_pairs((5, 4, 3), (6, 2, 4))


@pytest.mark.parametrize(
    ("name", "window", "longest", "settings"),
    [
        ("Mistral", "sliding_window", 16, {}),
        ("Llama 4", "attention_chunk_size", 16, {}),
        ("GPT-Neo", "window_size", 256, {"max_position_embeddings": 512}),  # meets places in a row of up to 512 tokens
        ("Qwen2", "sliding_window", 16, {"use_sliding_window": True, "max_window_layers": 0}),
    ],
)
def test_a_window_that_a_row_may_exceed_is_an_obstacle(name, window, longest, settings):
    needed = 512 if window == "window_size" else longest
    enough, short = (tiny_model(name, **settings | {window: width}) for width in (needed, needed - 1))
    assert shared_row_obstacle(enough, [SHORT], longest) is None
    told = f"its attention looks back {needed - 1} tokens only ({window}), and rows may hold {needed}"
    assert shared_row_obstacle(short, [SHORT], longest) == told
    longer = drawn_pairs((needed, 9, 9))  # in the second data set, with no limit
    assert f"may hold {2 * (needed + 9) if needed == 512 else needed + 9}" in shared_row_obstacle(
        enough, [SHORT, longer], None
    )


def test_a_row_longer_than_the_models_positions_is_right_with_sdpa_and_falls_back_with_eager(
    tmp_path, tokenizer, capsys
):
    """Each pair fits into 64 positions, and several of them share a row of up to 512 tokens."""
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 96, "n_positions": 64, "initializer_range": 0.2}
    pairs, losses = drawn_pairs(*[(20 + i, 9, 12) for i in range(8)]), []
    told = []
    for attention in ("eager", "sdpa"):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(GPT2Config(**sizes), attn_implementation=attention)
        layout = "rows" if attention == "eager" and hasattr(model.transformer.h[0].attn, "bias") else "shared"
        told += ["ORPO uses two rows a pair: a row may hold 512 tokens, of 64 positions, and GPT2LMH"] * (
            layout == "rows"
        )
        trainer = ORPOTrainer(model, config(tmp_path), pairs, processing_class=tokenizer)
        assert trainer.args.layout == trainer.data_collator.layout == layout
        with torch.no_grad():
            losses.append(trainer.compute_loss(model, trainer.data_collator(list(pairs))).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    said = [line for line in capsys.readouterr().out.splitlines() if "two rows" in line]
    assert [line[: len(told[0])] for line in said] == told


def test_a_fall_back_changes_nothing_of_the_callers(tmp_path, tokenizer):
    args, collator = config(tmp_path, gradient_checkpointing=True), PreferenceCollator(0, "shared")
    before = args.to_dict()
    for name, layout in (("LFM2", "rows"), ("Llama", "shared")):
        trainer = ORPOTrainer(tiny_model(name), args, PAIRS, processing_class=tokenizer, data_collator=collator)
        assert trainer.args.layout == trainer.data_collator.layout == layout
        assert args.to_dict() == before and collator.layout == "shared"


def test_a_collator_that_is_given_decides_the_layout(tmp_path, tokenizer):
    trainer = ORPOTrainer(
        tiny_model("Llama"), config(tmp_path), PAIRS, processing_class=tokenizer, data_collator=PreferenceCollator(0)
    )
    assert trainer.args.layout == trainer.data_collator.layout == "rows"


def test_the_mode_and_the_weights_are_as_before():
    model = smoke_model(0).train()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    with torch.no_grad():
        assert shared_row_obstacle(model, [PAIRS], 48) is None
    assert model.training and not model.get_input_embeddings()._forward_hooks
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
