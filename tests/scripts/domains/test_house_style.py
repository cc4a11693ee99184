"""The house style: every rule by a hand-worked case, drafts and revisions, splits that share nothing."""

import random

import pytest

from helpers.data.house_style import RULES, check_answer, facts, rules_broken
from scripts.domains.aws_api import group_families
from scripts.domains.house_style import (
    HABITS,
    base_form,
    build_house_style,
    documentation_drafts,
    draw_habits,
    is_material,
    revise_twice,
    write,
)
from scripts.domains.operations import read_operations

CLEAN = "Deletes an index and all of its documents."


@pytest.fixture(scope="module")
def built():
    return build_house_style(seed=0)


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        (CLEAN, []),
        ("Modifies the DNS settings of a host.", []),
        ("Delete an index.", ["verb"]),
        ("This operation deletes an index.", ["verb"]),
        ("deletes an index.", ["verb"]),
        ("Used to delete an index.", ["verb"]),
        ("Details of an index.", ["verb"]),
        ("Deletes your index.", ["reader"]),
        ("Deletes an index that You own.", ["reader"]),
        ("Deletes the youngest index.", []),
        ("Deletes the specified index.", ["filler"]),
        ("Deletes the given index in order to save space.", ["filler"]),
        ("Deletes the index of a specifier.", []),
        ("Deletes an Amazon Kendra index.", ["brand"]),
        ("Deletes an AWS index.", ["brand"]),
        ("Deletes an index of a laws database.", []),
        ("Deletes an index (if any).", ["sentence"]),
        ("Deletes an index. See the guide for details.", ["sentence"]),
        ("Deletes an index", ["sentence"]),
        ("Deletes an index,\nand more.", ["sentence"]),
        ("Deletes old items, e.g. Indexes.", []),
        ("", ["verb", "sentence"]),
        ("This deletes your specified AWS index (all).", ["verb", "reader", "filler", "brand", "sentence"]),
    ],
)
def test_each_rule_of_form(text, broken):
    assert rules_broken(text) == broken


@pytest.mark.parametrize(
    ("answer", "facts_hold", "accepted"),
    [
        (CLEAN, True, True),
        ("Removes the index and all of its documents.", True, True),  # a verb of like meaning, another determiner
        ("Deletes the specified index and all of its documents.", True, False),  # facts kept, a rule broken
        ("Deletes an index.", False, False),  # 2 of 3 facts
        ("Creates an index and all of its documents.", False, False),  # the wrong action
        ("Deletes an index and all of its documents from a cluster of nodes.", False, False),  # 2 of 5 made up
        ("", False, False),
    ],
)
def test_facts_are_judged_beside_the_form(answer, facts_hold, accepted):
    verdict = check_answer(answer, CLEAN)
    assert (verdict.facts_hold, verdict.accepted) == (facts_hold, accepted)


def test_facts_by_hand():
    assert facts(CLEAN) == {"delete", "index", "document"}
    assert facts("Deletes an index (a fast one) for you. It can't be undone.") == {"delete", "index"}
    assert check_answer("Deletes an index.", CLEAN).facts_kept == pytest.approx(2 / 3)
    assert check_answer("Deletes an index of a cluster.", "Deletes an index.").facts_added == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="holds no facts"):
        check_answer(CLEAN, "")


@pytest.mark.parametrize(
    ("habits", "draft"),
    [
        ({}, CLEAN),
        ({"verb": "Use this API to {b}"}, "Use this API to delete an index and all of its documents."),
        ({"verb": "This API {s}"}, "This API deletes an index and all of its documents."),
        ({"verb": "{B}"}, "Delete an index and all of its documents."),
        ({"filler": "given", "brand": "AWS"}, "Deletes the given AWS index and all of its documents."),
        ({"reader": " for you"}, "Deletes an index and all of its documents for you."),
        (
            {"sentence": " See the guide for details."},
            "Deletes an index and all of its documents. See the guide for details.",
        ),
    ],
)
def test_write(habits, draft):
    assert write(CLEAN, habits) == draft


@pytest.mark.parametrize("rule", RULES)
def test_each_wording_of_a_habit_breaks_its_rule_and_no_fact(rule):
    for wording in HABITS[rule]:
        text = write(CLEAN, {rule: wording})
        assert rule in rules_broken(text)
        if rule != "verb":  # "This operation deletes" and its like lose no fact either, but may add "use"
            assert rules_broken(text) == [rule]
        assert check_answer(text, CLEAN).facts_kept == 1


@pytest.mark.parametrize(
    ("verb", "base"),
    [
        *[("Deletes", "Delete"), ("Modifies", "Modify"), ("Searches", "Search"), ("Releases", "Release")],
        *[("Accesses", "Access"), ("Publishes", "Publish"), ("Lists", "List")],
    ],
)
def test_base_form(verb, base):
    assert base_form(verb) == base


def test_the_better_revision_leaves_fewer_habits():
    for seed in range(50):
        chance = random.Random(seed)
        habits = draw_habits(chance)
        better, worse = revise_twice(habits, chance, 0.5)
        assert len(habits) == 3
        assert len(better) < len(worse)
        assert better.items() <= habits.items()
        assert worse.items() <= habits.items()


def test_a_chosen_answer_breaks_fewer_rules_than_the_rejected_one(built):
    perfect = 0
    for row in built["heldout"]:
        chosen, rejected = (row[side][0]["content"] for side in ("chosen", "rejected"))
        assert len(rules_broken(chosen)) < len(rules_broken(rejected)) <= len(rules_broken(row["draft"])) == 3
        assert row["draft"] in row["prompt"][-1]["content"]
        assert check_answer(row["summary"], row["summary"]).accepted
        perfect += not rules_broken(chosen)
    # Of two revisions that leave 0 to 3 habits (1, 3, 3, 1 of 8) and differ, the better leaves none in 14 of 44.
    assert perfect / len(built["heldout"]) == pytest.approx(14 / 44, abs=0.05)


def test_splits_share_no_family_and_no_facts(built):
    families = group_families(read_operations())
    groups = {split: {families[service] for service in rows["service"]} for split, rows in built.items()}
    told = {split: {facts(summary) for summary in rows["summary"]} for split, rows in built.items()}
    for seen in (groups, told):
        assert not seen["train"] & seen["heldout"]
        assert not seen["train"] & seen["validation"]
        assert not seen["validation"] & seen["heldout"]
    assert len(built["train"]) > 2000
    assert len(built["heldout"]) > 400


def test_the_same_each_time_and_another_with_another_seed(built):
    assert build_house_style(seed=0)["validation"].to_list() == built["validation"].to_list()
    assert build_house_style(seed=1)["validation"].to_list() != built["validation"].to_list()


def test_real_drafts_break_the_style_as_they_are(built):
    drafts = documentation_drafts("heldout")
    assert len(drafts) >= 200
    assert set(drafts["service"]).isdisjoint(built["train"]["service"])
    assert all(len(rules_broken(draft)) >= 2 for draft in drafts["draft"])


def test_what_is_no_material_and_a_chance_that_is_none():
    assert is_material(CLEAN)
    assert not is_material("Deletes indexes and all of their documents.")  # no determiner to put a word after
    assert not is_material("Deletes the specified index and its documents.")
    with pytest.raises(ValueError, match="left is 1"):
        build_house_style(left=1)
