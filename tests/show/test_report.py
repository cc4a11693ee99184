"""report.html: readable without network, nothing unescaped, every image with a text."""

import base64
import re
import subprocess
from html.parser import HTMLParser

import nbformat
import pytest

from helpers.evaluation.scores import PairScores
from helpers.files import write_json
from helpers.runs.folder import Run
from helpers.runs.recorded import recorded_runs
from helpers.show import browse_pairs, compare_answers, show_answers
from helpers.show.report import as_markup, last_writes, side_by_side, write_report
from helpers.show.report_words import command_text, result_text
from helpers.training.profiles import PROFILES
from tests.planted import PLANTED
from tests.studio.attendee import chromium

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


class Page(HTMLParser):
    """All tags with their attributes, their ends, and the text."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.ends, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        self.ends.append(tag)

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


@pytest.mark.parametrize("left", [754.4, 0.0, None])
def test_an_unfinished_run_says_how_long_the_rest_takes_where_that_is_known(run, left):
    taken = {"status": "failed", "seconds": 61.0, "peak_memory_bytes": 2**30}
    run.write_results(run=taken | {"seconds_left": left})
    said = " ".join(Page(write_report(run.path).read_text(encoding="utf-8")).text.split())
    assert ("Failed; the notebooks took 1:01. About 12:34 are left: make run goes on." in said) is bool(left)
    assert "Failed; the notebooks took 1:01." in said and ("make run goes on" in said) is bool(left)


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


def shown(**data) -> str:
    """What the report makes of an output: text_html stands for text/html."""
    output = nbformat.v4.new_output("display_data", {name.replace("_", "/"): value for name, value in data.items()})
    return str(as_markup(output))


def test_tables_are_tables():
    table = shown(text_markdown="| a | b |\n|---|---|\n| 1\\* | <script>x</script> |", text_plain="<Markdown object>")
    page = Page(table)
    assert [tag for tag, _ in page.tags].count("td") == 2 and "1*" in page.text and "Markdown object" not in page.text
    assert "script" not in [tag for tag, _ in page.tags]
    answers = '<table><tr><td style="text-align: left">it is one = 1 &lt;b&gt; <code>x</code></td></tr></table>'
    assert answers in shown(text_html=answers, text_plain="<HTML object>")


@pytest.mark.parametrize(
    "bad",
    [
        "<script>x</script>",
        "<img src='//a/b' onerror='x'>",
        "<td style='background:url(//a)' onclick='x'>",
        "<td style='width: expression(x)'>",
        "<style>@import '//a'</style>",
        "<svg><script>x</script><text>x</text></svg>",
        "<a href='javascript:x'>",
        "<iframe src='//a'></iframe>",
        "<td class='\"><script>x</script>'>",
        "<scr<b>ipt>",
        "</table></div></details></body>",
        "<!-- <script> -->",
    ],
)
def test_nothing_that_a_cell_showed_loads_runs_or_ends_a_part_of_the_page(bad):
    page = Page(f"<main>{shown(text_html=f'<table><tr><td>told</td>{bad}</tr></table>')}</main>")
    assert "told" in page.text and "x" not in page.text
    assert {tag for tag, _ in page.tags} <= {"main", "div", "table", "tr", "td", "b"}
    assert {name for _, attributes in page.tags for name in attributes} == {"class"}
    assert page.ends[-2:] == ["div", "main"] and page.ends.count("div") == 1


def test_where_no_html_is_left_its_text_stands():
    assert shown(text_html="<img src='//a/b'>", text_plain="a <b>") == "<pre>a &lt;b&gt;</pre>"
    assert shown(text_html="<img src='//a/b'>", text_plain="<IPython.core.display.HTML object>") == ""


def outputs_of(monkeypatch, show) -> str:
    """What the report makes of what a view leaves in a notebook."""
    shown = []
    monkeypatch.setattr("helpers.show.notebook.in_notebook", lambda: True)

    def display(what, metadata=None, raw=False):
        shown.append(what if raw else {"text/html": what.data, "text/plain": "<IPython.core.display.HTML object>"})

    monkeypatch.setattr("helpers.show.notebook.display", display)
    show()
    return "".join(as_markup(nbformat.v4.new_output("display_data", data)) for data in shown)


def test_answers_pairs_and_widgets_are_shown(monkeypatch, tokenizer, pairs):
    said = {"base": ["It <i>lists</i> `topics`"] * 4, "ORPO": ["Lists topics."] * 4}
    answers = Page(outputs_of(monkeypatch, lambda: show_answers(pairs, said)))
    assert "ListTopics" in answers.text and answers.text.count("It <i>lists</i> topics …") == 4
    assert {"b", "br", "code", "table"} <= {tag for tag, _ in answers.tags}
    compared = Page(outputs_of(monkeypatch, lambda: compare_answers(pairs, said)))
    assert "Lists topics." in compared.text and ("div", {"class": "workshop-view"}) in compared.tags
    assert "ins" in {tag for tag, _ in compared.tags} and "border-left" not in compared.text
    browsed = Page(outputs_of(monkeypatch, lambda: browse_pairs(pairs, tokenizer, 64)))
    assert "ListTopics" in browsed.text and "the loss counts it" in browsed.text
    assert {"u", "kbd", "span"} <= {tag for tag, _ in browsed.tags}


def test_the_views_look_in_the_report_as_in_the_notebook(run):
    page = write_report(run.path).read_text(encoding="utf-8")
    assert ".workshop-view ins {" in page.partition("</style>")[0]


def test_on_paper_it_is_short_and_has_its_figures(tmp_path):
    """The recorded laptop run as a PDF, on A4, by the system's Chromium."""
    browser, recorded = chromium(), recorded_runs("laptop")[0]
    run = Run(tmp_path / "run", PROFILES["laptop"])
    run.measure_machine()
    kept = {name: value for name, value in recorded.items() if name not in ("monitor", "losses", "notebook_seconds")}
    run.write_results(**kept | {"generations": 3 * recorded["generations"]})
    for method, records in recorded["monitor"].items():
        for record in records:
            run.stage(method).write_monitor(record)
            run.stage(method).log({"step": record["step"], "loss": 1.0})
    source = nbformat.v4.new_code_cell("x", outputs=[nbformat.v4.new_output("stream", text="printed\n" * 2000)])
    (run.path / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=[source]), run.path / "notebooks" / "02_sft_baseline.ipynb")
    page, paper = write_report(run.path), tmp_path / "report.pdf"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-pdf-header-footer"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={paper}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert paper.is_file(), done.stderr[-2000:]
    objects = paper.read_bytes()
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", objects)) < 8, "what notebooks printed is for the screen"
    pictures = re.findall(rb"/Subtype\s*/Image\b", objects)
    assert len(pictures) >= 2, "the curves, and what each method reaches"
    style = page.read_text(encoding="utf-8").partition("@media print")[2].partition("</style>")[0]
    assert re.search(r"\btr,[^{]*\{ break-inside: avoid; \}", style) and "table-header-group" in style


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
