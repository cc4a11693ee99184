"""The cache to look at: graphs by state, sizes, and the problems with a repair button; as text in a terminal."""

import html
from collections import Counter

from helpers.neuron.compile_cache import problems
from helpers.neuron.compile_cache.layout import STATES, WAITING, Entry, age_text, graphs_text, path_text, size_text
from helpers.neuron.compile_cache.problems import BLOCKING, ON_REQUEST, Problem
from helpers.show.notebook import in_notebook, show_widget

ROWS = 200  # a notebook with ten thousand rows would not scroll
# A mark, and colours (symbol, ground) that the colour-blind can tell apart (Okabe and Ito). The mark brings its own
# ground, since no colour is readable on both white and a dark theme's black.
MARKS = {
    "compiled": ("✓", "#FFFFFF", "#0072B2"),
    "compiling": ("…", "#000000", "#E69F00"),
    "failed": ("✗", "#000000", "#D55E00"),
    "abandoned": ("⚠", "#000000", "#CC79A7"),
    "incomplete": ("○", "#FFFFFF", "#595959"),
}
# Widths that no filter changes: names give way in a narrow window, what is short never wraps. The line height is set
# because a widget's own is that of a button.
STYLE = """<style>
.compile-cache { line-height: 1.45; max-width: 72em; }
.compile-cache pre { overflow-wrap: anywhere; word-break: normal; white-space: pre-wrap; margin: 2px 0; }
.compile-cache table { table-layout: fixed; width: 100%; border-collapse: collapse; margin: 4px 0; }
.compile-cache th, .compile-cache td, .compile-cache summary {
    text-align: left; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; vertical-align: top; }
.compile-cache th, .compile-cache td { padding: 2px 10px 2px 0; }
.compile-cache .number { text-align: right; font-variant-numeric: tabular-nums; }
.compile-cache details div { white-space: pre-wrap; overflow-wrap: anywhere; padding: 2px 0 4px 14px; }
.compile-cache summary { cursor: pointer; }
.compile-cache .mark { display: inline-block; width: 1.4em; text-align: center; border-radius: 3px; }
.compile-cache ul { margin: 2px 0 8px; padding-left: 20px; }
.compile-cache li { margin-bottom: 4px; overflow-wrap: anywhere; }
</style>"""
COLUMNS = {"state": "8.5em", "size": "6.5em", "age": "5.5em", "compiler": "27%", "graph": "auto"}
NUMBERS = ("size", "age")


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
    return "\n".join([*lines, total_text(number)])


def total_text(number: int) -> str:
    """How many there are, and whether all are shown."""
    return graphs_text(number) + (f", the newest {ROWS} shown" if number > ROWS else "")


def boxed(content: str) -> str:
    """HTML in this browser's style."""
    return f"<div class='compile-cache'>{content}</div>"


def html_table(cache, state: str = "all") -> str:
    """The same for a notebook."""
    shown, number = rows(cache, state)
    widths = "".join(f"<col style='width:{width}'>" for width in COLUMNS.values())
    head = "".join(f"<th{' class=number' if name in NUMBERS else ''}>{name}</th>" for name in COLUMNS)
    body = "".join(html_row(entry) for entry in shown)
    grid = f"<table><colgroup>{widths}</colgroup><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return STYLE + boxed(f"{grid}{total_text(number)}")


def html_row(entry: Entry) -> str:
    """One graph; its name opens what does not fit in a line: whole names, what its state follows from, flags."""
    symbol, colour, ground = MARKS[entry.state]
    state = f"<span class=mark style='color:{colour};background:{ground}'>{symbol}</span> {entry.state}"
    told = [entry.compiler, entry.name, entry.reason, " ".join(entry.flags)]
    more = html.escape("\n".join(line for line in told if line))
    graph = f"<details><summary>{html.escape(entry.name)}</summary><div>{more}</div></details>"
    cells = [state, size_text(entry.size), age_text(entry.age), html.escape(entry.compiler), graph]
    looks = (" class=number" if name in NUMBERS else "" for name in COLUMNS)
    return "<tr>" + "".join(f"<td{look}>{cell}</td>" for look, cell in zip(looks, cells, strict=True)) + "</tr>"


def html_problems(found: list[Problem]) -> str:
    """What a repair moves, then what it leaves alone."""
    repaired = [problem for problem in found if problem.kind in BLOCKING]
    left = [problem for problem in found if problem.kind not in BLOCKING]
    parts = [("Problems that Repair fixes", repaired), ("Problems that Repair leaves alone", left)]
    said = "".join(f"<b>{head}</b><ul>{''.join(map(html_problem, part))}</ul>" for head, part in parts if part)
    return boxed(said or "<b>No problems</b>")


def html_problem(problem: Problem) -> str:
    """What and where, what is known of it, and the fix, each in its own lines."""
    where, says, fix = (html.escape(part) for part in (problem.where, problem.says, problem.fix))
    says = f"<pre>{says}</pre>" if "\n" in says else f"{says}<br>"
    return f"<li><b>{problem.kind}</b> <code>{where}</code><br>{says}→ {fix}</li>"


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
        wrapping = widgets.Layout(flex_flow="row wrap")  # else a narrow window would need a scroll bar
        buttons = widgets.HBox([self.filter, self.refresh, self.repair, self.confirm], layout=wrapping)
        self.view = widgets.VBox([self.summary, buttons, self.said, self.table, self.problems])
        self.show()

    def show(self, said: str = "") -> None:
        """Read the cache again. What was planned is forgotten: the cache may have changed since."""
        path, totals = html.escape(path_text(self.cache.path)), html.escape(str(self.cache.summary()))
        self.summary.value = boxed(f"<b>{path}</b><pre>{totals}</pre>")
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
        return boxed((f"{head}<ul>{items}</ul>" if found else "<b>Nothing to repair.</b>") + stays)


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
