"""The cache to look at: graphs by state, sizes, and the problems with a repair button; as text in a terminal."""

import html
from collections import Counter

from helpers.neuron.compile_cache import problems
from helpers.neuron.compile_cache.layout import STATES, WAITING, Entry
from helpers.neuron.compile_cache.problems import BLOCKING, ON_REQUEST, Problem
from helpers.neuron.compile_cache.text import age_text, graphs_text, path_text, size_text
from helpers.show.notebook import in_notebook, show_widget

ROWS = 200  # a notebook with ten thousand rows would not scroll
MARKS = {"compiled": "✓", "compiling": "…", "failed": "✗", "abandoned": "⚠", "incomplete": "○"}
HEAD = "<tr align=left><th>state<th align=right>size<th align=right>age<th>compiler<th>graph</tr>"


def rows(cache, state: str = "all") -> tuple[list[Entry], str]:
    """The newest ROWS graphs of a state, and in words how many there are of it."""
    chosen = sorted((entry for entry in cache.entries() if state in ("all", entry.state)), key=lambda entry: entry.age)
    return chosen[:ROWS], graphs_text(len(chosen)) + (f", the newest {ROWS} shown" if len(chosen) > ROWS else "")


def table(cache, state: str = "all") -> str:
    """Graphs as text, newest first."""
    shown, total = rows(cache, state)
    lines = [f"{'state':<13}{'size':>10}{'age':>9}  graph"]
    for entry in shown:
        numbers = f"{size_text(entry.size):>10}{age_text(entry.age):>9}"
        lines.append(f"{MARKS[entry.state]} {entry.state:<11}{numbers}  {entry.compiler}/{entry.name}")
    return "\n".join([*lines, total])


def html_table(cache, state: str = "all") -> str:
    """The same for a notebook, in the looks of its page."""
    shown, total = rows(cache, state)
    return f"<table cellpadding=4>{HEAD}{''.join(map(html_row, shown))}</table><p>{total}</p>"


def html_row(entry: Entry) -> str:
    """One graph; its name opens what does not fit in a line: what its state follows from, and its flags."""
    more = "<br>".join(html.escape(line) for line in (entry.reason, " ".join(entry.flags)) if line)
    graph = f"<details><summary>{html.escape(entry.name)}</summary>{more}</details>"
    size, age, compiler = size_text(entry.size), age_text(entry.age), html.escape(entry.compiler)
    state = f"{MARKS[entry.state]} {entry.state}"
    return f"<tr valign=top><td>{state}<td align=right>{size}<td align=right>{age}<td>{compiler}<td>{graph}</tr>"


def html_problems(found: list[Problem]) -> str:
    """What a repair moves, then what it leaves alone."""
    repaired = [problem for problem in found if problem.kind in BLOCKING]
    left = [problem for problem in found if problem.kind not in BLOCKING]
    parts = [("Problems that Repair fixes", repaired), ("Problems that Repair leaves alone", left)]
    said = "".join(f"<b>{head}</b><ul>{''.join(map(html_problem, part))}</ul>" for head, part in parts if part)
    return said or "<b>No problems</b>"


def html_problem(problem: Problem) -> str:
    """What and where, what is known of it, and the fix, each in its own lines."""
    where, says, fix = (html.escape(part) for part in (problem.where, problem.says, problem.fix))
    return f"<li><b>{problem.kind}</b> <code>{where}</code><br>{says.replace(chr(10), '<br>')}<br>→ {fix}</li>"


def text(cache) -> str:
    """Everything that the browser shows, for a terminal."""
    found = "\n".join(f"- {problem}" for problem in cache.problems()) or "no problems"
    return "\n\n".join([f"{path_text(cache.path)}\n{cache.summary()}", table(cache), found])


class Browser:
    """The widgets: `view` is the whole; `filter`, `repair` (first click: what it would move), `confirm`, `refresh`.

    `said` is the answer to a click, beside the buttons: below the table nobody would see it.
    """

    def __init__(self, cache):
        import ipywidgets as widgets

        self.cache = cache
        self.summary, self.said, self.table, self.problems = (widgets.HTML() for _ in range(4))
        self.filter = widgets.Dropdown(options=["all", *STATES], description="state")
        self.refresh = widgets.Button(description="Look again", icon="refresh")
        self.repair = widgets.Button(description="Repair …", tooltip="shows what would be moved away")
        self.confirm = widgets.Button(description="Yes, move it away", button_style="warning")
        self.filter.observe(lambda _: self.show(), "value")
        self.refresh.on_click(lambda _: self.show())
        self.repair.on_click(lambda _: self.plan())
        self.confirm.on_click(lambda _: self.carry_out())
        wrapping = widgets.Layout(flex_flow="row wrap")  # else a narrow window would need a scroll bar
        buttons = widgets.HBox([self.filter, self.refresh, self.repair, self.confirm], layout=wrapping)
        self.view = widgets.VBox([self.summary, buttons, self.said, self.table, self.problems])
        self.show()

    def show(self, said: str = "") -> None:
        """Read the cache again. What was planned is forgotten: the cache may have changed since."""
        path, totals = html.escape(path_text(self.cache.path)), html.escape(str(self.cache.summary()))
        self.summary.value = f"<b>{path}</b><pre>{totals}</pre>"
        self.table.value = html_table(self.cache, self.filter.value)
        self.problems.value = html_problems(self.cache.problems())
        self.said.value, self.confirm.layout.display = said, "none"

    def plan(self) -> None:
        """Show what a repair would move, beside the cache as it is now, and only then the button that does it."""
        self.show()
        planned = problems.repair(self.cache.path, self.cache.compiler)
        self.said.value = self.answer("Would move to .removed/, nothing is deleted:", planned)
        self.confirm.layout.display = None if planned else "none"

    def carry_out(self) -> None:
        """Move it."""
        moved = problems.repair(self.cache.path, self.cache.compiler, dry_run=False)
        self.show(self.answer("Moved to .removed/:", moved))

    def answer(self, head: str, found: list[Problem]) -> str:
        """Problems' paths as a list, and what stays where it is."""
        names = (html.escape(f"{problem.path.relative_to(self.cache.path)} ({problem.kind})") for problem in found)
        items = "".join(f"<li>{name}</li>" for name in names)
        stays = "".join(f"<div>{html.escape(line)}</div>" for line in left_alone(self.cache))
        return (f"{head}<ul>{items}</ul>" if found else "<b>Nothing to repair.</b>") + stays


def left_alone(cache) -> list[str]:
    """What a repair does not touch, and why; a line for problems and one for graphs that only look like one."""
    kinds = Counter(problem.kind for problem in cache.problems() if problem.kind in ON_REQUEST)
    lines = []
    if kinds:
        listed = ", ".join(f"{number} × {kind}" for kind, number in sorted(kinds.items()))
        lines.append(f"Left alone: {listed}. They block no run and may be somebody's; each has its fix below.")
    if waiting := sum(entry.reason == WAITING for entry in cache.entries()):
        only = "is “incomplete” only" if waiting == 1 else "are “incomplete” only"
        lines.append(f"{graphs_text(waiting)} {only} because not compiled yet: a run that needs it does.")
    return lines


def browse(cache):
    """Show a Browser in a notebook (and return it), the same as text elsewhere."""
    browser = Browser(cache) if in_notebook() else None
    show_widget(browser and browser.view, text(cache))
    return browser
