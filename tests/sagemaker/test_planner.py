"""The planner: against measured memory, the first workshop's bill and AWS's throughputs; laws; every bad argument."""

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.files import REPOSITORY
from helpers.sagemaker import compare, compare_instances, compare_table, instances_table, plan, scale
from helpers.sagemaker.catalogue import INSTANCES
from helpers.sagemaker.planner import METHODS
from scripts import plan_tables

MODELS = ("Qwen3-0.6B", "Qwen3-8B", "Llama-3.2-1B", "Llama-3.1-8B", "Llama-3.1-70B")
LARGE = {"instance": "ml.trn1.32xlarge", "pairs": 4096}


# ── what it was compared with ───────────────────────────────────────────────────────────────────────────────


def test_memory_is_within_15_percent_of_what_make_techniques_measured():
    pairs = plan_tables.memory_pairs()
    assert len(pairs) == 8, "SFT, ORPO and both kinds of DPO, with all weights and with an adapter"
    for case, planned in pairs:
        assert planned == pytest.approx(case["peak_bytes"], rel=0.15), case["case"]


def test_the_first_workshops_bill_is_met_within_a_factor_of_two():
    made = plan_tables.first_workshop()
    total = sum(made.seconds.values())
    assert plan_tables.BILLED / 2 < total < 2 * plan_tables.BILLED
    assert made.fits and made.cost == pytest.approx(total / 3600 * 1.54)
    warm = plan_tables.first_workshop(compile_seconds_per_layer=0)
    assert sum(warm.seconds.values()) < plan_tables.BILLED < total, "between a warm cache and a cold one"


@pytest.mark.parametrize("published", plan_tables.THROUGHPUTS, ids=lambda each: each.model)
def test_aws_throughputs_are_met_within_15_percent(published):
    """Two assumptions were fitted to these three."""
    assert plan_tables.planned_throughput(published) == pytest.approx(published.sequences, rel=0.15)


def test_the_utilisation_lies_below_what_these_throughputs_come_to():
    shares = []
    for each in plan_tables.THROUGHPUTS:
        made = plan(each.model, "sft", max_length=each.length, lora_rank=0, pairs=64, instance="ml.trn1.32xlarge")
        shares.append(each.sequences * made.flops / 64 / (each.nodes * 32 * 95e12))
    used = plan("Qwen3-0.6B").assumptions["utilisation"]
    assert used.value < min(shares)
    assert "23 to 32%" in used.source and [round(min(shares), 2), round(max(shares), 2)] == [0.23, 0.32]


def test_the_documentation_shows_what_the_code_makes():
    page = (REPOSITORY / "docs" / "planner.md").read_text(encoding="utf-8")
    for name, table in plan_tables.tables().items():
        assert f"<!-- {name} -->\n{table}\n<!-- /{name} -->" in page, f"{name}: run make figures"
    assert plan_tables.example_scaling().best.nodes == 32, "as the figure's text says"
    assert [made.fits for made in plan_tables.example_plans().values()] == [False, False, False, True], "as well"


# ── a plan worked by hand ───────────────────────────────────────────────────────────────────────────────────


def test_a_plan_worked_by_hand():
    made = plan("Llama-3.2-1B", pairs=8, tensor_parallel=2, usd_per_hour=2.0, compile_seconds_per_layer=10)
    assert made.steps == 8 and made.update_pairs == 1
    linear, head, attention = 973_078_528, 262_668_288, 4 * 16 * 2048 * 512
    forward = 2 * (linear + head) + attention
    assert made.flops == 8 * 2 * 512 * (2 * forward + attention + 6 * 11_272_192)
    assert made.seconds["compile"] == 160 and made.seconds["reference"] == 0
    assert made.seconds["training"] == pytest.approx(made.flops / (2 * 95e12 * 0.2))
    assert made.cost == pytest.approx(2.0 * sum(made.seconds.values()) / 3600)
    assert made.limit == 0.8 * 16 * 2**30
    assert made.bytes == sum(made.memory.values()) < made.limit and made.fits and not made.change


@pytest.mark.parametrize("method", ["orpo", "dpo-precomputed", "sft"])
def test_logits_for_the_answers_only(method):
    said = {"method": method, "max_length": 512, "batch": 2, "tensor_parallel": 2}
    whole, half = (plan("Qwen3-0.6B", max_response_length=most, **said) for most in (None, 256))
    assert plan("Qwen3-0.6B", max_response_length=1000, **said).memory == whole.memory, "no more than the row has"
    if method == "sft":
        assert half.memory == whole.memory and half.flops == whole.flops, "all positions of its rows are scored"
        return
    assert half.memory == whole.memory | {"logits": whole.memory["logits"] / 2}
    head, passes = 2 * 151_936 * 1024, 2 if method == "orpo" else 3  # LoRA: forward, and backward to what came in
    answers = 2 * half.steps * half.update_pairs * (whole.arguments["epochs"])
    assert whole.flops - half.flops == pytest.approx(answers * 256 * head * passes)


