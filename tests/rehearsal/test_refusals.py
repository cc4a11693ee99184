"""What Optimum Neuron can't do gets a clear error before anything is compiled; the edges of bf16 stay finite."""

from types import SimpleNamespace

import pytest
import torch

from helpers.backends import load_neuron_model
from helpers.data.trl_format import sft_features
from helpers.neuron import NeuronDPOConfig, NeuronORPOConfig, NeuronORPOTrainer, NeuronSFTConfig, NeuronSFTTrainer
from helpers.neuron.refusals import refuse_model, refuse_unsupported
from helpers.objective.odds_ratio import orpo_loss
from helpers.training.base_model import SMOKE, load_model, load_tokenizer
from tests.rehearsal.launch import compiled_graphs
from tests.rehearsal.tiny import neuron_trainer, real_pairs, save_tiny_model


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def pairs():
    return real_pairs(10, load_tokenizer(SMOKE))


def refused(match: str, **changes):
    """refuse_unsupported on settings that are sound but for `changes`."""
    trn = SimpleNamespace(tensor_parallel_size=changes.pop("tensor_parallel_size", 1), data_parallel_size=1)
    args = {"trn_config": trn, "eval_strategy": "no", "resume_from_checkpoint": None, "dataloader_drop_last": True}
    args |= {"per_device_train_batch_size": 4, "layout": "rows", "pipeline_parallel_size": 1}
    args |= {"tensor_parallel_size": trn.tensor_parallel_size, "disable_sequence_parallel": False}
    model, eval_dataset = changes.pop("model"), changes.pop("eval_dataset", None)
    with pytest.raises(ValueError, match=match):
        refuse_unsupported(model, SimpleNamespace(**args | changes), range(10), eval_dataset)


@pytest.fixture(scope="module")
def neuron_model(path):
    from optimum.neuron.models.training import NeuronModelForCausalLM

    args = NeuronORPOConfig(output_dir="unused", bf16=False)
    return NeuronModelForCausalLM.from_pretrained(path, args.trn_config, dtype=torch.float32)


@pytest.mark.parametrize(
    ("match", "changes"),
    [
        ("pipeline_parallel_size > 1", {"pipeline_parallel_size": 2}),
        ("no evaluation during training", {"eval_dataset": range(3)}),
        ("no evaluation during training", {"eval_strategy": "steps"}),
        ("can't resume", {"resume_from_checkpoint": "somewhere"}),
        ("tensor_parallel_size 3 does not divide vocab_size|num_attention_heads", {"tensor_parallel_size": 3}),
        ("would hold 2 of 4 pairs", {"dataloader_drop_last": False}),
        ("10 pairs do not fill one batch of 16", {"per_device_train_batch_size": 16}),
        ("load the model with the args.trn_config of these args", {"layout": "shared"}),
    ],
)
def test_settings_are_refused_before_a_graph_is_compiled(neuron_model, match, changes):
    before = compiled_graphs()
    refused(match, model=neuron_model, **changes)
    assert compiled_graphs() == before


def test_shared_rows_are_refused_with_the_flash_kernel(neuron_model, monkeypatch):
    monkeypatch.setattr(neuron_model.config, "_attn_implementation", "flash_attention_2")
    refused("a mask that the flash kernel can't take", model=neuron_model, layout="shared")


def test_a_layout_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ValueError, match="layout 'packed': choose 'rows' or 'shared'"):
        NeuronORPOConfig(output_dir=str(tmp_path), layout="packed")


def test_an_ordinary_model_is_refused_by_name(path):
    refused("LlamaForCausalLM is no training model of Optimum Neuron", model=load_model(path))


CONFIGS = [NeuronORPOConfig, NeuronDPOConfig, NeuronSFTConfig]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", ["XLA_DOWNCAST_BF16", "XLA_USE_BF16"])
def test_downcasting_switches_are_refused(neuron_model, monkeypatch, tmp_path, name, config):
    monkeypatch.setenv(name, "1")
    refused(f"{name} is set", model=neuron_model)
    with pytest.raises(ValueError, match=f"{name} is set"):
        config(output_dir=str(tmp_path))


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"pipeline_parallel_size": 2, "per_device_train_batch_size": 2}, "pipeline_parallel_size > 1"),
        ({"eval_strategy": "steps"}, "no evaluation during training"),
        ({"resume_from_checkpoint": "somewhere"}, "can't resume"),
    ],
)
def test_arguments_are_refused_when_they_are_made(tmp_path, config, changes, match):
    with pytest.raises(ValueError, match=match):
        config(output_dir=str(tmp_path), **changes)


def test_heads_are_refused_before_the_model_is_made(path, tmp_path, monkeypatch):
    args = NeuronORPOConfig(output_dir=str(tmp_path))
    monkeypatch.setattr(args, "trn_config", SimpleNamespace(tensor_parallel_size=3))
    with pytest.raises(ValueError, match="tensor_parallel_size 3 does not divide"):
        load_neuron_model(path, args)


