"""watch.py URL CHROMIUM NOTEBOOK…: Run All in a JupyterLab, and note how long each notebook showed nothing new.

Prints one JSON object: {notebook: seconds, waits, errors}. Run by hour.py with the Python of an environment that has
Playwright.
"""

import itertools
import json
import sys
import time
from pathlib import Path

from browse import FLAGS
from lab import LAPTOP, Lab, errors
from playwright.sync_api import sync_playwright

# Notes when an output changes, and whether that was a progress bar. The notebook's first code cell is noted when done.
NOTE = """() => {
    const panel = window.jupyterapp.shell.currentWidget;
    const first = panel.content.widgets.find(cell => cell.model.type === 'code');
    window.changes = []; window.firstDone = null;
    const seen = changes => {
        for (const {target} of changes) {
            const part = target.nodeType === 1 ? target : target.parentElement;
            if (!part || !part.closest('.jp-OutputArea')) continue;
            const box = part.closest('.widget-hbox'), bar = Boolean(box && box.querySelector('.widget-hprogress'));
            window.changes.push([Date.now() / 1000, bar]);
        }
    };
    const what = {subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ['src']};
    new MutationObserver(seen).observe(panel.node, what);
    const noted = () => { if (first.model.executionCount && !window.firstDone) window.firstDone = Date.now() / 1000; };
    first.model.stateChanged.connect(noted);
}"""


def watch(lab: Lab, name: str) -> dict:
    """Seconds until a notebook was open, until it was done, and its longest waits."""
    before = time.time()
    lab.open(name)
    lab.page.evaluate(NOTE)
    opened = time.time()
    ran = lab.run_all()
    done = time.time()
    changes = lab.page.evaluate("() => window.changes")
    first = lab.page.evaluate("() => window.firstDone")
    lab.shut_down()
    return {
        "opened": opened - before,
        "first_cell": first and first - opened,
        "seconds": done - opened,
        "longest_wait": longest([opened, *(at for at, _ in changes), done]),
        "longest_wait_behind_a_bar": longest([opened, *(at for at, bar in changes if not bar), done]),
        "errors": errors(ran),
    }


def longest(times: list[float]) -> float:
    """The longest time between two of them."""
    return max(later - earlier for earlier, later in itertools.pairwise(times))


def main(url: str, chromium: str, names: list[str]) -> dict:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        lab = Lab(browser.new_page(viewport=LAPTOP), url, Path())
        lab.patience = 3600
        seen = {Path(name).stem: watch(lab, name) for name in names}
        browser.close()
    return seen


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:3], sys.argv[3:])))