def test_the_table_says_what_was_planned_and_the_assumptions_have_sources():
    made = plan("Qwen3-0.6B", batch=4, max_length=256, tensor_parallel=2)
    table = str(made)
    for said in ("596,049,920 parameters", "LoRA of rank 16", "1 × ml.trn1.2xlarge", "of 12.8 usable", "| yes |", "$"):
        assert said in table
    assert all(each.source and each.unit for each in made.assumptions.values())
    for name in made.assumptions:
        assert f"`{name}`" in made.assumption_table()
    assert "January 2026" in made.assumption_table(), "the price has its date"


def test_where_no_price_is_known_the_plan_says_where_to_read_it():
    made = plan("Qwen3-0.6B", **LARGE)
    assert math.isnan(made.cost) and "give usd_per_hour=" in made.table()
    assert plan("Qwen3-0.6B", usd_per_hour=20, **LARGE).cost > 0


SETTABLE = sorted(set(plan("Qwen3-0.6B").assumptions) - {"usd_per_hour"})
IN_SCALE = {"scaling_utilisation", "link_gbytes", "network_gbit", "hop_seconds", "input_positions"}
OTHERS = {"gradients_stay": 0, "zero_1": 0, "utilisation": 0.1, "usable_memory": 0.5}


@pytest.mark.parametrize("name", SETTABLE)
def test_every_assumption_can_be_given_and_changes_something(name):
    def numbers(**changes):
        said = {"tensor_parallel": 8, "lora_rank": 0, "instance": "ml.trn1.32xlarge", **changes}
        if name in IN_SCALE:
            (row,) = scale("Qwen3-0.6B", (2,), update_pairs=64, **said).rows
            return row.total
        made = plan("Qwen3-0.6B", pairs=64, **said)
        return made.bytes, made.limit, sum(made.seconds.values())

    before = plan("Qwen3-0.6B").assumptions[name].value
    other = OTHERS.get(name, before / 2 if before else 3)
    assert numbers(**{name: other}) != numbers()
    assert plan("Qwen3-0.6B", **{name: other}).assumptions[name].source == "given by you"


# ── laws ────────────────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(MODELS), st.sampled_from((1, 2, 4, 8, 16)), st.sampled_from((0, 4, 64)), st.booleans())
def test_more_tensor_parallel_never_needs_more_of_a_core(model, ranks, rank, recompute):
    said = {"lora_rank": rank, "recompute": recompute, "data_parallel": None, **LARGE}
    less, more = (plan(model, tensor_parallel=each, zero_1=0, **said) for each in (ranks, min(2 * ranks, 16)))
    for part in less.memory:
        assert more.memory[part] <= less.memory[part], part


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(MODELS),
    st.sampled_from(METHODS),
    st.integers(1, 64),
    st.integers(1, 64),
    st.integers(1, 8),
    st.booleans(),
)
def test_longer_and_larger_never_need_less(model, method, length, more, batch, recompute):
    said = {"method": method, "recompute": recompute, **LARGE}
    short = plan(model, max_length=32 * length, batch=batch, **said)
    for other in (
        {"max_length": 32 * (length + more), "batch": batch},
        {"max_length": 32 * length, "batch": batch + 1},
    ):
        larger = plan(model, **said | other)
        assert larger.memory["activations"] >= short.memory["activations"]
        assert larger.memory["logits"] >= short.memory["logits"]
        assert larger.bytes >= short.bytes


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(MODELS), st.sampled_from((64, 512, 2048)), st.sampled_from((0, 16)), st.integers(1, 4))
def test_recomputing_saves_memory_and_costs_work(model, length, rank, batch):
    said = {"max_length": length, "lora_rank": rank, "batch": batch, **LARGE}
    with_it, without = (plan(model, recompute=each, **said) for each in (True, False))
    assert with_it.bytes < without.bytes and with_it.flops > without.flops


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(MODELS), st.sampled_from((64, 512, 2048)), st.integers(1, 3))
def test_orpo_needs_less_than_dpo_and_a_model_less_where_all_weights_are_trained(model, length, epochs):
    plans = compare(model, max_length=length, lora_rank=0, epochs=epochs, **LARGE)
    assert plans["sft"].flops < plans["orpo"].flops < plans["dpo-precomputed"].flops <= plans["dpo"].flops
    assert plans["dpo"].bytes - plans["orpo"].bytes == pytest.approx(plans["orpo"].memory["weights"])
    assert plans["dpo-precomputed"].bytes == plans["orpo"].bytes
    adapter = compare(model, max_length=length, epochs=epochs, **LARGE)
    assert adapter["dpo"].bytes == adapter["orpo"].bytes, "the policy without its adapter is the reference"
    assert adapter["dpo"].flops > adapter["orpo"].flops


