"""DPO: its loss against float64 and TRL's trainer, and reference log-probs that belong to the model, or are refused."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from helpers.data.collate import PreferenceCollator
from helpers.data.schema import REFERENCE, SIDES
from helpers.data.template import render
from helpers.data.tokenize import response_tokens, tokenize_preferences
from helpers.objective.dpo import dpo_loss, dpo_metrics
from helpers.objective.logprobs import pair_logps
from helpers.training.base_model import smoke_model
from helpers.training.dpo_reference import (
    refuse_other_reference,
    summed_logps,
    with_columns,
    with_reference_logps,
)

sums = st.floats(-2000, 0, width=32)
two_pairs = st.lists(sums, min_size=2, max_size=2).map(torch.tensor)


def sharp_model(seed: int):
    """A two-layer model with opinions: plain random weights give every token nearly the same log-prob."""
    model = smoke_model(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4 if weight.ndim == 2 else 1)
    return model


@pytest.fixture(scope="module")
def policy():
    return sharp_model(0)


@pytest.fixture(scope="module")
def with_reference(tokenized, policy):
    return with_reference_logps(tokenized, policy, pad_token_id=0)


# ── the loss ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_loss_is_that_of_the_paper_in_float64(dtype):
    draw = torch.Generator().manual_seed(0)
    logps = [(-60 * torch.rand(32, generator=draw)).to(dtype) for _ in range(4)]
    chosen, rejected, ref_chosen, ref_rejected = ([float(value) for value in each.double()] for each in logps)
    margins = [a - b - (c - d) for a, b, c, d in zip(chosen, ref_chosen, rejected, ref_rejected, strict=True)]
    expected = sum(math.log1p(math.exp(-0.3 * margin)) for margin in margins) / 32
    loss = dpo_loss(*logps, beta=0.3)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(expected, rel=1e-6)
    metrics = dpo_metrics(*logps, beta=0.3)
    assert metrics["rewards/accuracies"] == pytest.approx(sum(margin > 0 for margin in margins) / 32)
    assert metrics["rewards/margins"] == pytest.approx(0.3 * sum(margins) / 32, rel=1e-5)
    assert metrics["logps/chosen"] == pytest.approx(sum(chosen) / 32, rel=1e-6)
    assert metrics["rewards/rejected"] == pytest.approx(
        0.3 * (sum(rejected) - sum(ref_rejected)) / 32, rel=1e-5, abs=1e-5
    )


def test_a_policy_that_is_the_reference_loses_log_2():
    logps = torch.tensor([-3.0, -700.0]), torch.tensor([-9.0, -2.0])
    assert dpo_loss(*logps, *logps, beta=0.1).item() == pytest.approx(math.log(2), rel=1e-7)
    assert dpo_metrics(*logps, *logps, beta=0.1)["rewards/accuracies"] == 0, "a tie is no win, as in TRL"


@pytest.mark.parametrize("margin", [1e30, 1e6, -1e6, -1e30])
def test_huge_margins_are_finite_and_so_are_their_gradients(margin):
    chosen = torch.tensor([margin, -5.0], requires_grad=True)
    fixed = torch.tensor([-5.0, -5.0])
    loss = dpo_loss(chosen, fixed, fixed, fixed, beta=0.5)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(chosen.grad).all()
    assert chosen.grad[0].item() == pytest.approx(-0.25 if margin < 0 else 0)


@given(two_pairs, two_pairs, two_pairs, two_pairs, st.floats(-500, 500), st.floats(0.01, 1))
@settings(deadline=None)
def test_only_the_distance_from_the_reference_counts(chosen, rejected, ref_chosen, ref_rejected, shift, beta):
    plain = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, beta)
    shifted = dpo_loss(chosen + shift, rejected, ref_chosen + shift, ref_rejected, beta)
    assert shifted.item() == pytest.approx(plain.item(), rel=1e-4, abs=1e-3)


@given(two_pairs, two_pairs, two_pairs, two_pairs)
@settings(deadline=None)
def test_swapping_chosen_and_rejected_negates_the_margin(chosen, rejected, ref_chosen, ref_rejected):
    margins = dpo_metrics(chosen, rejected, ref_chosen, ref_rejected, 0.1)["rewards/margins"]
    swapped = dpo_metrics(rejected, chosen, ref_rejected, ref_chosen, 0.1)["rewards/margins"]
    assert swapped == -margins


# ── beside TRL ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def trls_parts():
    """Skips where the loss and tokens of a batch of TRL's DPO can not be asked for by themselves, as in TRL 1."""
    from trl import DPOTrainer

    if not hasattr(DPOTrainer, "get_batch_loss_metrics"):
        pytest.skip("this TRL's DPOTrainer has no such parts to compare with; TRL 0.24's has")


