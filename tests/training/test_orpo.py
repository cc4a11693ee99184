"""ORPOTrainer: its loss against TRL's trainer, accumulation, resume, LoRA, evaluation, refusals."""

import json

import pytest
import torch
from peft import LoraConfig

from helpers.data.collate import PreferenceCollator
from helpers.data.load import load_preferences
from helpers.data.template import render
from helpers.data.tokenize import tokenize_preferences
from helpers.training.base_model import smoke_model
from helpers.training.orpo import ORPOConfig, ORPOTrainer
from tests.conftest import make_pairs, trl_orpo

LOGGED = [
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "rewards/margins",
    "logps/chosen",
    "logps/rejected",
]


@pytest.fixture(scope="module")
def data(tokenizer):
    words = ["list", "stream", "topic 7", "queue", "job", "delete", "Aurora"]
    answers = {
        f"What does operation {i} do?": (
            " ".join(words[: i % 5 + 1]) + f" {i}",
            " ".join(words[: (3 * i) % 6 + 1]) + " no",
        )
        for i in range(16)
    }
    return tokenize_preferences(make_pairs(answers), tokenizer, max_length=96)


def config(folder, **changes) -> ORPOConfig:
    settings = {
        "output_dir": str(folder),
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "beta": 0.5,
        "max_length": 96,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return ORPOConfig(**settings | changes)


def train(folder, data, tokenizer, model=None, **changes):
    trainer = ORPOTrainer(model or smoke_model(0), config(folder, **changes), data, processing_class=tokenizer)
    trainer.train()
    return trainer, [entry for entry in trainer.state.log_history if "loss" in entry]


def test_the_loss_falls_and_everything_is_logged(tmp_path, data, tokenizer):
    _, log = train(tmp_path, data, tokenizer, max_steps=12)
    assert log[-1]["loss"] < log[0]["loss"] - 1
    for name in [*LOGGED, "nll_loss", "log_odds_ratio", "log_odds_chosen"]:
        assert name in log[0]
    first = log[0]
    assert first["rewards/margins"] == pytest.approx(0.5 * (first["logps/chosen"] - first["logps/rejected"]), rel=1e-4)
    assert first["loss"] == pytest.approx(first["nll_loss"] - 0.5 * first["log_odds_ratio"], rel=1e-4)


@pytest.mark.parametrize(("nll_on_prompt", "pairs_a_batch"), [(True, 1), (False, 4)])
def test_the_first_loss_is_that_of_trl(tmp_path, tokenizer, nll_on_prompt, pairs_a_batch):
    """One pair a batch meets TRL's default (NLL on prompt and response); equal lengths meet its mean over tokens."""
    TRLConfig, TRLTrainer = trl_orpo()
    answers = {f"Say {word} twice": (f"{word} {word}", f"never {word}") for word in ("stream", "queue", "job", "topic")}
    pairs = make_pairs(dict(list(answers.items())[:pairs_a_batch]))
    common = {"per_device_train_batch_size": pairs_a_batch, "max_steps": 1, "logging_steps": 1, "beta": 0.5}
    common |= {
        "output_dir": str(tmp_path),
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "save_strategy": "no",
    }
    # As text, because TRL's own templating leaves a newline and a second EOS behind the answer; it adds the EOS.
    text = pairs.map(lambda pair: render(pair, tokenizer), remove_columns=pairs.column_names)
    text = text.map(lambda row: {side: row[side].removesuffix(tokenizer.eos_token) for side in ("chosen", "rejected")})
    reference = TRLTrainer(
        smoke_model(0),
        TRLConfig(**common, max_length=96, bf16=False, gradient_checkpointing=False),
        train_dataset=text,
        processing_class=tokenizer,
    )
    # TRL's own forward and loss; where its NLL includes the prompt and ours does not, take its mean over responses
    batch = next(iter(reference.get_train_dataloader()))
    loss, metrics = reference.get_batch_loss_metrics(reference.model, batch)
    if not nll_on_prompt:
        chosen, rejected, *_ = reference.concatenated_forward(reference.model, batch)
        loss = -chosen.mean() - reference.odds_ratio_loss(chosen, rejected)[0].mean()
    loss.backward()
    tokens = tokenize_preferences(pairs, tokenizer, max_length=96)
    ours = ORPOTrainer(
        smoke_model(0), config(tmp_path, nll_on_prompt=nll_on_prompt), tokens, processing_class=tokenizer
    )
    ours.model.train()
    inputs = ours.data_collator(list(tokens))
    our_loss = ours.compute_loss(ours.model, inputs)
    assert our_loss.item() == pytest.approx(loss.item(), rel=1e-5)
    our_loss.backward()
    theirs = dict(reference.model.named_parameters())
    for parameter_name, parameter in ours.model.named_parameters():
        gradient = theirs[parameter_name].grad
        assert (parameter.grad - gradient).norm() <= 1e-5 * gradient.norm(), parameter_name
    for name in ("logps/chosen", "logps/rejected", "log_odds_ratio", "log_odds_chosen", "rewards/margins"):
        mean = (ours._sums[name] / ours._sums["pairs"]).item()
        assert mean == pytest.approx(metrics[name], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("layout", ["shared", "rows"])
def test_accumulation_changes_nothing(tmp_path, data, tokenizer, layout):
    weights, losses = [], []
    for size, steps in ((8, 1), (4, 2), (1, 8)):
        changes = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "max_steps": 1}
        trainer, log = train(tmp_path, data, tokenizer, layout=layout, optim="sgd", **changes)
        weights.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
        losses.append(log[0]["loss"])
    start = torch.cat([p.detach().flatten() for p in smoke_model(0).parameters()])
    for other, loss in zip(weights[1:], losses[1:], strict=True):
        assert loss == pytest.approx(losses[0], rel=1e-5)
        assert (other - weights[0]).norm() <= 1e-5 * (weights[0] - start).norm()


def test_a_resumed_run_has_the_same_loss_curve(tmp_path, data, tokenizer):
    _, whole = train(tmp_path / "whole", data, tokenizer, max_steps=6)
    train(tmp_path / "half", data, tokenizer, max_steps=6, save_strategy="steps", save_steps=3)
    trainer = ORPOTrainer(smoke_model(1), config(tmp_path / "half", max_steps=6), data, processing_class=tokenizer)
    trainer.train(resume_from_checkpoint=str(tmp_path / "half" / "checkpoint-3"))
    resumed = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in resumed] == [1, 2, 3, 4, 5, 6]
    assert [entry["loss"] for entry in resumed] == pytest.approx([entry["loss"] for entry in whole], rel=1e-5)


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_lora_trains_the_adapter_only(tmp_path, data, tokenizer, gradient_checkpointing):
    lora = LoraConfig(r=4, lora_alpha=32, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    args = config(
        tmp_path,
        max_steps=8,
        learning_rate=1e-2,
        gradient_checkpointing=gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
    )
    trainer = ORPOTrainer(smoke_model(0), args, data, processing_class=tokenizer, peft_config=lora)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    changed = {name for name, p in trainer.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed
    assert all("lora_" in name for name in changed)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0]
    trainer.save_model(str(tmp_path / "adapter"))
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["r"] == 4


@pytest.mark.parametrize("seed", range(5))
def test_shared_rows_under_lora_and_checkpointing_have_the_gradients_of_two_rows(tmp_path, data, tokenizer, seed):
    lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    gradients = []
    for layout in ("rows", "shared"):
        args = config(tmp_path, layout=layout, gradient_checkpointing=True)
        trainer = ORPOTrainer(smoke_model(seed), args, data, processing_class=tokenizer, peft_config=lora)
        trainer.model.gradient_checkpointing_enable({"use_reentrant": False})
        draw = torch.Generator().manual_seed(seed)
        adapter = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
        with torch.no_grad():
            for parameter in adapter.values():
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=draw))
        trainer.compute_loss(trainer.model.train(), trainer.data_collator([data[i] for i in range(4)])).backward()
        gradients.append({name: p.grad for name, p in adapter.items()})
    assert trainer.args.layout == "shared"
    for name, expected in gradients[0].items():
        assert (gradients[1][name] - expected).norm() <= 1e-5 * expected.norm(), name


