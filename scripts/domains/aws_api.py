"""The built-in domain: preference pairs about AWS API operations, from botocore's own service models.

A question asks what one operation does; the first sentence of its own description is the chosen answer, and
the description of another operation the rejected one: the same style, the wrong facts. The base model's own
answers are not used as rejected, since they differ in style: a model would learn to prefer style, not facts.

What makes a rejected answer wrong (`is_wrong_sibling`, `is_wrong_lookalike`):

* `sibling`: the operation of the same service whose name shares most CamelCase words. Either its action
  differs (Create, Delete) both in name and in text, or its text has few words in common with the chosen one.
* `lookalike`: the same action on the same kind of thing in a service of another family, in a text that has
  few words in common with the chosen one and says things that neither that nor the name says: three, or two
  where it names its own service.
* Twins, whose names differ at most in Batch, version, plural or a verb of like meaning (Get, List), do not
  pair, save as a lookalike that names its own service.
* No rejected text equals, contains or is contained in the chosen one, nor names the operation asked about.

Splits are by family of services (`group_families`). A text that two splits share is dropped from both, and
TagResource and its like, which mean the same everywhere, are left out. The result depends on the seed and on
botocore's version alone.
"""

import hashlib
import itertools
import re
from collections import Counter, defaultdict

import datasets

from helpers.data.words import content_words
from scripts.domains.operations import read_operations

SYSTEM_PROMPT = "You answer questions about AWS API operations."
QUESTION_TEMPLATES = (
    "What does the `{operation}` operation of {service} do?",
    "In {service}, what is `{operation}` for?",
    "What happens when I call `{operation}` in {service}?",
    "Explain the {service} API operation `{operation}`.",
    "I am using {service}. What does `{operation}` do?",
    "Describe what `{operation}` does in the {service} API.",
    "What is the purpose of `{operation}` in {service}?",
    "When would I call `{operation}` of {service}, and what does it do?",
)
SPLIT_SHARES = {"heldout": 0.15, "validation": 0.10}  # of the operations; the rest trains
BIG_FAMILY = 0.04  # a family above this share always trains: no held-out score should hang on one service
LOOKALIKE_SHARE = 0.10  # few: the base model already tells nine in ten apart, so they have little to teach
MAX_OVERLAP = 0.5  # Jaccard overlap of content words from which two answers say the same thing


def _rank(seed, *parts):
    """Bytes that stand for chance, the same on every machine and in every process."""
    return hashlib.blake2b(repr((seed, *parts)).encode(), digest_size=8).digest()


def _differ(a, b, max_overlap):
    """True if neither text holds the other or names its operation, and they have few words in common."""
    x, y = a.answer.lower().rstrip("."), b.answer.lower().rstrip(".")
    overlap = len(a.content & b.content) / max(1, len(a.content | b.content))
    return not (x in y or y in x or a.name in b.answer) and overlap < max_overlap


def are_twins(a, b):
    """True if the names mean the same: they differ at most in Batch, version, plural or a like verb."""
    return a.things == b.things and bool(a.actions & b.actions)


def _names_its_service(other, asked):
    """True if `other` says a name of its own service that is no name of the service asked about."""
    said = set(re.findall(r"[\w-]+", other.answer)[1:])
    return bool(said & (set(other.title.split()) - set(asked.title.split()) - {"AWS", "Amazon", "Service"}))


def is_wrong_sibling(asked, other):
    """True if `other`, of the same service, is surely a wrong answer about `asked`."""
    if are_twins(asked, other):
        return False
    if not asked.actions & other.actions and not asked.text_actions & other.text_actions:
        return _differ(asked, other, 1.0)
    return _differ(asked, other, MAX_OVERLAP) and bool(other.content - asked.content)


def is_wrong_lookalike(asked, other):
    """True if `other`, of another family of services, is surely a wrong answer about `asked`."""
    if asked.things[-1:] != other.things[-1:]:
        return False
    names_its_service = _names_its_service(other, asked)
    if are_twins(asked, other) and not names_its_service:
        return False
    novel = other.content - asked.content - content_words(" ".join(asked.words))
    return len(novel) >= (2 if names_its_service else 3) and _differ(asked, other, MAX_OVERLAP)


def group_families(operations):
    """{service: family}. Services are one family if their ids begin alike (`lex-models`, `lexv2-runtime`), if
    one's title begins with the other's (EventBridge, EventBridge Pipes), or if they share three or more
    texts that are a twentieth of the smaller service's (`docdb`, `neptune`, `rds`)."""
    shared_title = re.compile(r"^(aws|amazon) |\s*v\d$")
    titles = {op.service: shared_title.sub("", op.title.lower()).split() for op in operations}
    starts = {service: re.sub(r"v\d$", "", service.split("-")[0]) for service in titles}
    texts = {service: set() for service in titles}
    for op in operations:
        texts[op.service].add(op.answer.lower())
    family = {service: service for service in titles}
    for a, b in itertools.permutations(titles, 2):
        # s3 begins s3control, pi does not begin pinpoint
        glued = len(starts[a]) > 2 or starts[a][-1].isdigit()
        alike = starts[a] == starts[b] or (glued and starts[b].startswith(starts[a]))
        alike = alike or titles[b][: len(titles[a])] == titles[a]
        alike = alike or len(texts[a] & texts[b]) >= max(3, min(len(texts[a]), len(texts[b])) / 20)
        if alike and family[a] != family[b]:
            low, high = sorted((family[a], family[b]))
            family = {service: low if name == high else name for service, name in family.items()}
    return family


