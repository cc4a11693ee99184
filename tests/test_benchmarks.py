"""The benchmark runs on a toy model, all methods at one loss; its table says what a record says."""

import re
import statistics
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from transformers import LlamaForCausalLM

from benchmarks import bench as runner
from benchmarks import results, step_profile
from benchmarks.bars import bars, bars_table, group_of
from benchmarks.bench import MAIN, WAYS, compare, kinds_of_pairs, long_rows
from benchmarks.billion import BILLION, config_of
from benchmarks.methods import Case, loaded
from benchmarks.worker import model_flops, ready
from helpers.files import REPOSITORY
from helpers.runs import here_and_now
from helpers.show.bench_plot import plot_bench
from helpers.training.base_model import MADE, SMOKE


@pytest.fixture(scope="module")
def measured():
    """Two steps of each method but Liger-Kernel's, which only `make bench` installs."""
    return compare(
        [Case(method, model="smoke", pairs=2, batches=1) for method in ("ours", "textbook", "trl", "sft")], 2
    )


def test_every_method_steps_by_turns_and_is_measured(measured):
    for record in measured:
        assert len(record["seconds"]) == 2 and min(record["seconds"]) > 0
        assert record["pairs_per_second"] > 0 and record["peak_bytes_above_model"] > 0 and record["matmul_gflops"] > 0
    ours, textbook, trl, sft = measured
    assert ours["loss"] == pytest.approx(textbook["loss"], rel=1e-5), "one loss, whichever the layout"
    assert ours["row_tokens"] < textbook["row_tokens"] == trl["row_tokens"] and sft["row_tokens"] < trl["row_tokens"]
    assert utilised(ours) and trl["utilisation"] is None


def utilised(record: dict) -> bool:
    """The share of the peak is the step's own. It may pass 1 here: other tests run while the peak is measured."""
    gflops = record["flops"] / statistics.median(record["seconds"]) / 1e9
    return record["flops"] > 0 and record["utilisation"] == pytest.approx(gflops / record["matmul_gflops"])


def test_lengths_can_be_asked_for(capfd):
    (record,) = compare([Case("ours", model="smoke", pairs=2, batches=1, prompt_tokens=40, response_tokens=9)], 1)
    assert 2 * (40 + 2 * 9) * 0.8 < record["row_tokens"] < 2 * (40 + 2 * 9) + 80  # template and re-tokenising


def test_long_rows_in_bf16_are_measured_by_turns():
    """As with `--parts long`, but for the model's size."""
    ((ours, trl),) = measured = [*long_rows(["smoke"], 1, [("ours", "trl")], lengths=[128])]
    assert ours["case"]["weights"] == "bfloat16" and ours["case"]["pairs"] == 2
    assert ours["loss"] == pytest.approx(trl["loss"], rel=0.02), "TRL's NLL covers the prompt too, of random words both"
    assert ours["row_tokens"] < 0.85 * trl["row_tokens"], "the prompt is half of a row and laid out once"
    machine = {"cpu": "A CPU", "cores": 2, "accelerator": "none", "gflops": 100.0}
    said = results.long_table({"long": measured, "date": "2026-01-02T03:04:05", "rounds": 1, "machine": machine})
    ratio = ours["pairs_per_second"] / trl["pairs_per_second"]
    assert f"| smoke | 64 + 64 | 2 | trl.ORPOTrainer | {ours['pairs_per_second']:.2f} | {ratio:.2f} × |" in said


@pytest.mark.parametrize(
    ("name", "billions", "vocabulary"), [("llama-1b", 1.07, 49_152), ("llama-1b-151k", 1.28, 151_936)]
)
def test_the_models_of_the_long_rows_have_their_size(name, billions, vocabulary, monkeypatch):
    with torch.device("meta"):
        model = LlamaForCausalLM(config_of(name))
    assert sum(p.numel() for p in model.parameters()) / 1e9 == pytest.approx(billions, abs=0.01)
    assert model.config.vocab_size == vocabulary
    monkeypatch.setitem(BILLION, name, MADE[SMOKE] | {"num_hidden_layers": 1})
    model, tokenizer = loaded(Case("ours", model=name, weights="bfloat16"))
    assert model.dtype == torch.bfloat16 and model.config.num_hidden_layers == 1 and len(tokenizer) <= vocabulary


