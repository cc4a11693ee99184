"""What TRL tests of its ORPOTrainer, with TRL's calls and tiny local models in place of those on the hub.

The calls are those of its test suite (0.24 and 1.16): only the import differs. Each passes, or is refused for a reason.

- Pass: training on each kind of rows, of a model and with LoRA; the tokenizer left out; a model's own code refused and
  taken; a model given by name, with its dtype, evaluation or gradient checkpointing; tags, without and with PEFT;
  the arguments of 0.24's `test_trainers_args` that are followed.
- Refused: T5, `compute_metrics`, the arguments of 0.24 that are not followed; a step from float16 weights that are no
  longer numbers.
"""

import json

import pytest
import torch
import transformers
from datasets import Dataset, DatasetDict
from peft import LoraConfig
from transformers import T5Config, T5ForConditionalGeneration

from helpers.training import ORPOConfig, ORPOTrainer
from helpers.training.base_model import smoke_model


def message(role: str, text: str) -> list[dict]:
    return [{"role": role, "content": text}]


TEXTS = [
    ("Beautiful is better than", " ugly.", " the moon."),
    ("Explicit is", " better than implicit.", " worse than simple."),
    ("Simple is better", " than complex.", " than a red bicycle in the rain."),
    ("Complex is better than", " complicated.", " 3."),
]
PAIRS = {
    "standard_preference": [{"prompt": a, "chosen": b, "rejected": c} for a, b, c in TEXTS],
    "standard_implicit_prompt_preference": [{"chosen": a + b, "rejected": a + c} for a, b, c in TEXTS],
    "conversational_preference": [
        {"prompt": message("user", a), "chosen": message("assistant", b), "rejected": message("assistant", c)}
        for a, b, c in TEXTS
    ],
    "conversational_implicit_prompt_preference": [
        {
            "chosen": message("user", a) + message("assistant", b),
            "rejected": message("user", a) + message("assistant", c),
        }
        for a, b, c in TEXTS
    ],
}


def zen(kind: str) -> DatasetDict:
    rows = PAIRS[kind]
    return DatasetDict(train=Dataset.from_list(rows * 4), test=Dataset.from_list(rows[:2]))


def t5(vocabulary: int):
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 2}
    return T5ForConditionalGeneration(T5Config(vocab_size=vocabulary, pad_token_id=0, **sizes))


@pytest.mark.parametrize("kind", PAIRS)
def test_orpo_trainer(kind, tmp_path, tokenizer):
    model = smoke_model(0)
    training_args = ORPOConfig(
        output_dir=tmp_path,
        per_device_train_batch_size=2,
        max_steps=3,
        remove_unused_columns=False,
        gradient_accumulation_steps=1,
        learning_rate=9e-1,
        eval_strategy="steps",
        beta=0.1,
        report_to="none",
    )
    dummy_dataset = zen(kind)
    trainer = ORPOTrainer(
        model=model,
        args=training_args,
        train_dataset=dummy_dataset["train"],
        eval_dataset=dummy_dataset["test"],
        processing_class=tokenizer,
    )
    previous_trainable_params = {n: param.clone() for n, param in trainer.model.named_parameters()}
    trainer.train()
    assert trainer.state.log_history[-1]["train_loss"] is not None
    for n, param in previous_trainable_params.items():
        if param.sum() != 0:
            assert not torch.equal(param, trainer.model.get_parameter(n))


