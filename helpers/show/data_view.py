"""Training pairs to look at: the text by role, each token with what the loss counts of it, and what a limit cuts."""

import numpy as np

from helpers.data.schema import SIDES, messages_of, template_arguments
from helpers.data.template import apply_template, render
from helpers.data.tokenize import SHORTEST_PROMPT, fit_pair, tokenize_preferences
from helpers.objective.labels import IGNORE
from helpers.show.notebook import show_widget
from helpers.show.pages import Pages, boxed, escaped
from helpers.show.style import GREY, SIDE_COLOUR, is_big

WHOLE = 10**9  # tokens: a limit that cuts nothing
BINS, WIDTH, HEIGHT = 60, 640, 110  # of the histogram, in pixels; its texts have 14
BIG_WIDTH, BIG_LETTER = 1000, 17  # where WORKSHOP_BIG asks for it: 17 · 1000 / 680 are 25 pixels
SHOWN = ("user", "assistant")  # roles with a look of their own; the others share one
ALT = "Histogram of the tokens of the longer row of each pair, with the limit as a line"
LEGEND = (
    "<p class=note><u>underlined</u>: the loss counts it (it has a label) · <span class=masked>pale</span>: masked "
    "(label −100) · <kbd>boxed EOS</kbd>: the token that says stop · <span class=special>italic</span>: other special "
    "tokens · ⏎: a new line</p>"
)


def turns(pair: dict, tokenizer) -> list[tuple[str, str]]:
    """[(role, text), …]: the templated prompt, cut where each message ends; all in one where a template can't be cut.

    The last is the assistant's header, with which the prompt ends.
    """
    messages, prompt = messages_of(pair, "prompt"), render(pair, tokenizer)["prompt"]
    parts, done = [], ""
    for number in range(1, len(messages) + 1):
        try:
            so_far = apply_template(tokenizer, messages[:number], **template_arguments(pair))
        except ValueError:  # some templates refuse a part of a conversation
            return [("prompt", prompt)]
        if not (prompt.startswith(so_far) and so_far.startswith(done)):
            return [("prompt", prompt)]
        parts.append((messages[number - 1]["role"], so_far[len(done) :]))
        done = so_far
    return [*parts, ("assistant", prompt[len(done) :])]


def turns_html(pair: dict, tokenizer) -> str:
    """The templated prompt, a block for each role, which is named."""
    blocks = []
    for role, text in turns(pair, tokenizer):
        look = role if role in SHOWN else ""
        blocks.append(f"<div class='turn text {look}'><b>{escaped(role)}</b> {escaped(text)}</div>")
    return "".join(blocks)


def tokens_html(ids: list[int], labels: list[int], tokenizer) -> str:
    """Each token in an element that says what becomes of it: <u> scored, <kbd> EOS, <span> masked."""
    special, parts = set(tokenizer.all_special_ids), []
    for place, (token, label) in enumerate(zip(ids, labels, strict=True)):
        text = escaped(tokenizer.decode([token])).replace("\n", "⏎\n")
        if place == len(ids) - 1 and label == tokenizer.eos_token_id:
            parts.append(f"<u><kbd>{text} EOS</kbd></u>")
            continue
        if token in special:
            text = f"<span class=special>{text}</span>"
        if label == IGNORE:
            parts.append(f"<span class=masked>{text}</span>")
        else:
            parts.append(f"<u>{text}</u>")
    return f"<div class=text>{''.join(parts)}</div>"


class Lengths:
    """Tokens of every pair, uncut: prompt and longer answer, and what a limit would cut of them."""

    def __init__(self, pairs, tokenizer):
        self.rows = tokenize_preferences(pairs, tokenizer, WHOLE)
        self.prompt = np.array(self.rows["prompt_length"])
        self.longest = np.array(self.rows["length"])
        self.answer = self.longest - self.prompt  # the longer one

    def fitted(self, i: int, tokenizer, limit: int) -> dict:
        """A pair's tokens and labels as they fit under a limit."""
        row = self.rows[i]
        ids = {side: row[f"{side}_input_ids"][row["prompt_length"] :] for side in SIDES}
        return fit_pair(ids | {"prompt": row["chosen_input_ids"][: row["prompt_length"]]}, tokenizer, limit)

    def cut(self, limit: int) -> dict[str, int]:
        """Pairs that lose tokens at a limit: of the `prompt`, which is cut first, of an `answer`, and `any` of them."""
        room = np.maximum(limit - self.answer, SHORTEST_PROMPT)
        prompt, answer = self.prompt > room, self.answer > limit - np.minimum(self.prompt, room)
        return {"prompt": int(prompt.sum()), "answer": int(answer.sum()), "any": int((prompt | answer).sum())}

    def text(self, limit: int) -> str:
        """The same in a line."""
        cut, pairs = self.cut(limit), len(self.prompt)
        told = f"At {limit} tokens {cut['any']} of {pairs} pairs ({cut['any'] / pairs:.0%}) are cut"
        return f"{told}: the prompt in {cut['prompt']}, an answer in {cut['answer']}."


