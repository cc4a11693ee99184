"""Log-probs of given tokens straight from hidden states: vocabulary logits for a few rows at a time.

The logits are usually a step's largest tensor: 8 pairs of 1,024 tokens at Qwen3's vocabulary of 151,936 make 10 GB in
float32, and their gradient as much again. But a log-prob needs no more of them than one number, and its gradient with
respect to the hidden state is one vector of the hidden size, which can be worked out while the logits are there:

    log p(y) = W_y·h − log Σ_v exp(W_v·h)        ∂ log p(y) / ∂h = W_y − Σ_v p(v) W_v

So the head of the model is asked for log-probs in place of logits. Same numbers, and memory that does not grow with the
length. (Liger-Kernel, arXiv 2410.10989, computes gradients in the forward pass as well.)
"""

from collections.abc import Callable
from contextlib import contextmanager

import torch

LOGIT_ROWS = 256  # rows of a block of vocabulary logits; no more than two blocks are alive at a time


class LabelLogps(torch.autograd.Function):
    """log p(label): hidden (N, H), weight (V, H), labels (N,) → float32 (N,). Softmax and sums are float32.

    `keep`: whether the last block stays for the backward pass, which begins with it. Blocks that don't stay are made
    again where the head learns, too.
    """

    @staticmethod
    def forward(ctx, hidden, weight, labels, keep=True):
        dtype = matmul_dtype(hidden, weight)
        low, matrix = hidden.to(dtype), weight.to(dtype)
        learns = any(ctx.needs_input_grad)
        logps = torch.empty(len(labels), dtype=torch.float32, device=hidden.device)
        slope, minus_error = torch.empty_like(low) if learns else None, None
        for rows in reversed(blocks(len(labels))):
            minus_error = None  # one block at a time
            minus_error, logps[rows] = residual(low[rows], matrix, labels[rows], learns)
            if learns:
                slope[rows] = minus_error @ matrix
        kept = minus_error if keep and ctx.needs_input_grad[1] else None
        ctx.save_for_backward(hidden, weight, labels, slope, kept)
        ctx.dtype = dtype
        return logps

    @staticmethod
    def backward(ctx, grad):
        hidden, weight, labels, slope, minus_error = ctx.saved_tensors
        grad_hidden = (grad[:, None] * slope.float()).to(hidden.dtype) if ctx.needs_input_grad[0] else None
        grad_weight = None
        if ctx.needs_input_grad[1]:  # a frozen head, as under LoRA, is spared this second pass over the logits
            low, matrix = hidden.to(ctx.dtype), weight.to(ctx.dtype)
            scaled = (grad[:, None] * hidden.float()).to(ctx.dtype)
            for rows in blocks(len(labels)):
                if minus_error is None:
                    minus_error, _ = residual(low[rows], matrix, labels[rows], learns=True)
                part = minus_error.T @ scaled[rows]
                grad_weight = part.float() if grad_weight is None else grad_weight.add_(part)
                minus_error = None
            grad_weight = torch.zeros_like(weight) if grad_weight is None else grad_weight.to(weight.dtype)
        return grad_hidden, grad_weight, None, None


def matmul_dtype(hidden: torch.Tensor, weight: torch.Tensor) -> torch.dtype:
    """What autocast would multiply in, or the weight's own dtype."""
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


def blocks(n: int) -> list[slice]:
    """0 … n in slices of LOGIT_ROWS, the last one first; what is left over is the first."""
    return [slice(max(end - LOGIT_ROWS, 0), end) for end in range(n, 0, -LOGIT_ROWS)]


def residual(hidden, weight, labels, learns: bool):
    """(onehot(label) − p, log p(label)) of a few rows: the only place where logits exist, (n, V) in float32."""
    logits = (hidden @ weight.T).float()
    of_label, highest = logits.gather(-1, labels[:, None]), logits.amax(-1, keepdim=True)
    powers = logits.sub_(highest).exp_()
    total = powers.sum(-1, keepdim=True)
    logps = (of_label - highest - total.log())[:, 0]
    if not learns:
        return None, logps
    minus_p = powers.div_(-total)
    minus_p.scatter_add_(-1, labels[:, None], torch.ones_like(total))
    return minus_p.to(hidden.dtype), logps


@torch.no_grad()
def predictions(hidden: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(sum of the entropies in nats, labels that are the most likely token, labels), float32, over (N, H) and (N,)."""
    dtype = matmul_dtype(hidden, weight)
    low, matrix, found = hidden.to(dtype), weight.to(dtype), torch.zeros(3, device=hidden.device)
    for rows in blocks(len(labels)):
        logps = (low[rows] @ matrix.T).float().log_softmax(-1)
        hits = (logps.argmax(-1) == labels[rows]).sum()
        found += torch.stack([-(logps.exp() * logps).sum(), hits.float(), hits.new_tensor(len(logps)).float()])
    return found


# ── asking a model for log-probs ────────────────────────────────────────────────────────────────────────────


def chunked_logps(model, inputs: dict, select: Callable, labels: torch.Tensor, keep: bool = True) -> torch.Tensor:
    """log p of `labels` (N,), float32, at the positions that `select` takes: hidden (B, L, H) → (N, H).

    keep: see `LabelLogps`. Of several calls before one backward pass, one may keep its block.
    """
    head = output_head(model)
    with replaced_forward(head, lambda hidden: LabelLogps.apply(select(hidden), head.weight, labels, keep)):
        return model(**inputs, use_cache=False).logits


def output_head(model):
    """The layer that makes logits, also of a model wrapped for several devices."""
    return getattr(model, "module", model).get_output_embeddings()


@contextmanager
def replaced_forward(module, forward: Callable):
    """Inside, calling `module` calls `forward`: within the model's own forward, so that wrappers notice nothing."""
    module.forward = forward  # an attribute of the instance hides the method of the class
    try:
        yield
    finally:
        del module.forward


def chunking_obstacle(model) -> str | None:
    """Why this model's logits can't be left out; None if they can. Asks the model for the logits of two tokens."""
    head = output_head(model)
    if type(head) is not torch.nn.Linear or head.bias is not None:
        bias = " with a bias" if getattr(head, "bias", None) is not None else ""
        return f"its head is {type(head).__name__}{bias}, not a plain matrix"
    made = []
    handle = head.register_forward_hook(lambda module, inputs, logits: made.append(logits))
    try:
        with torch.no_grad():
            used = model(input_ids=torch.tensor([[0, 1]], device=head.weight.device), use_cache=False).logits
    finally:
        handle.remove()
    if len(made) != 1 or not torch.equal(made[0].float(), used.float()):
        return "it changes the logits that its head makes"
    return None
