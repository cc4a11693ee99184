"""Plans as figures, and the sliders over a plan."""

import pytest

from helpers.sagemaker import compare, plan, scale
from helpers.show import plan_explorer, plot_nodes, plot_plans
from helpers.show.plan_plots import GIB, PARTS, plans_text


@pytest.fixture(scope="module")
def plans():
    return compare("Qwen3-1.7B", ("sft", "orpo", "dpo"), lora_rank=0, tensor_parallel=2)


def test_the_bars_are_as_high_as_the_plans_and_end_at_the_limit(plans):
    (axis,) = plot_plans(plans).axes
    for place, made in enumerate(plans.values()):
        heights = [bars[place].get_height() for bars in axis.containers]
        assert sum(heights) == pytest.approx(made.bytes / GIB)
        assert axis.lines[place].get_ydata()[0] == pytest.approx(made.limit / GIB)
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["usable", *PARTS]
    assert sum("does not fit" in text.get_text() for text in axis.texts) == sum(
        not made.fits for made in plans.values()
    )


def test_every_part_has_a_colour_and_a_hatch_of_its_own(plans):
    (axis,) = plot_plans(plans).axes
    looks = {(bars[0].get_facecolor(), bars[0].get_hatch()) for bars in axis.containers}
    assert len(looks) == len({colour for colour, _ in looks}) == len({hatch for _, hatch in looks}) == len(PARTS)


def test_the_text_says_what_the_bars_show(plans):
    said = plans_text(plans)
    assert all(f"{made.bytes / GIB:.1f} of {made.limit / GIB:.1f} GiB" in said for made in plans.values())


@pytest.mark.parametrize(("price", "label"), [({"usd_per_hour": 20}, "US dollars"), ({}, "instance-hours")])
def test_nodes_against_time_and_price(price, label):
    found = scale("Llama-3.1-8B", (1, 2, 4), update_pairs=64, tensor_parallel=8, **price)
    time, cost = plot_nodes(found).axes
    assert list(time.lines[0].get_ydata()) == pytest.approx([row.total / 3600 for row in found.rows])
    spent = [row.cost if price else row.node_hours for row in found.rows]
    assert list(cost.lines[0].get_ydata()) == pytest.approx(spent)
    assert label in cost.get_ylabel() and f"up to {found.best.nodes} nodes" in time.get_title()


def test_moving_a_slider_shows_another_plan(capsys):
    box = plan_explorer(plan)
    model, length, batch, cores, lora, recompute, image = box.children[:7]
    before = bytes(image.value)
    assert before.startswith(b"\x89PNG") and "ORPO" in capsys.readouterr().out
    length.value = 2048
    assert bytes(image.value) != before
    told = box.children[7]
    assert "does not fit" in told.value and "Smallest change: " in told.value
    recompute.value, batch.value, lora.value = True, 1, False
    model.value = "Llama-3.1-8B"
    cores.value = 8
    assert "DPO 11.3 of" in told.value and "does not fit" not in told.value


def test_cores_that_do_not_divide_the_heads_are_told_and_the_picture_stays():
    box = plan_explorer(plan, model="SmolLM2-135M-Instruct", cores=1)
    image, before = box.children[6], bytes(box.children[6].value)
    box.children[3].value = 2
    assert "does not divide the heads, 9, of SmolLM2-135M-Instruct" in box.children[7].value
    assert bytes(image.value) == before
