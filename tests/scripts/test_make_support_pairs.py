"""The synthetic second domain keeps its rules: readable from the prompt, held out by shop, no short cut by length."""

from helpers.data import load_preferences, validate_preferences
from helpers.data.set_warnings import longer_wins
from scripts.make_support_pairs import RULES, pairs, write


def test_the_pairs_follow_their_rules_and_say_that_they_are_synthetic():
    rows = pairs()
    assert rows == pairs() and len(rows) == 120 * len(RULES) and len({row["group"] for row in rows}) == 120
    for row in rows:
        assert row["chosen"] in row["system"] and row["source"].startswith("synthetic")
        in_policy = row["rejected"] in row["system"]
        assert in_policy == (row["rejected_kind"] == "other rule") and row["rejected"] != row["chosen"]


def test_they_load_by_shop_and_pass_validation(tmp_path):
    counts = write(tmp_path / "support", pairs())
    splits = {name: load_preferences(tmp_path / "support", name) for name in ("train", "validation", "heldout")}
    assert counts == {name: len(rows) for name, rows in splits.items()}
    assert sum(counts.values()) == 840 and min(counts.values()) >= 40
    train, heldout = splits["train"], splits["heldout"]
    report = validate_preferences(train, heldout=heldout)
    assert not report.problems and "length bias" not in str(report) and 0.4 < longer_wins(train) < 0.6
    assert [message["role"] for message in train[0]["prompt"]] == ["system", "user"]
    assert set(train["group"]).isdisjoint(heldout["group"])
