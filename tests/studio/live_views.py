"""What a person does with the live views of each notebook, and what they saw: buttons, sliders, boxes, a training."""

import re

from lab import Lab, errors_of, outputs_of
from playwright.sync_api import Locator

MANY = 5000  # steps: more than a training makes before it is stopped
PROFILE, STAGE, TRAINER, TRAIN = "059664c0", "e40ef17a", "bd5a52e9", "659fa26b"  # cells of notebook 02
SLIDERS = "5e67ec35"  # a cell of notebook 03
TABLES = ("a7396576", "f5d1bd61")  # cells of notebook 04: the comparison, and answers side by side
DRAFT = "This operation lists the topics that you own."


def page_pairs(lab: Lab) -> dict:
    """01: the buttons turn pages, the arrow keys move the limit."""
    name = "browse-pairs"
    cell = lab.cell(name)
    told, page = cell.locator(".workshop-view").first, cell.locator(".workshop-view").last
    pages = [page.inner_text()]
    for button in ("Next", "Next", "Back"):
        cell.get_by_role("button", name=button).click()
        pages.append(lab.until(page.inner_text, lambda text: text != pages[-1]))
    limits = [told.inner_text()]
    press(cell, 0, "ArrowLeft", 40)
    limits.append(lab.until(told.inner_text, lambda text: follows(cell, text) and text != limits[0]))
    lab.photograph("01-pairs", name)
    lab.photograph_dark("01-pairs", name)
    lab.photograph_big("01", name)
    return {"pages": pages, "limits": limits}


def follows(cell: Locator, told: str) -> bool:
    """Whether the text is that of the slider's number."""
    return f"At {cell.locator('.widget-readout').first.inner_text()} tokens" in told


def press(cell: Locator, number: int, key: str, times: int) -> None:
    """A key on the handle of a cell's slider."""
    handle = cell.locator(".noUi-handle").nth(number)
    handle.focus()
    for _ in range(times):
        handle.press(key)


def drag(cell: Locator, number: int, pixels: int) -> None:
    """The handle of a cell's slider, with the mouse."""
    handle, mouse = cell.locator(".noUi-handle").nth(number), cell.page.mouse
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    mouse.move(x, y)
    mouse.down()
    mouse.move(x + pixels, y, steps=5)
    mouse.up()


def move_sliders(lab: Lab) -> dict:
    """03: by mouse, by keyboard, and the walk through a recorded training."""
    cell = lab.cell(SLIDERS)
    image, table = cell.locator("img").first, cell.locator(".workshop-view pre")
    readings = cell.locator(".widget-readout")
    image.wait_for()
    pictures, tables = [lab.picture(image)], [table.inner_text()]

    def moved(move) -> None:
        move()
        tables.append(lab.until(table.inner_text, lambda text: text != tables[-1]))
        pictures.append(lab.until(lambda: lab.picture(image), lambda found: found != pictures[-1]))

    moved(lambda: drag(cell, 0, 120))
    moved(lambda: press(cell, 1, "ArrowRight", 5))
    moved(lambda: press(cell, 2, "ArrowLeft", 5))
    lab.until(table.inner_text, lambda text: ratio_of(readings) in text)
    lab.photograph("03-sliders", SLIDERS)
    lab.photograph_dark("03-sliders", SLIDERS)
    before = readings.first.inner_text()
    cell.locator(".jupyter-widgets-play button, .widget-play button").first.click()
    lab.until(readings.first.inner_text, lambda text: text != before)
    lab.photograph_big("03", SLIDERS)
    return {"pictures": pictures, "tables": tables}


def ratio_of(readings: Locator) -> str:
    """What the table says where it has followed the sliders' numbers."""
    chosen, rejected = (float(text) for text in readings.all_inner_texts()[:2])
    return f"(probability ratio {chosen / rejected:.2f})"


def stop_training(lab: Lab) -> dict:
    """02: a training of very many steps is stopped by its button, by JupyterLab's ■, and again by its button.

    Each time the cell, run again, goes on.
    """
    lab.run_own(f"from dataclasses import replace\n\nprofile = replace(profile, steps={MANY})")
    lab.run(STAGE, TRAINER)
    said = [stopped(lab, "02-training"), stopped(lab, interrupt=True), stopped(lab)]
    lab.photograph_zoomed("02", TRAIN)
    return {"said": said}


