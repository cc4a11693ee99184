"""Every argument of TRL's ORPOConfig and ORPOTrainer is followed or refused, and docs/trl_arguments.md says which."""

import copy
import inspect
import re
from dataclasses import fields

import pytest
import torch
import trl
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments

from helpers.files import REPOSITORY
from helpers.training.arguments import prepare_pairs, refuse_unfollowed
from helpers.training.base_model import smoke_model
from helpers.training.config import REFUSED
from helpers.training.orpo import ORPOConfig, ORPOTrainer
from scripts import trl_arguments
from tests.conftest import make_pairs

PAGE = (REPOSITORY / "docs" / "trl_arguments.md").read_text(encoding="utf-8")
NAMES = {field.name for field in fields(ORPOConfig)}
REPLACED = ("compute_loss", "prediction_step", "_get_train_sampler")  # methods of Trainer of which ours keeps nothing
UNLIKE = make_pairs({f"Question {i}": ("yes " * (1 + 7 * i % 10), "no " * (9 - i)) for i in range(8)})

ASKED_FOR = {  # a value of each refused argument that asks for something
    "label_smoothing_factor": 0.1,
    "max_completion_length": 64,
    "truncation_mode": "keep_start",
    "label_pad_token_id": 0,
    "generate_during_eval": True,
    "is_encoder_decoder": True,
    "use_liger_kernel": True,
    "deepspeed": {"train_batch_size": 1},
    "fsdp": "full_shard",
    "remove_unused_columns": True,
    "parallelism_config": object(),
    "jit_mode_eval": True,
    "use_legacy_prediction_loop": True,
    "past_index": 0,
    "label_names": ["chosen_labels"],
    "length_column_name": "words",
    "include_inputs_for_metrics": True,
    "include_for_metrics": ["inputs"],
    "batch_eval_metrics": True,
}


def quiet(folder, **arguments) -> ORPOConfig:
    return ORPOConfig(output_dir=str(folder), use_cpu=True, report_to=[], **arguments)


def training(folder, **arguments) -> ORPOConfig:
    """Of a short run, a line a step."""
    plain = {"max_steps": 2, "per_device_train_batch_size": 2, "max_length": 128, "learning_rate": 1e-3}
    plain |= {"logging_steps": 1, "save_strategy": "no", "disable_tqdm": True}
    return quiet(folder, **plain | arguments)


def test_the_page_is_what_the_code_says():
    if trl.__version__.startswith("0."):
        assert trl_arguments.table() in PAGE, "run make figures"
    for name, part, what in trl_arguments.rows():
        assert f"| {name} | {part} | {what} |" in PAGE, f"run make figures: TRL {trl.__version__} has {name}"


def test_the_page_tells_of_what_only_a_replaced_method_of_trainer_follows():
    plain = {field.name for field in fields(TrainingArguments)}
    for method in REPLACED:
        read = re.findall(r"\bargs\.(\w+)", inspect.getsource(getattr(Trainer, method)))
        assert not [name for name in plain & set(read) if f"`{name}`" not in PAGE], f"Trainer.{method} follows them"


@pytest.mark.parametrize("name", sorted(NAMES & set(REFUSED)))
def test_what_is_not_followed_is_refused_by_name(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} can't be followed: "):
        quiet(tmp_path, **{name: ASKED_FOR[name]})
    assert quiet(tmp_path, **{name: REFUSED[name][0][-1]}) is not None, "the neutral value asks for nothing"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("compute_metrics", lambda result: {}),
        ("preprocess_logits_for_metrics", lambda logits, labels: logits),
    ],
)
def test_a_trainer_argument_that_is_not_followed_is_refused_by_name(tmp_path, tokenized, tokenizer, name, value):
    assert trl_arguments.trainer_arguments()[name].startswith("refused")
    with pytest.raises(ValueError, match=f"{name} can't be followed"):
        ORPOTrainer(
            smoke_model(0), quiet(tmp_path), train_dataset=tokenized, processing_class=tokenizer, **{name: value}
        )


def test_defaults_are_trls_but_where_the_table_says_so():
    ours = {name: what for name, what in trl_arguments.config_arguments().items() if what.startswith("followed")}
    assert ours["learning_rate"].endswith("1e-06") and ours["logging_steps"].endswith("10")
    assert ours["beta"].endswith("0.1") and ours["max_length"].endswith("1024")
    assert set(trl_arguments.OURS) - {"max_prompt_length"} <= set(ours), "which TRL 1 has no longer"


def test_fsdp_is_refused_where_accelerates_launcher_asks_for_it(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="fsdp can't be followed: accelerate splits no model on a CPU"):
        quiet(tmp_path)


# ── what is followed has its effect ─────────────────────────────────────────────────────────────────────────


def test_rows_are_padded_with_padding_value(tmp_path, tokenizer):
    args = quiet(tmp_path, padding_value=7, layout="rows")
    trainer = ORPOTrainer(smoke_model(0), args, UNLIKE, processing_class=tokenizer)
    batch = next(iter(trainer.get_train_dataloader()))
    padded = batch["input_ids"][batch["attention_mask"] == 0]
    assert len(padded) and (padded == 7).all()


def test_dataset_num_proc_processes_tokenise(tmp_path, tokenizer, monkeypatch):
    asked, plain_map = [], Dataset.map

    def watched(self, *args, **how):
        asked.append(how.get("num_proc"))
        return plain_map(self, *args, **how)

    monkeypatch.setattr(Dataset, "map", watched)
    ways = [quiet(tmp_path, dataset_num_proc=processes) for processes in (None, 2)]
    one, two = (prepare_pairs(UNLIKE, tokenizer, args, "train_dataset") for args in ways)
    assert asked == [None, 2] and one[:] == two[:]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """A model, and an adapter of it."""
    folder = tmp_path_factory.mktemp("models")
    smoke_model(0).save_pretrained(folder / "model")
    model = type(smoke_model(0)).from_pretrained(folder / "model")
    get_peft_model(model, LoraConfig(task_type="CAUSAL_LM")).save_pretrained(folder / "adapter")
    return {name: str(folder / name) for name in ("model", "adapter")}