@pytest.mark.parametrize("kind", PAIRS)
def test_orpo_trainer_with_lora(kind, tmp_path, tokenizer):
    lora_config = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, bias="none", task_type="CAUSAL_LM")
    training_args = ORPOConfig(
        output_dir=tmp_path,
        per_device_train_batch_size=2,
        max_steps=3,
        remove_unused_columns=False,
        gradient_accumulation_steps=4,
        learning_rate=9e-1,
        eval_strategy="steps",
        beta=0.1,
        report_to="none",
    )
    dummy_dataset = zen(kind)
    trainer = ORPOTrainer(
        model=smoke_model(0),
        args=training_args,
        train_dataset=dummy_dataset["train"],
        eval_dataset=dummy_dataset["test"],
        processing_class=tokenizer,
        peft_config=lora_config,
    )
    previous_trainable_params = {n: param.clone() for n, param in trainer.model.named_parameters()}
    trainer.train()
    assert trainer.state.log_history[-1]["train_loss"] is not None
    for n, param in previous_trainable_params.items():
        if "lora" in n and param.sum() != 0:
            assert not torch.equal(param, trainer.model.get_parameter(n))


def test_an_encoder_decoder_is_refused(tmp_path, tokenizer):
    """TRL trains T5; here prompt and response are one row, which a shared row and Trainium both need."""
    training_args = ORPOConfig(output_dir=tmp_path, per_device_train_batch_size=2, max_steps=3, report_to="none")
    with pytest.raises(ValueError, match="is an encoder-decoder model: give a causal language model"):
        ORPOTrainer(
            model=t5(len(tokenizer)),
            args=training_args,
            train_dataset=zen("standard_implicit_prompt_preference")["train"],
            processing_class=tokenizer,
        )


def test_compute_metrics_is_refused(tmp_path, tokenizer):
    """TRL hands the metric logits of chosen rows, which are never made here."""
    training_args = ORPOConfig(
        output_dir=tmp_path,
        remove_unused_columns=False,
        per_device_train_batch_size=2,
        do_eval=True,
        eval_strategy="steps",
        eval_steps=1,
        per_device_eval_batch_size=2,
        report_to="none",
    )
    dummy_dataset = zen("standard_preference")
    with pytest.raises(ValueError, match="compute_metrics can't be followed"):
        ORPOTrainer(
            model=smoke_model(0),
            args=training_args,
            processing_class=tokenizer,
            train_dataset=dummy_dataset["train"],
            eval_dataset=dummy_dataset["test"],
            compute_metrics=lambda *args, **kwargs: {"test": 0.0},
        )


