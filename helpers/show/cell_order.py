"""What the workshop's kernel loads: for a cell that is run too early Jupyter says in one line which cell comes first.

It also shows the speaker notes, where they are asked for.
"""

import ast
import json
import os
from pathlib import Path

from helpers.files import REPOSITORY
from helpers.show.speaker_notes import show_notes


def load_ipython_extension(shell) -> None:
    """Look at each NameError of this kernel before it is shown, and show speaker notes if they are asked for."""
    shell.set_custom_exc((NameError,), show_what_comes_first)
    show_notes(shell)


def show_what_comes_first(shell, kind, error, trace, tb_offset=None) -> None:
    """Show one line where a cell of the notebook makes the name that is missing, else the error as it is."""
    source = shell.history_manager.input_hist_raw[-1]
    if _innermost_globals(trace) is shell.user_ns and (line := what_comes_first(error.name, source)):
        error._render_traceback_ = lambda: [line]
    shell.showtraceback((kind, error, trace), tb_offset=tb_offset)


def _innermost_globals(trace) -> dict:
    while trace.tb_next:
        trace = trace.tb_next
    return trace.tb_frame.f_globals


def what_comes_first(name: str, source: str) -> str | None:
    """Which cell to run before the cell `source`, which lacks `name`; None where no cell before it makes the name."""
    for path in sorted((REPOSITORY / "notebooks").rglob("*.ipynb")):
        cells = code_cells(path)
        edited = source not in cells and path.name == Path(os.environ.get("JPY_SESSION_NAME", "")).name
        before = cells if edited else cells[: cells.index(source)] if source in cells else []
        for cell in reversed(before):
            if line := line_that_makes(name, cell):
                return f"{name!r} is not there yet: run the cell with `{line}` first (or Run → Run All Above …)"
    return None


def code_cells(path: Path) -> list[str]:
    """The sources of a notebook's code cells."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def line_that_makes(name: str, source: str) -> str | None:
    """The first line of a cell's statement that assigns, defines or imports a name; None where none does."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:  # a cell with a command of IPython
        return None
    for statement in statements:
        if name in names_made(statement):
            return source.splitlines()[statement.lineno - 1].partition("  #")[0]
    return None


def names_made(statement: ast.stmt) -> set[str]:
    """The names that a statement of a cell leaves behind."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
