"""What people give a trainer of pairs: taken where TRL takes it, else one line before anything is trained."""

import os

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    LlamaForSequenceClassification,
    LlamaModel,
    TrainingArguments,
    default_data_collator,
)

from helpers.training.base_model import SMOKE, load_tokenizer, smoke_model
from helpers.training.config import MEMORY
from helpers.training.orpo import ORPOConfig, ORPOTrainer
from tests.conftest import make_pairs, trl_orpo

ROWS = make_pairs()
PROMPT_TUNING = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)


def config(folder, **changes):
    plain = {"per_device_train_batch_size": 2, "max_length": 96, "save_strategy": "no", "report_to": []}
    plain |= {"max_steps": 1, "disable_tqdm": True, "use_cpu": True, "logging_steps": 1, "learning_rate": 1e-3}
    return ORPOConfig(output_dir=str(folder), **plain | changes)


def texts(*rows: tuple[str, str]) -> Dataset:
    return Dataset.from_list([{"chosen": chosen, "rejected": rejected} for chosen, rejected in rows] * 2)


@pytest.mark.parametrize(
    ("rows", "asked"),
    [
        (texts(("The sky is blue today", "The sky is green")), "The sky is"),
        (texts(("\n\nHuman: Why?\n\nAssistant: So.", "\n\nHuman: Why?\n\nAssistant: No.")), "Why?"),
        (Dataset.from_list([{"prompt": "Why?", "chosen": "So.", "rejected": "No."}] * 2), "Why?"),
    ],
)
def test_rows_of_text_are_read(tmp_path, tokenizer, rows, asked):
    trainer = ORPOTrainer(smoke_model(0), config(tmp_path), rows, processing_class=tokenizer)
    row = trainer.train_dataset[0]
    prompt = tokenizer.decode(row["chosen_input_ids"][: row["prompt_length"]])
    assert f"user\n{asked}<|im_end|>" in prompt
    trainer.train()


def test_a_model_is_made_by_model_init(tmp_path, tokenizer):
    lora = LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM")
    trainer = ORPOTrainer(
        None, config(tmp_path), ROWS, processing_class=tokenizer, model_init=lambda: smoke_model(0), peft_config=lora
    )
    trainer.train()
    assert any("lora_B" in name and weight.abs().sum() > 0 for name, weight in trainer.model.named_parameters())


def frozen():
    return smoke_model(0).requires_grad_(False)