def trl_trainer(model, tmp_path, dataset, tokenizer, **changes):
    from trl import DPOConfig, DPOTrainer

    common = {"output_dir": str(tmp_path), "report_to": [], "disable_tqdm": True, "use_cpu": True, "bf16": False}
    common |= {"per_device_train_batch_size": len(dataset), "gradient_checkpointing": False, "beta": 0.3}
    ref_model = changes.pop("ref_model", None)
    args = DPOConfig(**common | changes)
    return DPOTrainer(model, ref_model, args, train_dataset=dataset, processing_class=tokenizer)


@pytest.fixture(scope="module")
def text(pairs, tokenizer):
    """As text, because TRL's own templating leaves a newline and a second EOS behind the answer; it adds the EOS."""
    rows = pairs.map(lambda pair: render(pair, tokenizer), remove_columns=pairs.column_names)
    return rows.map(lambda row: {side: row[side].removesuffix(tokenizer.eos_token) for side in SIDES})


@pytest.mark.usefixtures("trls_parts")
def test_loss_and_metrics_are_those_of_trl(tmp_path, text, tokenized, tokenizer):
    policy, reference = sharp_model(0), sharp_model(1)
    theirs = trl_trainer(policy, tmp_path, text, tokenizer, ref_model=reference)
    loss, metrics = theirs.get_batch_loss_metrics(policy, next(iter(theirs.get_train_dataloader())))
    ours = with_reference_logps(tokenized, reference, tokenizer.pad_token_id)
    batch = PreferenceCollator(tokenizer.pad_token_id)(list(ours))
    means = pair_logps(policy, batch)
    lengths = [torch.tensor([response_tokens(row, side) for row in ours]) for side in SIDES]
    logps = [(mean * length).detach() for mean, length in zip(means, lengths, strict=True)]
    columns = [batch[name] for name in REFERENCE]
    assert dpo_loss(*logps, *columns, beta=0.3).item() == pytest.approx(loss.item(), rel=1e-4)
    assert abs(loss.item() - math.log(2)) > 0.1, "the two models differ"
    for name, value in dpo_metrics(*logps, *columns, beta=0.3).items():
        assert value.item() == pytest.approx(metrics[name], rel=1e-4), name


def test_reference_columns_are_those_that_trl_precomputes(tmp_path, text, tokenizer, with_reference):
    theirs = trl_trainer(sharp_model(0), tmp_path, text, tokenizer, precompute_ref_log_probs=True)
    theirs.get_train_dataloader()
    for name in REFERENCE:
        assert list(with_reference[name]) == pytest.approx(list(theirs.train_dataset[name]), rel=1e-5)


@pytest.mark.usefixtures("trls_parts")
def test_prompt_and_responses_are_the_tokens_that_trl_makes_itself(tmp_path, text, tokenizer, tokenized):
    theirs = trl_trainer(smoke_model(0), tmp_path, text, tokenizer).train_dataset
    for row, their_row in zip(tokenized, theirs, strict=True):
        prompt = row["prompt_length"]
        assert their_row["prompt_input_ids"] == row["chosen_input_ids"][:prompt]
        for side in SIDES:
            assert their_row[f"{side}_input_ids"] == row[f"{side}_input_ids"][prompt:]


# ── the reference ───────────────────────────────────────────────────────────────────────────────────────────


def test_reference_log_probs_are_sums_over_the_response(policy, tokenized, with_reference):
    for row in with_reference:
        for name, side in zip(REFERENCE, SIDES, strict=True):
            ids = torch.tensor(row[f"{side}_input_ids"])
            with torch.no_grad():
                logps = policy(ids[None]).logits[0].log_softmax(-1)
            scored = range(row["prompt_length"], len(ids))
            assert row[name] == pytest.approx(sum(logps[t - 1, ids[t]].item() for t in scored), rel=1e-5)
    assert with_reference.column_names == [*tokenized.column_names, *REFERENCE]


