"""What a trainer of preference pairs is given: followed, or refused in one line before anything is trained.

The names are those of TRL's ORPOTrainer; `UNFOLLOWED` holds those that are not followed, `config.REFUSED` the config's.
"""

import inspect

import torch
import transformers
from datasets import Dataset, IterableDataset
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from helpers.data.schema import COLUMNS, SIDES, as_messages
from helpers.data.tokenize import tokenize_preferences
from helpers.training.draws import refuse_other_ways_of_drawing

NO_LIMIT = 1_000_000  # tokens
# Arguments of the constructor that can't be followed
UNFOLLOWED = ("compute_metrics", "compute_loss_func", "preprocess_logits_for_metrics")


# ── arguments ───────────────────────────────────────────────────────────────────────────────────────────────


def refuse_unfollowed(args, kwargs: dict, name: str):
    """The config; raises ValueError for what can't be followed, of the config or of the constructor's `kwargs`."""
    if args is None:
        raise ValueError(f"{name} needs args: give a config with an output_dir")
    for given in UNFOLLOWED:
        if kwargs.get(given) is not None:
            raise ValueError(f"{given} can't be followed: {name} computes its own loss and returns no predictions")
    if args.n_gpu > 1:
        raise ValueError(f"{args.n_gpu} GPUs in one process: set CUDA_VISIBLE_DEVICES=0, or start with torchrun")
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
        tokenizer = AutoTokenizer.from_pretrained(name)
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # of a processor of text and images
    if tokenizer.pad_token_id is None and args.padding_value is None:
        raise ValueError("the tokenizer has no pad token: set tokenizer.pad_token = tokenizer.eos_token")
    return tokenizer


def open_model(model, args, peft_config=None):
    """The model to train: loaded if it is a name, an adapter put on, dropout off, all of it as TRL does.

    Raises ValueError for a model that can't be trained on pairs in one row.
    """
    if isinstance(model, str):
        model = AutoModelForCausalLM.from_pretrained(model, **args.model_init_kwargs or {})
    elif args.model_init_kwargs:
        raise ValueError("model_init_kwargs can't be followed: the model is made already; give its name as model=")
    refuse_model(model)
    if args.gradient_checkpointing and (peft_config or is_peft(model)):
        model.enable_input_require_grads()  # the frozen embedding would end the gradient's path
    if args.gradient_checkpointing and args.gradient_checkpointing_kwargs is None:
        # The older way runs a backward pass of its own in every layer, which DDP refuses with more than one row
        args.gradient_checkpointing_kwargs = {"use_reentrant": False}
    if peft_config is not None:
        model = with_adapter(model, peft_config)
    if args.disable_dropout:
        switch_dropout_off(model)
    return model


def model_maker(model, model_init, args, peft_config):
    """(the model to train, None), or (None, what makes it): one of the two that were given, opened by `open_model`."""
    if model is None and model_init is None:
        raise ValueError("model is missing: give a model, a folder or a hub id")
    if model_init is None:
        return open_model(model, args, peft_config), None
    if model is not None:
        raise ValueError("model and model_init are both given: leave one of them out")

    def make(trial):
        made = model_init(trial) if inspect.signature(model_init).parameters else model_init()
        return open_model(made, args, peft_config)

    return None, make


def switch_dropout_off(model) -> None:
    """Set dropout to 0: in torch's modules, as TRL does, and where a layer keeps the rate as a number (OPT, BioGPT)."""
    for module in model.modules():
        rates = ["p"] if isinstance(module, torch.nn.Dropout) else [name for name in vars(module) if "drop" in name]
        for name in rates:
            if isinstance(getattr(module, name), float):
                setattr(module, name, 0.0)


def is_peft(model) -> bool:
    """True for a model that PEFT has put an adapter on."""
    return isinstance(model, PeftModel)


def with_adapter(model, peft_config):
    """The model with a LoRA (or other PEFT) adapter; what an earlier adapter learned is merged in first, as in TRL."""
    if getattr(peft_config, "is_prompt_learning", False):
        raise ValueError("peft_config: prompt tuning adds tokens to every row, which pairs can't share; use LoRA")
    return get_peft_model(model.merge_and_unload() if is_peft(model) else model, peft_config)


def refuse_model(model) -> None:
    """Raise a ValueError for a model that can't be trained on pairs: for what it reads, keeps or adds to the loss."""
    config = model.config
    if any(hasattr(module, "recurrent_states") for module in model.modules()):  # RecurrentGemma, without its cache
        raise ValueError(f"{type(model).__name__} keeps the state of one batch for the next: give another model")
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(f"{type(model).__name__} is an encoder-decoder model: give a causal language model")
    if getattr(config, "output_router_logits", False):
        raise ValueError(
            "output_router_logits is set and the router's load-balancing loss can't be added here: train without it by "
            "model.config.output_router_logits = False"
        )


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


def as_conversations(dataset: Dataset) -> Dataset:
    """Rows with `prompt`, `chosen` and `rejected` as lists of messages."""
    missing = [column for column in SIDES if column not in dataset.column_names]
    if missing:
        raise ValueError(f"column {missing[0]} is missing: give each row {', '.join(COLUMNS)}")
    fresh = {"load_from_cache_file": False, "desc": "Conversations"}
    if "prompt" not in dataset.column_names:
        return dataset.map(with_explicit_prompt, with_indices=True, **fresh)
    if not any(isinstance(dataset[0][column], str) for column in COLUMNS):
        return dataset
    columns = {column: [as_messages(column, value) for value in dataset[column]] for column in COLUMNS}
    return Dataset.from_dict({name: dataset[name] for name in dataset.column_names} | columns)


def with_explicit_prompt(example: dict, row: int) -> dict:
    """The messages with which both conversations begin as `prompt`, the rest as `chosen` and `rejected`."""
    chosen, rejected = example["chosen"], example["rejected"]
    if isinstance(chosen, str):
        raise ValueError(f"row {row}: there is no prompt, and chosen is plain text: give a column prompt")
    alike = 0
    while alike < min(len(chosen), len(rejected)) - 1 and chosen[alike] == rejected[alike]:
        alike += 1
    if not alike:
        raise ValueError(f"row {row}: chosen and rejected begin with different messages: give a column prompt")
    return {"prompt": chosen[:alike], "chosen": chosen[alike:], "rejected": rejected[alike:]}


def refuse_unreadable_rows(model, tokenized: Dataset, name: str) -> None:
    """Raise a ValueError that names the first row with too many tokens for the model, or one that it does not know."""
    readable, why = readable_tokens(model.config)
    embedding = model.get_input_embeddings()
    known = embedding.num_embeddings if hasattr(embedding, "num_embeddings") else len(embedding.weight)
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


def readable_tokens(config) -> tuple[int, str]:
    """The longest row that a model reads rightly, and why no longer one."""
    if config.model_type == "zamba2" and transformers.__version__.startswith("4."):
        # Its torch code mixes later chunks into earlier ones
        return config.chunk_size, f"in transformers 4 Zamba2 sees later tokens beyond {config.chunk_size}"
    positions = getattr(config, "max_position_embeddings", None) or NO_LIMIT
    return positions, f"the model has {positions} positions"
