"""Preference data: load → normalise → validate → template → tokenise → collate.

One row is a triple in TRL's conversational preference format with an explicit prompt: `prompt`, `chosen` and
`rejected`, each a list of {"role", "content"} messages.
"""

import functools
import hashlib
import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path

import botocore
import torch
from datasets import Dataset, DatasetDict, load_dataset, load_from_disk

from helpers.cache import cache_folder, make_atomically
from helpers.logprobs import IGNORE

COLUMNS = ("prompt", "chosen", "rejected")
SIDES = ("chosen", "rejected")
REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")  # DPO's, made by helpers.dpo
BUILT_IN = "aws-api"
SHORTEST_PROMPT = 8  # tokens of the prompt that are kept even when a response alone would fill the row


# ── load and normalise ──────────────────────────────────────────────────────────────────────────────────────


def load_preferences(source=BUILT_IN, split: str = "train", limit: int | None = None, seed: int = 0) -> Dataset:
    """Preference pairs from the built-in domain ("aws-api"), a .jsonl or .parquet file, or a folder of them.

    A folder holds `<split>.jsonl` or `<split>.parquet`, or the hub's parts, `<split>-00000-of-00002.parquet` and so on.
    A plain string in place of a message list is taken as the user's prompt or the assistant's answer. `limit` keeps a
    seeded random sample of the rows.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"{limit} pairs were asked for: give at least 1, or no number for all of them")
    dataset = _built_in(split) if source == BUILT_IN else _from_files(_find_files(Path(source), split))
    if limit is not None and limit < len(dataset):
        dataset = dataset.shuffle(seed=seed).select(range(limit))
    return dataset


@functools.cache
def _domain() -> DatasetDict:
    """The built-in domain, made once (seconds) and kept in the cache folder for this code and botocore's version."""
    from helpers import aws_operations, domain

    code = b"".join(Path(module.__file__).read_bytes() for module in (aws_operations, domain))
    key = hashlib.sha256(code + botocore.__version__.encode()).hexdigest()[:16]
    folder = cache_folder() / f"{BUILT_IN}-{key}"
    if not folder.is_dir():
        make_atomically(folder, lambda temporary: domain.build_domain().save_to_disk(temporary))
    return load_from_disk(folder)


def _built_in(split: str) -> Dataset:
    splits = _domain()  # the split by service is fixed; the seed only picks rows, so runs stay comparable
    if split not in splits:
        raise ValueError(f"split {split!r} is not one of {', '.join(splits)}: choose one of these")
    return splits[split]


def _find_files(path: Path, split: str) -> list[Path]:
    """The file, or what a folder holds of the split: one whole file before any parts."""
    if path.is_file():
        return [path]
    for pattern in (f"{split}.jsonl", f"{split}.parquet", f"{split}-*.jsonl", f"{split}-*.parquet"):
        if found := sorted(file for file in path.glob(pattern) if file.is_file()):
            return found
    raise FileNotFoundError(
        f"no preference data at {path}: give {BUILT_IN!r}, a .jsonl or .parquet file, or a folder with "
        f"{split}.jsonl or {split}.parquet (parts: {split}-00000-of-00002.parquet, …)"
    )


def _from_files(paths: list[Path]) -> Dataset:
    parts = [_from_file(path) for path in paths]
    return parts[0] if len(parts) == 1 else Dataset.from_list([row for part in parts for row in part])


def _from_file(path: Path) -> Dataset:
    rows = _parquet_rows(path) if path.suffix == ".parquet" else list(_json_lines(path))
    if not rows:
        raise ValueError(f"{path} holds no rows: write one JSON object a line, with {', '.join(COLUMNS)}")
    dataset = Dataset.from_list([normalise(row) for row in rows])
    validate_preferences(dataset, name=path.name).raise_if_invalid()
    return dataset


def _parquet_rows(path: Path) -> list[dict]:
    dataset = load_dataset("parquet", data_files=str(path), split="train")
    if missing := [column for column in COLUMNS if column not in dataset.column_names]:
        there = ", ".join(dataset.column_names)
        raise ValueError(f"{path.name}: no {', '.join(missing)} among its columns ({there}); add or rename the column")
    return dataset.to_list()


