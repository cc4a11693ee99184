"""Is one row for several pairs right for this model? By what the model is, then by what it does with two short pairs.

The shared row hides tokens from each other with a mask and counts positions with position ids. It is right for a model
whose tokens meet in attention alone, under that mask and at those positions. So config and modules are read first: no
convolution over tokens, no recurrent state, no window that is shorter than a row. Then two short pairs share a row:

- no gradient reaches the tokens that the mask hides from an answer (exactly none, however small the weights are);
- other position ids give other log-probs;
- the log-prob of every token, and an answer's gradient at every embedding, are those of rows of their own.

What can't be proved gets two rows a pair, the textbook layout, which every causal model can read.
"""

import inspect
from contextlib import contextmanager

import torch
from datasets import Dataset

from helpers.data.collate import PreferenceCollator
from helpers.data.schema import SIDES
from helpers.data.tokenize import response_tokens
from helpers.objective.labels import IGNORE
from helpers.objective.logprobs import next_token_logits, row_mask, token_logps
from helpers.objective.shared_row import may_look, shared_tokens

ATTENTIONS = ("eager", "sdpa")  # those that take a mask of ours
ATTENTION_LAYERS = {"full_attention", "sliding_attention", "chunked_attention"}  # as configs call them
MIXERS = (torch.nn.Conv1d, torch.nn.RNNBase)  # a picture's Conv2d sees no tokens
WINDOWS = ("window", "window_size", "chunk_size", "floor_scale", "index_topk")  # how the names of such settings end
MASKED_WINDOWS = ("sliding_window", "attention_chunk_size")  # part of the mask that ours replaces
# A model is a program of its maker, which may fail in any way on a mask that it does not expect
FAILURES = (TypeError, ValueError, RuntimeError, AttributeError, LookupError, AssertionError)
PROBED = 6  # tokens of a prompt's beginning, of its end, and of an answer
# Relative, of token log-probs and of gradients. A layout that is wrong changes them by 2% at least; low precision adds
# up to the other
TOLERANCE, LOW_PRECISION = 1e-3, 16
ROUNDING = 1e-6  # relative, of log-probs that are float32: what two rows of one batch may differ in


def shared_row_obstacle(model, datasets: list[Dataset], max_length: int | None) -> str | None:
    """Why the "shared" layout would be wrong for this model, or can't be proved right; None if it is right.

    `datasets` are outputs of `tokenize_preferences`, and `max_length` limits the rows that may come later.
    """
    base = without_adapter(model)
    longest = max(max_length or 0, *(longest_row(dataset) for dataset in datasets))
    if reason := structure_obstacle(base, longest):
        return reason
    examples = [shortened(example) for example in most_telling(datasets[0])]
    widest = max(PreferenceCollator.row_tokens, *(max(map(shared_tokens, dataset)) for dataset in datasets))
    training = model.training
    model.eval()
    try:
        with torch.enable_grad():
            return difference(model, examples) or width_obstacle(model, examples, widest)
    finally:
        model.train(training)


def without_adapter(model):
    """The model under an adapter, if it has one."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def longest_row(dataset: Dataset) -> int:
    """Tokens of the longest prompt and response."""
    return max(len(ids) for side in SIDES for ids in dataset[f"{side}_input_ids"])


# ── what the model is ───────────────────────────────────────────────────────────────────────────────────────


def structure_obstacle(base, longest: int) -> str | None:
    """What in the config or the modules speaks against shared rows, of pairs of up to `longest` tokens a side."""
    config = base.config.get_text_config()
    if base.config._attn_implementation not in ATTENTIONS:
        return f"its attention ({base.config._attn_implementation}) takes no mask of our own"
    if "position_ids" not in inspect.signature(base.forward).parameters:
        return f"{type(base).__name__} takes no position ids"
    if mixers := [type(module).__name__ for module in base.modules() if isinstance(module, MIXERS)]:
        return f"its tokens meet outside of attention ({mixers[0]})"
    if unknown := set(getattr(config, "layer_types", None) or ()) - ATTENTION_LAYERS:
        return f"its layers of type {min(unknown)} are not known to be attention"
    return window_obstacle(config, longest)


def window_obstacle(config, longest: int) -> str | None:
    """A window that is shorter than the rows: one in the mask meets positions, any other meets places in the row."""
    for name, window in config.to_dict().items():
        if not name.endswith(WINDOWS) or type(window) is not int or window <= 0:
            continue
        needed = longest if name in MASKED_WINDOWS else max(PreferenceCollator.row_tokens, 2 * longest)
        if window < needed and getattr(config, f"use_{name}", True):
            return f"its attention looks back {window} tokens only ({name}), and rows may hold {needed}"
    return None


# ── what it does with two pairs ─────────────────────────────────────────────────────────────────────────────


def most_telling(dataset: Dataset) -> list[dict]:
    """Of the first pairs the two with the longest answers, or the only one twice."""
    few = sorted(dataset.select(range(min(8, len(dataset)))), key=answer_tokens)
    return [few[-1], few[-2] if len(few) > 1 else few[-1]]


def answer_tokens(pair: dict) -> int:
    """Tokens of both answers."""
    return sum(response_tokens(pair, side) for side in SIDES)


def shortened(example: dict) -> dict:
    """A pair with a few tokens of its prompt and of its answers, in which a wrong layout shows as well."""
    length = example["prompt_length"]
    prompt = example["chosen_input_ids"][:length]
    prompt = prompt if length <= 2 * PROBED else prompt[:PROBED] + prompt[-PROBED:]
    pair = {"row": 0, "prompt_length": len(prompt)}
    for side in SIDES:
        answer = example[f"{side}_input_ids"][length : length + PROBED]
        pair |= {f"{side}_input_ids": prompt + answer, f"{side}_labels": [IGNORE] * len(prompt) + answer}
    return pair


def difference(model, examples: list[dict]) -> str | None:
    """How what two pairs do in one row differs from what they do in two rows each; gradients are the last answer's."""
    batch = PreferenceCollator(0, "shared", row_tokens=sum(map(shared_tokens, examples)))(examples)
    batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
    labels, segments, final = batch["labels"][0, 1:], batch["segment_ids"][0], batch["segment_ids"].max()
    last, seen = segments[1:] == final, may_look(final, segments)
    try:
        apart, expected = in_rows(model, examples)
        with leaf_embedding(model) as made:
            logps, moved = logps_here_and_moved(model, batch, segments == final)
        reached = gradient(logps[last], made)[0]
    except FAILURES as error:
        return failure(model, error)
    if reached[~seen].any():
        return "its answers depend on tokens that the mask hides from them"
    if torch.allclose(logps[last], moved[last], rtol=ROUNDING, atol=0):
        return "its log-probs do not follow the position ids"
    return unlike(apart, logps[labels != IGNORE], "token log-probs", model.dtype) or unlike(
        expected, reached[seen], "gradients", model.dtype
    )


