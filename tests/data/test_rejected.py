"""Wrong answers made for data that has right ones only: where they come from, their shares, what is refused."""

import json

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from helpers.data import load_preferences, validate_preferences
from helpers.data.rejected import nearest_answers, other_numbers
from tests.data.test_own_data import assistant, user

THINGS = ("kettle", "lamp", "phone", "chair", "table", "radio", "clock", "drill")
WARRANTIES = [(kind, thing) for kind in ("full", "parts", "labour") for thing in THINGS]
ROWS = [
    {"prompt": f"How long is the {kind} warranty of the {thing}?", "completion": f"{thing}: {kind}, {months} months."}
    for months, (kind, thing) in enumerate(WARRANTIES, start=10)
]


def made(rows, capsys, **options):
    """Every row's (right answer, wrong answer, how it was made), and what was printed about it."""
    pairs = load_preferences(rows, **options)
    said = [(row["chosen"][0]["content"], row["rejected"][0]["content"], row["rejected_kind"]) for row in pairs]
    return said, capsys.readouterr().out.splitlines()[-1]


def test_nearest_gives_the_right_answer_to_the_most_similar_other_prompt(capsys):
    pairs, said = made(ROWS, capsys, rejected="nearest", split_by="prompt")
    assert said == "wrong answers made: nearest 100%"
    right = {row["completion"] for row in ROWS}
    for chosen, rejected, kind in pairs:
        assert rejected in right - {chosen} and kind == "nearest"
        assert set(chosen.split()) & set(rejected.split()) > {"months."}  # the thing or the kind of warranty


def test_numbers_changes_one_number_and_nothing_else(capsys):
    for chosen, rejected, kind in made(ROWS, capsys, rejected="numbers")[0]:
        words = [(one, other) for one, other in zip(chosen.split(), rejected.split(), strict=True) if one != other]
        assert kind == "numbers" and len(words) == 1 and words[0][0].isdigit() and words[0][1].isdigit()


def test_several_ways_take_turns_and_stand_in_for_each_other(capsys):
    rows = [*ROWS, {"prompt": "Do you sell tea?", "completion": "No."}]  # no number in it
    ways = {"numbers": other_numbers, "rude": lambda prompts, right: ["Go!"] * len(right)}
    pairs, said = made(rows, capsys, rejected=ways)
    assert [kind for *_, kind in pairs] == ["numbers", "rude"] * 12 + ["rude"]
    assert said == "wrong answers made: rude 52%, numbers 48%"


def test_rows_without_a_wrong_answer_are_left_out_and_counted(capsys):
    rows = [*ROWS[:3], {"prompt": "Do you sell tea?", "completion": "No."}]
    pairs, said = made(rows, capsys, rejected="numbers")
    assert len(pairs) == 3 and said.endswith("; 1 rows left out, for which none was found")


def test_a_model_s_own_answers_are_asked_for_once_with_the_prompts(capsys):
    asked = []

    def sampled(prompts, right):
        asked.append(prompts)
        return ["I do not know.", *right[1:]]  # all but the first are right, so they are no wrong answers

    pairs, _ = made(ROWS[:4], capsys, rejected={"sampled": sampled})
    assert pairs == [("kettle: full, 10 months.", "I do not know.", "sampled")]
    assert asked == [[[user(row["prompt"])] for row in ROWS[:4]]]


def test_conversations_alpaca_and_sharegpt_give_their_last_answer(tmp_path):
    talk = [user("Hello"), assistant("Hello. What is it?"), user("How many?"), assistant("Seven 7.")]
    for row in (
        {"messages": talk},
        {"conversations": [{"from": "human" if m["role"] == "user" else "gpt", "value": m["content"]} for m in talk]},
    ):
        path = tmp_path / "d.jsonl"
        path.write_text(json.dumps(row))
        pair = load_preferences(path, rejected="numbers")[0]
        assert (pair["prompt"], pair["chosen"]) == (talk[:3], talk[3:]) and pair["rejected"] != pair["chosen"]
    path.write_text(json.dumps({"instruction": "Count.", "input": "1 2", "output": "There are 2."}))
    pair = load_preferences(path, rejected="numbers")[0]
    assert pair["prompt"] == [user("Count.\n1 2")] and pair["chosen"] == [assistant("There are 2.")]