def _json_lines(path: Path):
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"{path.name}, line {number}: not valid JSON ({error.msg} at character {error.pos}); "
                    "write one complete JSON object a line"
                ) from error
            if not isinstance(row, dict):
                raise ValueError(f"{path.name}, line {number}: a {type(row).__name__}; write a JSON object")
            missing = [column for column in COLUMNS if column not in row]
            if missing:
                raise ValueError(f"{path.name}, line {number}: no {', '.join(missing)}; add the column to every line")
            yield row


def normalise(row: dict) -> dict:
    """The row with plain strings turned into messages; everything else is left for validation to judge."""
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    return row | {
        column: [{"role": role, "content": row[column]}] if isinstance(row[column], str) else row[column]
        for column, role in roles.items()
    }


# ── validate ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Problem:
    """One thing wrong with one row, and how to mend it."""

    row: int
    column: str
    wrong: str
    mend: str

    def __str__(self) -> str:
        return f"row {self.row}, {self.column}: {self.wrong}; {self.mend}"


@dataclass
class ValidationReport:
    """What validation found in `rows` rows of the data set called `name`."""

    name: str
    rows: int
    problems: list[Problem] = field(default_factory=list)

    def raise_if_invalid(self) -> None:
        """Raise a ValueError that names the first problem and counts the others."""
        if self.problems:
            others = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            raise ValueError(f"{self.name}: {self.problems[0]}{others}")

    def __str__(self) -> str:
        head = f"{self.name}: {self.rows} rows, {len(self.problems)} problems"
        return "\n".join([head, *map(str, self.problems[:10])])


def validate_preferences(dataset: Dataset, name: str = "preferences") -> ValidationReport:
    """Check every row: columns, messages, empty or equal responses, a prompt repeated inside a response."""
    missing = [column for column in COLUMNS if column not in dataset.column_names]
    if missing:
        mend = f"give each row {', '.join(COLUMNS)}"
        return ValidationReport(name, len(dataset), [Problem(0, column, "is missing", mend) for column in missing])
    problems = [problem for row, example in enumerate(dataset) for problem in _row_problems(row, example)]
    return ValidationReport(name, len(dataset), problems)


def _row_problems(row: int, example: dict):
    malformed = [Problem(row, column, *wrong) for column in COLUMNS if (wrong := _malformed(column, example[column]))]
    if malformed:
        yield from malformed
        return
    prompt = example["prompt"][-1]["content"].strip()
    for column in ("chosen", "rejected"):
        text = _text(example[column])
        if not text.strip():
            yield Problem(row, column, "the response is empty", "write an answer or drop the row")
        elif len(prompt.split()) >= 4 and prompt in text:
            yield Problem(row, column, "repeats the prompt inside the response", "keep only the answer in it")
    if _text(example["chosen"]).strip() == _text(example["rejected"]).strip():
        yield Problem(row, "rejected", "equals the chosen response", "a pair needs two different answers")


def _malformed(column: str, messages) -> tuple[str, str] | None:
    wanted = 'a list of {"role", "content"} messages'
    if not isinstance(messages, list) or not messages:
        return f"is {type(messages).__name__} or empty", f"give {wanted}"
    for message in messages:
        if not isinstance(message, dict) or not all(isinstance(message.get(k), str) for k in ("role", "content")):
            return f"holds {str(message)[:60]!r}", f"give {wanted}, both strings"
    if column == "prompt" and messages[-1]["role"] == "assistant":
        return "ends with the assistant's message", "move that message into chosen and rejected"
    if column != "prompt" and messages[0]["role"] != "assistant":
        return (
            f"starts with the role {messages[0]['role']!r}",
            "a response holds the assistant's messages only",
        )
    return None


def _text(messages: list[dict]) -> str:
    return "\n".join(message["content"] for message in messages)


def random_pairs(tokenizer, count: int, prompt_tokens: int, response_tokens: int, seed: int = 0) -> Dataset:
    """Pairs of random words of about these lengths, to measure time and memory with."""
    draw = torch.Generator().manual_seed(seed)

    def message(role: str, tokens: int) -> list[dict]:
        words = tokenizer.decode(torch.randint(1000, 20_000, (tokens,), generator=draw))
        return [{"role": role, "content": words.replace("\n", " ")}]

    sides = (("prompt", "user", prompt_tokens), *((side, "assistant", response_tokens) for side in SIDES))
    return Dataset.from_list([{side: message(role, n) for side, role, n in sides} for _ in range(count)])


