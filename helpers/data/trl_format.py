"""Preference pairs in the formats that TRL's trainers read."""

from datasets import Dataset

from helpers.data.schema import SIDES
from helpers.data.template import render
from helpers.objective.labels import IGNORE


def as_text(dataset: Dataset, tokenizer) -> Dataset:
    """Rendered `prompt`, `chosen` and `rejected` as strings without the final EOS, which TRL's trainers add.

    In memory: beside a file newer TRL keeps the reference's log-probs, and a comparison that finds them there counts
    no pass of the reference.
    """
    fresh = {"load_from_cache_file": False, "keep_in_memory": True, "desc": "Rendering"}
    text = dataset.map(lambda pair: render(pair, tokenizer), remove_columns=dataset.column_names, **fresh)
    eos = tokenizer.eos_token
    return text.map(lambda row: {side: row[side].removesuffix(eos) for side in SIDES}, **fresh)


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
