"""Answers side by side: pages, marks, verdicts, who prefers what, and the box that asks all models."""

import html
import re

import ipywidgets as widgets
import pytest
from datasets import Dataset

from helpers.data.house_style import edit_request
from helpers.data.load import load_preferences
from helpers.evaluation.answers import generate_answers
from helpers.evaluation.heldout import heldout_batches
from helpers.evaluation.scores import measure_pairs
from helpers.runs.folder import Run
from helpers.runs.recorded import recorded_runs
from helpers.show import answers_view, ask_models, compare_answers, speakers_of
from helpers.show.answers_view import Comparison, Question, marked, marked_answer, preference_table
from helpers.show.speakers import Speakers
from helpers.training.base_model import smoke_model
from helpers.training.profiles import PROFILES
from tests.conftest import assert_quick

LABELS = ("base", "SFT", "ORPO")


@pytest.fixture(scope="module")
def asked():
    return load_preferences("house-style", "heldout", limit=3)


@pytest.fixture(scope="module")
def said(asked):
    rejected = [messages[-1]["content"] for messages in asked["rejected"]]
    return {"base": rejected, "SFT": ["", "Lists <b>all</b> & more.", "x"], "ORPO": asked["summary"]}


def read(page: str) -> str:
    """What a person reads of a page."""
    return html.unescape(re.sub("<[^>]+>", "", page))


@pytest.fixture
def speakers(tokenizer):
    load = {label: (lambda seed=seed: smoke_model(seed)) for seed, label in enumerate(LABELS)}
    return Speakers(load, tokenizer, max_length=128, max_new_tokens=6, request=edit_request)


def test_that_nothing_was_said_is_not_marked_as_a_word_of_the_model():
    assert marked_answer("Lists topics.", "") == "(nothing)"
    assert marked_answer("Lists topics.", "Lists queues.") == "Lists <ins>queues</ins>."


def test_turning_the_page_shows_the_next_draft_with_its_answers(asked, said):
    view = Comparison(asked, said)
    assert view.pages.back.disabled and said["base"][0] in read(view.pages.page.value)
    view.pages.onward.click()
    assert view.pages.number.value == 2 and said["SFT"][1] in read(view.pages.page.value)
    view.pages.number.value = 3
    assert view.pages.onward.disabled and "x" in view.pages.page.value
    view.pages.onward.click()
    assert view.pages.at == 2


def test_a_page_is_turned_while_nobody_notices(asked, said):
    view = Comparison(asked, said)
    assert_quick(view.pages.onward.click, view.pages.back.click)


def test_recorded_answers_say_when_they_were_recorded(asked):
    rows = recorded_runs("laptop")[0]["generations"][:3]
    view = Comparison(asked, {label: [row[label.lower()] for row in rows] for label in LABELS})
    told = re.search(r"recorded on .+, \d{4}-\d\d-\d\d", read(view.html(0)))[0]
    assert told in view.text(0)
    live = Comparison(asked, {label: [str.__add__(row[label.lower()], "") for row in rows] for label in LABELS})
    assert "recorded on" not in live.html(0) + live.text(0)


def test_html_in_a_draft_and_in_an_answer_is_escaped(asked, said):
    row = asked[0] | {"prompt": edit_request("Lists <script>alert(1)</script> & tags.")}
    page = Comparison(Dataset.from_list([row, asked[1]]), {"base": ["<img src=x> a", said["SFT"][1]]})
    assert "<script" not in page.html(0) and "&lt;script&gt;" in page.html(0)
    assert "<img" not in page.html(0) and "&lt;img" in page.html(0)
    assert "&lt;b&gt;all&lt;/b&gt;" in page.html(1) and "<b>all" not in page.html(1)


def test_the_checkers_verdict_stands_above_each_answer_in_words(asked):
    page = Comparison(asked.select([0]), {"good": [asked[0]["summary"]], "bad": ["You"]}).html(0)
    assert page.count("refused:") + page.count("✓ accepted") == 2 and re.search("✗ refused: .*reader.*facts", page)


def test_words_that_the_draft_does_not_have_are_marked_by_an_element_and_removed_ones_on_request():
    draft, answer = "This operation lists topics <now>.", "Lists topics <now>."
    assert marked(draft, answer) == "<ins>Lists</ins> topics &lt;now&gt;."
    assert marked(draft, answer, removed=True) == "<del>This operation lists</del><ins>Lists</ins> topics &lt;now&gt;."
    assert marked("a b", "a b") == "a b" and marked("", "a") == "<ins>a</ins>"


def test_a_tick_shows_what_was_taken_out(asked, said):
    view = Comparison(asked, said)
    assert "<del>" not in view.pages.page.value
    view.removed.value = True
    assert "<del>" in view.pages.page.value


def test_pairs_that_the_checker_cannot_judge_are_compared_with_the_better_answer(pairs):
    page = Comparison(pairs, {"base": ["Lists the topics."] * len(pairs)}).html(0)
    assert "refused" not in page and "accepted" not in page and "the better answer does not have" in page


# ── who prefers what ────────────────────────────────────────────────────────────────────────────────────────