# ── template and tokenise ───────────────────────────────────────────────────────────────────────────────────


def render(example: dict, tokenizer) -> dict[str, str]:
    """The exact text a model reads: the chat template applied once, cut at the boundary of prompt and response.

    Returns `prompt` (ending with the assistant's header), `chosen` and `rejected` (ending with EOS).
    Raises ValueError where the template does not keep the prompt as a prefix of the conversation.
    """
    prompt = tokenizer.apply_chat_template(example["prompt"], tokenize=False, add_generation_prompt=True)
    return {"prompt": prompt} | {
        column: _rendered_response(prompt, example["prompt"] + example[column], tokenizer)
        for column in ("chosen", "rejected")
    }


def _rendered_response(prompt: str, conversation: list[dict], tokenizer) -> str:
    whole = tokenizer.apply_chat_template(conversation, tokenize=False)
    if not whole.startswith(prompt):
        raise ValueError(
            "the chat template renders prompt + response so that the prompt is no prefix of it: "
            "use a template whose generation prompt equals the assistant's header"
        )
    response = whole[len(prompt) :]
    end = response.rfind(tokenizer.eos_token)  # templates may add a newline after EOS, which nobody should learn
    return response[:end] + tokenizer.eos_token if end >= 0 else response + tokenizer.eos_token


def tokenize_preferences(dataset: Dataset, tokenizer, max_length: int, max_prompt_length: int | None = None) -> Dataset:
    """Fit every pair into `max_length` tokens: prompt + response, with labels on the response only.

    Returns `chosen_input_ids`, `chosen_labels`, `rejected_input_ids`, `rejected_labels` (lists of int; labels are
    −100 on the prompt), `prompt_length` (tokens; the same prompt starts both rows), `length` (tokens of the longer
    row), `prompt_cut`, `chosen_cut`, `rejected_cut` (tokens lost to truncation) and `row` (the position in `dataset`).
    EOS is kept whatever is cut.
    """
    if max_length < SHORTEST_PROMPT + 2:
        raise ValueError(f"max_length is {max_length}: give at least {SHORTEST_PROMPT + 2} tokens")
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no EOS token: set tokenizer.eos_token, or the model never stops")

    def tokenize(example: dict, row: int) -> dict:
        text = render(example, tokenizer)
        ids = {name: tokenizer(part, add_special_tokens=False)["input_ids"] for name, part in text.items()}
        for column in ("chosen", "rejected"):
            if len(ids[column]) < 2:
                raise ValueError(f"row {row}, {column}: the response is empty; write an answer or drop the row")
        return _fit(ids, tokenizer, max_length, max_prompt_length) | {"row": row}

    # The cache of `datasets` does not see a change of the functions called here, and would return what they once made
    fresh = {"load_from_cache_file": False, "desc": "Tokenising"}
    return dataset.map(tokenize, with_indices=True, remove_columns=dataset.column_names, **fresh)


def _fit(ids: dict[str, list[int]], tokenizer, max_length: int, max_prompt_length: int | None) -> dict:
    longest = max(len(ids["chosen"]), len(ids["rejected"]))
    room = max(max_length - longest, SHORTEST_PROMPT)
    if max_prompt_length is not None:
        room = min(room, max_prompt_length)
    prompt = _cut_left(ids["prompt"], room, tokenizer.bos_token_id)
    fitted = {"prompt_length": len(prompt), "prompt_cut": len(ids["prompt"]) - len(prompt)}
    for column in ("chosen", "rejected"):
        response = _cut_right(ids[column], max_length - len(prompt), tokenizer.eos_token_id)
        fitted[f"{column}_input_ids"] = prompt + response
        fitted[f"{column}_labels"] = [IGNORE] * len(prompt) + response
        fitted[f"{column}_cut"] = len(ids[column]) - len(response)
    return fitted | {"length": max(len(fitted["chosen_input_ids"]), len(fitted["rejected_input_ids"]))}