def bert(kind):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    return kind(BertConfig(vocab_size=49152, **sizes))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"model": None}, "model is missing"),
        ({"model_init": smoke_model}, "model and model_init are both given"),
        ({"model": torch.nn.Linear(2, 2)}, "model is Linear: give a transformers model"),
        ({"model": frozen}, "every parameter of the model is frozen"),
        ({"model": lambda: LlamaModel(smoke_model(0).config)}, "LlamaModel makes no logits"),
        ({"model": lambda: LlamaForSequenceClassification(smoke_model(0).config)}, "makes no logits"),
        ({"model": lambda: bert(BertLMHeadModel)}, "BertLMHeadModel looks at later tokens"),
        ({"model": lambda: bert(BertForMaskedLM)}, "BertForMaskedLM (makes no logits|looks at later)"),
        ({"model": "./nowhere", "processing_class": None}, "there is no folder ./nowhere"),
        ({"model": lambda: get_peft_model(smoke_model(0), PROMPT_TUNING)}, "peft_config: prompt tuning"),
        ({"peft_config": PROMPT_TUNING}, "peft_config: prompt tuning"),
        ({"peft_config": {"r": 4}}, "peft_config is dict"),
        ({"peft_config": LoraConfig(target_modules=["nope"])}, "peft_config: Target modules"),
        ({"processing_class": "tokenizer"}, "processing_class is str"),
        ({"ref_model": smoke_model}, "has no argument ref_model"),
        ({"data_collator": default_data_collator}, "data_collator (makes|fails)"),
        (
            {"args": TrainingArguments("out", report_to=[], use_cpu=True)},
            "args is the TrainingArguments of transformers",
        ),
        ({"changes": {"padding_value": 10**6}}, "rows are padded with token 1000000"),
        ({"changes": {"beta": float("nan")}}, "beta is nan"),
        ({"changes": {"max_length": 0}}, "max_length is 0: give 1 or more"),
        (
            {"changes": {"per_device_train_batch_size": 9, "dataloader_drop_last": True}},
            "4 rows, fewer than a batch of 9",
        ),
        ({"changes": {"metric_for_best_model": "rewards/wrong"}}, "metric_for_best_model is 'rewards/wrong'"),
        (
            {"train_dataset": ROWS.to_iterable_dataset()},
            "train_dataset is a stream: take its rows with Dataset.from_list",
        ),
        (
            {"eval_dataset": ROWS.to_iterable_dataset()},
            "eval_dataset is a stream: take its rows with Dataset.from_list",
        ),
        ({"processing_class": None}, "processing_class is missing and the model has no name to find it by"),
        ({"train_dataset": texts(("A", "B"))}, "row 0: chosen and rejected have no beginning in common"),
        ({"train_dataset": Dataset.from_list([{"prompt": 1, "chosen": 2, "rejected": 3}])}, "row 0, prompt: is int"),
        ({"train_dataset": Dataset.from_list([{"chosen_input_ids": [1]}])}, "has no column chosen_labels"),
    ],
)
def test_what_can_not_be_read_is_one_line(tmp_path, tokenizer, given, says):
    """A callable makes the model, which is too costly to make where tests are collected."""
    with pytest.raises((ValueError, TypeError), match=says) as error:
        made = {
            "model": smoke_model,
            "processing_class": tokenizer,
            "train_dataset": ROWS,
            "eval_dataset": ROWS,
        } | given
        args = made.pop("args", None) or config(tmp_path, **made.pop("changes", {}))
        if callable(made["model"]) and not isinstance(made["model"], torch.nn.Module):
            made["model"] = made["model"]()
        ORPOTrainer(args=args, **made)
    assert "\n" not in str(error.value)


def without_pad_token():
    tokenizer = load_tokenizer(SMOKE)
    tokenizer.pad_token = None
    return tokenizer


def rows_with(**changes) -> Dataset:
    """Two good rows, and one with these changes."""
    return Dataset.from_list([*ROWS.select([0, 1]), ROWS[2] | changes])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"chosen": [*ROWS[2]["chosen"], *ROWS[1]["prompt"], *ROWS[1]["chosen"]]},
            "chosen: has a turn of the role 'user'",
        ),
        ({"prompt": [{"role": "human", "content": "Why?"}]}, "prompt: has the role 'human'; write one of system, "),
        ({"rejected": ROWS[2]["chosen"]}, "rejected: equals the chosen response; a pair needs two different answers"),
    ],
)
@pytest.mark.parametrize("side", ["train_dataset", "eval_dataset"])
def test_a_bad_row_among_messages_is_one_line(tmp_path, tokenizer, changes, says, side):
    sets = {"train_dataset": ROWS, "eval_dataset": ROWS} | {side: rows_with(**changes)}
    with pytest.raises(ValueError, match=f"^{side}: row 2, {says}") as error:
        ORPOTrainer(smoke_model(0), config(tmp_path), processing_class=tokenizer, **sets)
    assert "\n" not in str(error.value)


def test_a_system_column_is_trained_on_and_what_nothing_reads_is_told(tmp_path, tokenizer, capsys):
    more = {"system": ["Be brief."] * 4, "margin": [1.0] * 4, "images": ["x"] * 4, "group": ["a"] * 4}
    rows = ROWS
    for name, values in more.items():
        rows = rows.add_column(name, values)
    trainer = ORPOTrainer(smoke_model(0), config(tmp_path), rows, processing_class=tokenizer)
    assert all("Be brief." in tokenizer.decode(ids) for ids in trainer.train_dataset["chosen_input_ids"])
    assert "the data set: nothing reads images, margin; left out\n" in capsys.readouterr().out