def logps_here_and_moved(model, batch: dict, part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs of a shared row's labels, and those with a part of it one position further on: two of (W − 1,)."""
    position_ids = torch.cat([batch["position_ids"], batch["position_ids"] + part])
    mask = row_mask(model, batch["segment_ids"].expand(2, -1))
    inputs = {"input_ids": batch["input_ids"].expand(2, -1), "position_ids": position_ids, "attention_mask": mask}
    logits = model(**inputs, use_cache=False).logits
    here, moved = token_logps(logits[:, :-1], batch["labels"][:, 1:].expand(2, -1))
    return here, moved


def in_rows(model, examples: list[dict]) -> tuple[torch.Tensor, torch.Tensor]:
    """In the textbook layout: log-probs of all answers' tokens, pair by pair, and the last answer's gradient."""
    batch = PreferenceCollator(0, "rows")(examples)
    batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
    with leaf_embedding(model) as made:
        logits = next_token_logits(model, batch)
    labels = batch["labels"][:, 1:]
    logps = token_logps(logits, labels)
    by_pair = [row for pair in range(len(examples)) for row in (pair, len(examples) + pair)]
    apart = torch.cat([logps[row][labels[row] != IGNORE] for row in by_pair])
    length = len(examples[-1]["rejected_input_ids"])
    return apart.detach(), gradient(logps[-1], made)[-1, :length]


def width_obstacle(model, examples: list[dict], widest: int) -> str | None:
    """Why a row of `widest` tokens fails where the model has fewer positions, though each answer fits."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not positions or widest <= positions:
        return None
    batch = PreferenceCollator(0, "shared", max_length=widest)(examples[:1])
    inputs = {name: batch[name].to(model.device) for name in ("input_ids", "position_ids", "segment_ids")}
    inputs["attention_mask"] = row_mask(model, inputs.pop("segment_ids"))
    try:
        with torch.no_grad():
            model(**inputs, use_cache=False)
    except FAILURES as error:
        return f"a row may hold {widest} tokens, of {positions} positions, and {failure(model, error)}"
    return None


# ── gradients without weights' ──────────────────────────────────────────────────────────────────────────────


@contextmanager
def leaf_embedding(model):
    """Collects what the embedding makes, as leaves of the graph: a gradient ends there, and no weight gets one."""
    made = []

    def leaf(module, inputs, output):
        made.append(output.detach().requires_grad_())
        return made[-1].clone()  # which a model may change in place

    handle = model.get_input_embeddings().register_forward_hook(leaf)
    try:
        yield made
    finally:
        handle.remove()


def gradient(logps: torch.Tensor, made: list[torch.Tensor]) -> torch.Tensor:
    """Of the sum of the log-probs at the one embedding that was made."""
    (embedding,) = made
    return torch.autograd.grad(logps.sum(), embedding)[0]


def unlike(alone: torch.Tensor, together: torch.Tensor, what: str, dtype: torch.dtype) -> str | None:
    """In what share the two differ, if in more than rounding explains."""
    differs = ((alone - together).norm() / alone.norm()).item()
    return None if differs <= tolerance(dtype) else f"its {what} change with the layout, by {differs:.1%}"


def tolerance(dtype: torch.dtype) -> float:
    """How far rounding may take two ways of the same sum apart."""
    fast = dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest"
    return max(TOLERANCE, LOW_PRECISION * torch.finfo(torch.bfloat16 if fast else dtype).eps)


def failure(model, error: Exception) -> str:
    """One line about a model that failed."""
    first_line = str(error).partition(chr(10))[0]
    return f"{type(without_adapter(model)).__name__} failed on it: {first_line or type(error).__name__}"