def test_side_by_side_also_has_both_stages_of_dpo():
    table = compare_table(compare("Llama-3.2-1B", tensor_parallel=2))
    rows = {row.split("|")[1].strip(): row for row in table.splitlines()}
    assert "| 1.00 |" in rows["ORPO"] and "| 0.50 |" in rows["SFT"]
    assert "SFT, then DPO, live reference" in rows


# ── what to change ──────────────────────────────────────────────────────────────────────────────────────────


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(MODELS),
    st.sampled_from(METHODS),
    st.sampled_from((256, 1024, 4096)),
    st.sampled_from((1, 4, 8)),
    st.sampled_from((1, 2)),
    st.sampled_from((0, 16)),
)
def test_a_change_that_is_proposed_fits_when_it_is_made(model, method, length, batch, ranks, rank):
    made = plan(model, method, length, batch=batch, tensor_parallel=ranks, lora_rank=rank)
    if made.fits:
        assert made.change == "" and made.changed is None
    elif made.changed is None:
        assert "take a smaller model" in made.change
    else:
        again = plan(model, **made.changed.arguments)
        assert again.fits and again.bytes == made.changed.bytes
        assert made.change.startswith("Smallest change: ")
        assert made.changed.update_pairs >= made.update_pairs


@pytest.mark.parametrize(
    ("arguments", "change"),
    [
        ({"model": "Qwen3-0.6B", "batch": 8, "tensor_parallel": 2}, "batch 8 → 4, accumulation 1 → 2."),
        ({"model": "Llama-3.1-8B", "tensor_parallel": 2}, "recompute False → True."),
    ],
)
def test_the_smallest_change_is_the_cheapest(arguments, change):
    assert plan(**arguments).change == f"Smallest change: {change}"


def test_what_no_change_makes_fit_is_said():
    made = plan("Llama-3.1-70B", core_memory=2)
    assert not made.fits and made.changed is None
    assert made.change.endswith("take a smaller model.") and "take a smaller model" in made.table()


def test_notes_say_what_the_trainers_of_the_workshop_refuse():
    (note,) = plan("Llama-3.1-8B", tensor_parallel=16, **LARGE).notes
    assert note.startswith("8 key and value heads do not divide by tensor_parallel 16") and "1, 2, 4, 8" in note
    assert any("trains Llama and Qwen3, not mistral" in note for note in plan("Mistral-7B-v0.3", **LARGE).notes)


