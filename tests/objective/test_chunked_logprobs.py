"""Log-probs without logits: against float64, in bf16, in memory; and the models for which a short cut is wrong."""

import gc

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, GPT2Config, GraniteConfig, MambaConfig, MistralConfig

from helpers.data.collate import PreferenceCollator
from helpers.objective import chunked_logprobs
from helpers.objective.chunked_logprobs import LabelLogps, chunked_logps, chunking_obstacle
from helpers.objective.logprobs import pair_logps
from helpers.training.base_model import smoke_model
from helpers.training.layout_check import shared_row_obstacle


def drawn(n=700, hidden=24, vocabulary=300, dtype=torch.float32):
    """More rows than two blocks, labels, and an upstream gradient, all float64 underneath."""
    draw = torch.Generator().manual_seed(0)
    h, w = (torch.randn(size, hidden, generator=draw, dtype=torch.float64) for size in (n, vocabulary))
    labels = torch.randint(vocabulary, (n,), generator=draw)
    upstream = torch.randn(n, generator=draw, dtype=torch.float64)
    return h.to(dtype).requires_grad_(), w.to(dtype).requires_grad_(), labels, upstream


def by_log_softmax(h, w, labels, upstream):
    """Value and gradients by PyTorch's own log-softmax, float64."""
    h, w = (tensor.detach().double().requires_grad_() for tensor in (h, w))
    logps = (h @ w.T).log_softmax(-1)[torch.arange(len(labels)), labels]
    (logps * upstream).sum().backward()
    return logps.detach(), h.grad, w.grad


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_values_and_gradients_are_those_of_log_softmax(dtype, tolerance):
    h, w, labels, upstream = drawn(dtype=dtype)
    expected = by_log_softmax(h, w, labels, upstream)
    logps = LabelLogps.apply(h, w, labels)
    assert logps.dtype == torch.float32
    (logps * upstream.float()).sum().backward()
    for got, reference in zip((logps.detach(), h.grad, w.grad), expected, strict=True):
        assert (got.double() - reference).norm() <= tolerance * reference.norm()


def test_a_token_the_model_is_sure_of_has_an_exact_zero_slope_and_no_nan():
    h, w = torch.tensor([[100.0, 0.0]], requires_grad=True), torch.eye(2, requires_grad=True)
    LabelLogps.apply(h, w, torch.tensor([0])).sum().backward()
    assert h.grad.abs().max() < 1e-30 and torch.isfinite(w.grad).all()


def test_a_frozen_head_gets_no_gradient_and_no_gradient_needs_no_slope():
    h, w, labels, _ = drawn()
    LabelLogps.apply(h, w.detach(), labels).sum().backward()
    assert h.grad is not None and w.grad is None
    with torch.no_grad():
        assert not LabelLogps.apply(h, w, labels).requires_grad


def rows_alive(vocabulary: int) -> int:
    """Rows of all tensors with a vocabulary's width."""
    tensors = (o for o in gc.get_objects() if issubclass(type(o), torch.Tensor))  # isinstance asks dead proxies too
    return sum(t.shape[0] for t in tensors if t.shape[-1:] == (vocabulary,))


def test_no_more_logits_are_alive_than_two_blocks(monkeypatch):
    """Counted forward and backward; the block that was kept is not made again."""
    seen = []
    real = chunked_logprobs.residual

    def watched(*arguments, **named):
        result = real(*arguments, **named)
        seen.append(rows_alive(300))
        return result

    monkeypatch.setattr(chunked_logprobs, "residual", watched)
    h, w, labels, _ = drawn()
    logps = LabelLogps.apply(h, w, labels)
    assert len(seen) == 3 and max(seen) <= chunked_logprobs.LOGIT_ROWS
    logps.sum().backward()
    assert len(seen) == 5 and max(seen) <= 2 * chunked_logprobs.LOGIT_ROWS


@pytest.mark.parametrize("n", [1, 255, 256, 257, 700])
def test_blocks_hold_every_row_once_and_the_last_is_full(n):
    blocks = chunked_logprobs.blocks(n)
    assert sorted(row for rows in blocks for row in range(n)[rows]) == list(range(n))
    assert blocks[0] == slice(max(n - chunked_logprobs.LOGIT_ROWS, 0), n)


def test_what_is_kept_changes_no_number_and_can_be_used_twice():
    gradients = []
    for keep in (True, False):
        h, w, labels, upstream = drawn()
        value = (LabelLogps.apply(h, w, labels, keep) * upstream.float()).sum()
        gradients += [torch.autograd.grad(value, (h, w), retain_graph=True) for _ in range(2)]
    for other in gradients[1:]:
        assert all(torch.equal(a, b) for a, b in zip(gradients[0], other, strict=True))


