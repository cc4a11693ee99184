"""browse.py URL CHROMIUM NOTEBOOK…: open notebooks in a JupyterLab with a real browser, Run All, move a slider if any.

Prints one JSON object: {"notebooks": {name: what was seen}, "console": [errors]}. Run by test_attendee.py with the
Python of an environment that has Playwright. The kernel is the one that JupyterLab chooses by itself.
"""

import json
import sys
import time

from playwright.sync_api import Page, sync_playwright

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
WAIT = 600  # seconds a notebook may take
SEEN = """() => {
    const panel = window.jupyterapp.shell.currentWidget;
    if (!panel || !panel.content || !panel.content.widgets) return null;
    const cells = panel.content.widgets.map((cell, index) => ({cell, index}));
    const code = cells.filter(({cell}) => cell.model.type === 'code');
    const kernel = panel.sessionContext.session && panel.sessionContext.session.kernel;
    return {
        path: panel.context.path,
        kernel: panel.sessionContext.kernelDisplayName,
        status: kernel && kernel.status,
        counts: code.map(({cell}) => cell.model.executionCount),
        outputs: code.map(({cell, index}) => ({index, outputs: cell.model.outputs.toJSON()})),
    };
}"""


def open_notebook(page: Page, url: str, name: str) -> dict:
    """Open it and wait until its kernel is there."""
    page.goto(f"{url}/lab/tree/notebooks/{name}?reset", timeout=120_000)
    page.wait_for_function("() => window.jupyterapp && window.jupyterapp.shell.currentWidget", timeout=120_000)
    return wait(page, lambda seen: seen["path"].endswith(name) and seen["status"] == "idle")


def wait(page: Page, ready) -> dict:
    """What the notebook shows as soon as `ready`; a TimeoutError says what it showed last."""
    deadline, seen = time.monotonic() + WAIT, None
    while time.monotonic() < deadline:
        seen = page.evaluate(SEEN)
        if seen and ready(seen):
            return seen
        if page.locator(".jp-Dialog").count():
            raise SystemExit("a dialog asks: " + page.locator(".jp-Dialog").inner_text())
        time.sleep(0.5)
    raise TimeoutError(json.dumps(seen)[-2000:])


def run_all(page: Page) -> dict:
    """Run → Run All Cells, as a person does, and wait for the end."""
    page.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    return wait(page, lambda seen: seen["status"] == "idle" and (None not in seen["counts"] or errors(seen)))


def errors(seen: dict) -> list[str]:
    """The errors among the outputs."""
    outputs = (output for cell in seen["outputs"] for output in cell["outputs"])
    return [f"{out['ename']}: {out['evalue']}" for out in outputs if out["output_type"] == "error"]


def move_slider(page: Page, seen: dict) -> list[str] | None:
    """Move the first slider by keyboard: its readout and the text under it, before and after; None without a slider."""
    shown = [cell["index"] for cell in seen["outputs"] if "Slider" in json.dumps(cell["outputs"])]
    if not shown and "odds_ratio" not in seen["path"]:
        return None
    page.evaluate(
        "(index) => window.jupyterapp.shell.currentWidget.content.scrollToItem(index)", shown[0] if shown else 18
    )
    slider = page.locator(".widget-slider").first
    slider.wait_for(timeout=60_000)
    box = page.locator(".widget-vbox").filter(has=page.locator(".widget-slider")).first
    before = box.inner_text()
    slider.locator(".noUi-handle").first.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    deadline = time.monotonic() + 60
    while box.inner_text() == before and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(1)  # the kernel's answer follows the readout
    return [before, box.inner_text()]


def main(url: str, chromium: str, names: list[str]) -> dict:
    console, notebooks = [], {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.on("console", lambda message: console.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: console.append(str(error)))
        for name in names:
            started = time.monotonic()
            opened = open_notebook(page, url, name)
            ran = run_all(page)
            moved = move_slider(page, ran)
            seconds = round(time.monotonic() - started, 1)
            widgets = [cell for cell in ran["outputs"] if "widget-view" in json.dumps(cell["outputs"])]
            notebooks[name] = {"kernel": opened["kernel"], "errors": errors(ran), "counts": ran["counts"]}
            notebooks[name] |= {"moved": moved, "seconds": seconds, "widgets": len(widgets)}
            page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        browser.close()
    return {"notebooks": notebooks, "console": console}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], sys.argv[3:])))
