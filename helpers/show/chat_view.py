"""Several served models side by side: one question, and an answer of each, written as it comes.

The models are asked one after another, so that each has the machine to itself.
"""

import html

from IPython.display import display

from helpers.show.widgets import in_notebook

COLUMN = "text-align:left;white-space:normal;overflow-wrap:anywhere"


def stream_answer(client, model: str, messages: list[dict], max_tokens: int):
    """The pieces of one greedy answer of a served model, as they come. client: an `openai.OpenAI`."""
    asked = {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0}
    for chunk in client.chat.completions.create(**asked, stream=True):
        if chunk.choices and (piece := chunk.choices[0].delta.content):
            yield piece


class Chat:
    """A box for a question, and a column for each model: `view` is the widget, `answers` what was said last."""

    def __init__(self, client, models: list[str], messages: list[dict], max_tokens: int):
        import ipywidgets as widgets

        self.client, self.models, self.messages, self.max_tokens = client, models, messages, max_tokens
        self.answers = dict.fromkeys(models, "")
        wide = widgets.Layout(width="100%", min_height="5em")
        self.box = widgets.Textarea(
            messages[-1]["content"], layout=wide, placeholder="Write a question, then press Ask"
        )
        self.button = widgets.Button(description="Ask", button_style="primary")
        column = widgets.Layout(width=f"{100 // len(models)}%", padding="0 1em 0 0")
        self.columns = {model: widgets.HTML(heading(model, ""), layout=column) for model in models}
        self.button.on_click(lambda _: self.ask())
        self.view = widgets.VBox([self.box, self.button, widgets.HBox(list(self.columns.values()))])

    def ask(self) -> dict[str, str]:
        """Put the question in the box to every model, one after another; {model: its answer}."""
        messages = [*self.messages[:-1], {"role": "user", "content": self.box.value}]
        self.button.disabled = True
        try:
            for model in self.models:
                self.show(model, "…")
            for model in self.models:
                self.answers[model] = ""
                self.follow(model, messages)
        finally:
            self.button.disabled = False
        return self.answers

    def follow(self, model: str, messages: list[dict]) -> None:
        """One model's answer, shown as it grows; an error of the client stands behind it."""
        from openai import OpenAIError  # whoever has a client has the package

        try:
            for piece in stream_answer(self.client, model, messages, self.max_tokens):
                self.answers[model] += piece
                self.show(model, self.answers[model])
        except OpenAIError as error:
            self.answers[model] += f" (no answer: {error})"
        self.answers[model] = self.answers[model].strip()
        self.show(model, self.answers[model] or "(nothing)")

    def show(self, model: str, text: str) -> None:
        """Write a model's column anew."""
        self.columns[model].value = heading(model, text)

    def bundle(self) -> dict:
        """What a notebook shows: the widget, and its text where no kernel runs."""
        return self.view._repr_mimebundle_() | {"text/plain": str(self)}

    def __str__(self) -> str:
        lines = [f"{model:>8}: {answer or '(nothing)'}" for model, answer in self.answers.items()]
        return "\n".join([f"question: {self.box.value}", *lines])


def heading(model: str, text: str) -> str:
    """A column: the model's name, and what it says."""
    return f"<div style='{COLUMN}'><b>{html.escape(model)}</b><br>{html.escape(text)}</div>"


def show_chat(client, models: list[str], messages: list[dict], max_tokens: int = 64) -> Chat:
    """Show a box for questions, and the answers of served models side by side; `messages` are put at once.

    Text in a terminal, and where no kernel runs. client: an `openai.OpenAI` of the server. messages: their last one is
    the user's and stands in the box, to be edited. Returns the Chat, whose `ask` puts what is in the box.
    """
    if not models:
        raise ValueError("no model is named: give the names that are served")
    if not messages or messages[-1]["role"] != "user":
        raise ValueError("the last message is not the user's: end with the question")
    chat = Chat(client, list(models), messages, max_tokens)
    if not in_notebook():
        chat.ask()
        print(chat)
        return chat
    shown = display(chat.bundle(), raw=True, display_id=True)  # before it asks, so that the answers can be watched
    chat.ask()
    shown.update(chat.bundle(), raw=True)  # for those who read without a kernel
    return chat