def test_long_rows_wait_until_they_are_asked_for(monkeypatch, tmp_path, capsys):
    """Also where there is a CUDA GPU; the help says that nobody ran them."""
    measured = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(runner, "results_folder", lambda: tmp_path)
    monkeypatch.setattr(runner, "here_and_now", dict)
    monkeypatch.setattr(runner, "main_comparison", lambda *_: measured.append("main") or {})
    for part, run in (("kinds", "kinds_of_pairs"), ("long", "long_rows")):
        monkeypatch.setattr(runner, run, lambda *_, part=part: measured.append(part) or [])
    for table in ("table", "kinds_table", "long_table"):
        monkeypatch.setattr(runner, table, str)
    runner.main([])
    assert measured == ["main", "kinds"]
    runner.main(["--parts", "long"])
    assert measured == ["main", "kinds", "long"]
    with pytest.raises(SystemExit):
        runner.main(["--help"])
    assert "it was never run" in " ".join(capsys.readouterr().out.split())


def test_kinds_of_pairs_are_measured_and_tabled_in_every_way():
    kinds = ({"pairs": 2, "prompt_tokens": 24, "response_tokens": 8},)
    ways = (({}, ("ours", "trl")), ({"lora_rank": 4, "bf16": True}, ("ours", "trl")))
    measured = [*kinds_of_pairs(1, kinds, ways, model="smoke")]
    assert len(measured) == 2
    for ours, trl in measured:
        assert ours["row_tokens"] < trl["row_tokens"] and utilised(ours)
        assert ours["loss"] == pytest.approx(trl["loss"], rel=0.05), "TRL's NLL covers the prompt too"
    machine = {"cpu": "A CPU", "cores": 2, "accelerator": "none", "gflops": 100.0, "bf16_gflops": 300.0}
    said = results.kinds_table({"kinds": measured, "date": "2026-01-02T03:04:05", "rounds": 1, "machine": machine})
    ours, trl = measured[1]
    ratio = results.times_as_fast(ours, trl)[1]
    assert f"| 24 + 8 | 2 | LoRA, bf16 | {ours['pairs_per_second']:.2f} |" in said and f"| {ratio:.2f} (" in said


def test_where_the_time_of_a_step_goes_is_measured_and_tabled(capfd):
    case = Case("ours", model="smoke", pairs=2, batches=1, lora_rank=4)
    found = step_profile.watched(case, 1)
    parts = found["parts"]
    assert min(parts.values()) > 0 and parts[step_profile.PRODUCTS] > parts["optimizer"]
    products = found["gflops"] * 1e9 * parts[step_profile.PRODUCTS]  # FLOPs, as torch counts them
    trainer, _, batches = ready(case)
    assert products == pytest.approx(model_flops(case, trainer, batches), rel=0.35), "a lower bound, without adapters"
    said = step_profile.profile_table(here_and_now() | {"steps": 1, "cases": [found]})
    share = parts[step_profile.PRODUCTS] / sum(parts.values())
    assert f"| 2 | LoRA, float32 | {found['tokens']:.0f} | {found['flops'] / 1e12:.2f} |" in said
    assert f"| {share:.0%} |" in said


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::addmm", step_profile.PRODUCTS),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention"),
        ("aten::copy_", "copies and casts"),
        ("aten::_fused_adamw_", "optimizer"),
        ("aten::rsqrt", step_profile.REST),
    ],
)
def test_operations_have_names_that_a_reader_knows(name, kind):
    assert step_profile.kind_of(name) == kind


def test_a_method_that_fails_says_how_to_see_why():
    with pytest.raises(RuntimeError, match=r"python -m benchmarks\.worker"):
        compare([Case("ours", model="nowhere/to/be/found")], 1)


def test_a_round_is_compared_with_itself():
    """A moment in which the machine was busy hit both."""
    ours, theirs = {"seconds": [1.0, 5.0, 1.0, 2.0, 1.0]}, {"seconds": [2.0, 11.0, 3.0, 4.0, 2.5]}
    assert results.times_as_fast(ours, theirs) == pytest.approx((2.0, 2.2, 2.5))


