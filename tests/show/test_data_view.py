"""Pairs token by token: roles, labels, EOS, special tokens, and what a limit cuts."""

import re

import ipywidgets as widgets
import pytest
from datasets import Dataset

from helpers.data.house_style import edit_request
from helpers.data.tokenize import tokenize_preferences
from helpers.objective.labels import IGNORE
from helpers.show import browse_pairs
from helpers.show.data_view import Histogram, Lengths, PairBrowser, tokens_html, turns
from tests.conftest import assert_quick, make_pairs


@pytest.fixture(scope="module")
def mixed():
    """Short and long rows, one with HTML and one with a system message."""
    words = "It lists every topic of the cluster. "
    pairs = make_pairs(
        {"Why <b>so</b>?": ("<script>x</script> & y", "No."), "Long?": (words * 8, words), "s": ("a", "b")}
    )
    return Dataset.from_list([*pairs, pairs[0] | {"prompt": edit_request("Lists " + words * 5)}])


@pytest.fixture
def view(mixed, tokenizer):
    return PairBrowser(mixed, tokenizer, 64)


def test_turning_the_page_shows_the_next_pair(view):
    assert "so&lt;/b&gt;?" in view.pages.page.value
    view.pages.onward.click()
    assert "Long?" in view.pages.page.value and "so&lt;/b&gt;?" not in view.pages.page.value


def test_pages_and_the_slider_are_quick(view):
    assert_quick(view.pages.onward.click, view.pages.back.click)
    assert_quick(*(lambda limit=limit: setattr(view.limit, "value", limit) for limit in (20, 30, 40, 50)))


def test_html_is_escaped(view):
    page = re.sub("<style>.*?</style>", "", view.pages.page.value, flags=re.DOTALL)
    assert "<script" not in page and "<b>so" not in page and "script" in page


def test_each_role_is_named_and_the_blocks_are_the_prompt(mixed, tokenizer):
    parts = turns(mixed[3], tokenizer)
    assert [role for role, _ in parts] == ["system", "user", "assistant"]
    whole = tokenizer.apply_chat_template(mixed[3]["prompt"], tokenize=False, add_generation_prompt=True)
    assert "".join(text for _, text in parts) == whole


def test_a_template_that_takes_no_part_of_a_conversation_gives_one_block(mixed, tokenizer, monkeypatch):
    refusing = "{% if messages|length < 2 %}{{ raise_exception('no') }}{% endif %}" + tokenizer.chat_template
    monkeypatch.setattr(tokenizer, "chat_template", refusing)
    assert [role for role, _ in turns(mixed[3], tokenizer)] == ["prompt"]


@pytest.mark.parametrize("limit", [16, 64, 1000])
def test_scored_tokens_are_those_with_a_label_and_eos_is_marked_once_an_answer(mixed, tokenizer, limit):
    view = PairBrowser(mixed, tokenizer, limit)
    for i, row in enumerate(tokenize_preferences(mixed, tokenizer, limit)):
        page = view.html(i)
        for side in ("chosen", "rejected"):
            ids, labels = row[f"{side}_input_ids"], row[f"{side}_labels"]
            tokens = tokens_html(ids, labels, tokenizer)
            first = row["prompt_length"] if side == "rejected" else 0
            assert tokens_html(ids[first:], labels[first:], tokenizer) in page, "the prompt is shown once"
            assert tokens.count("<u>") == sum(label != IGNORE for label in labels)
            assert tokens.count("class=masked") == labels.count(IGNORE) == row["prompt_length"]
            assert tokens.count("<kbd>") == 1 and "&lt;|im_end|&gt; EOS</kbd>" in tokens
        assert page.count("</kbd>") == 3, "one an answer, and the legend's"


def test_special_tokens_of_the_prompt_can_be_seen_and_are_not_eos(mixed, tokenizer):
    (row,) = tokenize_preferences(mixed.select([3]), tokenizer, 1000)
    tokens = tokens_html(row["chosen_input_ids"], row["chosen_labels"], tokenizer)
    ids, starts = row["chosen_input_ids"], tokenizer.convert_tokens_to_ids("<|im_start|>")
    ends = ids.count(tokenizer.eos_token_id)
    assert tokens.count("&lt;|im_end|&gt;") == ends == 3
    assert tokens.count("class=special") == ends - 1 + ids.count(starts), "all but the answer's EOS"


@pytest.mark.parametrize("limit", [10, 20, 40, 64, 80, 500])
def test_what_the_slider_says_is_cut_is_what_the_tokeniser_cuts(mixed, tokenizer, limit):
    rows = list(tokenize_preferences(mixed, tokenizer, limit))
    prompts = [row["prompt_cut"] > 0 for row in rows]
    answers = [row["chosen_cut"] > 0 or row["rejected_cut"] > 0 for row in rows]
    by_hand = {"prompt": sum(prompts), "answer": sum(answers), "any": sum(map(max, prompts, answers))}
    assert Lengths(mixed, tokenizer).cut(limit) == by_hand


def test_the_slider_changes_the_share_the_histogram_and_the_page(view):
    before = view.told.value, view.pages.page.value
    assert "max_length 64</text>" in before[0] and "aria-label=" in before[0]
    view.limit.value = 20
    cut = view.lengths.cut(20)["any"]
    assert f"At 20 tokens {cut} of 4 pairs ({cut / 4:.0%}) are cut" in view.told.value
    assert "max_length 20</text>" in view.told.value and before[1] != view.pages.page.value
    assert "more were cut" in view.pages.page.value and view.pages.page.value.count("</kbd>") == 3


def test_in_a_terminal_a_pair_is_printed_and_where_no_kernel_runs_it_stands(mixed, tokenizer, monkeypatch, capsys):
    browse_pairs(mixed, tokenizer, 64)
    printed = capsys.readouterr().out
    assert "Why <b>so</b>?" in printed and "At 64 tokens" in printed
    shown = []
    monkeypatch.setattr("helpers.show.notebook.in_notebook", lambda: True)
    monkeypatch.setattr("helpers.show.notebook.display", lambda bundle, metadata, raw: shown.append((bundle, metadata)))
    view = browse_pairs(mixed, tokenizer, 64)
    assert view.html(0) in shown[0][0]["text/html"] and isinstance(view.view, widgets.VBox)


def test_no_pairs_are_refused(mixed, tokenizer):
    with pytest.raises(ValueError, match="no pair"):
        PairBrowser(mixed.select([]), tokenizer, 64)


def test_the_bars_of_the_histogram_are_all_pairs(mixed, tokenizer):
    longest = Lengths(mixed, tokenizer).longest
    histogram = Histogram(longest, int(longest.max()))
    heights = [float(height) for height in re.findall(r"height='([\d.]+)' fill", histogram.svg(20))]
    assert sum(round(height / max(heights) * histogram.most) for height in heights) == len(mixed)