def test_conversations_that_begin_with_their_prompt_are_read_though_it_has_a_column_too(tmp_path, tokenizer):
    whole = ROWS.map(lambda row: {side: row["prompt"] + row[side] for side in ("chosen", "rejected")})
    made = [ORPOTrainer(smoke_model(0), config(tmp_path), rows, processing_class=tokenizer) for rows in (ROWS, whole)]
    assert made[0].train_dataset.to_list() == made[1].train_dataset.to_list()


def test_a_tokenizer_without_a_pad_token_is_one_line_and_a_padding_value_does(tmp_path):
    with pytest.raises(ValueError, match=r"no pad token: set tokenizer.pad_token = tokenizer.eos_token$"):
        ORPOTrainer(smoke_model(0), config(tmp_path), ROWS, processing_class=without_pad_token())
    args = config(tmp_path, padding_value=7, layout="rows")
    trainer = ORPOTrainer(smoke_model(0), args, ROWS, processing_class=without_pad_token())
    batch = trainer.data_collator(list(trainer.train_dataset))
    assert set(batch["input_ids"][batch["attention_mask"] == 0].tolist()) == {7}
    trainer.train()


def test_the_tokenizer_may_have_its_older_name(tmp_path, tokenizer):
    assert ORPOTrainer(smoke_model(0), config(tmp_path), ROWS, tokenizer=tokenizer).processing_class is tokenizer


@pytest.mark.parametrize("given", ["its folder", "the model"])
def test_a_tokenizer_that_is_left_out_is_found_beside_the_model(tmp_path, tokenizer, given):
    folder = str(tmp_path / "model")
    smoke_model(0).save_pretrained(folder)
    model = folder if given == "its folder" else AutoModelForCausalLM.from_pretrained(folder)
    with pytest.raises(ValueError, match=f"processing_class is missing, and there is none at {folder} .*: give it$"):
        ORPOTrainer(model, config(tmp_path), ROWS)
    tokenizer.save_pretrained(folder)
    found, expected = (ORPOTrainer(model, config(tmp_path), ROWS, processing_class=each) for each in (None, tokenizer))
    assert found.train_dataset["chosen_input_ids"] == expected.train_dataset["chosen_input_ids"]
    assert found.pad_token_id == expected.pad_token_id


def test_without_a_max_length_nothing_is_cut(tmp_path, tokenizer):
    rows = make_pairs({"Why? " * 300: ("yes " * 1500, "no"), "And?": ("yes", "no " * 1100)})
    for limit, cut in ((None, False), (64, True)):
        trainer = ORPOTrainer(smoke_model(0), config(tmp_path, max_length=limit), rows, processing_class=tokenizer)
        lengths = [max(map(len, trainer.train_dataset[f"{side}_input_ids"])) for side in ("chosen", "rejected")]
        columns = ("prompt_cut", "chosen_cut", "rejected_cut")
        assert any(sum(trainer.train_dataset[column]) for column in columns) == cut
        assert (max(lengths) > 1500) != cut and (max(lengths) <= 64) == cut


def test_what_differs_from_trls_defaults_is_told_in_one_line(tmp_path, tokenizer, capsys):
    for changes in ({}, {"bf16": True, "gradient_checkpointing": True, "max_prompt_length": 512}):
        os.environ.pop("ACCELERATE_MIXED_PRECISION", None)  # which transformers leaves behind
        ORPOTrainer(smoke_model(0), config(tmp_path, **changes), ROWS, processing_class=tokenizer)
        said = [line for line in capsys.readouterr().out.splitlines() if "TRL" in line]
        usual = "bf16 False (True), gradient_checkpointing False (True), max_prompt_length None (512)"
        assert said == ([] if changes else [f"Unlike TRL's defaults (in brackets): {usual}"])
    trls = trl_orpo()[0](str(tmp_path), use_cpu=True, report_to=[])
    for name in MEMORY.keys() & vars(trls).keys():  # TRL 1 has no max_prompt_length
        assert getattr(trls, name) == MEMORY[name]
