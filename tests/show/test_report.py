"""report.html: readable without network, nothing unescaped, every image with a text."""

import base64
from html.parser import HTMLParser

import nbformat
import pytest

from helpers.evaluation.scores import PairScores
from helpers.files import write_json
from helpers.runs.folder import Run
from helpers.show.report import as_markup, last_writes, side_by_side, write_report
from helpers.show.report_words import command_text, result_text
from helpers.training.profiles import PROFILES
from tests.planted import PLANTED

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


class Page(HTMLParser):
    """All tags with their attributes, and the text."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def run(tmp_path):
    import numpy as np

    run = Run(tmp_path / "20260101-000000-smoke", PROFILES["smoke"])
    run.measure_machine()
    values = PairScores(np.float32([-1, -2]), np.float32([-2, -1.5])).summary()
    values |= {"chrf": 30.0, "chrf_ci95": [20.0, 40.0], "train_seconds": 5.0}
    said = {"prompt": "What is <b>?", "reference": "R", "base": "<script>alert(1)</script>", "sft": "", "orpo": "O"}
    run.write_results(methods={"base": values, "sft": values, "orpo": values}, generations=[said])
    v4 = nbformat.v4
    image = v4.new_output("display_data", {"image/png": PNG}, metadata={"image/png": {"alt": 'a "quoted" alt'}})
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "image/png": PNG, "text/plain": "ratio 2"}
    outputs = [
        v4.new_output("display_data", widget),
        v4.new_output("stream", text="step 1\rstep 2\n<i>not a tag</i>\n"),
        image,
        v4.new_output("error", ename="AssertionError", evalue="the lesson did not come true"),
    ]
    cells = [v4.new_markdown_cell("# Title & more\ntext"), v4.new_code_cell("x", outputs=outputs)]
    (run.path / "notebooks").mkdir()
    nbformat.write(v4.new_notebook(cells=cells), run.path / "notebooks" / "02_sft_baseline.ipynb")
    write_json(run.path / "state.json", {"done": {"02_sft_baseline": {"seconds": 61}}})
    return run


def test_page_reads_without_network_and_escapes_what_models_say(run):
    html = write_report(run.path).read_text(encoding="utf-8")
    page = Page(html)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "i", "b") and "alert" in str(tag)]
    assert "script" not in [tag for tag, _ in page.tags] and "<script>alert(1)</script>" in page.text
    assert "<i>not a tag</i>" in page.text and "What is <b>?" in page.text
    for tag, attributes in page.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith(("data:", "#")), (tag, attributes)
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 3 and all(image["alt"] for image in images)
    assert images[2]["alt"] == 'a "quoted" alt' and "ratio 2" in page.text


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_a_credential_in_an_answer_or_an_output_is_not_in_the_page(run, planted):
    said = {"prompt": "Which key?", "reference": "R", "base": f"It is {planted}.", "sft": "", "orpo": "O"}
    run.write_results(generations=[said])
    path = run.path / "notebooks" / "02_sft_baseline.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].outputs[1].text = f"login with {planted}\n"
    nbformat.write(notebook, path)
    page = write_report(run.path).read_text(encoding="utf-8")
    assert planted not in page and "It is [" in page and "login with [" in page
    assert "Private" in page or f"data:image/png;base64,{PNG}" in page, "pictures stay"


def test_page_shows_numbers_answers_failures_and_the_smoke_warning(run):
    page = Page(write_report(run.path).read_text(encoding="utf-8"))
    for text in ("preference accuracy", "50%", "(nothing)", "Title & more", "1:01", "Smoke profile:", "· failed"):
        assert text in page.text, text
    assert "AssertionError: the lesson did not come true" in page.text
    assert ("details", {"open": None}) in page.tags, "a failed notebook is unfolded"
    assert sorted(path.name for path in run.path.glob(".report*")) == []


def test_contents_lead_to_every_section_and_code_is_set_as_code(run):
    said = {"prompt": "Does `Get<T>` list?", "reference": "R", "base": "No", "sft": "a `b`", "orpo": "O"}
    run.write_results(generations=[said])
    html = write_report(run.path).read_text(encoding="utf-8")
    sections = {attributes["id"] for tag, attributes in Page(html).tags if tag == "h2"}
    links = {attributes["href"] for tag, attributes in Page(html).tags if tag == "a"}
    assert links == {f"#{name}" for name in sections} and {"result", "answers", "repeat"} <= sections
    assert "Does <code>Get&lt;T&gt;</code> list?" in html and "`" not in Page(html).text


def test_curves_are_shown_with_their_ends_as_text(run):
    for step, logp in ((0, -1.5), (2, -0.5)):
        run.stage("sft").write_monitor({"step": step, "chosen_logp": logp, "rejected_logp": -2.0})
    images = [attributes for tag, attributes in Page(write_report(run.path).read_text()).tags if tag == "img"]
    assert any("SFT: chosen -1.50 to -0.50, rejected -2.00 to -2.00" in image["alt"] for image in images)


@pytest.mark.parametrize(
    ("gain", "interval", "says", "not_says"),
    [
        (0.1, [0.02, 0.2], "ORPO is better", "chance"),
        (-0.1, [-0.2, -0.02], "ORPO is worse", "better"),
        (0.1, [-0.01, 0.2], "may be chance", "better"),
        (0.0, [0.0, 0.0], "may be chance", "better"),
    ],
)
def test_the_result_claims_a_direction_only_where_the_interval_excludes_zero(gain, interval, says, not_says):
    results = {"methods": {name: {"preference_accuracy": 0.5, "n": 16} for name in ("sft", "orpo")}}
    assert "no result" in result_text(results)
    told = result_text(
        results | {"orpo_minus_sft": {"preference_accuracy": gain, "preference_accuracy_ci95": interval}}
    )
    assert says in told and not_says not in told and "of 16 held-out pairs" in told
    assert f"{100 * interval[0]:+.1f} to {100 * interval[1]:+.1f}" in told


def test_the_command_repeats_the_run_and_names_no_folder():
    results = {
        "profile": "smoke",
        "seed": 3,
        "model": {"name": "/home/me/my model"},
        "data": {"load_from": "/a/b.jsonl"},
    }
    state = {"done": {"02_sft_baseline": {}, "01_domain_data": {}}, "key": [{}, [], "bf16", ""]}
    variables = "WORKSHOP_MODEL='my model' WORKSHOP_PRECISION=bf16"
    assert command_text(results, state) == (
        f"{variables} make run PROFILE=smoke SEED=3 SOURCE=b.jsonl NOTEBOOKS='01 02'"
    )
    assert command_text({"profile": "laptop", "seed": 0}, {}) == "make run PROFILE=laptop SEED=0"


def test_tables_are_tables_and_what_might_load_or_run_is_left_out():
    def shown(**data):
        return str(
            as_markup(nbformat.v4.new_output("display_data", {name.replace("_", "/"): d for name, d in data.items()}))
        )

    table = shown(text_markdown="| a | b |\n|---|---|\n| 1\\* | <script>x</script> |", text_plain="<Markdown object>")
    page = Page(table)
    assert [tag for tag, _ in page.tags].count("td") == 2 and "1*" in page.text and "Markdown object" not in page.text
    assert "script" not in [tag for tag, _ in page.tags]
    answers = "<table><tr><td style='text-align:left'>it is one = 1 &lt;b&gt; <code>x</code></td></tr></table>"
    assert answers in shown(text_html=answers, text_plain="<HTML object>")
    for bad in ("<script>x</script>", "<table onclick='x'>", "<img src='//a/b'>", "<td style='background:url(//a)'>"):
        assert shown(text_html=f"<table>{bad}</table>", text_plain="?") == ""


def test_a_run_of_the_four_techniques_alone_shows_all_four(run):
    stages = {name: run.results["methods"]["sft"] | {"pairs": 96} for name in ("sft", "dpo", "rlhf", "orpo", "reward")}
    alone = {"methods": {name: stages[name] for name in ("dpo", "rlhf")}, "techniques": {"stages": stages}}
    assert list(side_by_side(alone)) == ["sft", "orpo", "dpo", "rlhf"]
    run.write_results(**alone)
    assert "pairs" not in side_by_side(run.results)["sft"], "where notebook 02 measured SFT, that is shown"
    page = Page(write_report(run.path).read_text(encoding="utf-8")).text
    assert page.count("DPO") == 2, "in the numbers and their note; it gave no answers to show"


def test_a_run_without_any_result_still_has_a_report(tmp_path):
    run = Run(tmp_path / "run", PROFILES["smoke"])
    run.measure_machine()
    (run.path / "notebooks").mkdir()
    assert "Held out" not in Page(write_report(run.path).read_text(encoding="utf-8")).text


def test_carriage_returns_write_over_their_line():
    assert last_writes("a\rbb\nc\r\nd") == "bb\nc\nd"


def test_an_executed_notebook_that_is_damaged_is_told_and_hides_no_other(run):
    folder = run.path / "notebooks"
    folder.mkdir(exist_ok=True)
    (folder / "00_cut.ipynb").write_text("")
    cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("stream", text="it ran")])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), folder / "01_whole.ipynb")
    page = write_report(run.path).read_text()
    assert "00_cut" in page and "This file is damaged" in page and "it ran" in page