def test_log_probs_are_those_of_the_held_out_scoring(asked, speakers, tokenizer):
    model = speakers.model("SFT")
    scores = measure_pairs(model, heldout_batches(asked, model, tokenizer, 128))
    for i, row in enumerate(asked):
        answers = [row[side][-1]["content"] for side in ("chosen", "rejected")]
        expected = [scores.chosen_logp[i], scores.rejected_logp[i]]
        third = speakers.logps("SFT", row, [*answers, "It lists.", answers[0], " "])
        assert third[:2] == pytest.approx(expected, abs=1e-4) and third[3] == third[0] and third[4] != third[4]
        assert third[2:3] == pytest.approx(speakers.logps("SFT", row, ["It lists."]), abs=1e-4)


def test_the_button_scores_the_page_once_and_keeps_it(asked, said, speakers, monkeypatch):
    view, calls = Comparison(asked, said, speakers), []
    real = speakers.logps
    monkeypatch.setattr(speakers, "logps", lambda *args: calls.append(args[0]) or real(*args))
    assert "log-prob per token" not in view.pages.page.value
    view.prefer.click()
    view.prefer.click()
    assert calls == list(LABELS) and view.pages.page.value.count("answer of") == 3
    assert "no answer" in view.pages.page.value, "SFT said nothing"
    view.pages.onward.click()
    assert "log-prob per token" not in view.pages.page.value
    view.pages.back.click()
    assert "log-prob per token" in view.pages.page.value and calls == list(LABELS)


def test_the_highest_of_each_column_is_marked_with_a_sign():
    table = preference_table(
        {"base": [-1.0, -2.0, float("nan")], "SFT": [-3.0, -2.5, float("nan")]} | {"b": [-1.0] * 3}
    )
    assert table.count("<b>▲ -1.00</b>") == 1 + 3 and table.count("<b>▲ -2.50</b>") == 1
    assert table.count("no answer") == 2


def test_a_model_that_was_not_trained_is_said_and_the_view_goes_on(asked, tmp_path):
    run = Run(tmp_path / "run", PROFILES["smoke"])
    view = Comparison(asked, {"SFT": ["a"] * 3}, speakers_of(run, {"SFT": "sft"}))
    view.prefer.click()
    assert "Not scored: sft has no trained model yet" in view.pages.page.value and not view.prefer.disabled


@pytest.mark.parametrize("answers", [{"base": ["one"]}, {"SFT": ["a"] * 3}], ids=["too few", "other labels"])
def test_answers_that_do_not_fit_are_refused(asked, speakers, answers):
    with pytest.raises(ValueError, match="3 prompts, answers"):
        Comparison(asked, answers, speakers)


# ── a text of one's own ─────────────────────────────────────────────────────────────────────────────────────


def test_every_model_answers_as_it_would_alone_and_each_word_is_shown(speakers, tokenizer, monkeypatch):
    box, seen = Question(speakers, "Lists <all> topics."), []
    real = box.show
    monkeypatch.setattr(box, "show", lambda *a, **k: seen.append(a[1:3]) or real(*a, **k))
    box.ask.click()
    prompt = edit_request("Lists <all> topics.")
    for label in LABELS:
        (alone,) = generate_answers(speakers.model(label), tokenizer, [prompt], 6)
        steps = [text for name, text in seen if name == label]
        assert steps[-1] == alone and len(steps) >= 2 and all(alone.startswith(text) for text in steps[1:-1])
    assert list(box.answers) == list(LABELS) and not box.ask.disabled
    assert "<all>" not in box.said.value and box.said.value.count("refused:") == 3


def test_a_box_without_text_asks_nobody(speakers):
    box = Question(speakers, " ")
    box.ask.click()
    assert "Write something" in box.said.value and not box.answers


def test_for_other_pairs_the_text_is_asked_as_it_is(tokenizer):
    speakers = Speakers({"base": smoke_model()}, tokenizer, 128, 4)
    box = Question(speakers, "What is it?")
    box.ask.click()
    (alone,) = generate_answers(smoke_model(), tokenizer, [[{"role": "user", "content": "What is it?"}]], 4)
    assert box.answers["base"] == alone and "refused" not in box.said.value


def test_a_streamer_takes_one_prompt(tokenizer):
    prompts = [[{"role": "user", "content": "a"}]] * 2
    with pytest.raises(ValueError, match="2 prompts with a streamer"):
        generate_answers(smoke_model(), tokenizer, prompts, 2, streamer=object())


# ── where it is shown ───────────────────────────────────────────────────────────────────────────────────────


def test_in_a_terminal_the_first_page_is_printed_and_a_text_is_answered(asked, said, speakers, capsys):
    compare_answers(asked, said, speakers)
    printed = capsys.readouterr().out
    assert "draft 1:" in printed and "ORPO: " in printed and "refused" in printed
    ask_models(speakers, "Lists topics.")
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert [line.partition(":")[0].strip() for line in lines] == list(LABELS)


def test_where_no_kernel_runs_the_first_page_stands(asked, said, monkeypatch):
    shown = []
    monkeypatch.setattr("helpers.show.notebook.in_notebook", lambda: True)
    monkeypatch.setattr("helpers.show.notebook.display", lambda bundle, metadata, raw: shown.append(bundle))
    view = compare_answers(asked, said)
    assert shown[0]["text/html"] == view.html(0) and isinstance(view.view, widgets.VBox)
    assert answers_view.draft_of(asked[0]["prompt"]) in shown[0]["text/plain"]
