"""A trained model as a folder that can be deployed: merged, complete, and like the base that it was trained from.

Sizes are read from the headers of the weights' files; no weights are loaded.
"""

from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, GenerationConfig, PretrainedConfig

from helpers.credentials import kind_of_credential
from helpers.files import read_json, replaced_whole
from helpers.runs.stage import refuse_cut
from helpers.runs.told import RunFirst
from helpers.training.base_model import (
    find_base_model,
    is_adapter,
    kept_from_hub,
    load_config,
    load_model,
    load_tokenizer,
)
from helpers.training.stages import model_in

SAVE_AGAIN = "save it again with model.save_pretrained(folder) and tokenizer.save_pretrained(folder)"
TOKENIZER_AGAIN = "save the tokenizer that the model was trained with"
LARGEST_TEXT = 2**18  # bytes of a file that is looked through for credentials; a vocabulary is larger
SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token", "additional_special_tokens")


# ── which folders ───────────────────────────────────────────────────────────────────────────────────────────


def trained_models(run, profile) -> dict[str, Path]:
    """{"base", "sft", "orpo": the folder of its model} of a run; a RunFirst where one is not trained yet."""
    stages = {name: run.stage(name) for name in ("sft", "orpo")}
    if any(not stage.training for stage in stages.values()):
        lacking = ", ".join(name for name, stage in stages.items() if not stage.training)
        raise RunFirst(f"{run.path.name} has no trained model of {lacking}: run notebooks 02 and 04 first")
    base = base_folder(profile.model, run.path / "deploy" / "base")
    return {"base": base} | {name: folder_of(stage) for name, stage in stages.items()}


def folder_of(stage) -> Path:
    """The folder of a stage's model; an adapter, as a job leaves it, is first merged into <run>/deploy/<stage>."""
    if not is_adapter(str(stage.model_path)):
        return stage.model_path
    refuse_cut(stage.model_path, "fetch the results of its job again")
    return save(model_in(stage), load_tokenizer(str(stage.model_path)), stage.run.path / "deploy" / stage.name)


def base_folder(source: str, target: Path) -> Path:
    """The folder of a base model; an adapter, or one that lies in no folder, is saved to `target`."""
    path, _ = find_base_model(source)
    kept = path if Path(path).is_dir() else kept_from_hub(path)
    if kept and not is_adapter(kept):
        return Path(kept)
    return target if (target / "config.json").is_file() else merged(path, target)


def merged(source: str | Path, target: Path) -> Path:
    """Save a model as an ordinary one to `target`: an adapter's matrices are added to the weights of its base."""
    return save(load_model(str(source)), load_tokenizer(str(source)), target)


def save(model, tokenizer, target: Path) -> Path:
    """Save a model with its tokenizer to `target`."""
    with replaced_whole(target) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return target


# ── what is checked ─────────────────────────────────────────────────────────────────────────────────────────


def checked_model(folder: Path | str, base: Path | str) -> str:
    """One line on a saved model that is complete and fits its base; a ValueError of one line, with the fix, if not.

    base: the folder of the model that training started from, or a name that `load_config` knows.
    """
    folder = Path(folder)
    refuse_unmerged(folder)
    refuse_cut(folder, SAVE_AGAIN)
    refuse_secrets_in(folder)
    config, trained_from = load_config(str(folder)), load_config(str(base))
    count = check_shapes(folder, config, trained_from)
    check_tokenizer(folder, config, str(base))
    stop = check_stop(folder)
    sizes = f"{count[0]:,} weights in {count[1]} tensors, all of them with the base's shapes"
    return f"{sizes}; vocabulary, special tokens and chat template of the base; stops at {stop}"


def refuse_unmerged(folder: Path) -> None:
    """The folder is there, and is a whole model in safetensors."""
    if is_adapter(str(folder)):
        raise ValueError(f"{folder} holds an adapter, which no server loads by itself: merged(adapter, folder) first")
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no config.json: give a folder made by save_pretrained()")
    if not any(folder.glob("*.safetensors")):
        raise ValueError(f"{folder} holds no weights in safetensors: {SAVE_AGAIN}")


