"""browse.py URL CHROMIUM PICTURES NOTEBOOK…: open notebooks in a JupyterLab, Run All, and use their live views.

Prints one JSON object: {"notebooks": {name: what was seen}, "console": [errors], "looks": {picture: what does not
fit}}, and leaves screenshots in the folder PICTURES. Run by test_attendee.py with the Python of an environment that has
Playwright. The kernel is the one that JupyterLab chooses by itself.
"""

import json
import sys
import time
from pathlib import Path

from lab import LAPTOP, VIEW, Lab, errors
from live_views import AFTER, BEFORE
from playwright.sync_api import sync_playwright

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]


def browse(lab: Lab, name: str) -> dict:
    """One notebook from its opening to the end of its kernel."""
    started, which = time.monotonic(), name.partition(".")[0].partition("_")[0]
    opened = lab.open(name)
    BEFORE.get(which, lambda lab: None)(lab)
    ran = lab.run_all()
    found = {"kernel": opened["kernel"], "errors": errors(ran), "counts": ran["counts"]}
    found["widgets"] = sum("widget-view" in json.dumps(cell["outputs"]) for cell in ran["outputs"])
    done = time.monotonic()
    found["views"] = AFTER.get(which, lambda lab: {})(lab)
    found["errors_of_views"] = errors(lab.wait(lambda seen: seen["status"] == "idle"))
    lab.shut_down()
    return found | {"seconds": round(done - started, 1), "seconds_of_views": round(time.monotonic() - done, 1)}


def main(url: str, chromium: str, pictures: str, names: list[str]) -> dict:
    console = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport=LAPTOP)
        page.set_default_timeout(1000 * VIEW)
        page.on("console", lambda message: console.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: console.append(str(error)))
        lab = Lab(page, url, Path(pictures))
        notebooks = {name: browse(lab, name) for name in names}
        browser.close()
    return {"notebooks": notebooks, "console": console, "looks": lab.looks}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:4], sys.argv[4:])))
