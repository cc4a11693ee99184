"""A notebook in a JupyterLab in a real browser: opened, its cells run, its views looked at and photographed.

Run by browse.py with the Python of an environment that has Playwright; nothing of this repository is imported.
"""

import base64
import hashlib
import json
import time
from pathlib import Path

from playwright.sync_api import Locator, Page

WAIT = 600  # seconds a notebook may take at smoke size
VIEW = 300  # seconds that a view may take to follow
LAPTOP, PROJECTOR = {"width": 1366, "height": 768}, {"width": 1280, "height": 720}
ZOOMED = {"width": 1280 * 2 // 3, "height": 720 * 2 // 3}  # what 150% of zoom leaves of the projector, in CSS pixels
PANEL = "window.jupyterapp.shell.currentWidget"
SEEN = """() => {
    const panel = window.jupyterapp.shell.currentWidget;
    if (!panel || !panel.content || !panel.content.widgets) return null;
    const code = panel.content.widgets.filter(cell => cell.model.type === 'code');
    const kernel = panel.sessionContext.session && panel.sessionContext.session.kernel;
    return {
        path: panel.context.path,
        kernel: panel.sessionContext.kernelDisplayName,
        status: kernel && kernel.status,
        counts: code.map(cell => cell.model.executionCount),
        outputs: code.map(cell => ({id: cell.model.id, outputs: cell.model.outputs.toJSON()})),
    };
}"""
SCROLL = f"""async id => {{
    const notebook = {PANEL}.content;
    const index = notebook.widgets.findIndex(cell => cell.model.id === id);
    await notebook.scrollToItem(index, 'start');
    const cell = notebook.widgets[index].node;
    cell.setAttribute('data-cell', id);
    (cell.querySelector('.jp-Cell-outputWrapper') || cell).scrollIntoView({{block: 'start'}});
}}"""
BEGIN = f"""id => {{
    const notebook = {PANEL}.content;
    notebook.deselectAll();
    notebook.activeCellIndex = notebook.widgets.findIndex(cell => cell.model.id === id);
    window.cellIsDone = false;
    window.jupyterapp.commands.execute('notebook:run-cell').finally(() => {{ window.cellIsDone = true; }});
}}"""
ADD = f"""source => {{
    const cells = {PANEL}.content.model.sharedModel;
    return cells.insertCell(cells.cells.length, {{cell_type: 'code', source}}).id;
}}"""
EDIT = f"""([id, source]) => {{
    {PANEL}.content.widgets.find(cell => cell.model.id === id).model.sharedModel.setSource(source);
}}"""
BYTES = """async image => {
    const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
    return btoa(Array.from(bytes, byte => String.fromCharCode(byte)).join(''));
}"""
# Of a cell's outputs: what must be scrolled sideways, is cut or lies outside the window, and the smallest text of a
# large view in CSS pixels.
LOOK = """cell => {
    const area = cell.querySelector('.jp-Cell-outputWrapper');
    const shown = [...area.querySelectorAll('*')].filter(part => part.checkVisibility() && part.clientWidth > 1);
    const own = part => [...part.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    const wide = shown.filter(part => getComputedStyle(part).overflowX !== 'visible' && part.tagName !== 'INPUT'
        && part.scrollWidth > part.clientWidth + 1);
    const texts = shown.filter(part => own(part) || part.matches('textarea, input:not([type=checkbox])'))
        .filter(part => part.closest('.workshop-big'))
        .filter(part => !['STYLE', 'text', 'title'].includes(part.tagName));
    const outside = shown.filter(part => own(part) && part.getBoundingClientRect().right > window.innerWidth + 1);
    const sizes = texts.map(part => [parseFloat(getComputedStyle(part).fontSize), part.innerText || part.tagName]);
    const pictures = [...area.querySelectorAll('img')].map(image => image.clientWidth / image.naturalWidth);
    return {wide: [...wide, ...outside].map(part => `${part.className}: ${part.innerText.slice(0, 80)}`),
            smallest: sizes.sort((one, other) => one[0] - other[0])[0] || null, pictures};
}"""


class Lab:
    """A page of JupyterLab. pictures: the folder for what is photographed; `looks` is what was found in each.

    patience: seconds that a notebook may take.
    """

    patience = WAIT

    def __init__(self, page: Page, url: str, pictures: Path):
        self.page, self.url, self.pictures, self.looks = page, url, pictures, {}

    def open(self, name: str) -> dict:
        """Open a notebook and wait until its kernel is there."""
        self.page.set_viewport_size(LAPTOP)
        self.page.goto(f"{self.url}/lab/tree/notebooks/{name}?reset", timeout=120_000)
        self.page.wait_for_function(f"() => window.jupyterapp && {PANEL}", timeout=120_000)
        self.page.add_style_tag(content=".Toastify { display: none }")  # what JupyterLab asks would stand in pictures
        return self.wait(lambda seen: seen["path"].endswith(name) and seen["status"] == "idle")

    def wait(self, ready) -> dict:
        """What the notebook shows as soon as `ready`; a TimeoutError says what it showed last."""
        deadline, seen = time.monotonic() + self.patience, None
        while time.monotonic() < deadline:
            seen = self.page.evaluate(SEEN)
            if seen and ready(seen):
                return seen
            if self.page.locator(".jp-Dialog").count():
                raise SystemExit("a dialog asks: " + self.page.locator(".jp-Dialog").inner_text())
            time.sleep(0.5)
        raise TimeoutError(json.dumps(seen)[-2000:])

    def run_all(self) -> dict:
        """Run → Run All Cells, as a person does, and wait for the end."""
        self.page.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        return self.wait(lambda seen: seen["status"] == "idle" and (None not in seen["counts"] or errors(seen)))

    def shut_down(self) -> None:
        """The kernel of the notebook."""
        self.page.evaluate(f"() => {PANEL}.sessionContext.shutdown()")

    # ── cells ───────────────────────────────────────────────────────────────────────────────────────────────

    def cell(self, name: str) -> Locator:
        """A cell by its id, scrolled to."""
        self.page.evaluate(SCROLL, name)
        return self.page.locator(f"[data-cell='{name}']")

    def begin(self, name: str) -> None:
        """Run a cell, and come back at once."""
        self.page.evaluate(BEGIN, name)

    def finish(self) -> dict:
        """Wait for the end of the cell that was begun; what the notebook shows then."""
        self.page.wait_for_function("() => window.cellIsDone", timeout=1000 * self.patience)
        return self.wait(lambda seen: seen["status"] == "idle")

    def run(self, *names: str) -> dict:
        """Run cells one by one; what the notebook shows then."""
        for name in names:
            self.begin(name)
            seen = self.finish()
        return seen

    def run_own(self, source: str) -> dict:
        """Write a cell of one's own at the end of the notebook, and run it."""
        return self.run(self.add(source))

    def add(self, source: str) -> str:
        """A cell of one's own at the end of the notebook; its id."""
        return self.page.evaluate(ADD, source)

    def edit(self, name: str, source: str) -> None:
        """Write another source into a cell."""
        self.page.evaluate(EDIT, [name, source])

    # ── views ───────────────────────────────────────────────────────────────────────────────────────────────

    def until(self, read, ready=bool):
        """What `read` returns as soon as that is `ready`; a TimeoutError says what it returned last."""
        deadline = time.monotonic() + VIEW
        while not ready(found := read()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"a view did not follow: {str(found)[:2000]}")
            time.sleep(0.2)
        return found

    def picture(self, image: Locator) -> str:
        """The picture that a page shows, as its size in bytes and its hash."""
        image.wait_for()
        shown = base64.b64decode(image.evaluate(BYTES))
        return f"{len(shown)} {hashlib.sha256(shown).hexdigest()}"

    def photograph(self, name: str, cell: str) -> None:
        """A picture of the page with this cell's outputs at its top, and what does not fit there."""
        self.cell(cell)
        time.sleep(0.5)  # the page settles: the theme's colours, and cells that take their height as they are seen
        place = self.cell(cell)
        self.page.screenshot(path=self.pictures / f"{name}.png")
        self.looks[name] = place.evaluate(LOOK)

    def photograph_dark(self, name: str, cell: str) -> None:
        """The same in JupyterLab's dark theme."""
        self.choose_theme("JupyterLab Dark")
        self.photograph(f"{name}-dark", cell)
        self.choose_theme("JupyterLab Light")

    def photograph_zoomed(self, name: str, *cells: str, called: str = "") -> None:
        """What an audience sees at 150% of zoom on a projector's screen, the list of files hidden.

        called: in the picture's name, in place of the cell's id.
        """
        self.page.set_viewport_size(ZOOMED)
        self.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
        for cell in cells:
            self.photograph(f"{name}-{called or cell}-zoomed", cell)
        self.page.evaluate("() => window.jupyterapp.shell.expandLeft()")
        self.page.set_viewport_size(LAPTOP)

    def interrupt(self) -> None:
        """The button ■ of the notebook's toolbar."""
        self.page.locator("[data-command='notebook:interrupt-kernel']").first.click()

    def photograph_big(self, name: str, *cells: str) -> None:
        """Run cells again with large type, and picture each on the screen of a projector, as it is presented.

        The list of files is hidden then, as it is for an audience.
        """
        self.run_own("import os\n\nos.environ['WORKSHOP_BIG'] = '1'")
        self.run(*cells)
        self.page.set_viewport_size(PROJECTOR)
        self.page.evaluate("() => window.jupyterapp.shell.collapseLeft()")
        for cell in cells:
            self.photograph(f"{name}-{cell}-big", cell)

    def choose_theme(self, theme: str) -> None:
        """Wait until it is there."""
        self.page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
        self.page.locator(f"body[data-jp-theme-name='{theme}']").wait_for(state="attached")


def errors(seen: dict) -> list[str]:
    """The errors among the outputs of a notebook."""
    return [error for cell in seen["outputs"] for error in errors_of(cell["outputs"])]


def errors_of(outputs: list[dict]) -> list[str]:
    """The errors among the outputs of a cell."""
    return [f"{each['ename']}: {each['evalue']}" for each in outputs if each["output_type"] == "error"]


def outputs_of(seen: dict, name: str) -> list[dict]:
    """The outputs of a cell."""
    return next(cell["outputs"] for cell in seen["outputs"] if cell["id"] == name)
