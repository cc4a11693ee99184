"""Speaker notes: what to say about a cell, kept in its metadata as `speaker_notes`, and shown only if asked for.

With WORKSHOP_NOTES=1 the workshop's kernel shows a cell's note below its output; notes_page() has all of them.
"""

import json
import os

from IPython.display import display

from helpers.files import REPOSITORY

BOX = "border-left:4px solid #888; padding:.2em .8em; margin:.5em 0; opacity:.85; max-width:60em"


def show_notes(shell) -> None:
    """Show the note of each cell that this kernel has run, if WORKSHOP_NOTES asks for it."""
    if os.environ.get("WORKSHOP_NOTES") == "1":
        shell.events.register("post_run_cell", show_note)


def show_note(result) -> None:
    """Show the note of the cell that has run; nothing for a cell without one, or that failed."""
    if result.success and (note := note_of(result.info.cell_id, result.info.raw_cell)):
        from helpers.show.notebook import as_html  # loads matplotlib: not at the start of every kernel

        box = f'<div style="{BOX}"><b>Speaker note</b><br>{as_html(note)}</div>'
        display({"text/html": box, "text/plain": f"Speaker note: {note}"}, raw=True)


def note_of(cell_id: str | None, source: str) -> str | None:
    """The note of the cell with this id; where no cell has it, as in a copy of a notebook, of one with this source."""
    noted = [cell for cells in notebooks().values() for cell in cells if "speaker_notes" in cell["metadata"]]
    same = [cell for cell in noted if cell["id"] == cell_id]
    same = same or [cell for cell in noted if "".join(cell["source"]) == source]
    return same[0]["metadata"]["speaker_notes"] if same else None


def notebooks() -> dict[str, list[dict]]:
    """{name: cells} of the notebooks, the numbered ones first."""
    paths = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8"))["cells"] for path in paths}


def notes_page() -> str:
    """All notes as Markdown, in the order of their cells, each under the heading that its cell stands under."""
    lines = ["# Speaker notes", ""]
    for name, cells in notebooks().items():
        heading, notes = "", []
        for cell in cells:
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                titles = [line.strip("# ") for line in source.splitlines() if line.startswith("#")]
                heading = titles[-1] if titles else heading
            elif note := cell["metadata"].get("speaker_notes"):
                notes += [f"**{heading}**", "", note, ""]
        lines += [f"## {name}", "", *notes] if notes else []
    return "\n".join(lines)
