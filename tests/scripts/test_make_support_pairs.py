"""The synthetic second domain keeps its rules: readable from the prompt, held out by shop, no short cut by length."""

import json

from helpers.data import load_preferences, validate_preferences
from helpers.data.set_warnings import longer_wins
from scripts.make_support_pairs import RULES, pairs


def test_the_pairs_follow_their_rules_and_say_that_they_are_synthetic():
    rows = pairs()
    assert rows == pairs() and len(rows) == 120 * len(RULES) and len({row["shop"] for row in rows}) == 120
    for row in rows:
        assert row["chosen"] in row["system"] and row["source"].startswith("synthetic")
        in_policy = row["rejected"] in row["system"]
        assert in_policy == (row["rejected_kind"] == "other rule") and row["rejected"] != row["chosen"]


def test_they_load_by_shop_and_pass_validation(tmp_path):
    path = tmp_path / "support.jsonl"
    path.write_text("\n".join(map(json.dumps, pairs())))
    splits = [load_preferences(path, split=split, split_by="shop") for split in ("train", "validation", "heldout")]
    assert sum(map(len, splits)) == 840 and min(map(len, splits)) >= 40
    report = validate_preferences(splits[0], heldout=splits[2])
    assert not report.problems and "length bias" not in str(report) and 0.4 < longer_wins(splits[0]) < 0.6
    assert [message["role"] for message in splits[0][0]["prompt"]] == ["system", "user"]
    assert set(splits[0]["group"]).isdisjoint(splits[2]["group"])
