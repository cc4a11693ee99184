"""Validation before training: what is wrong with rows and with the set, how it is told, and where bad rows go."""

import json
import re

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from helpers.data import set_warnings
from helpers.data.load import DOMAINS, load_preferences
from helpers.data.near_copies import near_copies, sketched
from helpers.data.pair_warnings import plain
from helpers.data.set_warnings import longer_wins
from helpers.data.validate import validate_preferences
from tests.conftest import make_pairs
from tests.data.test_own_data import assistant, user

CREDENTIAL = "chosen: holds what looks like a credential"
GOOD = {"prompt": [user("What is S3?")], "chosen": [assistant("Object storage.")], "rejected": [assistant("A queue.")]}
LONG = "One sentence of some length stands here so that the text is long enough to be judged. " * 3


def answer(text):
    return GOOD | {"chosen": [assistant(text)]}


def report(*rows, **options):
    return validate_preferences(Dataset.from_list([GOOD, *rows]), **options)


SUSPICIOUS = {
    "near-identical": (answer("a  QUEUE!"), "rejected: differs from chosen in case or punctuation only"),
    "template tokens, ChatML": (answer("Yes.<|im_start|>user"), "chosen: holds '<|im_start|>', which a tokenizer may"),
    "template tokens, Llama 2": (answer("[INST] Yes."), "chosen: holds '[INST]'"),
    "template tokens, Gemma": (answer("Yes.<end_of_turn>"), "chosen: holds '<end_of_turn>'"),
    "template tokens, DeepSeek": (answer("Yes.<｜User｜>"), "chosen: holds '<｜User｜>'"),
    "control characters": (answer("Object\x07 storage."), r"chosen: holds the character '\x07'"),
    "control characters, lost ones": (answer("Gr\ufffd\ufffde."), r"chosen: holds the character '\ufffd'"),
    "control characters, direction": (answer("a \u202e b"), r"chosen: holds the character '\u202e'"),
    "secrets, AWS": (
        answer("AKIA" + "ABCDEFGHIJKLMNOP"),
        CREDENTIAL + " (AWS Access Key)",
    ),
    "secrets, GitHub": (answer("ghp_" + "a1" * 18), CREDENTIAL + " (GitHub Token)"),
    "secrets, Hugging Face": (
        answer("hf_" + "aB" * 17),
        CREDENTIAL + " (Hugging Face token)",
    ),
    "secrets, key": (
        answer("-----BEGIN RSA PRIVATE " + "KEY-----"),
        CREDENTIAL + " (Private Key)",
    ),
    "secrets, JSON web token": (
        answer(".".join(["eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiIxIn0", "c2lnbmF0dXJlLW9mLWl0"])),
        CREDENTIAL + " (JSON Web Token)",
    ),
    "secrets, password in a URL": (
        answer("postgres://admin:hunter" + "22@localhost"),
        CREDENTIAL + " (Basic Auth Credentials)",
    ),
    "secrets, API key": (answer("sk-ant-" + "a1B2" * 8), CREDENTIAL + " (API key)"),
    "personal data, mail": (answer("Ask ann.b@firm.org."), "chosen: holds what looks like an e-mail address"),
    "personal data, phone": (answer("Call +49 30 1234567."), "chosen: holds what looks like a phone number"),
    "personal data, card": (answer("4111 1111 1111 1111"), "chosen: holds what looks like a card number"),
    "role order, system": (
        GOOD | {"prompt": [user("a"), {"role": "system", "content": "b"}, user("c")]},
        "prompt: has a system message that is not the first",
    ),
    "role order, users": (GOOD | {"prompt": [user("a"), user("b")]}, "prompt: has two user messages in a row"),
    "cut off": (answer(LONG + "and then it goes on with"), "chosen: ends with 'then it goes on with', as if cut off"),
    "writing systems": (
        {
            "prompt": [user("x")],
            "chosen": [assistant("Это хранилище объектов в облаке.")],
            "rejected": [assistant(LONG)],
        },
        "rejected: is written in LATIN, the chosen one in CYRILLIC",
    ),
}


@pytest.mark.parametrize("name", SUSPICIOUS)
def test_a_suspicious_row_is_a_warning_with_row_column_and_fix(name):
    row, says = SUSPICIOUS[name]
    found = report(row)
    assert not found.problems and len(found.warnings) == 1
    warning = found.warnings[0]
    assert warning.row == 1 and warning.kind == name.partition(",")[0] and warning.fix
    assert str(warning).removeprefix("row 1, ").removesuffix(f"; {warning.fix}").startswith(says.rstrip("'"))


@pytest.mark.parametrize(
    "text",
    [
        "See <https://x.org> & a < b.",
        "x@example.com",
        "Version 1.2.3 of 2026-01-31, 12345678901234567890",
        LONG,
        "a\tb\nc",
    ],
)
def test_plain_text_gives_no_warning(text):
    assert report(answer(text)).warnings == []


