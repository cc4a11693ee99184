"""What a trainer of preference pairs is given: followed, or refused in one line before anything is trained.

The names are those of TRL's ORPOTrainer; `UNFOLLOWED` holds those that are not followed, `config.REFUSED` the config's.
"""

import inspect

from datasets import Dataset, IterableDataset
from transformers import Trainer

from helpers.data.door import as_conversations
from helpers.data.tokenize import tokenize_preferences
from helpers.training.base_model import find_base_model, load_tokenizer
from helpers.training.config import PreferenceConfig
from helpers.training.draws import refuse_other_ways_of_drawing
from helpers.training.policy import NO_LIMIT, hub_options, readable_tokens

# What `tokenize_preferences` makes, and a trainer reads
TOKENISED = ("chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels", "prompt_length", "row")
COLLATOR = "leave it out, or give a helpers.data.PreferenceCollator"
# Arguments of the constructor that can't be followed
UNFOLLOWED = ("compute_metrics", "compute_loss_func", "preprocess_logits_for_metrics")


# ── arguments ───────────────────────────────────────────────────────────────────────────────────────────────


def refuse_unfollowed(args, kwargs: dict, name: str):
    """The config; raises ValueError for what can't be followed, of the config or of the constructor's `kwargs`."""
    if args is None:
        raise ValueError(f"{name} needs args: give a config with an output_dir")
    if not isinstance(args, PreferenceConfig):
        ours = name.replace("Trainer", "Config")
        theirs = f"{type(args).__name__} of {type(args).__module__.split('.')[0]}"
        raise ValueError(
            f"args is the {theirs}: make it with the {ours} that stands beside {name}, under the same names"
        )
    known = inspect.signature(Trainer.__init__).parameters
    if unknown := [given for given in kwargs if given not in known and given != "tokenizer"]:
        raise TypeError(f"{name} has no argument {unknown[0]}: leave it out")
    for given in UNFOLLOWED:
        if kwargs.get(given) is not None:
            raise ValueError(f"{given} can't be followed: {name} computes its own loss and returns no predictions")
    if args.n_gpu > 1:
        raise ValueError(f"{args.n_gpu} GPUs in one process: set CUDA_VISIBLE_DEVICES=0, or start with torchrun")
    if args.world_size > 1 and not args.average_tokens_across_devices:
        raise ValueError(
            "average_tokens_across_devices=False can't be followed: the mean is over all processes' pairs; leave it out"
        )
    refuse_other_ways_of_drawing(args)
    return args


# ── tokenizer and model ─────────────────────────────────────────────────────────────────────────────────────


def tokenizer_of(model, processing_class, args):
    """The tokenizer that was given, else that of the model's folder or hub id; ValueError where it can't pad."""
    tokenizer = processing_class
    if tokenizer is None:
        name = model if isinstance(model, str) else getattr(getattr(model, "config", None), "_name_or_path", None)
        if not name:
            raise ValueError("processing_class is missing and the model has no name to find it by: give the tokenizer")
        try:
            tokenizer = load_tokenizer(find_base_model(name)[0], **hub_options(args))
        except (OSError, ValueError) as error:
            said = " ".join(str(error).split())
            raise ValueError(f"processing_class is missing, and there is none at {name} ({said}): give it") from error
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # of a processor of text and images
    if not hasattr(tokenizer, "pad_token_id"):
        raise ValueError(f"processing_class is {type(tokenizer).__name__}: give a tokenizer")
    if tokenizer.pad_token_id is None and args.padding_value is None:
        raise ValueError("the tokenizer has no pad token: set tokenizer.pad_token = tokenizer.eos_token")
    return tokenizer


# ── data ────────────────────────────────────────────────────────────────────────────────────────────────────


def prepare_pairs(dataset, tokenizer, args, name: str):
    """Preference pairs → the output of `tokenize_preferences`; what is tokenised already stays as it is.

    Rows may hold messages or plain strings, with the prompt apart or as the beginning of both conversations. As
    `eval_dataset` a dict of data sets is one too. Raises ValueError for a stream and for a dict to train on.
    """
    if dataset is None:
        return None
    if isinstance(dataset, dict):
        if name == "train_dataset":
            splits = ", ".join(dataset)
            raise ValueError(f"train_dataset is a dict of data sets ({splits}): give one split, dataset['train']")
        return {key: prepare_pairs(part, tokenizer, args, f"{name}[{key!r}]") for key, part in dataset.items()}
    if isinstance(dataset, IterableDataset):
        raise ValueError(f"{name} is a stream: take its rows with Dataset.from_list(list(dataset))")
    if not isinstance(dataset, Dataset):
        raise ValueError(f"{name} is {type(dataset).__name__}: give a Dataset, such as Dataset.from_list(rows)")
    if not len(dataset):
        raise ValueError(f"{name} has no rows: give at least one pair")
    if "chosen_input_ids" in dataset.column_names:
        if missing := [column for column in TOKENISED if column not in dataset.column_names]:
            raise ValueError(f"{name} is tokenised and has no column {missing[0]}: give pairs as they are")
        return dataset
    try:
        return tokenize_preferences(
            as_conversations(dataset),
            tokenizer,
            args.max_length or NO_LIMIT,
            args.max_prompt_length,
            args.dataset_num_proc,
        )
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def refuse_unreadable_rows(model, tokenized: Dataset, name: str) -> None:
    """Raise a ValueError that names the first row with too many tokens for the model, or one that it does not know."""
    readable, why = readable_tokens(model.config)
    known = embeddings(model)
    sides = zip(tokenized["chosen_input_ids"], tokenized["rejected_input_ids"], strict=True)
    for row, pair in enumerate(sides):
        longest, highest = max(map(len, pair)), max(map(max, pair))
        if longest > readable:
            raise ValueError(f"{name}, row {row}: {longest} tokens, and {why}: set max_length={readable}")
        if highest >= known:
            raise ValueError(
                f"{name}, row {row}: token {highest}, and the model has {known} embeddings: use its own "
                "tokenizer, or model.resize_token_embeddings(len(tokenizer))"
            )


def refuse_padding(model, pad_token_id: int) -> None:
    """Raise a ValueError for a pad token without an embedding."""
    if not 0 <= pad_token_id < embeddings(model):
        raise ValueError(
            f"rows are padded with token {pad_token_id}, and the model has {embeddings(model)} embeddings: set "
            "tokenizer.pad_token = tokenizer.eos_token, or model.resize_token_embeddings(len(tokenizer))"
        )


def embeddings(model) -> int:
    """How many tokens the model knows."""
    embedding = model.get_input_embeddings()
    return embedding.num_embeddings if hasattr(embedding, "num_embeddings") else len(embedding.weight)


def refuse_unreadable_batches(collator, dataset: Dataset) -> None:
    """Raise a ValueError for a collator of the user's own whose batches a trainer can't read."""
    try:
        batch = collator([dataset[0]])
        lacks = [name for name in ("input_ids", "labels", "row") if name not in batch]
    except Exception as error:  # it is a program of the user's
        raise ValueError(f"data_collator fails on row 0 ({' '.join(str(error).split())[:100]}): {COLLATOR}") from error
    if lacks or not {"attention_mask", "segment_ids"} & set(batch):
        raise ValueError(f"data_collator makes no {(lacks or ['attention_mask'])[0]}: {COLLATOR}")