def test_checkpointed_gradients_equal_plain_ones(tmp_path, data, tokenizer):
    runs = [
        train(
            tmp_path,
            data,
            tokenizer,
            gradient_checkpointing=on,
            gradient_checkpointing_kwargs={"use_reentrant": False},
        )[1]
        for on in (False, True)
    ]
    assert [e["loss"] for e in runs[0]] == pytest.approx([e["loss"] for e in runs[1]], rel=1e-6)


def test_evaluation_reports_the_same_values_without_training(tmp_path, data, tokenizer):
    trainer = ORPOTrainer(
        smoke_model(0),
        config(tmp_path, per_device_eval_batch_size=3),  # 16 pairs: the last batch is smaller
        data,
        eval_dataset=data,
        processing_class=tokenizer,
    )
    metrics = trainer.evaluate()
    with torch.no_grad():
        expected = trainer.compute_loss(trainer.model, trainer.data_collator(list(data))).item()
    assert metrics["eval_loss"] == pytest.approx(expected, rel=1e-4)
    logged = trainer.state.log_history[-1]
    assert 0 <= logged["eval_rewards/accuracies"] <= 1


def test_a_non_finite_loss_names_the_row(tmp_path, data, tokenizer):
    model = smoke_model(0)
    poison = data[5]["chosen_input_ids"][-2]  # a token that row 5 ends with
    with torch.no_grad():
        model.model.embed_tokens.weight[poison] = float("nan")
    rows = [i for i, row in enumerate(data) if poison in row["chosen_input_ids"] + row["rejected_input_ids"]]
    trainer = ORPOTrainer(model, config(tmp_path), data, processing_class=tokenizer)
    with pytest.raises(FloatingPointError, match=r"training row \[") as error:
        trainer.train()
    assert "lower the learning rate" in str(error.value)
    assert rows