@given(st.text() | st.text(st.characters(max_codepoint=127)))
def test_words_are_those_of_a_regular_expression_whatever_the_text(text):
    assert plain(text).split(" ") == (re.findall(r"\w+", text.lower()) or [""])


UNUSABLE = {
    "empty": (answer(" "), "chosen: the response is empty; write an answer or drop the row"),
    "equal answers": (answer("A queue."), "rejected: equals the chosen response; a pair needs two different answers"),
    "prompt in it": (
        GOOD | {"prompt": [user("What does S3 do?")], "chosen": [assistant("What does S3 do? It stores.")]},
        "chosen: repeats the prompt inside the response; keep only the answer in it",
    ),
    "unusable": (
        GOOD | {"chosen": [user("x")]},
        "chosen: starts with the role 'user'; a response holds the assistant's",
    ),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_row_is_a_problem_and_strict_stops_at_it(name):
    row, says = UNUSABLE[name]
    found = report(row)
    assert [(problem.row, problem.kind) for problem in found.problems] == [(1, name)]
    assert str(found.problems[0]).startswith(f"row 1, {says}")
    with pytest.raises(ValueError, match="preferences: row 1, "):
        report(row, strict=True)


def test_bad_rows_are_set_aside_into_a_file_and_counted(tmp_path, capsys):
    data = Dataset.from_list([answer(" "), GOOD, answer("A queue.")])
    found = validate_preferences(data, "mine")
    assert found.set_aside(data, tmp_path / "bad.jsonl").to_list() == [GOOD]
    kept = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [(row["row"], row["content"]["chosen"][0]["content"]) for row in kept] == [(0, " "), (2, "A queue.")]
    assert kept[0]["problems"] == ["row 0, chosen: the response is empty; write an answer or drop the row"]
    assert capsys.readouterr().out == f"mine: 2 of 3 rows set aside in {tmp_path}/bad.jsonl\n"
    with pytest.raises(ValueError, match="mine: no row can be used; the first: row 0, chosen: the response is empty"):
        validate_preferences(data.select([0]), "mine").set_aside(data.select([0]), tmp_path / "bad.jsonl")


def test_the_table_counts_each_kind_with_its_first_example():
    found = report(answer(" "), answer("\x07 a"), answer("\x07 b"), GOOD)
    told = [(line["severity"], line["kind"], line["count"], line["first"]) for line in found.table()]
    assert told == [
        ("error", "empty", 1, "row 1, chosen: the response is empty"),
        ("warning", "control characters", 2, r"row 2, chosen: holds the character '\x07'"),
        ("set", "duplicates", 1, "1 rows repeat an earlier row (row 4)"),
    ]
    assert str(found).startswith(
        "preferences: 5 rows, 1 problems, 2 warnings, 1 findings about the set\nrow 1, chosen: "
    )


# ── the set ──


def kinds(rows, heldout=None):
    found = validate_preferences(Dataset.from_list(rows), heldout=heldout and Dataset.from_list(heldout))
    return {finding.kind: (finding.rows, finding.wrong) for finding in found.findings}


def numbered(count, **more):
    """Pairs in which the longer answer is the chosen one every second time."""
    sides = (("chosen", "rejected"), ("rejected", "chosen"))
    return [
        {
            "prompt": [user(f"Question {i}?")],
            sides[i % 2][0]: [assistant("Yes, it is.")],
            sides[i % 2][1]: [assistant("No.")],
        }
        | {key: make(i) for key, make in more.items()}
        for i in range(count)
    ]


def test_a_clean_set_has_no_findings():
    assert kinds(numbered(40), numbered(60)[40:]) == {}


def test_copies_and_conflicts_are_found():
    swapped = {"prompt": GOOD["prompt"], "chosen": GOOD["rejected"], "rejected": GOOD["chosen"]}
    assert kinds([GOOD, swapped, answer("Object  STORAGE")]) == {
        "duplicates": ([2], "1 rows repeat an earlier row"),
        "conflicts": ([0, 1, 2], "3 rows reject an answer that another row of the same prompt chooses"),
    }


def test_near_copies_are_told_from_texts_of_one_form():
    text = "the customer wants to know whether the parcel that was sent on monday has arrived at the depot in the north"
    other = (
        "how do i change the address of an order that has been paid but not yet been packed by the people in the depot"
    )
    assert near_copies(sketched([text, other, f"{text} please", other.replace("paid", "sent")])) == [(2, 0)]
    assert near_copies(sketched([f"{text} please", other]), sketched([other, text])) == [(0, 1)], (
        "an equal text is none"
    )
    assert near_copies(sketched(["what does `A` do", "what does `B` do"] * 2)) == []


def test_answers_in_two_languages_are_found():
    english = "The parcel was sent on Monday, and it should arrive at the depot in the north by the end of the week."
    german = "Das Paket wurde am Montag verschickt und sollte bis zum Ende der Woche im Lager im Norden ankommen."
    pairs = make_pairs({"a": (english, english + " Sorry."), "b": (german, german + " Ja."), "c": (english, german)})
    rows, wrong = kinds(pairs.to_list())["languages"]
    assert rows == [2] and wrong == "1 pairs have answers in two languages, the first en and de"


def test_languages_of_a_large_set_are_told_from_a_sample_that_is_said(monkeypatch):
    monkeypatch.setattr(set_warnings, "LANGUAGE_ROWS", 4)
    english = "The parcel was sent on Monday, and it should arrive at the depot in the north by the end of the week."
    german = "Das Paket wurde am Montag verschickt und sollte bis zum Ende der Woche im Lager im Norden ankommen."
    pairs = make_pairs({f"q{row}": (english, german) for row in range(8)})
    rows, wrong = kinds(pairs.to_list())["languages"]
    assert rows == [0, 2, 4, 6] and wrong.startswith("4 pairs of 4 that were looked at have answers in two languages")


def test_languages_that_can_not_be_told_are_said(monkeypatch):
    monkeypatch.setattr(set_warnings, "find_spec", lambda name: None)
    assert kinds(numbered(4))["languages"] == ([], "not looked at, since py3langid is not installed")


def test_length_that_tells_the_better_answer_is_found():
    pairs = make_pairs({f"q{i}": ("a longer answer", "short") for i in range(9)} | {"q": ("a", "as long as")})
    assert longer_wins(pairs) == 0.9
    assert kinds(pairs.to_list())["length bias"][1] == "the longer answer is the chosen one in 90% of the pairs"


def test_one_sided_groups_are_found():
    assert (
        "'a' is the group of 95% of the rows"
        in kinds(numbered(20, group=lambda i: "b" if i == 3 else "a"))["imbalance"][1]
    )


def test_one_sided_sources_are_told_by_validation_and_when_a_file_is_loaded(tmp_path, capsys):
    rows = [{"prompt": f"q{i}", "chosen": "yes", "rejected": "no", "source": "a" if i else "b"} for i in range(20)]
    data = load_preferences(rows)
    told = "'a' is the source of 95% of the "
    assert f"the data set: {told}pairs; add rows of the others, or judge each by itself\n" in capsys.readouterr().out
    assert told in kinds(data.add_column("source", [row["source"] for row in rows]).to_list())["imbalance"][1]
    load_preferences(rows[:5])
    assert "source" not in capsys.readouterr().out


def test_prompts_that_are_almost_held_out_prompts_are_found():
    """They are too short to share 13 words in a row, which would tell them too."""
    asked = "has the parcel arrived that was sent to the north on monday"
    texts = (f"{asked} please", asked, "something else that nobody who is in their right mind asks twice")
    rows = [answer("Yes.") | {"prompt": [user(text)]} for text in texts]
    found = validate_preferences(Dataset.from_list(rows), heldout=Dataset.from_list(rows[1:2])).findings
    assert {finding.wrong: finding.rows for finding in found if finding.kind == "leaks"} == {
        "1 training prompts are held-out prompts too": [1],
        "1 training prompts are almost a held-out prompt": [0],
    }


def test_training_rows_that_give_held_out_rows_away_are_found():
    run = "a run of words that is long enough to be no accident in any text at all"
    heldout = [{"prompt": [user("Other?")], "chosen": [assistant(run)], "rejected": [assistant("No.")]}]
    train = [*numbered(2), answer(f"Well: {run.upper()}."), GOOD | {"prompt": [user("other")]}]
    rows = [
        finding
        for finding in validate_preferences(Dataset.from_list(train), heldout=Dataset.from_list(heldout)).findings
    ]
    assert [(found.rows, found.wrong) for found in rows if found.kind == "leaks"] == [
        ([3], "1 training prompts are held-out prompts too"),
        ([2], "1 training rows share 13 words in a row with a held-out one"),
    ]


def test_rows_that_a_template_refuses_or_that_are_cut_are_told(tokenizer):
    rows = [answer(f"The token {tokenizer.eos_token} ends a turn."), answer("word " * 90)]
    found = report(*rows, tokenizer=tokenizer, max_length=64)
    assert [(problem.row, problem.kind) for problem in found.problems] == [(1, "chat template")]
    assert "the answer contains the EOS text" in found.problems[0].wrong
    cut = [(warning.row, warning.column, warning.kind) for warning in found.warnings if warning.kind == "too long"]
    assert (2, "chosen", "too long") in cut and all(row == 2 for row, _, _ in cut)


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_built_in_domain_has_no_problems_and_hardly_leaks(domain):
    """Services share a sentence here and there; their questions they do not, beside the instruction of each prompt."""
    train, heldout = load_preferences(domain, limit=600), load_preferences(domain, "heldout", limit=256)
    found = validate_preferences(train, heldout=heldout)
    assert not found.problems
    leaks = [finding for finding in found.findings if finding.kind == "leaks"]
    assert sum(len(finding.rows) for finding in leaks) <= 3 and not any("prompts" in leak.wrong for leak in leaks)
