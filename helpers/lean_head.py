"""Log-probs of given tokens straight from hidden states: vocabulary logits for a few rows at a time, none of them kept.

The logits are usually a step's largest tensor: 8 pairs of 1,024 tokens at Qwen3's vocabulary of 151,936 make 10 GB in
float32, and their gradient as much again. But a log-prob needs no more of them than one number, and its gradient with
respect to the hidden state is one vector of the hidden size, which can be worked out while the logits are there:

    log p(y) = W_y·h − log Σ_v exp(W_v·h)        ∂ log p(y) / ∂h = W_y − Σ_v p(v) W_v

So the head of the model is asked for log-probs in place of logits. Same numbers, same work, and memory that does not
grow with the length. (Liger-Kernel, arXiv 2410.10989, computes gradients in the forward pass as well.)
"""

from collections.abc import Callable
from contextlib import contextmanager

import torch

LOGIT_ROWS = 256  # rows of vocabulary logits alive at a time


class LabelLogps(torch.autograd.Function):
    """log p(label): hidden (N, H), weight (V, H), labels (N,) → float32 (N,). Softmax and sums are float32."""

    @staticmethod
    def forward(ctx, hidden, weight, labels):
        dtype = matmul_dtype(hidden, weight)
        low, matrix = hidden.to(dtype), weight.to(dtype)
        needs_slope = ctx.needs_input_grad[0]
        logps = torch.empty(len(labels), dtype=torch.float32, device=hidden.device)
        slope = torch.empty_like(low) if needs_slope else None
        for rows in blocks(len(labels)):
            minus_error, logps[rows] = residual(low[rows], matrix, labels[rows], needs_slope)
            if needs_slope:
                slope[rows] = minus_error.to(dtype) @ matrix
        ctx.save_for_backward(hidden, weight, labels, slope)
        ctx.dtype = dtype
        return logps

    @staticmethod
    def backward(ctx, grad):
        hidden, weight, labels, slope = ctx.saved_tensors
        grad_hidden = (grad[:, None] * slope.float()).to(hidden.dtype) if slope is not None else None
        grad_weight = None
        if ctx.needs_input_grad[1]:  # a frozen head, as under LoRA, is spared this second pass over the logits
            low, matrix = hidden.to(ctx.dtype), weight.to(ctx.dtype)
            for rows in blocks(len(labels)):
                minus_error, _ = residual(low[rows], matrix, labels[rows], needs_slope=True)
                part = minus_error.mul_(grad[rows, None]).to(ctx.dtype).T @ low[rows]
                grad_weight = part.float() if grad_weight is None else grad_weight.add_(part)
            grad_weight = grad_weight.to(weight.dtype)
        return grad_hidden, grad_weight, None


def matmul_dtype(hidden: torch.Tensor, weight: torch.Tensor) -> torch.dtype:
    """What autocast would multiply in, or the weight's own dtype."""
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


def blocks(n: int) -> list[slice]:
    """0 … n in slices of LOGIT_ROWS."""
    return [slice(start, start + LOGIT_ROWS) for start in range(0, n, LOGIT_ROWS)]


def residual(hidden, weight, labels, needs_slope: bool):
    """(onehot(label) − p, log p(label)) of a few rows: the only place where logits exist, (n, V) in float32."""
    logits = (hidden @ weight.T).float()
    total = logits.logsumexp(-1)
    logps = logits.gather(-1, labels[:, None])[:, 0] - total
    if not needs_slope:
        return None, logps
    minus_p = logits.sub_(total[:, None]).exp_().neg_()
    minus_p.scatter_add_(-1, labels[:, None], torch.ones_like(total)[:, None])
    return minus_p, logps


# ── asking a model for log-probs ────────────────────────────────────────────────────────────────────────────


def lean_logps(model, inputs: dict, select: Callable, labels: torch.Tensor) -> torch.Tensor:
    """log p of `labels` (N,), float32, at the positions that `select` takes: hidden (B, L, H) → (N, H)."""
    head = output_head(model)
    with replaced_forward(head, lambda hidden: LabelLogps.apply(select(hidden), head.weight, labels)):
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


def why_not_lean(model) -> str | None:
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
