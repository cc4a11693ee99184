"""The model that a trainer of preference pairs is given: opened as TRL does, or refused before anything is trained."""

import inspect
from pathlib import Path

import torch
import transformers
from peft import PeftConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from helpers.files import DamagedFile
from helpers.training.base_model import MADE, find_base_model, is_adapter, load_model, merged
from helpers.training.layout_check import FAILURES, without_adapter

NO_LIMIT = 1_000_000  # tokens


def open_model(model, args, peft_config=None, tags=()):
    """The model to train: loaded if it is a name, an adapter put on, dropout off, tagged, all of it as TRL does.

    Raises ValueError for a model that can't be trained on pairs in one row.
    """
    if isinstance(model, str):
        model = named_model(model, {"trust_remote_code": args.trust_remote_code} | (args.model_init_kwargs or {}))
    elif args.model_init_kwargs:
        raise ValueError("model_init_kwargs can't be followed: the model is made already; give its name as model=")
    if not isinstance(model, PreTrainedModel | PeftModel):
        raise ValueError(f"model is {type(model).__name__}: give a transformers model, a folder or a hub id")
    refuse_model(model)
    if args.gradient_checkpointing and not model.supports_gradient_checkpointing:
        kind = type(without_adapter(model)).__name__
        raise ValueError(f"gradient_checkpointing: {kind} can't recompute its activations: leave it out")
    if args.gradient_checkpointing and (peft_config or is_peft(model)):
        model.enable_input_require_grads()  # the frozen embedding would end the gradient's path
    if args.gradient_checkpointing and args.gradient_checkpointing_kwargs is None:
        # The older way runs a backward pass of its own in every layer, which DDP refuses with more than one row
        args.gradient_checkpointing_kwargs = {"use_reentrant": False}
    if peft_config is not None:
        model = with_adapter(model, peft_config)
    if args.disable_dropout:
        switch_dropout_off(model)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(
            "every parameter of the model is frozen: give a peft_config, or load its adapter with is_trainable=True"
        )
    model.add_model_tags(list(tags))  # by which the hub lists it, once it is pushed
    return model


def named_model(name: str, how: dict):
    """The model of a folder or of the hub, in float32 unless `how` has a dtype; an adapter is merged into its base.

    Raises ValueError where it can't be loaded so.
    """
    path, _ = find_base_model(name)
    if path in MADE and how.keys() - {"trust_remote_code"}:
        raise ValueError(f"model_init_kwargs can't be followed: {name} is made on the spot; make it yourself")
    if how.get("revision") and Path(path).is_dir():
        raise ValueError(f"model_init_kwargs: a folder has no revision, and {name} is read from {path}: leave it out")
    dtype = how.pop("torch_dtype", torch.float32)  # its older name
    how = {"dtype": dtype} | how
    try:
        if path in MADE or is_adapter(path):
            return load_model(path, **how)
        return AutoModelForCausalLM.from_pretrained(path, **how)
    except (*FAILURES, OSError) as error:
        if isinstance(error, DamagedFile | torch.OutOfMemoryError):
            raise
        raise ValueError(f"model {name} can't be loaded: {' '.join(str(error).split())}") from error


def hub_options(args) -> dict:
    """What a model's own tokenizer is loaded with, as the model is."""
    given = args.model_init_kwargs or {}
    revision = {"revision": given["revision"]} if given.get("revision") else {}
    return revision | {"trust_remote_code": given.get("trust_remote_code", args.trust_remote_code)}


def model_maker(model, model_init, args, peft_config, tags=()):
    """(the model to train, None), or (None, what makes it): one of the two that were given, opened by `open_model`."""
    if model is None and model_init is None:
        raise ValueError("model is missing: give a model, a folder or a hub id")
    if model_init is None:
        return open_model(model, args, peft_config, tags), None
    if model is not None:
        raise ValueError("model and model_init are both given: leave one of them out")

    def make(trial):
        made = model_init(trial) if inspect.signature(model_init).parameters else model_init()
        return open_model(made, args, peft_config, tags)

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
    if not isinstance(peft_config, PeftConfig):
        raise ValueError(f"peft_config is {type(peft_config).__name__}: give one of PEFT's, such as LoraConfig(r=16)")
    refuse_prompt_learning(peft_config)
    if is_peft(model):
        print("The earlier adapter is merged into the base: save trainer.model.merge_and_unload(), not the new one")
        model = merged(model)
    try:
        return get_peft_model(model, peft_config)
    except ValueError as error:
        raise ValueError(f"peft_config: {' '.join(str(error).split())}") from error


