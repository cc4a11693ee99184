"""What the views share: one style, type for a projector, sliders that draw, and the buttons that turn pages."""

import html
import threading

from helpers.show.style import is_big

LOOK = """
.workshop-view { line-height: 1.5; max-width: 72em; overflow-wrap: anywhere; }
.workshop-view table { table-layout: fixed; width: 100%; border-collapse: collapse; margin: 0 0 8px; }
.workshop-view th, .workshop-view td { text-align: left; vertical-align: top; padding: 3px 12px 3px 0;
    white-space: normal; border-bottom: 1px solid #88888866; }
.workshop-view p { margin: 0 0 6px; }
.workshop-view ins { text-decoration: underline; text-decoration-thickness: 2px; font-weight: 600; }
.workshop-view del { text-decoration: line-through; opacity: 0.7; }
.workshop-view .note { opacity: 0.8; }
.workshop-view .text { white-space: pre-wrap; }
.workshop-view .turn { border-left: 4px double; margin: 0 0 4px; padding-left: 8px; }
.workshop-view .user { border-left-style: solid; border-left-color: #0072B2; }
.workshop-view .assistant { border-left-style: dashed; border-left-color: #D55E00; }
.workshop-view .special { opacity: 0.7; font-style: italic; }
.workshop-view u { text-decoration: none; border-bottom: 2px solid #0072B2; margin-right: 2px; }
.workshop-view .masked { opacity: 0.65; margin-right: 2px; }
.workshop-view kbd { border: 2px solid; border-radius: 3px; padding: 0 3px; font: inherit; font-weight: 600; }
"""
STYLE = f"<style>{LOOK}</style>"

# Widgets take their sizes from these; a view's own text has them too. 18 points are 24 pixels
BIG = """<style>
.workshop-big { --jp-widgets-font-size: 18pt; --jp-widgets-inline-height: 40px; --jp-widgets-inline-label-width: 150px;
    --jp-widgets-inline-width: 600px; --jp-widgets-inline-width-short: 300px; --jp-widgets-inline-width-tiny: 90px;
    --jp-widgets-slider-handle-size: 24px; --jp-widgets-slider-track-thickness: 6px; }
.workshop-big input[type=checkbox] { width: 22px; height: 22px; }
</style>"""


def sized(view):
    """The widget to show: the view itself, or where WORKSHOP_BIG asks for it the view with type for a projector."""
    if not is_big():
        return view
    import ipywidgets as widgets

    view.add_class("workshop-big")
    return widgets.VBox([widgets.HTML(BIG, layout=widgets.Layout(display="none")), view])


def boxed(content: str) -> str:
    """HTML in the style of the views."""
    size = " style='font-size: 18pt'" if is_big() else ""
    return f"{STYLE}<div class='workshop-view'{size}>{content}</div>"


def escaped(text: str) -> str:
    """Text as HTML shows it, whatever is in it."""
    return html.escape(text)


def plain(text: str) -> str:
    """Text as HTML with its columns kept, in the style of the views."""
    look = "margin: 0; font-size: inherit; line-height: 1.35; white-space: pre-wrap"  # JupyterLab has its own for pre
    return boxed(f"<pre style='{look}'>{escaped(text)}</pre>")


DRAWING = threading.RLock()


def follow(sliders: dict, show) -> None:
    """After each move of one of these widgets, call `show` with the values that all of them have then, by name.

    JupyterLab brings the moves to several threads of the kernel. A figure that two of them draw at once stays blank.
    """

    def moved(_) -> None:
        with DRAWING:
            show(**{name: each.value for name, each in sliders.items()})

    for each in sliders.values():
        each.observe(moved, "value")


class Pages:
    """Buttons that turn `count` pages, and the page: `draw(number)` is its HTML, numbers from 0.

    `row` holds the buttons, `page` the HTML, `number` the field, which counts from 1.
    """

    def __init__(self, count: int, what: str, draw):
        import ipywidgets as widgets

        if not count:
            raise ValueError(f"there is no {what} to show: give at least one")
        self.draw = draw
        self.number = widgets.BoundedIntText(value=1, min=1, max=count, layout=widgets.Layout(width="5em"))
        self.back = widgets.Button(description="Back", icon="arrow-left", layout=widgets.Layout(width="7em"))
        self.onward = widgets.Button(description="Next", icon="arrow-right", layout=widgets.Layout(width="7em"))
        self.page = widgets.HTML()
        self.back.on_click(lambda _: self.turn(-1))
        self.onward.on_click(lambda _: self.turn(1))
        self.number.observe(lambda _: self.show(), "value")
        parts = [self.back, self.onward, widgets.Label(what), self.number, widgets.Label(f"of {count}")]
        self.row = widgets.HBox(parts, layout=widgets.Layout(flex_flow="row wrap"))
        self.show()

    @property
    def at(self) -> int:
        """The page that is shown, from 0."""
        return self.number.value - 1

    def turn(self, by: int) -> None:
        """To another page; at either end nothing happens."""
        self.number.value = min(max(self.number.value + by, self.number.min), self.number.max)

    def show(self) -> None:
        """Draw the page anew."""
        self.page.value = self.draw(self.at)
        self.back.disabled, self.onward.disabled = self.at == 0, self.number.value == self.number.max