def test_of_several_shared_rows_one_keeps_its_block(tokenized, monkeypatch):
    model, collate, kept = smoke_model(0), PreferenceCollator(0, "shared"), []
    collate.row_tokens = 1  # a pair a row
    batch = collate(list(tokenized))
    real = LabelLogps.apply
    monkeypatch.setattr(LabelLogps, "apply", lambda *inputs: kept.append(inputs[3]) or real(*inputs))
    pair_logps(model, batch, chunked=True)
    assert kept == [False] * (len(batch["input_ids"]) - 1) + [True] and len(kept) > 1


@pytest.mark.parametrize("layout", ["rows", "shared"])
@pytest.mark.parametrize("seed", range(5))
def test_a_models_log_probs_and_gradients_are_unchanged(tokenized, layout, seed):
    model, batch = smoke_model(seed), PreferenceCollator(0, layout)(list(tokenized))
    outcomes = []
    for chunked in (False, True):
        model.zero_grad()
        chosen, rejected = pair_logps(model, batch, chunked)
        (chosen.sum() - 0.3 * rejected.sum()).backward()
        outcomes.append((torch.cat([chosen, rejected]).detach(), [p.grad.clone() for p in model.parameters()]))
    torch.testing.assert_close(outcomes[0][0], outcomes[1][0], rtol=1e-5, atol=1e-6)
    for textbook, chunked in zip(outcomes[0][1], outcomes[1][1], strict=True):
        assert (textbook - chunked).norm() <= 1e-5 * textbook.norm()


def test_autocast_multiplies_in_bf16_and_stays_within_a_percent(model, tokenized):
    batch = PreferenceCollator(0, "shared")(list(tokenized))
    exact = torch.cat(pair_logps(model, batch, chunked=True))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = torch.cat(pair_logps(model, batch, chunked=True))
    rounded.sum().backward()
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    torch.testing.assert_close(rounded, exact, rtol=1e-2, atol=0)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_the_model_is_itself_again_afterwards(model):
    head, ids = model.get_output_embeddings(), torch.tensor([[5, 6, 7]])
    before = model(ids).logits
    with pytest.raises(RuntimeError):
        chunked_logps(model, {"input_ids": ids}, lambda hidden: hidden[0] @ hidden[0], torch.tensor([1, 2, 3]))
    assert "forward" not in vars(head) and torch.equal(model(ids).logits, before)


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 49152, "pad_token_id": 0, "bos_token_id": 1}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 64}
MODELS = {
    "soft-capped logits": Gemma2Config(**SMALL, **HEADS, sliding_window=4096, final_logit_softcapping=1.0),
    "scaled logits": GraniteConfig(**SMALL, **HEADS, logits_scaling=4.0),
    "short sliding window": MistralConfig(**SMALL, **HEADS, sliding_window=16),
    "long sliding window": MistralConfig(**SMALL, **HEADS, sliding_window=4096),
    "recurrent": MambaConfig(**SMALL, state_size=8, expand=2),
    "learned positions": GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=49152, bos_token_id=1, eos_token_id=2),
}
NOT_LEAN = {"soft-capped logits": "changes the logits", "scaled logits": "changes the logits"}
NOT_SHARED = {"short sliding window": "looks back 16 tokens only", "recurrent": "takes no position ids"}


@pytest.mark.parametrize("name", MODELS)
def test_models_for_which_a_short_cut_is_wrong_are_told_apart(name, tokenized):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(MODELS[name]).eval()
    assert bool(chunking_obstacle(model)) == (name in NOT_LEAN)
    assert NOT_LEAN.get(name, "") in (chunking_obstacle(model) or "")
    reason = shared_row_obstacle(model, [tokenized], max_length=128)
    assert bool(reason) == (name in NOT_SHARED), reason
    if reason:
        assert NOT_SHARED[name] in reason
    else:  # and where it is allowed, it is right
        with torch.no_grad():
            rows, shared = (
                torch.cat(pair_logps(model, PreferenceCollator(0, layout)(list(tokenized))))
                for layout in ("rows", "shared")
            )
        torch.testing.assert_close(rows, shared, rtol=1e-4, atol=1e-4)


def test_no_row_at_all_gives_gradients_of_zero():
    """A process whose rows teach nothing takes part in the backward pass all the same."""
    hidden, weight = torch.ones(0, 4, requires_grad=True), torch.ones(7, 4, requires_grad=True)
    LabelLogps.apply(hidden, weight, torch.zeros(0, dtype=torch.long)).sum().backward()
    assert hidden.grad.shape == (0, 4) and torch.equal(weight.grad, torch.zeros(7, 4))
