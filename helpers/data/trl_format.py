"""Preference pairs in the formats that TRL's trainers read."""

from datasets import Dataset

from helpers.data.schema import REFERENCE, SIDES
from helpers.data.tokenize import render
from helpers.objective.labels import IGNORE


def as_text(dataset: Dataset, tokenizer) -> Dataset:
    """Rendered `prompt`, `chosen` and `rejected` as strings without the final EOS, which TRL's trainers add."""
    fresh = {"load_from_cache_file": False, "desc": "Rendering"}
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