def stopped(lab: Lab, name: str = "", interrupt: bool = False) -> str:
    """Train until some steps were made, click on a button, and wait for the end; what the cell shows then."""
    lab.begin(TRAIN)
    cell = lab.cell(TRAIN)
    button = cell.get_by_role("button", name="Stop training")
    button.wait_for()
    lab.until(cell.inner_text, lambda text: re.search(r"step [1-9]\d*/", text))
    if name:
        lab.photograph(name, TRAIN)
        lab.photograph_dark(name, TRAIN)
        cell = lab.cell(TRAIN)
    lab.interrupt() if interrupt else button.click()
    seen = lab.finish()
    if name:
        lab.photograph(f"{name}-stopped", TRAIN)
    outputs = outputs_of(seen, TRAIN)
    return "".join(each.get("text", "") for each in outputs) + "".join(errors_of(outputs))


def ask(lab: Lab) -> dict:
    """04: pages of answers, who prefers what, and a draft of one's own in the box."""
    cell = lab.cell("compare-answers")
    page = cell.locator(".workshop-view").last
    pages = [page.inner_text()]
    cell.get_by_role("button", name="Next").click()
    pages.append(lab.until(page.inner_text, lambda text: text != pages[-1]))
    cell.get_by_role("button", name="Who prefers what?").click()
    pages.append(lab.until(page.inner_text, lambda text: "answer of ORPO" in text))
    lab.photograph("04-answers", "compare-answers")
    lab.photograph_dark("04-answers", "compare-answers")
    cell = lab.cell("ask-models")
    cell.locator("textarea").press_sequentially(DRAFT)
    cell.get_by_role("button", name="Ask base, SFT, ORPO").click()
    said = cell.locator(".workshop-view")
    answers = lab.until(said.inner_text, lambda text: text.count("refused") + text.count("accepted") == 3)
    asked = cell.locator("textarea").input_value()
    lab.photograph_zoomed("04", *TABLES, "compare-answers")
    lab.photograph("04-asked", "ask-models")
    lab.photograph_dark("04-asked", "ask-models")
    lab.photograph_big("04", "compare-answers", "ask-models")
    return {"pages": pages, "asked": asked, "answers": answers}


# Before a cell runs: keep each state of the figure that it will show, and the picture at its end.
COUNT = """id => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    const outputs = notebook.widgets.find(cell => cell.model.id === id).model.outputs;
    window.framesOf = window.framesOf || {};
    const frames = window.framesOf[id] = [];
    outputs.changed.connect(() => outputs.toJSON().forEach(output => {
        const picture = output.data && (output.data['text/html'] || output.data['image/png']);
        if (picture && !frames.includes(picture)) frames.push(picture);
    }));
}"""
REPLAYS = ("demo-sft", "demo-orpo")


def prepare_replay(lab: Lab) -> None:
    """demo: as fast as it is drawn, with an eye on its pictures."""
    source = lab.page.evaluate(
        "() => window.jupyterapp.shell.currentWidget.content.widgets.find("
        "cell => cell.model.id === 'demo-recorded').model.sharedModel.getSource()"
    )
    lab.edit("demo-recorded", re.sub(r"speed = \d+", "speed = 2000", source))
    for name in REPLAYS:
        lab.page.evaluate(COUNT, name)


def watch_replay(lab: Lab) -> dict:
    """demo: how many pictures each replay showed, one after the other; the last one stands on the page."""
    frames = {name: lab.page.evaluate("id => window.framesOf[id].length", name) for name in REPLAYS}
    image = lab.cell("demo-orpo").locator("img").first
    image.wait_for()
    shown = image.evaluate("image => image.decode().then(() => image.clientWidth)")
    for name in ("demo-answers", "demo-orpo"):
        lab.photograph(name, name)
        lab.photograph_dark(name, name)
    answers = lab.add("from helpers.show import show_answers\n\nshow_answers(asked, said)")  # as notebook 04 shows them
    lab.run(answers)
    lab.photograph_zoomed("demo", "demo-table", "demo-answers", "demo-orpo")
    lab.photograph_zoomed("demo", answers, called="show_answers")
    lab.photograph_big("demo", "demo-answers", "demo-orpo", "demo-figure")
    return {"frames": frames, "shown": shown}


BEFORE = {"demo": prepare_replay}
AFTER = {"01": page_pairs, "02": stop_training, "03": move_sliders, "04": ask, "demo": watch_replay}
