"""Every argument of TRL's ORPOConfig and ORPOTrainer is followed or refused, and docs/trl_arguments.md says which."""

import pytest
import trl

from helpers.files import REPOSITORY
from helpers.training.base_model import smoke_model
from helpers.training.config import REFUSED
from helpers.training.orpo import ORPOConfig, ORPOTrainer
from scripts import trl_arguments

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
}


def quiet(folder, **arguments) -> ORPOConfig:
    return ORPOConfig(output_dir=str(folder), use_cpu=True, report_to=[], **arguments)


def test_the_page_is_what_the_code_says():
    page = (REPOSITORY / "docs" / "trl_arguments.md").read_text(encoding="utf-8")
    if trl.__version__.startswith("0."):
        assert trl_arguments.table() in page, "run make figures"
    for name, part, what in trl_arguments.rows():
        assert f"| {name} | {part} | {what} |" in page, f"run make figures: TRL {trl.__version__} has {name}"


@pytest.mark.parametrize("name", sorted(REFUSED))
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