@pytest.mark.parametrize("kind", ["model", "adapter"])
@pytest.mark.parametrize("asked", [{"dtype": "bfloat16"}, '{"torch_dtype": "bfloat16"}', None])
def test_model_init_kwargs_make_the_model(tmp_path, tokenizer, folders, kind, asked):
    args = quiet(tmp_path, model_init_kwargs=asked)
    trainer = ORPOTrainer(folders[kind], args, UNLIKE, processing_class=tokenizer)
    assert trainer.model.dtype == (torch.bfloat16 if asked else torch.float32)


@pytest.mark.parametrize(
    ("name", "asked", "says"),
    [
        ("smoke", {"dtype": "bfloat16"}, "smoke is made on the spot"),
        ("model", {"revision": "main"}, "a folder has no revision"),
        ("model", {"layers": 3}, "can't be loaded: .*unexpected keyword argument 'layers'"),
    ],
)
def test_model_init_kwargs_that_change_nothing_are_refused(tmp_path, tokenizer, folders, name, asked, says):
    with pytest.raises(ValueError, match=says) as error:
        args = quiet(tmp_path, model_init_kwargs=asked)
        ORPOTrainer(folders.get(name, name), args, UNLIKE, processing_class=tokenizer)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("off", [True, False])
def test_dropout_is_off_unless_it_is_asked_for(tmp_path, tokenizer, off):
    lora = LoraConfig(lora_dropout=0.5, init_lora_weights=False, task_type="CAUSAL_LM")
    args = quiet(tmp_path, disable_dropout=off)
    trainer = ORPOTrainer(smoke_model(0), args, UNLIKE, processing_class=tokenizer, peft_config=lora)
    batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    trainer.model.train()
    once, again = (trainer.compute_loss(trainer.model, dict(batch)).item() for _ in range(2))
    assert (once == again) is off


def test_an_optimizer_that_is_given_trains(tmp_path, tokenizer):
    model = smoke_model(0)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    sgd = torch.optim.SGD([model.lm_head.weight], lr=0.1)
    args = training(tmp_path, weight_decay=0.5)
    ORPOTrainer(model, args, UNLIKE, processing_class=tokenizer, optimizers=(sgd, None)).train()
    changed = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert len(changed) == 1 and sgd.param_groups[0]["initial_lr"] == 0.1


# ── what transformers' own Trainer would follow ─────────────────────────────────────────────────────────────


def lines(trainer) -> list[dict]:
    trainer.train()
    names = ("loss", "rewards/margins", "grad_norm")
    return [{name: line[name] for name in names} for line in trainer.state.log_history if "loss" in line]


def test_a_batch_that_fits_trains_as_if_it_had_been_asked_for(tmp_path, tokenizer, monkeypatch):
    plain, calls = ORPOTrainer.pair_losses, []

    def too_large(self, model, inputs):
        calls.append(len(inputs["row"]))
        if len(inputs["row"]) > 2 and len(calls) % 2 == 0:  # the first part of an update fits, the second doesn't
            raise RuntimeError("CUDA out of memory.")
        return plain(self, model, inputs)

    def run(size: int, **changes) -> list[dict]:
        args = training(tmp_path, layout="rows", gradient_accumulation_steps=2, max_length=64, **changes)
        args.per_device_train_batch_size = size
        return lines(ORPOTrainer(smoke_model(0), args, UNLIKE, processing_class=tokenizer))

    asked = run(2)
    monkeypatch.setattr(ORPOTrainer, "pair_losses", too_large)
    assert run(4, auto_find_batch_size=True) == asked
    assert calls[0] == 4 and calls[-1] == 2


def test_rows_of_like_length_come_together_where_that_is_asked_for(tmp_path, tokenizer):
    asked = {"group_by_length": True} if "group_by_length" in NAMES else {"train_sampling_strategy": "group_by_length"}
    args = training(tmp_path, per_device_train_batch_size=4, **asked)
    trainer = ORPOTrainer(smoke_model(0), args, UNLIKE, processing_class=tokenizer)
    lengths = [trainer.train_dataset[row]["length"] for row in trainer._get_train_sampler()]
    assert max(lengths[:4]) == max(lengths) and sorted(lengths[:4], reverse=True) == lengths[:4]


def test_what_several_processes_can_not_do_is_refused(tmp_path, monkeypatch):
    args = quiet(tmp_path)
    args.average_tokens_across_devices = True  # which transformers takes back in one process
    monkeypatch.setattr(TrainingArguments, "world_size", 2)
    assert refuse_unfollowed(args, {}, "ORPOTrainer")
    refused = {"auto_find_batch_size": True, "average_tokens_across_devices": False}
    for name, value in (refused | {"train_sampling_strategy": "batch_rebalance"}).items():
        changed = copy.copy(args)
        setattr(changed, name, value)
        with pytest.raises(ValueError, match=f"{name}.* can't be followed"):
            refuse_unfollowed(changed, {}, "ORPOTrainer")


def test_buffers_are_not_broadcast_with_shared_rows(tmp_path, tokenizer):
    with pytest.raises(ValueError, match="ddp_broadcast_buffers can't be followed"):
        args = quiet(tmp_path, ddp_broadcast_buffers=True)
        ORPOTrainer(smoke_model(0), args, UNLIKE, processing_class=tokenizer)
