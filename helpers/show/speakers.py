"""The models of a run, to be asked and to score answers: each is loaded when it is first needed, and kept."""

import math

import torch
from transformers import TextStreamer

from helpers.data.collate import PreferenceCollator
from helpers.data.house_style import edit_request
from helpers.data.schema import SIDES
from helpers.data.tokenize import tokenize_rows
from helpers.evaluation.answers import generate_answers
from helpers.evaluation.scores import measure_pairs
from helpers.runs.folder import BUILT_IN
from helpers.training.base_model import find_base_model, load_model, load_tokenizer
from helpers.training.recipe import training_device
from helpers.training.stages import load_trained


def question(text: str) -> list[dict]:
    """A prompt that is nothing but the text."""
    return [{"role": "user", "content": text}]


class Speakers:
    """Models by label. load: {label: a model, or a function that loads it}.

    request: a text of one's own → the prompt, as messages; `edits` is true where that asks to edit the text.
    """

    def __init__(self, load: dict, tokenizer, max_length: int, max_new_tokens: int, request=question):
        self.load, self.tokenizer, self.max_length = dict(load), tokenizer, max_length
        self.max_new_tokens, self.request, self.edits = max_new_tokens, request, request is edit_request

    @property
    def labels(self) -> list[str]:
        """Of the models, in their order."""
        return list(self.load)

    def model(self, label: str):
        """The model of a label."""
        if not isinstance(self.load[label], torch.nn.Module):
            self.load[label] = self.load[label]()
        return self.load[label]

    def answer(self, label: str, text: str, show=None) -> str:
        """The greedy answer to a text of one's own; `show` gets what was said so far, word by word."""
        streamer = Words(self.tokenizer, show) if show else None
        prompts = [self.request(text)]
        return generate_answers(self.model(label), self.tokenizer, prompts, self.max_new_tokens, streamer=streamer)[0]

    def logps(self, label: str, row: dict, answers: list[str]) -> list[float]:
        """Mean token log-prob (nats, EOS included) of each answer to a row's prompt, as held-out pairs are scored.

        NaN for an answer without text.
        """
        different = list(dict.fromkeys(answer for answer in answers if answer.strip()))
        pairs = [(different[i], different[min(i + 1, len(different) - 1)]) for i in range(0, len(different), 2)]
        if not pairs:
            return [math.nan] * len(answers)
        said = [[[{"role": "assistant", "content": answer}] for answer in pair] for pair in pairs]
        rows = [row | dict(zip(SIDES, pair, strict=True)) for pair in said]
        tokenized = tokenize_rows(rows, range(len(rows)), self.tokenizer, self.max_length)
        batch = PreferenceCollator(self.tokenizer.pad_token_id)(tokenized)
        scores = measure_pairs(self.model(label), [batch])
        found = {}
        for pair, *logps in zip(pairs, scores.chosen_logp.tolist(), scores.rejected_logp.tolist(), strict=True):
            found |= dict(zip(pair, logps, strict=True))
        return [found.get(answer, math.nan) for answer in answers]


class Words(TextStreamer):
    """Hands on an answer while it is generated."""

    def __init__(self, tokenizer, show):
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.said, self.hand_on = "", show

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """transformers calls this with each new piece."""
        self.said += text
        self.hand_on(self.said.strip())


def speakers_of(run, names: dict[str, str], at_hand: dict | None = None) -> Speakers:
    """The models of a run's stages, {label: stage}; "base" is the base model. `at_hand`: models that are loaded."""
    source, _ = find_base_model(run.profile.model)

    def loader(name: str):
        if name == "base":
            return lambda: load_model(source).to(training_device())
        return lambda: load_trained(run.stage(name))

    load = {label: loader(name) for label, name in names.items()} | (at_hand or {})
    request = edit_request if run.source == BUILT_IN else question
    profile = run.profile
    return Speakers(load, load_tokenizer(source), profile.max_length, profile.max_new_tokens, request)
