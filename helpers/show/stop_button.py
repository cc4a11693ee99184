"""A button that ends a training early, under the cell that trains."""

from contextlib import contextmanager

from IPython.display import display

from helpers.show.pages import sized

SAYS = "keeps what was learned, as ■ in the toolbar does; run the cell again to go on"


@contextmanager
def stop_button(press):
    """Show a button for a `with` block; a click calls `press` from another thread.

    A kernel's main thread hears no click while a cell runs. JupyterLab (4.4 and newer) sends clicks to a subshell of
    the kernel, a thread of its own. Where a front end or a kernel does not, the interrupt (■) does the same.
    """
    import ipywidgets as widgets

    button = widgets.Button(description="Stop training", icon="stop", layout=widgets.Layout(width="auto"))

    def clicked(_) -> None:
        press()
        button.disabled, button.description = True, "Stopping after this step …"

    button.on_click(clicked)
    view = widgets.HBox([button, widgets.Label(SAYS)], layout=widgets.Layout(flex_flow="row wrap"))
    hear_in_any_thread(button)
    whole = sized(view)
    shown = display(whole._repr_mimebundle_() | {"text/plain": ""}, display_id=True, raw=True)
    try:
        yield button
    finally:
        shown.update({"text/plain": ""}, raw=True)  # afterwards there is nothing to stop
        for widget in (button, *view.children, view, whole):
            widget.close()


def hear_in_any_thread(widget) -> None:
    """Let clicks go to the thread that the front end names.

    ipykernel 7.4 sends them to the thread that last sent the widget's state, which is the one that the cell keeps busy.
    """
    vars(widget.comm).pop("_reply_subshell_id", None)
