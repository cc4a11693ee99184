"""The model that a trainer of pairs is given: with an adapter, too short, with another vocabulary, with more losses."""

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM

from helpers.data.tokenize import tokenize_preferences
from helpers.training.base_model import load_model, load_tokenizer, smoke_model
from helpers.training.dpo import DPOConfig, DPOTrainer
from helpers.training.orpo import ORPOConfig, ORPOTrainer
from tests.conftest import make_pairs

ROWS = make_pairs()
LONG = Dataset.from_list(
    [{"prompt": "Why?", "chosen": "yes", "rejected": "no"}, {"prompt": "And?", "chosen": "yes " * 99, "rejected": "no"}]
)
X = torch.tensor([[1, 5, 9, 3, 77]])


def lora(**changes) -> LoraConfig:
    return LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", **changes)


def config(folder, kind=ORPOConfig, **changes):
    plain = {"per_device_train_batch_size": 2, "max_length": 128, "max_steps": 2, "learning_rate": 1e-2}
    plain |= {"save_strategy": "no", "report_to": [], "disable_tqdm": True, "use_cpu": True, "logging_steps": 1}
    return kind(output_dir=str(folder), **plain | changes)


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(X).logits


@pytest.mark.parametrize("how", [None, {"use_reentrant": True}, {"use_reentrant": False}])
def test_a_model_with_its_adapter_trains_under_gradient_checkpointing(tmp_path, tokenizer, how):
    learned = []
    for on in (True, False):
        torch.manual_seed(0)
        model = get_peft_model(smoke_model(0), lora())
        given = {"gradient_checkpointing_kwargs": dict(how)} if on and how else {}
        args = config(tmp_path, gradient_checkpointing=on, **given)
        ORPOTrainer(model, args, ROWS, processing_class=tokenizer).train()
        learned.append({name: weight for name, weight in model.named_parameters() if "lora_B" in name})
    assert len(learned[0]) == 4 and all(weight.any() for weight in learned[0].values())
    for name, weight in learned[0].items():
        torch.testing.assert_close(weight, learned[1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("settings", "kind"), [(ORPOConfig, ORPOTrainer), (DPOConfig, DPOTrainer)])
def test_what_an_earlier_adapter_learned_is_merged_before_a_new_one_is_put_on(
    tmp_path, tokenizer, capsys, settings, kind
):
    """And the new one does not claim to belong to the base, which lacks what was merged."""
    smoke_model(0).save_pretrained(tmp_path / "base")
    torch.manual_seed(0)
    earlier = get_peft_model(load_model(str(tmp_path / "base")), lora(init_lora_weights=False))
    base, before = logits(smoke_model(0)), logits(earlier)
    assert (before - base).abs().max() > 1e-2
    trainer = kind(earlier, config(tmp_path, settings), ROWS, processing_class=tokenizer, peft_config=lora())
    assert "The earlier adapter is merged into the base" in capsys.readouterr().out
    torch.testing.assert_close(logits(trainer.model), before, rtol=1e-4, atol=1e-5)
    trainer.train()
    trainable = [name for name, weight in trainer.model.named_parameters() if weight.requires_grad]
    assert len(trainable) == 8 and all("lora_" in name for name in trainable), "one adapter, and nothing else"
    trainer.save_model(str(tmp_path / "new"))
    assert PeftConfig.from_pretrained(tmp_path / "new").base_model_name_or_path is None
    with pytest.raises(ValueError, match=r"names no base model: merge_and_unload\(\) it, save that"):
        load_model(str(tmp_path / "new"))


def test_a_frozen_adapter_is_one_line(tmp_path, tokenizer):
    get_peft_model(smoke_model(0), lora()).save_pretrained(tmp_path / "adapter")
    frozen = PeftModel.from_pretrained(smoke_model(0), tmp_path / "adapter")
    with pytest.raises(ValueError, match="give a peft_config, or load its adapter with is_trainable=True"):
        ORPOTrainer(frozen, config(tmp_path), ROWS, processing_class=tokenizer)
    trained = PeftModel.from_pretrained(smoke_model(0), tmp_path / "adapter", is_trainable=True)
    ORPOTrainer(trained, config(tmp_path), ROWS, processing_class=tokenizer).train()


def mixtral(**changes):
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes |= {"num_key_value_heads": 2, "num_local_experts": 2, "vocab_size": 49152}
    return MixtralForCausalLM(MixtralConfig(**sizes | changes))


@pytest.mark.parametrize("adapted", [False, True])
def test_a_load_balancing_loss_is_refused_and_the_fix_trains(tmp_path, tokenizer, adapted):
    model = mixtral(output_router_logits=True, router_aux_loss_coef=1.0)
    model = get_peft_model(model, lora()) if adapted else model
    with pytest.raises(
        ValueError, match=r"output_router_logits is set .* by model.config.output_router_logits = False"
    ):
        ORPOTrainer(model, config(tmp_path), ROWS, processing_class=tokenizer)
    model.config.output_router_logits = False
    trainer = ORPOTrainer(model, config(tmp_path, max_steps=1), ROWS, processing_class=tokenizer)
    trainer.train()
    first = trainer.state.log_history[0]
    assert first["loss"] == pytest.approx(first["nll_loss"] - 0.1 * first["log_odds_ratio"], rel=1e-4)


@pytest.mark.parametrize("name", ["train_dataset", "eval_dataset"])
def test_a_row_beyond_the_models_positions_is_named_and_the_fix_trains(tmp_path, tokenizer, name):
    model = GPT2LMHeadModel(GPT2Config(vocab_size=49152, n_positions=64, n_embd=32, n_layer=1, n_head=2))
    data = {"train_dataset": ROWS, name: LONG}
    with pytest.raises(
        ValueError, match=rf"{name}, row 1: \d+ tokens, and the model has 64 positions: set max_length=64"
    ):
        ORPOTrainer(model, config(tmp_path), processing_class=tokenizer, **data)
    trainer = ORPOTrainer(model, config(tmp_path, max_length=64), processing_class=tokenizer, **data)
    trainer.train()
    if name == "eval_dataset":
        assert trainer.evaluate()["eval_loss"] > 0


@pytest.mark.parametrize("rows", ["pairs", "tokens"])
def test_a_token_without_an_embedding_is_named(tmp_path, tokenizer, rows):
    model = smoke_model(0)
    model.resize_token_embeddings(1000)
    data = ROWS if rows == "pairs" else tokenize_preferences(ROWS, tokenizer, 128)
    with pytest.raises(
        ValueError, match=r"train_dataset, row 0: token \d+, and the model has 1000 embeddings: use its"
    ):
        ORPOTrainer(model, config(tmp_path), data, processing_class=tokenizer)


def test_a_pad_token_without_an_embedding_is_named(tmp_path):
    tokenizer = load_tokenizer("smoke")
    tokenizer.add_special_tokens({"pad_token": "<|new|>"})
    with pytest.raises(ValueError, match="rows are padded with token 49152, and the model has 49152 embeddings"):
        ORPOTrainer(smoke_model(0), config(tmp_path), ROWS, processing_class=tokenizer)
