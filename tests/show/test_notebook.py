"""What a notebook shows of answers and tables, on a page and where there is none."""

from helpers.show import show_answers, show_table


def shown(monkeypatch, call) -> list[dict]:
    """What `call` displays, as data by MIME type."""
    seen = []
    monkeypatch.setattr(
        "helpers.show.notebook.display", lambda what, raw=False: seen.append(what if raw else {"text/html": what.data})
    )
    call()
    return seen


def test_three_answers_stand_side_by_side_below_their_question(pairs, monkeypatch):
    answers = {"base": ["It lists <topics> and", "A stream."], "SFT": ["", "Made."], "ORPO": ["`Lists`.", "Made!"]}
    (page,) = shown(monkeypatch, lambda: show_answers(pairs.select(range(2)), answers))
    assert page["text/html"].count("<table") == 2 and page["text/html"].count("colspan='3'") == 2
    assert "It lists &lt;topics&gt; and …" in page["text/html"], "an answer that its tokens cut says so"
    assert "(nothing)" in page["text/html"] and "<code>Lists</code>.</td>" in page["text/html"]


def test_a_table_is_text_where_there_is_no_page(monkeypatch):
    (page,) = shown(monkeypatch, lambda: show_table("| a |\n|---|\n| 1 |"))
    assert page == {"text/markdown": "| a |\n|---|\n| 1 |", "text/plain": "| a |\n|---|\n| 1 |"}