def _cut_left(prompt: list[int], room: int, bos: int | None) -> list[int]:
    if len(prompt) <= room:
        return prompt
    # Some models (Llama 3) never saw a text without BOS: it stays in front of what is kept.
    starts_with_bos = bos is not None and prompt[0] == bos and room > 1
    return [bos, *prompt[-(room - 1) :]] if starts_with_bos else prompt[-room:]


def _cut_right(response: list[int], room: int, eos: int) -> list[int]:
    return response if len(response) <= room else [*response[: room - 1], eos]


def truncation_report(tokenized: Dataset) -> str:
    """One line: how many rows lost prompt or response tokens."""
    cut = {name: sum(n > 0 for n in tokenized[f"{name}_cut"]) for name in COLUMNS}
    longest = max(len(ids) for side in ("chosen", "rejected") for ids in tokenized[f"{side}_input_ids"])
    parts = ", ".join(f"{name} in {count}" for name, count in cut.items())
    return f"{len(tokenized)} pairs, longest row {longest} tokens; tokens cut from {parts} rows"


def as_text(dataset: Dataset, tokenizer) -> Dataset:
    """Rendered `prompt`, `chosen` and `rejected` as strings without the final EOS, which TRL's trainers add."""
    fresh = {"load_from_cache_file": False, "desc": "Rendering"}
    text = dataset.map(lambda pair: render(pair, tokenizer), remove_columns=dataset.column_names, **fresh)
    eos = tokenizer.eos_token
    return text.map(lambda row: {side: row[side].removesuffix(eos) for side in SIDES}, **fresh)