def refuse_secrets_in(folder: Path) -> None:
    """No file beside the weights and the vocabulary holds what looks like a credential: the folder is handed on."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size < LARGEST_TEXT):
        if kind := kind_of_credential(path.read_text(encoding="latin-1")):  # training_args.bin is no text
            raise ValueError(f"{path}: holds what looks like {kind}: delete the file, or take it out, and revoke it")


def check_shapes(folder: Path, config: PretrainedConfig, base: PretrainedConfig) -> tuple[int, int]:
    """The weights' files hold what the configuration asks for, which is what the base's does; (weights, tensors)."""
    groups, found = tensors_of(config), saved_shapes(folder)
    wanted = {name: shape for names, shape in groups for name in names}
    if wanted != {name: shape for names, shape in tensors_of(base) for name in names}:
        told = "config.json describes a model of other sizes than the base"
        raise ValueError(f"{folder}: {told}: name the base that it was trained from, or {SAVE_AGAIN}")
    if lost := [names[0] for names, _ in groups if not found.keys() & set(names)]:
        raise ValueError(f"{folder} lacks {len(lost)} of {len(groups)} tensors, the first is {lost[0]}: {SAVE_AGAIN}")
    if extra := sorted(found.keys() - wanted.keys()):
        raise ValueError(f"{folder} holds {extra[0]}, which the model does not have (an unmerged layer?): {SAVE_AGAIN}")
    if wrong := next((name for name in found if found[name] != wanted[name]), None):
        raise ValueError(f"{folder}: {wrong} is {found[wrong]}, the model has {wanted[wrong]}: {SAVE_AGAIN}")
    return sum(torch.Size(shape).numel() for _, shape in groups), len(groups)


def tensors_of(config: PretrainedConfig) -> list[tuple[list[str], tuple[int, ...]]]:
    """[(its names, its shape)] of each tensor that a model of this configuration saves; tied weights have two names."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    groups = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        groups.setdefault(id(tensor), ([], tuple(tensor.shape)))[0].append(name)
    return list(groups.values())


def saved_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """{tensor: shape} of a folder, from the headers of the files that its index names, or of all where it has none."""
    index = read_json(folder / "model.safetensors.index.json", {}).get("weight_map", {})
    names = sorted(set(index.values())) or sorted(path.name for path in folder.glob("*.safetensors"))
    shapes = {}
    for name in names:
        with safe_open(folder / name, framework="pt") as file:
            shapes |= {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 (no dict)
    return shapes


def check_tokenizer(folder: Path, config: PretrainedConfig, base: str) -> None:
    """The tokenizer is the base's, and the embedding has a row for each of its tokens."""
    ours, theirs = load_tokenizer(str(folder)), load_tokenizer(base)
    most, rows = max(ours.get_vocab().values()), config.vocab_size
    if most >= rows:
        raise ValueError(f"{folder}: the embedding has {rows:,} rows, none for token {most:,}: {TOKENIZER_AGAIN}")
    if ours.get_vocab() != theirs.get_vocab():
        raise ValueError(f"{folder}: the vocabulary is not the base's: {TOKENIZER_AGAIN}")
    for name in SPECIAL:
        if getattr(ours, name) != getattr(theirs, name):
            told = f"{name} is {getattr(ours, name)!r}, the base has {getattr(theirs, name)!r}"
            raise ValueError(f"{folder}: {told}: {TOKENIZER_AGAIN}")
    if not ours.chat_template or ours.chat_template != theirs.chat_template:
        said = "is not the base's" if ours.chat_template else "is missing"
        raise ValueError(f"{folder}: the chat template {said}: {TOKENIZER_AGAIN}")


def check_stop(folder: Path) -> str:
    """Generation stops at the token that ends an answer; that token."""
    tokenizer, config = load_tokenizer(str(folder)), None
    if (folder / "generation_config.json").is_file():
        config = GenerationConfig.from_pretrained(folder)
    stops = config.eos_token_id if config else load_config(str(folder)).eos_token_id
    if tokenizer.eos_token_id not in (stops if isinstance(stops, list) else [stops]):
        raise ValueError(
            f"{folder}: generation stops at {stops}, an answer ends with {tokenizer.eos_token_id} "
            f"({tokenizer.eos_token}): set model.generation_config.eos_token_id, then {SAVE_AGAIN}"
        )
    return tokenizer.eos_token