def test_only_the_poisoned_pair_is_named():
    from helpers.training.orpo import refuse_non_finite

    nan, fine = torch.tensor([-1.0, float("nan"), -2.0]), torch.tensor([-1.0, -1.0, -2.0])
    with pytest.raises(FloatingPointError, match=r"training row \[41\]"):
        refuse_non_finite(torch.tensor([40, 41, 42]), nan, fine)
    refuse_non_finite(torch.tensor([40, 41, 42]), fine, fine)


def test_negative_beta_is_refused(tmp_path):
    with pytest.raises(ValueError, match="beta is -1"):
        config(tmp_path, beta=-1.0)


def test_models_that_can_not_share_a_row_fall_back_and_say_why(tmp_path, data, tokenizer, capsys):
    model = smoke_model(0)
    model.config.sliding_window = 16
    trainer = ORPOTrainer(model, config(tmp_path), data, processing_class=tokenizer)
    assert "looks back 16 tokens only" in capsys.readouterr().out
    assert trainer.data_collator.layout == trainer.args.layout == "rows"
    trainer.train()
    ORPOTrainer(smoke_model(0), config(tmp_path, nll_on_prompt=True), data, processing_class=tokenizer)
    assert "nll_on_prompt needs logits on the prompt" in capsys.readouterr().out
    assert ORPOTrainer(smoke_model(0), config(tmp_path), data, processing_class=tokenizer).args.layout == "shared"
    model = smoke_model(0)
    model.lm_head = torch.nn.Linear(64, 49152, bias=True)
    ORPOTrainer(model, config(tmp_path), data, processing_class=tokenizer)
    assert "ORPO makes all logits: its head is Linear with a bias, not a plain matrix" in capsys.readouterr().out


def test_several_gpus_in_one_process_are_refused(tmp_path, data, tokenizer):
    arguments = config(tmp_path)
    arguments._n_gpu = 2
    with pytest.raises(ValueError, match="2 GPUs in one process: set CUDA_VISIBLE_DEVICES=0, or start with torchrun"):
        ORPOTrainer(smoke_model(0), arguments, data, processing_class=tokenizer)


def test_rows_of_like_length_come_together_and_every_pair_comes_once(tmp_path, data, tokenizer):
    def epoch(**changes):
        settings = {"max_steps": -1, "num_train_epochs": 1, "per_device_train_batch_size": 4} | changes
        trainer = ORPOTrainer(smoke_model(0), config(tmp_path, **settings), many, processing_class=tokenizer)
        return list(trainer.get_train_dataloader())

    def padding(batches):
        masks = [batch["attention_mask"].float() for batch in batches]
        return 1 - sum(mask.sum() for mask in masks) / sum(mask.numel() for mask in masks)

    many = tokenize_preferences(load_preferences("aws-api", limit=64), tokenizer, 128)
    grouped, again = epoch(layout="rows"), epoch(layout="rows")
    order = [row for batch in grouped for row in batch["row"].tolist()]
    assert sorted(order) == list(range(64)) and order != sorted(order)
    assert order == [row for batch in again for row in batch["row"].tolist()], "seeded"
    collate = PreferenceCollator(tokenizer.pad_token_id, "rows")
    as_they_come = [collate(list(many.select(range(i, i + 4)))) for i in range(0, 64, 4)]
    assert padding(grouped) < 0.8 * padding(as_they_come)
