"""Speaker notes: seen only with WORKSHOP_NOTES=1, kept by what writes notebooks, printed in order."""

import nbformat
import pytest

from helpers.files import REPOSITORY
from helpers.show import notes_page
from helpers.show.speaker_notes import note_of, notebooks
from scripts.publish_notebooks import drop_outdated, outdated, with_outputs
from tests.notebook_kernel import Cells

NOTED = {name: [cell for cell in cells if "speaker_notes" in cell["metadata"]] for name, cells in notebooks().items()}


def test_every_notebook_of_the_hour_has_notes_and_they_print_in_order():
    assert [name for name, cells in NOTED.items() if cells][:5] == [name for name in NOTED if name < "05"]
    assert NOTED["demo"] and all(cell["cell_type"] == "code" for cells in NOTED.values() for cell in cells)
    notes = [cell["metadata"]["speaker_notes"] for cells in NOTED.values() for cell in cells]
    assert [line for line in notes_page().splitlines() if line in notes] == notes


def test_a_cell_that_was_edited_or_that_two_notebooks_have_keeps_its_own_note():
    twice = [cells for name, cells in NOTED.items() if name[:2] in ("02", "04")]
    first, second = (next(cell for cell in cells if "train_stage(" in "".join(cell["source"])) for cells in twice)
    assert note_of(second["id"], "".join(first["source"])) == second["metadata"]["speaker_notes"]
    assert note_of(second["id"], "edited = 1") == second["metadata"]["speaker_notes"]
    assert note_of(None, "".join(first["source"])) == first["metadata"]["speaker_notes"]
    assert note_of("another", "edited = 1") is None


def test_notes_stay_when_outputs_are_published_or_dropped(tmp_path):
    path = tmp_path / "02_sft_baseline.ipynb"
    notebook = nbformat.read(REPOSITORY / "notebooks" / path.name, as_version=4)
    assert not outdated(notebook), "a note is no part of the code that made an output"
    published = with_outputs(notebook, nbformat.read(REPOSITORY / "notebooks" / path.name, as_version=4), "", path.name)
    published.cells[4].source += "\n"
    nbformat.write(published, path)
    drop_outdated(tmp_path)
    kept = nbformat.read(path, as_version=4).cells
    assert [cell.metadata.speaker_notes for cell in kept if "speaker_notes" in cell.metadata] == [
        cell["metadata"]["speaker_notes"] for cell in NOTED[path.stem]
    ]


@pytest.mark.parametrize("asked", ["0", "1"])
def test_the_kernel_shows_a_note_only_if_asked(tmp_path, asked):
    cell = NOTED["03_odds_ratio"][0]
    note = f"Speaker note: {cell['metadata']['speaker_notes']}"
    with Cells("03", tmp_path, WORKSHOP_NOTES=asked) as kernel:
        assert displayed(kernel.client, cell["id"], "edited = 1") == [note] * int(asked)
        assert displayed(kernel.client, "a cell of mine", "edited") == []
        assert displayed(kernel.client, cell["id"], "1 / 0") == [], "a cell that failed shows its error alone"


def displayed(client, cell_id: str, source: str) -> list[str]:
    """The text of what a cell displays, if it is run as JupyterLab does, with its id."""
    asked = {"code": source, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
    request = client.session.msg("execute_request", asked, metadata={"cellId": cell_id})
    client.shell_channel.send(request)
    texts = []
    while True:
        message = client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") != request["header"]["msg_id"]:
            continue
        if message["msg_type"] == "display_data":
            texts.append(message["content"]["data"]["text/plain"])
        if message["content"].get("execution_state") == "idle":
            return texts
