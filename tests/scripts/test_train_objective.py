"""What scripts/train.py learns, in this process: SFT the answers only, LoRA in every linear layer, ORPO after SFT."""

import json

import pytest
import torch
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PhiConfig,
    PhiForCausalLM,
)

from helpers.data.load import load_preferences
from helpers.data.tokenize import tokenize_preferences
from helpers.training.base_model import SMOKE, load_tokenizer, smoke_model
from scripts import train

ASKED = "Please say at some length, and with many words, what the {} service of the cloud is for and who uses it"
PAIRS = [
    {"prompt": ASKED.format(name), "chosen": f"{name.title()}.", "rejected": f"Nothing {name}."}
    for name in ("storage", "queue")
]
SIZES = {"vocab_size": 49152, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return path


def start(folder, method: str, model, data, *options: str) -> list[dict]:
    """Trains in this process; returns what was logged."""
    given = ("--method", method, "--model", str(model), "--data", str(data), "--output_dir", str(folder), *options)
    plain = ("--backend", "cpu", "--bf16", "False", "--save_strategy", "no", "--max_length", "128")
    assert train.main([*given, *plain, "--per_device_train_batch_size", "2"]) == 0
    return [json.loads(line) for line in (folder / method / "log.jsonl").read_text().splitlines()]


def answer_nlls(model, data) -> tuple[float, float]:
    """The mean NLL of the chosen answers' tokens, and that of every token, prompts included; row by row."""
    answers, everything = [], []
    for row in tokenize_preferences(load_preferences(data), load_tokenizer(SMOKE), 128):
        ids = torch.tensor([row["chosen_input_ids"]])
        with torch.no_grad():
            logps = model(ids).logits[0, :-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        everything += (-logps).tolist()
        answers += (-logps[row["prompt_length"] - 1 :]).tolist()
    return sum(answers) / len(answers), sum(everything) / len(everything)


def test_sft_learns_the_answers_only(data, tmp_path):
    answer, everything = answer_nlls(smoke_model(0), data)
    assert abs(answer - everything) > 5e-3, "the two can be told apart"
    first = start(tmp_path / "out", "sft", SMOKE, data, "--max_steps", "1")[0]
    assert first["loss"] == pytest.approx(answer, abs=1e-4)


def tiny(name: str):
    torch.manual_seed(0)
    if name == "Phi-3":
        more = {"intermediate_size": 64, "num_key_value_heads": 1, "pad_token_id": 0}
        return Phi3ForCausalLM(Phi3Config(**SIZES, **more, bos_token_id=1, eos_token_id=2))
    if name == "OPT":
        return OPTForCausalLM(OPTConfig(**SIZES, ffn_dim=64, word_embed_proj_dim=32, pad_token_id=0))
    return PhiForCausalLM(PhiConfig(**SIZES, intermediate_size=64))


@pytest.mark.parametrize("name", ["Phi-3", "OPT", "Phi-2"])
def test_a_lora_rank_adapts_every_linear_layer(name, data, tmp_path):
    model = tiny(name)
    model.save_pretrained(tmp_path / "model")
    load_tokenizer(SMOKE).save_pretrained(tmp_path / "model")
    start(tmp_path / "out", "orpo", tmp_path / "model", data, "--max_steps", "1", "--lora_rank", "4")
    saved = load_file(tmp_path / "out" / "orpo" / "model" / "adapter_model.safetensors")
    adapted = {key.removeprefix("base_model.model.").split(".lora_")[0] for key in saved}
    linear = {key for key, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert adapted == linear - {"lm_head"} != set()


@pytest.fixture
def sft_adapter(data, tmp_path):
    """The folder of an adapter that SFT has trained, on a base that is a folder too."""
    smoke_model(0).save_pretrained(tmp_path / "base")
    load_tokenizer(SMOKE).save_pretrained(tmp_path / "base")
    fast = ("--max_steps", "3", "--lora_rank", "4", "--learning_rate", "5e-2")
    start(tmp_path / "first", "sft", tmp_path / "base", data, *fast)
    return tmp_path / "first" / "sft" / "model"


@pytest.mark.parametrize("rank", ["0", "4"])
def test_orpo_goes_on_from_what_sft_has_learned(rank, sft_adapter, data, tmp_path):
    """Its first loss is that of the taught model, and what is saved is whole, or says what it belongs to."""
    taught = AutoPeftModelForCausalLM.from_pretrained(sft_adapter)
    answer, _ = answer_nlls(taught.eval(), data)
    assert answer < answer_nlls(smoke_model(0), data)[0] - 0.1
    options = ("--max_steps", "2", "--lora_rank", rank, "--learning_rate", "1e-2")
    first, last = start(tmp_path / "out", "orpo", sft_adapter, data, *options)
    rows = [(line["loss"], line["nll_loss"] - 0.1 * line["log_odds_ratio"]) for line in (first, last)]
    assert all(loss == pytest.approx(sum_of_both, abs=1e-4) for loss, sum_of_both in rows)
    every_answer = [answer_nlls(taught, one) for one in split(data, tmp_path)]
    assert first["nll_loss"] == pytest.approx(sum(nll for nll, _ in every_answer) / 2, rel=1e-4)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "orpo" / "model")
    assert answer_nlls(saved.eval(), data)[0] < answer - 0.05


def split(data, folder):
    """A file for each row: ORPO's NLL is a mean over pairs of the means over their tokens."""
    for row, line in enumerate(data.read_text().splitlines()):
        (folder / f"{row}.jsonl").write_text(line + "\n")
        yield folder / f"{row}.jsonl"


def test_an_adapter_that_names_no_base_is_one_line(data, tmp_path, capsys):
    start(tmp_path / "first", "sft", SMOKE, data, "--max_steps", "1", "--lora_rank", "4")
    folder = tmp_path / "first" / "sft" / "model"
    assert (
        train.main(["--method", "orpo", "--model", str(folder), "--backend", "cpu", "--output_dir", str(tmp_path)]) == 1
    )
    assert "names no base model: merge_and_unload() it" in capsys.readouterr().err.splitlines()[-1]