# ── bad arguments ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "nobody/has-this"}, "model 'nobody/has-this': its sizes are not known here; give a folder"),
        ({"model": {"model_type": "gpt2"}}, "model: its model_type is 'gpt2', whose weights are not counted; take"),
        ({"method": "rlhf"}, "method 'rlhf': choose one of sft, orpo"),
        ({"instance": "ml.g5.xlarge"}, "instance 'ml.g5.xlarge' is not in the catalogue: choose one of ml.trn1"),
        (
            {"tensor_parallel": 4},
            "tensor_parallel 4 does not divide the 2 cores of ml.trn1.2xlarge: choose one of 1",
        ),
        (
            {"model": "SmolLM2-135M-Instruct", "tensor_parallel": 2},
            "does not divide the heads, 9, of SmolLM2",
        ),
        ({"max_length": 511, "tensor_parallel": 2}, "max_length 511 is not divisible by tensor_parallel 2.*choose 512"),
        ({"data_parallel": 3}, "data_parallel 3 × tensor_parallel 1 does not fill whole instances.*choose 4"),
        ({"data_parallel": 2, "nodes": 2}, "does not fill 2 instances of 2 cores: choose 4, or leave it out"),
        ({"batch": 0}, "batch is 0: give a whole number, 1 or more"),
        ({"batch": 1.5}, "batch is 1.5: give a whole number"),
        ({"max_response_length": 0}, "max_response_length is 0: give a whole number, 1 or more"),
        ({"max_length": -8}, "max_length is -8: give a whole number, 1 or more"),
        ({"lora_rank": -1}, "lora_rank is -1: give a whole number, 0 or more"),
        ({"nodes": 0}, "nodes is 0: give a whole number"),
        ({"epochs": True}, "epochs is True: give a whole number"),
        ({"recompute": "yes"}, "recompute is 'yes': give True or False"),
        ({"pairs": 1}, "pairs is 1, and one update takes 2 .*: lower batch or accumulation, or give more pairs"),
        ({"usd_per_hour": 0}, "usd_per_hour is 0: give the price of an hour of ml.trn1.2xlarge, above 0"),
        ({"utilisation": 1.2}, "utilisation is 1.2: give a share of at most 1"),
        ({"utilisation": 0}, "utilisation is 0: give a number above 0"),
        ({"weight_bytes": -2}, "weight_bytes is -2: give a number above 0"),
        ({"core_tflops": "95"}, "core_tflops is '95': give a number"),
        ({"core_tflops": math.nan}, "core_tflops is nan: give a number"),
        ({"utilization": 0.3}, "utilization= is no argument and no assumption of plan.*: choose one of core_memory"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        plan(**{"model": "Qwen3-0.6B"} | arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"worth": 1.5}, "worth is 1.5: give the share of the time"),
        ({"nodes": (0,)}, "nodes is 0: give a whole number"),
        ({"batch": 0}, "batch is 0: give a whole number"),
        ({"accumulation": 2}, "accumulation follows from nodes and update_pairs: leave it out"),
        ({"update_pairs": 3}, "update_pairs 3 can't be shared evenly on any of"),
        ({"instance": "ml.g5.xlarge"}, "instance 'ml.g5.xlarge' is not in the catalogue"),
    ],
)
def test_what_cannot_be_scaled_is_refused_in_one_line(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        scale(**{"model": "Qwen3-0.6B"} | arguments)
    assert "\n" not in str(error.value)


# ── many nodes ──────────────────────────────────────────────────────────────────────────────────────────────


def test_more_nodes_take_less_time_and_more_instance_hours_until_they_stop_paying():
    found = plan_tables.example_scaling()
    assert [row.nodes for row in found.rows] == [1, 2, 4, 8, 16, 32, 64] and found.rows[0].plan.sizes.parameters > 7e10
    totals, hours = [row.total for row in found.rows], [row.node_hours for row in found.rows]
    assert totals == sorted(totals, reverse=True) and hours == sorted(hours)
    assert len({row.plan.update_pairs for row in found.rows}) == 1 and len({row.plan.flops for row in found.rows}) == 1
    place = found.rows.index(found.best)
    assert all(after / before <= 0.75 for before, after in pairwise(totals[: place + 1]))
    assert totals[place + 1] / totals[place] > 0.75
    assert f"stops paying at {found.best.nodes}" in found.table()


def test_a_ring_worked_by_hand():
    said = {"max_length": 512, "pairs": 64, "lora_rank": 0, "method": "sft", "tensor_parallel": 8}
    (row,) = scale("Qwen3-8B", (2,), update_pairs=64, hop_seconds=0, **said).rows
    through = 64 * 512 / 8 * 4096 * 2  # bytes that a data-parallel rank, one of eight, passes through a layer
    assert row.seconds["tensor parallel"] == pytest.approx(4 * 36 * 2 * 7 / 8 * through / 192e9)
    size = 8_190_735_360 * 6  # gradients in float32 one way, weights in bf16 the other
    assert row.seconds["data parallel"] == pytest.approx(3 / 4 * size / 8 / 192e9 + 1 / 2 * size / 100e9)


def test_what_fits_on_no_number_of_nodes_has_no_best():
    found = scale("Llama-3.1-70B", (1, 2), update_pairs=64, core_memory=1)
    assert found.best is None and found.table().endswith("take a smaller model.")


def test_instances_side_by_side_take_the_prices_that_are_given():
    plans = compare_instances("Qwen3-0.6B", {"ml.trn1.32xlarge": 25.0}, tensor_parallel=2)
    assert list(plans) == list(INSTANCES)
    times = [sum(made.seconds.values()) for made in plans.values()]
    assert times[0] > times[1] == times[2] > times[3]
    assert plans["ml.trn1.32xlarge"].cost == pytest.approx(25 * times[1] / 3600)
    assert instances_table(plans).count("unknown: give usd_per_hour=") == 2
    with pytest.raises(ValueError, match=r"usd_per_hour has 'ml.g5', no instance of the catalogue"):
        compare_instances("Qwen3-0.6B", {"ml.g5": 1.0})


def test_the_catalogue_has_the_hardware_of_every_instance():
    for name, kind in INSTANCES.items():
        assert kind.cores > 0 and kind.core_gib in (16, 24) and kind.network_gbit > 0, name