def test_a_model_that_can_not_share_a_row_gets_the_same_numbers(tokenized, with_reference):
    model = sharp_model(0)
    model.config.sliding_window = 16  # the config alone: what it computes stays the same
    model.train()
    for name, values in summed_logps(tokenized, model, 0, batch_size=3).items():
        assert values == pytest.approx(list(with_reference[name]), rel=1e-5)
    assert model.training


def test_computing_them_again_replaces_them(tokenized, with_reference):
    again = with_reference_logps(with_reference, sharp_model(1), 0)
    assert again.column_names == with_reference.column_names
    assert list(again[REFERENCE[0]]) != list(with_reference[REFERENCE[0]])


@pytest.mark.parametrize("layout", ["rows", "shared"])
def test_the_collator_carries_them(tokenized, with_reference, layout):
    batch = PreferenceCollator(0, layout)(list(with_reference))
    for name in REFERENCE:
        assert batch[name].dtype == torch.float32 and batch[name].shape == (len(with_reference),)
        assert batch[name].tolist() == pytest.approx(list(with_reference[name]), rel=1e-6)
    assert not set(REFERENCE) & set(PreferenceCollator(0, layout)(list(tokenized)))


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_model_passes_and_so_it_does_in_bf16(with_reference, policy):
    refuse_other_reference(with_reference, policy, 0)
    refuse_other_reference(with_reference, sharp_model(0).to(torch.bfloat16), 0)


def test_another_models_reference_is_refused(with_reference):
    with pytest.raises(ValueError, match=r"^row \d: ref_\w+_logps is -\d.* made with another model or tokenizer"):
        refuse_other_reference(with_reference, sharp_model(1), 0)


def test_the_row_both_numbers_and_the_mend_are_named(with_reference, policy):
    found = list(with_reference[REFERENCE[1]])
    moved = [value + 5 * (row == 2) - 0.2 for row, value in enumerate(found)]
    other = with_columns(with_reference, {REFERENCE[0]: with_reference[REFERENCE[0]], REFERENCE[1]: moved})
    with pytest.raises(ValueError) as error:
        refuse_other_reference(other, policy, 0)
    said = str(error.value)
    assert said.startswith(f"row 2: ref_rejected_logps is {moved[2]:.2f} and this model gives {found[2]:.2f}: ")
    assert said.endswith("recompute them with with_reference_logps")
    refuse_other_reference(other, policy, 0, rows=1)  # row 0, which is sound
    refuse_other_reference(other, policy, 0, tolerance=5 / abs(found[2]))


def without_merges(tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer with all its tokens, of which it puts none together: a letter is a token."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["model"]["merges"] = []
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)), eos_token=tokenizer.eos_token
    )
    made.chat_template = tokenizer.chat_template
    return made


def test_another_tokenizers_reference_is_refused(pairs, tokenizer, with_reference, policy):
    letters = tokenize_preferences(pairs, without_merges(tokenizer), max_length=512)
    assert len(letters[0]["chosen_input_ids"]) > len(with_reference[0]["chosen_input_ids"])
    with pytest.raises(ValueError, match=r"row 0: .* made with another model or tokenizer"):
        refuse_other_reference(with_columns(letters, {name: with_reference[name] for name in REFERENCE}), policy, 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
def test_a_value_that_is_not_finite_is_refused_wherever_it_stands(with_reference, policy, bad):
    values = [*list(with_reference[REFERENCE[0]])[:-1], bad]
    broken = with_columns(with_reference, {REFERENCE[0]: values, REFERENCE[1]: with_reference[REFERENCE[1]]})
    with pytest.raises(ValueError, match=rf"^row 3: ref_chosen_logps is {bad}: look at that row"):
        refuse_other_reference(broken, policy, 0, rows=1)


def test_a_model_that_gives_nan_is_refused_by_row(tokenized):
    model = sharp_model(0)
    with torch.no_grad():
        model.model.norm.weight[0] = math.nan
    with pytest.raises(ValueError, match=r"^row 0: ref_chosen_logps is nan"):
        with_reference_logps(tokenized, model, 0)


def test_missing_columns_are_named(tokenized, policy):
    with pytest.raises(ValueError, match="no column ref_chosen_logps: make it with with_reference_logps"):
        refuse_other_reference(tokenized, policy, 0)
