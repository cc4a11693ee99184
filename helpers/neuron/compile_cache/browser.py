"""The cache to look at: graphs by state, sizes, and the problems with a repair button; as text in a terminal."""

import html

from helpers.neuron.compile_cache import problems
from helpers.neuron.compile_cache.layout import STATES, Entry, age_text, path_text, size_text

ROWS = 200  # a notebook with ten thousand rows would not scroll
# A mark beside each colour, and colours that the colour-blind can tell apart (Okabe and Ito)
MARKS = {
    "compiled": ("✓", "#0072B2"),
    "compiling": ("…", "#E69F00"),
    "failed": ("✗", "#D55E00"),
    "abandoned": ("⚠", "#CC79A7"),
    "incomplete": ("○", "#767676"),
}


def rows(cache, state: str = "all") -> tuple[list[Entry], int]:
    """The newest ROWS graphs of a state, and how many there are of it."""
    chosen = [entry for entry in cache.entries() if state in ("all", entry.state)]
    return sorted(chosen, key=lambda entry: entry.age)[:ROWS], len(chosen)


def table(cache, state: str = "all") -> str:
    """Graphs as text, newest first."""
    shown, number = rows(cache, state)
    lines = [f"{'state':<13}{'size':>10}{'age':>9}  graph"]
    lines += [
        f"{MARKS[entry.state][0]} {entry.state:<11}{size_text(entry.size):>10}{age_text(entry.age):>9}  "
        f"{entry.compiler}/{entry.name}"
        for entry in shown
    ]
    return "\n".join([*lines, f"{number} graphs" + (f", the newest {ROWS} shown" if number > ROWS else "")])


def html_table(cache, state: str = "all") -> str:
    """The same for a notebook."""
    shown, number = rows(cache, state)
    head = "".join(f"<th style='text-align:left'>{name}</th>" for name in ("state", "size", "age", "compiler", "graph"))
    body = "".join(html_row(entry) for entry in shown)
    more = f", the newest {ROWS} shown" if number > ROWS else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{number} graphs{more}</p>"


def html_row(entry: Entry) -> str:
    """One graph; its flags and what its state follows from are told when the mouse rests on it."""
    mark, colour = MARKS[entry.state]
    said = html.escape("\n".join([entry.reason, *entry.flags]).strip(), quote=True)
    state = f"<b style='color:{colour}'>{mark}</b> {entry.state}"
    cells = [state, size_text(entry.size), age_text(entry.age), html.escape(entry.compiler), html.escape(entry.name)]
    return f"<tr title='{said}'>" + "".join(f"<td style='text-align:left'>{cell}</td>" for cell in cells) + "</tr>"


def text(cache) -> str:
    """Everything that the browser shows, for a terminal."""
    found = "\n".join(f"- {problem}" for problem in cache.problems()) or "no problems"
    return "\n\n".join([f"{path_text(cache.path)}\n{cache.summary()}", table(cache), found])


class Browser:
    """The widgets: `view` is the whole; `filter`, `repair` (first click: what it would move), `confirm`, `refresh`."""

    def __init__(self, cache):
        import ipywidgets as widgets

        self.cache = cache
        self.summary, self.table, self.problems = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.said = widgets.HTML()
        self.filter = widgets.Dropdown(options=["all", *STATES], description="state")
        self.refresh = widgets.Button(description="Look again", icon="refresh")
        self.repair = widgets.Button(description="Repair …", tooltip="shows what would be moved away")
        self.confirm = widgets.Button(description="Yes, move it away", button_style="warning")
        self.filter.observe(lambda _: self.show(), "value")
        self.refresh.on_click(lambda _: self.show())
        self.repair.on_click(lambda _: self.plan())
        self.confirm.on_click(lambda _: self.carry_out())
        buttons = widgets.HBox([self.filter, self.refresh, self.repair, self.confirm])
        self.view = widgets.VBox([self.summary, buttons, self.table, self.problems, self.said])
        self.show()

    def show(self, said: str = "") -> None:
        """Read the cache again. What was planned is forgotten: the cache may have changed since."""
        path, totals = html.escape(path_text(self.cache.path)), html.escape(str(self.cache.summary()))
        self.summary.value = f"<b>{path}</b><pre>{totals}</pre>"
        self.table.value = html_table(self.cache, self.filter.value)
        found = "".join(f"<li>{html.escape(str(problem))}</li>" for problem in self.cache.problems())
        self.problems.value = f"<b>Problems</b><ul>{found}</ul>" if found else "<b>No problems</b>"
        self.said.value, self.confirm.layout.display = said, "none"

    def plan(self) -> None:
        """Show what a repair would move, and only then the button that does it."""
        planned = problems.repair(self.cache.path, self.cache.compiler)
        self.said.value = listing("Would move to .removed/, nothing is deleted:", planned, self.cache.path)
        self.confirm.layout.display = None if planned else "none"

    def carry_out(self) -> None:
        """Move it."""
        self.show(
            listing(
                "Moved to .removed/:",
                problems.repair(self.cache.path, self.cache.compiler, dry_run=False),
                self.cache.path,
            )
        )


def listing(head: str, found: list, root) -> str:
    """Problems' paths as a list."""
    if not found:
        return "Nothing to repair."
    items = "".join(
        f"<li>{html.escape(str(problem.path.relative_to(root)))} ({problem.kind})</li>" for problem in found
    )
    return f"{head}<ul>{items}</ul>"


def browse(cache):
    """Show a Browser in a notebook (and return it), the same as text elsewhere."""
    from IPython.display import display

    from helpers.widgets import in_notebook

    if not in_notebook():
        print(text(cache))
        return None
    browser = Browser(cache)
    display(browser.view)
    return browser