def refuse_prompt_learning(peft_config) -> None:
    """Raise a ValueError for adapters that are made of tokens."""
    if getattr(peft_config, "is_prompt_learning", False):
        raise ValueError("peft_config: prompt tuning adds tokens to every row, which pairs can't share; use LoRA")


def refuse_model(model) -> None:
    """Raise a ValueError for a model that can't be trained on pairs: for what it reads, keeps or adds to the loss."""
    config = model.config
    if any(hasattr(module, "recurrent_states") for module in model.modules()):  # RecurrentGemma, without its cache
        raise ValueError(f"{type(model).__name__} keeps the state of one batch for the next: give another model")
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(f"{type(model).__name__} is an encoder-decoder model: give a causal language model")
    if is_peft(model):
        refuse_prompt_learning(model.active_peft_config)
    refuse_other_heads(model)
    if getattr(config, "output_router_logits", False):
        raise ValueError(
            "output_router_logits is set and the router's load-balancing loss can't be added here: train without it by "
            "model.config.output_router_logits = False"
        )


def refuse_other_heads(model) -> None:
    """Raise a ValueError for a model that does not predict each token from those before it: asked with two tokens."""
    kind, fix = type(model).__name__, "give a causal language model, such as AutoModelForCausalLM loads"
    training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        with torch.no_grad():
            rows = [torch.tensor([[0, last]], device=device) for last in (1, 2)]
            one, other = (model(input_ids=row, use_cache=False).logits.float() for row in rows)
    except FAILURES as error:
        raise ValueError(f"{kind} makes no logits of tokens ({' '.join(str(error).split())[:100]}): {fix}") from error
    finally:
        model.train(training)
    if one.dim() != 3 or one.shape[1] != 2:
        raise ValueError(f"{kind} makes no logits for each token: {fix}")
    if (one[:, 0] - other[:, 0]).norm() > 16 * torch.finfo(model.dtype).eps * one[:, 0].norm():
        raise ValueError(f"{kind} looks at later tokens: {fix}")


def refuse_failing(model, args) -> None:
    """Raise a ValueError for a model that fails with its adapter, or in bf16 or fp16: asked with two tokens."""
    device, mixed = next(model.parameters()).device, "bf16" if args.bf16 else "fp16" if args.fp16 else None
    fixes = {"peft_config": "give other target_modules"} if is_peft(model) else {}
    fixes |= {mixed: f"leave {mixed} out"} if mixed else {}
    if not fixes:
        return
    dtype = torch.float16 if mixed == "fp16" else torch.bfloat16
    try:
        with torch.no_grad(), torch.autocast(device.type, dtype, enabled=bool(mixed)):
            model(input_ids=torch.tensor([[0, 1]], device=device), use_cache=False)
    except FAILURES as error:
        kind, reason = type(without_adapter(model)).__name__, " ".join(str(error).split())[:100]
        raise ValueError(f"{', '.join(fixes)}: {kind} fails so ({reason}): {' or '.join(fixes.values())}") from error


def readable_tokens(config) -> tuple[int, str]:
    """The longest row that a model reads rightly, and why no longer one."""
    if config.model_type == "zamba2" and transformers.__version__.startswith("4."):
        # Its torch code mixes later chunks into earlier ones
        return config.chunk_size, f"in transformers 4 Zamba2 sees later tokens beyond {config.chunk_size}"
    positions = getattr(config, "max_position_embeddings", None) or NO_LIMIT
    return positions, f"the model has {positions} positions"