def assign_splits(operations, families, seed):
    """{family: split}: families in seeded order fill held-out, then validation; all others train."""
    sizes = Counter(families[op.service] for op in operations)
    small = [family for family in sizes if sizes[family] <= BIG_FAMILY * len(operations)]
    drawn = sorted(small, key=lambda family: _rank(seed, family))
    split_of = dict.fromkeys(sizes, "train")
    for split, share in SPLIT_SHARES.items():
        filled = 0
        while drawn and filled < share * len(operations):
            family = drawn.pop()
            split_of[family] = split
            filled += sizes[family]
    return split_of


def _nearest(asked, index, keys, fits, seed):
    """Of the operations filed in `index` under `keys`, the one with most keys in common that `fits`, or None.
    Ties go to the shorter name, then to chance."""
    shared = Counter(other for key in sorted(set(keys)) for other in index.get(key, ()) if other is not asked)
    ties = defaultdict(list)
    for other, count in shared.items():
        ties[-count, len(other.words)].append(other)
    for _, tied in sorted(ties.items()):
        for other in sorted(tied, key=lambda other: _rank(seed, asked.key, other.key)):
            if fits(asked, other):
                return other
    return None


def pair_up(operations, families, seed):
    """Operations of one split -> [(asked, rejected, kind)]; an operation no rule can pair is left out."""
    index = defaultdict(list)
    for op in operations:
        for word in sorted(set(op.words)):
            index[op.service, word].append(op)
        for thing in sorted(set(op.things)):
            index["any service", op.words[0], thing].append(op)

    def elsewhere(asked, other):
        return families[asked.service] != families[other.service] and is_wrong_lookalike(asked, other)

    wrong = {}
    for op in operations:
        sibling = _nearest(op, index, [(op.service, word) for word in op.words], is_wrong_sibling, seed)
        same_verb = [("any service", op.words[0], thing) for thing in op.things]
        lookalike = _nearest(op, index, same_verb, elsewhere, seed)
        if sibling or lookalike:
            wrong[op] = sibling, lookalike
    # Those that have no sibling come first; the share is filled up by chance.
    drawn = [op for op, (_, lookalike) in wrong.items() if lookalike]
    drawn.sort(key=lambda op: (wrong[op][0] is not None, _rank(seed, "kind", op.key)))
    as_lookalike = set(drawn[: round(LOOKALIKE_SHARE * len(wrong))])
    pairs = []
    for op, (sibling, lookalike) in wrong.items():
        by_lookalike = op in as_lookalike or sibling is None
        pairs.append((op, lookalike, "lookalike") if by_lookalike else (op, sibling, "sibling"))
    return sorted(pairs, key=lambda pair: _rank(seed, "order", pair[0].key))


def _row(asked, rejected, kind, seed):
    draw = int.from_bytes(_rank(seed, "question", asked.key), "big")
    template = QUESTION_TEMPLATES[draw % len(QUESTION_TEMPLATES)]
    question = template.format(operation=asked.name, service=asked.title)
    return {
        "prompt": [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": question}],
        "chosen": [{"role": "assistant", "content": asked.answer}],
        "rejected": [{"role": "assistant", "content": rejected.answer}],
        "service": asked.service,
        "operation": asked.name,
        "rejected_kind": kind,
        "rejected_from": rejected.key,
    }


def build_domain(seed=0):
    """The domain as a `DatasetDict` with splits `train`, `validation`, `heldout`, rows in seeded order.

    Columns: `prompt`, `chosen`, `rejected` (lists of {"role", "content"} messages), `service` (botocore's
    id), `operation`, `rejected_kind` ("sibling" or "lookalike"), `rejected_from` ("service.Operation").
    Raises ImportError without botocore, FileNotFoundError if its data is missing.
    """
    operations = read_operations()
    families = group_families(operations)
    split_of = assign_splits(operations, families, seed)
    members, seen_in = {"train": [], "validation": [], "heldout": []}, defaultdict(set)
    for op in operations:
        seen_in[op.content].add(split_of[families[op.service]])
    for op in operations:
        if len(seen_in[op.content]) == 1:
            members[split_of[families[op.service]]].append(op)
    result = datasets.DatasetDict()
    for split, ops in members.items():
        result[split] = datasets.Dataset.from_list([_row(*p, seed) for p in pair_up(ops, families, seed)])
    return result