@pytest.fixture(scope="module")
def model_id(tmp_path_factory, tokenizer) -> str:
    """The folder of a model and its tokenizer, which stands for a name on the hub."""
    folder = tmp_path_factory.mktemp("hub") / "tiny"
    smoke_model(0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


CODE = """
from transformers import LlamaConfig, LlamaForCausalLM

class RemoteConfig(LlamaConfig):
    model_type = "remote"

class RemoteForCausalLM(LlamaForCausalLM):
    config_class = RemoteConfig
"""


def test_trust_remote_code(tmp_path, tokenizer, monkeypatch):
    folder = tmp_path / "remote"
    smoke_model(0).save_pretrained(folder)
    (folder / "remote.py").write_text(CODE, encoding="utf-8")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "remote"}
    config["auto_map"] = {"AutoConfig": "remote.RemoteConfig", "AutoModelForCausalLM": "remote.RemoteForCausalLM"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    given = {"model": str(folder), "processing_class": tokenizer, "train_dataset": zen("standard_preference")["train"]}
    with pytest.raises(ValueError, match="custom code") as error:
        ORPOTrainer(args=ORPOConfig(output_dir=tmp_path, report_to="none"), **given)
    assert "\n" not in str(error.value)
    trainer = ORPOTrainer(args=ORPOConfig(output_dir=tmp_path, report_to="none", trust_remote_code=True), **given)
    assert type(trainer.model).__name__ == "RemoteForCausalLM"


def test_processing_class_autoloaded(tmp_path, model_id):
    training_args = ORPOConfig(
        output_dir=tmp_path,
        per_device_train_batch_size=2,
        max_steps=3,
        remove_unused_columns=False,
        beta=0.1,
        report_to="none",
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(model_id, dtype="float32")
    trainer = ORPOTrainer(model=model, args=training_args, train_dataset=zen("standard_preference")["train"])
    assert trainer.processing_class is not None
    trainer.train()
    assert trainer.state.log_history[-1]["train_loss"] is not None


@pytest.mark.parametrize("learning_rate", [0.1, 1e-6])
def test_train_model_dtype(tmp_path, model_id, learning_rate):
    """TRL asks that weights have changed. At its rate of 0.1 none is a number any more, and here training stops."""
    training_args = ORPOConfig(
        output_dir=tmp_path, model_init_kwargs={"dtype": torch.float16}, learning_rate=learning_rate, report_to="none"
    )
    trainer = ORPOTrainer(model=model_id, args=training_args, train_dataset=zen("standard_preference")["train"])
    if learning_rate == 0.1:
        with pytest.raises(FloatingPointError, match="lower the learning rate or use float32"):
            trainer.train()
    else:
        trainer.train()
        assert all(param.isfinite().all() for param in trainer.model.parameters())
    assert {param.dtype for param in trainer.model.parameters()} == {torch.float16}


def test_train_with_eval(tmp_path, model_id):
    dataset = zen("standard_preference")
    training_args = ORPOConfig(output_dir=tmp_path, eval_strategy="steps", eval_steps=3, report_to="none")
    trainer = ORPOTrainer(
        model=model_id, args=training_args, train_dataset=dataset["train"], eval_dataset=dataset["test"]
    )
    trainer.train()
    assert trainer.state.log_history[0]["eval_loss"] is not None


def test_train_with_gradient_checkpointing(tmp_path, model_id):
    training_args = ORPOConfig(output_dir=tmp_path, learning_rate=0.1, gradient_checkpointing=True, report_to="none")
    dataset = zen("standard_preference")["train"]
    trainer = ORPOTrainer(model=model_id, args=training_args, train_dataset=dataset)
    previous_trainable_params = {n: param.clone() for n, param in trainer.model.named_parameters()}
    trainer.train()
    assert trainer.state.log_history[-1]["train_loss"] is not None
    for n, param in previous_trainable_params.items():
        assert not torch.equal(param, trainer.model.get_parameter(n))


@pytest.mark.parametrize("peft_config", [None, LoraConfig()])
def test_tag_added(tmp_path, model_id, peft_config):
    trainer = ORPOTrainer(
        model=model_id,
        args=ORPOConfig(output_dir=tmp_path, report_to="none"),
        train_dataset=zen("standard_preference")["train"],
        peft_config=peft_config,
    )
    for tag in ["orpo", "trl"]:
        assert tag in trainer.model.model_tags


TRLS_ARGUMENTS = {
    "max_length": 256,
    "max_prompt_length": 64,
    "beta": 0.5,
    "disable_dropout": False,
    "model_init_kwargs": {"trust_remote_code": True},
    "dataset_num_proc": 4,
}


def test_arguments_that_are_followed_stay_as_given(tmp_path, tokenizer, model_id):
    training_args = ORPOConfig(tmp_path, padding_value=0, is_encoder_decoder=False, **TRLS_ARGUMENTS)
    trainer = ORPOTrainer(
        model=model_id,
        args=training_args,
        train_dataset=zen("standard_preference")["train"],
        processing_class=tokenizer,
    )
    for name, value in TRLS_ARGUMENTS.items():
        assert getattr(trainer.args, name) == value


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("max_completion_length", 64, "set max_length"),
        ("label_pad_token_id", -99, "leave it out"),
        ("truncation_mode", "keep_start", "leave it out"),
        ("is_encoder_decoder", True, "for causal models"),
    ],
)
def test_arguments_that_are_not_followed_are_refused(tmp_path, name, value, fix):
    with pytest.raises(ValueError, match=f"{name} can't be followed: .*{fix}"):
        ORPOConfig(tmp_path, **TRLS_ARGUMENTS | {name: value})
