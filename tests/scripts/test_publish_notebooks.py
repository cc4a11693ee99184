"""`make notebooks`: what a run printed goes into the notebooks, with a hash of the code that printed it."""

import json
import sys
import tempfile

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from helpers.files import REPOSITORY
from scripts.publish_demo import executed
from scripts.publish_notebooks import WIDGET, clear, drop_outdated, outdated, publish, read
from tests.planted import PLANTED

PNG = "iVBORw0KGgo="
SAID = [new_output("stream", text="done\n")]
PICTURE = [new_output("display_data", {"image/png": PNG}, metadata={"image/png": {"alt": "a curve"}})]
SLIDER = [new_output("display_data", {WIDGET: {"model_id": "1"}, "text/plain": "ratio 2"})]


def make(folder, run, *outputs, done=("00_a",)):
    """A folder of one notebook and a run of it: a cell for each list of outputs."""
    machine = {"cpu": "a CPU", "cores": 2, "accelerator": "none"}
    results = {"date": "2026-01-02T03:04:05", "machine": machine, "profile": "laptop", "seed": 0}
    (run / "notebooks").mkdir(parents=True)
    folder.mkdir()
    for name, content in (("state", {"done": {name: {} for name in done}}), ("results", results)):
        (run / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    cells = [new_markdown_cell("# 00"), *(new_code_cell(f"cell({i})") for i in range(len(outputs)))]
    nbformat.write(new_notebook(cells=cells), folder / "00_a.ipynb")
    for number, (cell, made) in enumerate(zip(cells[1:], outputs, strict=True), start=1):
        cell.outputs, cell.execution_count = list(made), number
    nbformat.write(new_notebook(cells=cells), run / "notebooks" / "00_a.ipynb")


def test_outputs_come_with_a_stamp_and_without_counts_and_widgets(tmp_path):
    make(tmp_path / "notebooks", tmp_path / "run", SAID, PICTURE, SLIDER, [])
    (path,) = publish(tmp_path / "run", tmp_path / "notebooks")
    code = read(path).cells[1:]
    assert {cell.execution_count for cell in code} == {None}
    assert code[0].outputs[0].text == "done\n"
    assert "recorded on a CPU, 2 cores, no accelerator, 2026-01-02" in code[0].outputs[1].data["text/plain"]
    assert code[1].outputs[0].data["image/png"].strip() == PNG
    assert code[2].outputs[0].data == {"text/plain": "ratio 2"}
    assert not code[3].outputs and "source_hash" not in code[3].metadata
    assert not outdated(read(path))
    again = path.read_bytes()
    publish(tmp_path / "run", tmp_path / "notebooks")
    assert path.read_bytes() == again


def test_a_temporary_folder_is_named_by_its_variable(tmp_path):
    said = f"kept in {tempfile.gettempdir()}/x-1"
    outputs = [new_output("stream", text=said), new_output("display_data", {"text/plain": said})]
    make(tmp_path / "notebooks", tmp_path / "run", outputs)
    (path,) = publish(tmp_path / "run", tmp_path / "notebooks")
    stream, display, _ = read(path).cells[1].outputs
    assert stream.text == display.data["text/plain"] == "kept in $TMPDIR/x-1"


def test_the_demo_is_executed_by_this_python_without_large_type_and_notes(monkeypatch):
    for name in ("WORKSHOP_BIG", "WORKSHOP_NOTES"):
        monkeypatch.setenv(name, "1")
    code = "import os, sys\nprint(sys.prefix, [os.environ[name] for name in ('WORKSHOP_BIG', 'WORKSHOP_NOTES')])"
    notebook = new_notebook(cells=[new_code_cell(code)])
    (output,) = executed(notebook).cells[0].outputs
    assert output.text.strip().endswith("['', '']") and output.text.startswith(sys.prefix.replace(f"{REPOSITORY}/", ""))
    assert not notebook.cells[0].outputs


def test_an_edited_cell_is_found_and_its_output_dropped(tmp_path, capsys):
    make(tmp_path / "notebooks", tmp_path / "run", SAID, SAID)
    (path,) = publish(tmp_path / "run", tmp_path / "notebooks")
    notebook = read(path)
    notebook.cells[2].source = "cell(2)"
    nbformat.write(notebook, path)
    assert outdated(read(path)) == [2]
    drop_outdated(path.parent)
    assert "00_a.ipynb, cell 3: its output is removed" in capsys.readouterr().out
    first, second = read(path).cells[1:]
    assert first.outputs and not second.outputs and not outdated(read(path))


def test_an_output_without_a_hash_is_outdated(tmp_path):
    make(tmp_path / "notebooks", tmp_path / "run", SAID)
    (path,) = publish(tmp_path / "run", tmp_path / "notebooks")
    notebook = read(path)
    del notebook.cells[1].metadata["source_hash"]
    assert outdated(notebook) == [1]
    clear(notebook.cells[1])
    assert not outdated(notebook)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([new_output("stream", text="kept in '/home/someone/x'")], "shows a folder of one machine"),
        ([new_output("stream", text="hf_" + "a" * 30)], "shows what looks like a secret"),
        ([new_output("display_data", {"text/html": "<i>AKIA" + "A" * 16})], "shows what looks like a secret"),
        ([new_output("stream", text=PLANTED["GitHub Token"])], r"shows what looks like a secret \(GitHub Token\)"),
        ([new_output("stream", text=PLANTED["Private Key"])], "shows what looks like a secret"),
        ([new_output("display_data", {"image/png": PNG})], "a picture has no alt text"),
        ([new_output("error", ename="ValueError", evalue="no")], "ended with ValueError: no"),
        ([new_output("stream", text="x" * 2**20)], "would take 1.0 MB"),
    ],
)
def test_what_should_not_be_published_is_refused_in_one_line(tmp_path, outputs, message):
    make(tmp_path / "notebooks", tmp_path / "run", outputs)
    before = (tmp_path / "notebooks" / "00_a.ipynb").read_bytes()
    with pytest.raises(ValueError, match=message) as refused:
        publish(tmp_path / "run", tmp_path / "notebooks")
    assert "\n" not in str(refused.value) and not any(planted in str(refused.value) for planted in PLANTED.values())
    assert (tmp_path / "notebooks" / "00_a.ipynb").read_bytes() == before


def test_what_a_run_has_not_done_and_other_code_are_refused(tmp_path):
    make(tmp_path / "notebooks", tmp_path / "run", SAID, done=())
    for run in (tmp_path / "run", tmp_path / "nothing"):
        with pytest.raises(ValueError, match="holds no notebook that was executed to its end"):
            publish(run, tmp_path / "notebooks")
    (tmp_path / "run" / "state.json").write_text('{"done": {"00_a": {}}}', encoding="utf-8")
    notebook = read(tmp_path / "notebooks" / "00_a.ipynb")
    notebook.cells[1].source = "other()"
    nbformat.write(notebook, tmp_path / "notebooks" / "00_a.ipynb")
    with pytest.raises(ValueError, match=r"00_a.ipynb: its code was edited since the run"):
        publish(tmp_path / "run", tmp_path / "notebooks")
