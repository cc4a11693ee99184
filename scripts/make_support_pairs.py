"""Write synthetic customer-service pairs: a second domain of another kind, to try one's own data with.

python -m scripts.make_support_pairs support        then: make run SOURCE=support

All of it is made up by the rules below, and every row says so in its column `source`. A shop has a policy of seven
rules, which stands in the prompt as system text. A customer asks about one of them.

chosen      the rule that was asked about, with the shop's own number
rejected    in the same words another number ("other number"), or another rule of the same shop ("other rule")

So the better answer can be told by reading the policy, and not by style or length. The folder holds train.jsonl,
validation.jsonl and heldout.jsonl; no shop is in two of them.
"""

import json
import random
import sys
from pathlib import Path

from helpers.data.splits import SHARES, place_of, split_of_place
from helpers.files import write_text

SHOPS, SEED = 120, 0
NAMES = ("Alder", "Birch", "Cedar", "Hazel", "Juniper", "Linden", "Maple", "Rowan", "Spruce", "Willow")
TRADES = ("Books", "Bikes", "Garden", "Kitchen", "Lamps", "Music", "Outdoor", "Paper", "Shoes", "Tools", "Toys", "Tea")
RULES = {  # what a customer asks → (the rule, the numbers that shops have)
    "How long can I return an item?": ("Items can be returned within {} days.", range(10, 61, 5)),
    "How long does a refund take?": ("Refunds are paid within {} working days.", range(2, 15)),
    "When will my parcel arrive?": ("Parcels arrive after {} working days.", range(1, 10)),
    "From which amount is delivery free?": ("Delivery is free for orders above {} euros.", range(20, 101, 10)),
    "How long is the guarantee?": ("The guarantee lasts {} months.", range(6, 49, 6)),
    "How long is a gift card valid?": ("Gift cards are valid for {} months.", range(12, 61, 12)),
    "Until when can I change my order?": ("Orders can be changed for {} hours.", range(1, 25)),
}


def policy(draw: random.Random) -> dict[str, str]:
    """{question: the shop's rule}."""
    return {question: rule.format(draw.choice(numbers)) for question, (rule, numbers) in RULES.items()}


def wrong_answer(question: str, rules: dict[str, str], draw: random.Random) -> tuple[str, str]:
    """(text, kind) of an answer that reads alike and is false."""
    if draw.random() < 0.5:
        return draw.choice([rule for other, rule in rules.items() if other != question]), "other rule"
    rule, numbers = RULES[question]
    return draw.choice([text for number in numbers if (text := rule.format(number)) != rules[question]]), "other number"


def pairs(seed: int = SEED, shops: int = SHOPS) -> list[dict]:
    """A pair for every shop and rule, in an order that depends on the seed alone."""
    draw, rows = random.Random(seed), []
    for name in draw.sample([f"{first} {trade}" for first in NAMES for trade in TRADES], shops):
        rules = policy(draw)
        for question, right in rules.items():
            wrong, kind = wrong_answer(question, rules, draw)
            text = f"You answer customers of {name}. " + " ".join(rules.values())
            row = {"system": text, "question": question, "chosen": right, "rejected": wrong, "rejected_kind": kind}
            rows.append(row | {"group": name, "source": "synthetic: scripts/make_support_pairs.py"})
    draw.shuffle(rows)
    return rows


def write(folder: Path, rows: list[dict]) -> dict[str, int]:
    """Write a file for each split, and return how many pairs each holds. Shops are split by a hash of their name."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = {name: [] for name in ("train", *SHARES)}
    for row in rows:
        splits[split_of_place(place_of(row["group"]), set(SHARES))].append(row)
    for name, its in splits.items():
        write_text(folder / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in its))
    return {name: len(its) for name, its in splits.items()}


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "support")
    counts = ", ".join(f"{name} {count}" for name, count in write(target, pairs()).items())
    print(f"synthetic pairs of {SHOPS} made-up shops in {target}: {counts}")