# ── collate ─────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class PreferenceCollator:
    """Tokenised pairs → one batch of tensors. B pairs, in one of two layouts:

    "rows", the textbook one: `input_ids`, `attention_mask`, `labels` of shape (2B, L): B chosen rows, then B
    rejected ones, right-padded to the longest, or to `max_length` if given (one fixed shape, as Trainium needs).

    "shared", the fast one: pairs laid end to end in rows of about `row_tokens`, what they share computed once. A row is
    the tokens with which all prompts of the batch begin (system message, header), then for each pair the rest of its
    prompt, its chosen and its rejected response: `input_ids`, `labels`, `position_ids`, `segment_ids` of shape (R, W).
    Segment 0 is the common beginning, 3i+1 the prompt of the batch's pair i, 3i+2 its chosen and 3i+3 its rejected
    response, −1 padding. Either response is preceded, in its segment, by the prompt's last token, which predicts its
    first; positions go on from the beginning in every prompt, and from the prompt in either response. With
    `max_length`, W is that and every pair has a row of its own.

    Both carry `row` (B,), the position of each pair in its data set, so that a message can name it, and where the pairs
    have them DPO's `ref_chosen_logps` and `ref_rejected_logps` (B,), float32.
    """

    pad_token_id: int
    layout: str = "rows"
    max_length: int | None = None
    row_tokens: int = 512

    def __post_init__(self):
        if self.layout not in ("rows", "shared"):
            raise ValueError(f"layout {self.layout!r}: choose 'rows' or 'shared'")

    def __call__(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        batch = {"row": torch.tensor([example["row"] for example in examples])}
        for name in REFERENCE:
            if name in examples[0]:
                batch[name] = torch.tensor([example[name] for example in examples], dtype=torch.float32)
        return batch | (self._shared(examples) if self.layout == "shared" else self._rows(examples))

    def _rows(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        def stack(key: str) -> list[list[int]]:
            return [example[f"{side}_{key}"] for side in ("chosen", "rejected") for example in examples]

        input_ids = _pad(stack("input_ids"), self.pad_token_id, self.max_length)
        labels = _pad(stack("labels"), IGNORE, self.max_length)
        # From the lengths, not from the pad token: where pad equals EOS a comparison would hide the EOS.
        lengths = torch.tensor([len(row) for row in stack("input_ids")])
        attention_mask = (torch.arange(input_ids.shape[1]) < lengths[:, None]).long()
        return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}

    def _shared(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        common, rows, room = common_beginning(examples), [], 0 if self.max_length else self.row_tokens
        for pair, example in enumerate(examples):
            last = example["prompt_length"] - 1
            chosen, rejected = (example[f"{side}_input_ids"] for side in ("chosen", "rejected"))
            if not rows or len(rows[-1]["input_ids"]) + shared_tokens(example) - len(common) > room:
                rows.append({"input_ids": [], "labels": [], "position_ids": [], "segment_ids": []})
                _extend(rows[-1], common, 0, 0, 0)
            _extend(rows[-1], chosen[len(common) : last], len(common), 3 * pair + 1, 0)
            _extend(rows[-1], chosen[last:], last, 3 * pair + 2, len(chosen) - last - 1)
            _extend(rows[-1], rejected[last:], last, 3 * pair + 3, len(rejected) - last - 1)
        fills = {"input_ids": self.pad_token_id, "labels": IGNORE, "position_ids": 0, "segment_ids": -1}
        return {key: _pad([row[key] for row in rows], fill, self.max_length) for key, fill in fills.items()}


def response_tokens(example: dict, side: str) -> int:
    """Tokens of the chosen or the rejected response, EOS included."""
    return len(example[f"{side}_input_ids"]) - example["prompt_length"]


def shared_tokens(example: dict) -> int:
    """How many tokens a pair takes in the "shared" layout, with nothing in common with others."""
    return len(example["chosen_input_ids"]) + len(example["rejected_input_ids"]) - example["prompt_length"] + 1


def shared_row_length(tokenized: Dataset) -> int:
    """A fixed length for one pair a row: that of the longest, rounded up to a multiple of 64."""
    return -(-max(map(shared_tokens, tokenized)) // 64) * 64


def common_beginning(examples: list[dict]) -> list[int]:
    """The tokens with which the prompts of all examples begin; each prompt keeps a last token of its own."""
    prompts = [example["chosen_input_ids"][: example["prompt_length"] - 1] for example in examples]
    alike = itertools.takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False))
    return [tokens[0] for tokens in alike]


def _extend(row: dict[str, list[int]], tokens: list[int], position: int, segment: int, labelled: int) -> None:
    """Append tokens to a row; the last `labelled` of them are to be predicted."""
    row["input_ids"] += tokens
    row["labels"] += [IGNORE] * (len(tokens) - labelled) + tokens[len(tokens) - labelled :]
    row["position_ids"] += range(position, position + len(tokens))
    row["segment_ids"] += [segment] * len(tokens)


def _pad(rows: list[list[int]], fill: int, length: int | None = None) -> torch.Tensor:
    longest = max(map(len, rows))
    width = length or longest
    if longest > width:
        raise ValueError(f"a row has {longest} tokens and the batch {width}: tokenise with max_length={width}")
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows], dtype=torch.long)


def sft_features(tokenized: Dataset) -> Dataset:
    """The chosen half as `input_ids` and `completion_mask`, which TRL's SFTTrainer takes as it is.

    Same tokens, same truncation, same labels as ORPO sees: what differs between the two runs is the objective.
    """
    return tokenized.map(
        lambda row: {
            "input_ids": row["chosen_input_ids"],
            "completion_mask": [int(label != IGNORE) for label in row["chosen_labels"]],
        },
        remove_columns=tokenized.column_names,
        load_from_cache_file=False,
        desc="Chosen answers for SFT",
    )


def dpo_features(tokenized: Dataset) -> Dataset:
    """Prompt and responses apart, EOS included, as `tokenize_row` of TRL's DPOTrainer leaves them.

    Same tokens and same truncation as ORPO sees. TRL's own way cuts the beginning of a row, prompt or response.
    """

    def apart(row: dict) -> dict:
        prompt = row["chosen_input_ids"][: row["prompt_length"]]
        return {"prompt_input_ids": prompt} | {
            f"{side}_input_ids": row[f"{side}_input_ids"][row["prompt_length"] :] for side in SIDES
        }

    kept = [name for name in REFERENCE if name in tokenized.column_names]
    return tokenized.map(
        apart,
        remove_columns=[name for name in tokenized.column_names if name not in kept],
        load_from_cache_file=False,
        desc="Pairs for DPO",
    )