def test_sft_refuses_too_few_pairs_too(path, pairs, tmp_path):
    args = NeuronSFTConfig(output_dir=str(tmp_path), per_device_train_batch_size=16, max_steps=1, bf16=False)
    with pytest.raises(ValueError, match="10 pairs do not fill one batch of 16"):
        NeuronSFTTrainer(
            model=load_neuron_model(path, args),
            args=args,
            train_dataset=sft_features(pairs),
            processing_class=load_tokenizer(SMOKE),
        )


def test_resuming_is_refused_by_train(path, pairs, tmp_path):
    trainer = neuron_trainer(path, pairs, tmp_path, max_steps=1, per_device_train_batch_size=2)
    with pytest.raises(ValueError, match="load the checkpoint as the model instead"):
        trainer.train(resume_from_checkpoint=True)


def test_sizes_that_do_not_divide_are_named_with_those_that_do():
    smol = SimpleNamespace(
        model_type="llama", vocab_size=49152, num_attention_heads=9, num_key_value_heads=3, intermediate_size=1536
    )
    with pytest.raises(ValueError, match=r"2 does not divide num_attention_heads 9, .*: choose one of 1, 3$"):
        refuse_model(smol, 2)
    with pytest.raises(ValueError, match="9 does not divide vocab_size 49152"):
        refuse_model(smol, 9)
    refuse_model(smol, 3)
    qwen3 = SimpleNamespace(
        model_type="qwen3", vocab_size=151936, num_attention_heads=16, num_key_value_heads=8, intermediate_size=3072
    )
    with pytest.raises(ValueError, match=r"does not divide num_key_value_heads 8, .*: choose one of 1, 2, 4, 8$"):
        refuse_model(qwen3, 16)
    refuse_model(qwen3, 8)


def test_granite_is_refused_at_any_size():
    with pytest.raises(ValueError, match=r"Granite: Optimum Neuron 0.4.5 saves it as a Llama"):
        refuse_model(SimpleNamespace(model_type="granite", vocab_size=64, num_attention_heads=4), 1)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_length_that_sequence_parallelism_cannot_split_is_refused(tmp_path, config):
    settings = {"output_dir": str(tmp_path), "tensor_parallel_size": 2, "max_length": 97}
    with pytest.raises(ValueError, match=r"max_length 97 is not divisible by tensor_parallel_size 2.*: choose 98"):
        config(**settings)


def test_a_shared_row_that_sequence_parallelism_cannot_split_is_refused(tmp_path):
    settings = {"output_dir": str(tmp_path), "tensor_parallel_size": 4, "layout": "shared", "row_length": 130}
    with pytest.raises(ValueError, match=r"row_length 130 is not divisible by tensor_parallel_size 4.*: choose 132"):
        NeuronORPOConfig(**settings)


def test_negative_beta_is_refused(tmp_path):
    with pytest.raises(ValueError, match="beta is -1"):
        NeuronORPOConfig(output_dir=str(tmp_path), beta=-1)


def test_trainer_has_the_contract_of_the_other(path, pairs, tmp_path):
    trainer = neuron_trainer(path, pairs, tmp_path, max_steps=1, per_device_train_batch_size=2, max_prompt_length=64)
    assert isinstance(trainer, NeuronORPOTrainer) and trainer.args.max_prompt_length == 64


class FixedLogits(torch.nn.Module):
    """A model whose logits are its parameter."""

    def __init__(self, logits):
        super().__init__()
        self.values = torch.nn.Parameter(logits)

    def forward(self, input_ids):
        return SimpleNamespace(logits=self.values)


@pytest.mark.parametrize("certain", [(True, False), (False, True), (True, True), (False, False)])
@pytest.mark.parametrize("scale", [1e4, 30.0])
def test_bf16_edges_are_finite_on_the_device(certain, scale):
    """A response the model is sure of (p rounds to 1), or sure against (p = 0), in bf16 logits."""
    import torch_xla.core.xla_model as xm

    from helpers.neuron.logprobs import response_logps

    input_ids = torch.randint(32, (2, 6), generator=torch.Generator().manual_seed(0))
    labels = input_ids.clone()
    labels[:, :2] = -100
    logits = torch.zeros(2, 6, 32, dtype=torch.bfloat16)
    for row, sure in enumerate(certain):
        for position in range(5):
            logits[row, position, input_ids[row, position + 1]] = scale if sure else -scale
    device = xm.xla_device()
    model = FixedLogits(logits).to(device)
    chosen, rejected = response_logps(model, input_ids.to(device), labels.to(device)).chunk(2)
    loss = orpo_loss(-chosen, chosen, rejected, 1.0)
    loss.backward()
    assert torch.isfinite(loss.cpu()) and torch.isfinite(model.values.grad.cpu()).all()
    assert chosen.dtype == torch.float32
