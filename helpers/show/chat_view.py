"""Served models side by side: the box of `answers_view`, with an OpenAI client in place of models in memory."""

from IPython.display import display

from helpers.show.answers_view import Question
from helpers.show.notebook import in_notebook
from helpers.show.pages import sized


def stream_answer(client, model: str, messages: list[dict], max_tokens: int):
    """The pieces of one greedy answer of a served model, as they come. client: an `openai.OpenAI`."""
    asked = {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0}
    for chunk in client.chat.completions.create(**asked, stream=True):
        if chunk.choices and (piece := chunk.choices[0].delta.content):
            yield piece


class Served:
    """Served models, to be asked as `speakers.Speakers` are. The text takes the place of the last of `messages`."""

    edits = False

    def __init__(self, client, models: list[str], messages: list[dict], max_tokens: int):
        self.client, self.labels, self.messages, self.max_tokens = client, models, messages, max_tokens

    def answer(self, label: str, text: str, show) -> str:
        """The greedy answer; `show` gets what was said so far. A ValueError for a model that does not answer."""
        from openai import OpenAIError  # whoever has a client has the package

        messages, said = [*self.messages[:-1], {"role": "user", "content": text}], ""
        try:
            for piece in stream_answer(self.client, label, messages, self.max_tokens):
                said += piece
                show(said)
        except OpenAIError as error:
            raise ValueError(str(error)) from error
        return said.strip()


def show_chat(client, models: list[str], messages: list[dict], max_tokens: int = 64) -> Question:
    """Show a box for questions, and the answers of served models side by side; `messages` are put at once.

    Text in a terminal, and where no kernel runs. client: an `openai.OpenAI` of the server. messages: their last one is
    the user's and stands in the box, to be edited. Returns the view, whose `answers` are what was said last.
    """
    if not models:
        raise ValueError("no model is named: give the names that are served")
    if not messages or messages[-1]["role"] != "user":
        raise ValueError("the last message is not the user's: end with the question")
    chat = Question(Served(client, list(models), messages, max_tokens), messages[-1]["content"])
    if not in_notebook():
        chat.answer()
        print(chat.text())
        return chat
    view = sized(chat.view)
    shown = display(bundle(chat, view), raw=True, display_id=True)  # before it asks, so that one can watch
    chat.answer()
    shown.update(bundle(chat, view), raw=True)  # for those who read without a kernel
    return chat


def bundle(chat: Question, view) -> dict:
    """What a notebook shows: the widget, and its text where no kernel runs."""
    return view._repr_mimebundle_() | {"text/plain": chat.text()}