class Histogram:
    """The lengths as an SVG, which is made in a millisecond; the bars do not change, only the line of the limit."""

    def __init__(self, longest: np.ndarray, highest: int):
        self.end = highest + 4
        counts, edges = np.histogram(longest, bins=min(BINS, self.end), range=(0, self.end))
        self.most = int(counts.max())
        tall = counts / self.most * HEIGHT
        self.bars = "".join(
            f"<rect x='{self.x(left):.1f}' y='{HEIGHT - tall_one:.1f}' width='{self.x(edges[1]):.1f}' "
            f"height='{tall_one:.1f}' fill='{GREY}' stroke='none'/>"
            for left, tall_one in zip(edges, tall, strict=False)
            if tall_one
        )
        step = max(1, round(self.end / 6, -1 if self.end > 60 else 0))
        self.ticks = "".join(svg_text(self.x(at), HEIGHT + 16, str(int(at))) for at in np.arange(0, self.end, step))

    def x(self, tokens: float) -> float:
        """Where a number of tokens lies."""
        return tokens / self.end * WIDTH

    def svg(self, limit: int) -> str:
        """With the line at this limit."""
        at = self.x(limit)
        line = f"<line x1='{at:.1f}' x2='{at:.1f}' y1='-18' y2='{HEIGHT}' stroke='{SIDE_COLOUR['rejected']}' "
        line += "stroke-width='3' stroke-dasharray='6 4'/>"
        axis = f"<line x1='0' x2='{WIDTH}' y1='{HEIGHT}' y2='{HEIGHT}' stroke='currentColor'/>"
        told = svg_text(WIDTH / 2, HEIGHT + 34, f"tokens of the longer row (the highest bar: {self.most} pairs)")
        named = svg_text(min(max(at, 60), WIDTH - 60), -24, f"max_length {limit}")
        shown = f"width:100%;max-width:{BIG_WIDTH if is_big() else WIDTH}px"
        view = f"viewBox='-20 -42 {WIDTH + 40} {HEIGHT + 84}' style='{shown}'"
        return f"<svg role='img' aria-label='{ALT}' {view}>{self.bars}{axis}{self.ticks}{line}{named}{told}</svg>"


def svg_text(x: float, y: float, text: str) -> str:
    """A text in the colour of the page, centred at a place."""
    size = BIG_LETTER if is_big() else 14
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='middle' font-size='{size}' fill='currentColor'>{text}</text>"


class PairBrowser:
    """What `browse_pairs` shows: `pages` of pairs, the slider `limit`, what it cuts in `told`, with the histogram."""

    def __init__(self, pairs, tokenizer, max_length: int):
        import ipywidgets as widgets

        if not len(pairs):
            raise ValueError("there is no pair to show: give at least one")
        self.pairs, self.tokenizer, self.lengths = pairs, tokenizer, Lengths(pairs, tokenizer)
        lowest, highest = SHORTEST_PROMPT + 2, int(max(self.lengths.longest.max(), max_length))
        self.histogram = Histogram(self.lengths.longest, highest)
        wide = widgets.Layout(width="min(100%, 640px)")
        self.limit = widgets.IntSlider(max_length, lowest, highest, description="max_length", layout=wide)
        self.told = widgets.HTML()
        self.pages = Pages(len(pairs), "pair", self.html)
        self.limit.observe(lambda _: self.cut(), "value")
        self.cut()
        self.view = widgets.VBox([self.pages.row, self.limit, self.told, self.pages.page])

    def html(self, i: int) -> str:
        """One page: the prompt by role, then both rows token by token, as they fit under the limit."""
        pair = self.pairs[i]
        row = self.lengths.fitted(i, self.tokenizer, self.limit.value)
        parts = [turns_html(pair, self.tokenizer)]
        for side in SIDES:
            ids, labels = row[f"{side}_input_ids"], row[f"{side}_labels"]
            scored = sum(label != IGNORE for label in labels)
            lost = row["prompt_cut"] + row[f"{side}_cut"]
            cut = f", {lost} more were cut" if lost else ""
            first = 0 if side == SIDES[0] else row["prompt_length"]  # both rows begin with the same prompt
            begins = f"; it begins with the same {first} of the prompt" if first else ""
            parts.append(f"<p><b>{side}</b>: {len(ids)} tokens, {scored} scored{cut}{begins}</p>")
            parts.append(tokens_html(ids[first:], labels[first:], self.tokenizer))
        return boxed("".join(parts) + LEGEND)

    def cut(self) -> None:
        """Follow the slider."""
        limit = self.limit.value
        self.told.value = boxed(f"{self.histogram.svg(limit)}<p>{self.lengths.text(limit)}</p>")
        self.pages.show()

    def text(self) -> str:
        """For a terminal: the first pair, and what the limit cuts."""
        prompt = render(self.pairs[0], self.tokenizer)["prompt"]
        return f"{prompt}\n{self.lengths.text(self.limit.value)}"


def browse_pairs(pairs, tokenizer, max_length: int) -> PairBrowser:
    """Page through pairs as a trainer sees them; a slider shows what another `max_length` would cut. Returns the view.

    In a terminal the first pair is printed; where no kernel runs its page stands.
    """
    browser = PairBrowser(pairs, tokenizer, max_length)
    show_widget(browser.view, browser.text(), page=browser.pages.page.value)
    return browser