def test_the_table_is_worked_out_from_the_record(measured):
    machine = {"cpu": "A CPU", "cores": 2, "accelerator": "none", "gflops": 100.0}
    bench = {"full": measured, "date": "2026-01-02T03:04:05", "rounds": 2, "machine": machine}
    said = results.table(bench)
    trl, ours = results.of(measured, "trl"), results.of(measured, "ours")
    assert f"| {ours['pairs_per_second']:.2f} | {results.times_as_fast(ours, trl)[1]:.2f} × (" in said
    assert "2026-01-02" in said
    assert len(re.findall(r"^\| ", said, re.MULTILINE)) == 1 + len(measured)
    pairs = [record | {"case": record["case"] | {"pairs": n}} for n in (2, 4) for record in (ours, trl)]
    kept = [record for record in measured if record["case"]["method"] != "textbook"]
    shapes = [record | {"case": record["case"] | {"prompt_tokens": 8, "response_tokens": 4}} for record in (ours, trl)]
    figure = plot_bench(bench | {"full": kept, "pairs": pairs, "shapes": shapes})
    bars = [bar.get_width() for bar in figure.axes[0].patches]
    assert bars == pytest.approx([2 / record["pairs_per_second"] for record in reversed(kept)])


def test_liger_kernels_loss_is_measured_with_lora_too():
    assert all("liger" in methods for _, methods in WAYS)
    pytest.importorskip("liger_kernel", reason="make bench installs Liger-Kernel")
    ours, liger = compare([Case(way, model="smoke", pairs=2, batches=1, lora_rank=4) for way in ("ours", "liger")], 1)
    assert liger["loss"] == pytest.approx(ours["loss"], rel=0.01), "its NLL is a mean over tokens, ours over pairs"


@pytest.mark.slow
def test_the_quick_try_out_prints_a_table_and_records_nothing(tmp_path):
    pytest.importorskip("liger_kernel", reason="make bench installs Liger-Kernel")
    before = sorted((REPOSITORY / "docs" / "results").glob("bench-*"))
    command = [sys.executable, "-m", "benchmarks.bench", "--quick", "--rounds", "1"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (
        "Liger-Kernel's ORPO loss" in done.stdout
        and sorted((REPOSITORY / "docs" / "results").glob("bench-*")) == before
    )


def test_the_recorded_benchmarks_hold_the_bars_that_the_documentation_says_are_held():
    """All but three, which docs/results.md tells as missed, with what the profile says about them."""
    found = bars(results.recorded_bench(), results.recorded_kinds())
    missed = {(bar.what, bar.where) for bar in found if not bar.held}
    assert len(found) == 9 and missed == {
        ("times as fast as TRL", "built-in domain, LoRA, bf16"),
        ("share of the matrix-product peak", "built-in domain, all weights, bf16"),
        ("share of the matrix-product peak", "built-in domain, LoRA, bf16"),
    }
    page = (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")
    assert page.count("| **missed** |") == len(missed) and "What keeps a step from half of the bf16 peak" in page


def test_what_the_documentation_says_of_missed_bars_is_what_the_profile_found():
    """Matrix products are near their peak and under half of a bf16 step, which bf16 makes less faster than TRL's."""
    for found in step_profile.recorded_profile()["cases"]:
        if found["case"]["bf16"]:
            assert found["parts"][step_profile.PRODUCTS] < 0.5 * sum(found["parts"].values())
            assert found["gflops"] > 0.7 * found["matmul_gflops"]
    kinds = results.recorded_kinds()
    plain, rounded = group_of(kinds, lora_rank=16), group_of(kinds, lora_rank=16, bf16=True)
    speed = [[results.of(group, way)["pairs_per_second"] for way in MAIN[:2]] for group in (plain, rounded)]
    ours, trl = (after / before for before, after in zip(*speed, strict=True))
    assert 1 < ours < trl


def test_bf16_changes_the_recorded_loss_by_rounding_alone():
    exact, rounded = results.recorded_bench()["precision"]
    assert rounded["loss"] == pytest.approx(exact["loss"], rel=1e-2)


def test_a_bar_is_a_bound_from_above_or_below():
    bench, kinds = results.recorded_bench(), results.recorded_kinds()
    fast, lean = bars(bench, kinds)[:2]
    assert fast.held and not replace(fast, recorded=2.49).held
    assert lean.held and lean.most and not replace(lean, recorded=0.61).held
    assert "| times as fast as TRL | built-in domain, LoRA, bf16 | at least 3.20 |" in bars_table(bench, kinds)
