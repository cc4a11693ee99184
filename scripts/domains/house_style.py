"""The domain of the lesson: pairs of revisions of an API summary, of which one keeps a house style better.

The summaries are real: botocore's own one-line summaries that keep every rule of `helpers.data.house_style`. The faults
are synthetic: three of the five habits that API documentation is full of (a preamble, filler, the brand, an address of
the reader, a second sentence) are written into a summary by `write`, which gives the draft in the prompt. Then the
draft is revised twice: each revision leaves a habit in with the chance `left`. The one with fewer habits left is
chosen. So a chosen answer is the better of two, mostly not a perfect one, and a rejected answer is never perfect.

`documentation_drafts` needs no made faults: real summaries of held-out services that break the style as they are.

Splits are by family of services, as in `aws_api`; a text that two splits share is dropped from both. The
result depends on the seed, on `left` and on botocore's version alone.
"""

import random
import re
from collections import defaultdict

import datasets

from helpers.data.house_style import edit_request, facts, rules_broken
from scripts.domains.aws_api import assign_splits, group_families
from scripts.domains.operations import read_operations

HABITS_IN_DRAFT = 3
LEFT = 0.5  # chance that a revision leaves a habit in
MIN_WORDS, MAX_WORDS = 5, 14  # of a summary: short enough to read three answers at a glance
DETERMINER = re.compile(r"\b(a|an|the|one or more)\b ")
# The wordings of each habit, by the rule that it breaks. {s} is the verb as it is, {b} its base form.
HABITS = {
    "verb": (
        *("This operation {s}", "This API {s}", "The operation {s}", "This action {s}"),
        *("Use this operation to {b}", "Use this API to {b}", "Used to {b}", "{B}"),
    ),
    "filler": ("specified", "given", "provided", "particular", "existing"),
    "brand": ("AWS", "Amazon Web Services", "Amazon"),
    "reader": (" in your account", " that you own", " for your account", " that you specify", " for you"),
    "sentence": (
        *(" For more information, see the user guide.", " For more information, see the developer guide."),
        *(" See the guide for details.", " This operation is idempotent.", " The response is paginated."),
    ),
}


def base_form(verb):
    """'Deletes' -> 'Delete', 'Modifies' -> 'Modify', 'Searches' -> 'Search'."""
    if verb.endswith("ies"):
        return verb[:-3] + "y"
    return verb[:-2] if re.search(r"(ch|sh|ss|x|zz)es$", verb) else verb[:-1]


def write(summary, habits):
    """A clean `summary` with `habits` ({rule: wording}) written into it."""
    verb, rest = summary.removesuffix(".").split(" ", 1)
    if inserted := [habits[name] for name in ("filler", "brand") if name in habits]:
        rest = DETERMINER.sub(" ".join(["the", *inserted, ""]), rest, count=1)
    base = base_form(verb)
    opening = habits.get("verb", verb).format(s=verb.lower(), b=base.lower(), B=base)
    return f"{opening} {rest}{habits.get('reader', '')}." + habits.get("sentence", "")


def draw_habits(chance):
    """{rule: wording} for three habits, drawn with `chance` (a random.Random)."""
    drawn = sorted(chance.sample(sorted(HABITS), HABITS_IN_DRAFT))
    return {name: chance.choice(HABITS[name]) for name in drawn}


def revise_twice(habits, chance, left):
    """(better, worse): what two revisions leave of the habits, drawn again until one leaves fewer than the other."""
    while True:
        one, other = ({name: habits[name] for name in habits if chance.random() < left} for _ in range(2))
        if len(one) != len(other):
            return (one, other) if len(one) < len(other) else (other, one)


def is_material(summary):
    """True if the summary keeps every rule, is short, and has a determiner where a word can be put in."""
    if not MIN_WORDS <= len(summary.split()) <= MAX_WORDS or rules_broken(summary):
        return False
    return bool(DETERMINER.search(summary)) and bool(facts(summary))


def _row(operation, seed, left):
    chance = random.Random(f"{seed} {operation.key}")
    habits = draw_habits(chance)
    better, worse = revise_twice(habits, chance, left)
    draft = write(operation.answer, habits)
    return {
        "prompt": edit_request(draft),
        "chosen": [{"role": "assistant", "content": write(operation.answer, better)}],
        "rejected": [{"role": "assistant", "content": write(operation.answer, worse)}],
        "service": operation.service,
        "operation": operation.name,
        "draft": draft,
        "summary": operation.answer,
    }


def _split_operations(seed):
    """{split: operations}, each with facts that no operation of another split states, and no summary twice."""
    operations = read_operations()
    families = group_families(operations)
    split_of = assign_splits(operations, families, seed)
    told_in, members, seen = defaultdict(set), {"train": [], "validation": [], "heldout": []}, set()
    for op in operations:
        told_in[facts(op.answer)].add(split_of[families[op.service]])
    for op in operations:
        if len(told_in[facts(op.answer)]) == 1 and op.answer not in seen:
            seen.add(op.answer)
            members[split_of[families[op.service]]].append(op)
    return members


def build_house_style(seed=0, left=LEFT):
    """The domain as a `DatasetDict` with splits `train`, `validation`, `heldout`, rows in seeded order.

    Columns: `prompt`, `chosen`, `rejected` (lists of {"role", "content"} messages), `service` (botocore's id),
    `operation`, `draft` (with habits), `summary` (the clean one, whose facts an answer must keep).
    Raises ValueError for a `left` outside (0, 1), ImportError without botocore.
    """
    if not 0 < left < 1:
        raise ValueError(f"left is {left}: give the chance that a revision leaves a habit in, between 0 and 1")
    result = datasets.DatasetDict()
    for split, operations in _split_operations(seed).items():
        rows = [_row(op, seed, left) for op in operations if is_material(op.answer)]
        result[split] = datasets.Dataset.from_list(rows).shuffle(seed=seed)
    return result


def documentation_drafts(split="heldout", seed=0, least_broken=2):
    """Real summaries of the split's services that break at least `least_broken` rules as they are, as a Dataset.

    Columns: `prompt`, `service`, `operation`, `draft` and `summary`, both the summary itself: an answer must
    keep its facts. There is no reference answer.
    """
    rows = [
        {"prompt": edit_request(op.answer), "service": op.service, "operation": op.name}
        | {"draft": op.answer, "summary": op.answer}
        for op in _split_operations(seed)[split]
        if len(rules_broken(op.answer)) >= least_broken and facts(op.answer)
    ]
    return datasets.Dataset.from_list(rows).shuffle(seed=seed)