def test_a_held_out_right_answer_is_never_a_wrong_one_in_training():
    train, heldout = (
        load_preferences(ROWS, split, split_by="prompt", rejected=("nearest", "numbers"))
        for split in ("train", "heldout")
    )
    answers = {row["chosen"][0]["content"] for row in heldout}
    assert answers and answers.isdisjoint(row["rejected"][0]["content"] for row in train)
    assert nearest_answers([row["prompt"] for row in train], [row["chosen"][0]["content"] for row in train])


@given(st.lists(st.text(min_size=1), min_size=1, max_size=8))
def test_whatever_the_answers_are_a_changed_number_is_another_text(answers):
    for answer, wrong in zip(answers, other_numbers([[]] * len(answers), answers), strict=True):
        assert wrong is None or wrong != answer


@pytest.mark.parametrize("answer", [" ".join(map(str, range(300))), "9" * 6000], ids=["300 numbers", "6,000 digits"])
def test_many_numbers_and_long_ones_are_changed_too(answer):
    (wrong,) = other_numbers([[]], [answer])
    assert wrong != answer and len(wrong) - len(answer) <= 1


def test_the_shares_and_what_they_teach_are_in_the_report():
    report = validate_preferences(load_preferences(ROWS, rejected="numbers"))
    found = {finding.kind: finding for finding in report.findings}
    assert str(found["made answers"]) == (
        "made answers: rejected answers were made (numbers 100%); they teach numbers and nothing else"
    )


def instead(answers):
    """The options for a way of one's own that makes these answers of the right ones."""
    return {"rejected": {"mine": lambda prompts, right: answers(right)}}


NUMBERS = {"rejected": "numbers"}
BAD = {
    "an unknown name": (ROWS, {"rejected": "random"}, "rejected='random' is no way to make wrong answers: give one of"),
    "nothing": (ROWS, {"rejected": []}, "rejected is empty: give one of 'nearest', 'numbers'"),
    "too few answers": (ROWS, instead(lambda right: right[:1]), "mine made 1 answers for 24 prompts: return one a"),
    "no text": (ROWS, instead(lambda right: [3] * len(right)), "mine, row 0: made int instead of text"),
    "only right answers": (ROWS, instead(list), "mine: no wrong answer was found for any row"),
    "no answer column": ([{"prompt": "a", "b": "c"}], NUMBERS, "no answer among its columns (prompt, b)"),
    "a talk without answer": ([{"messages": [user("a")]}], NUMBERS, "the conversation does not end with an answer"),
    "an empty answer": ([{"prompt": "a", "completion": ""}, *ROWS], NUMBERS, "row 0, chosen: the response is empty"),
    "a built-in domain": ("house-style", NUMBERS, "rejected is for data of your own"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_can_not_be_done_is_said_in_one_line(name):
    source, options, says = BAD[name]
    with pytest.raises(ValueError) as raised:
        load_preferences(source, **options)
    assert says in str(raised.value) and "\n" not in str(raised.value)


def test_pairs_are_stored_and_loaded_again_as_they_were(tmp_path):
    pairs = load_preferences(ROWS, rejected=("nearest", "numbers"))
    pairs.to_json(tmp_path / "pairs.jsonl")
    again = load_preferences(tmp_path / "pairs.jsonl")
    assert isinstance(again, Dataset) and again.to_list() == pairs.to_list()


def test_a_rule_of_one_s_own_has_its_share_and_what_it_teaches(capsys):
    """So has one that a file names in its column `rejected_kind`."""
    ways = {"numbers": other_numbers, "rude": lambda prompts, right: ["Go!"] * len(right)}
    pairs = load_preferences(ROWS, rejected=ways)
    for data in (pairs, load_preferences(pairs)):
        found = {finding.kind: finding for finding in validate_preferences(data).findings}
        assert str(found["made answers"]) == (
            "made answers: rejected answers were made (numbers 50%, rude 50%); they teach numbers and nothing else; "
            "rude: they teach the rule that it breaks"
        )
