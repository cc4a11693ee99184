"""What the pairs decide of a step's shape, and responses that are longer than what was asked for."""

from types import SimpleNamespace

import pytest
from datasets import Dataset

from helpers.neuron.shapes import depends_on_data, fixed_response_length, response_length, settle_shapes


def pairs(*lengths: tuple[int, int], prompt: int = 3) -> Dataset:
    """Tokenised pairs whose responses have so many tokens."""
    made = []
    for row, both in enumerate(lengths):
        made.append({"row": row + 10, "prompt_length": prompt})
        for side, tokens in zip(("chosen", "rejected"), both, strict=True):
            made[-1] |= {f"{side}_input_ids": [1] * (prompt + tokens), f"{side}_labels": [-100] * prompt + [1] * tokens}
    return Dataset.from_list(made)


def arguments(**changes) -> SimpleNamespace:
    sound = {"layout": "rows", "row_length": None, "max_response_length": None, "max_length": 512}
    return SimpleNamespace(**sound | {"tensor_parallel_size": 1, "disable_sequence_parallel": False} | changes)


@pytest.mark.parametrize(
    ("longest", "limit", "ranks", "expected"),
    [(1, 512, 1, 64), (64, 512, 1, 64), (65, 512, 8, 128), (90, 96, 1, 96), (64, 512, 3, 66), (500, 512, 2, 512)],
)
def test_the_longest_response_is_rounded_up_and_cut_at_the_row(longest, limit, ranks, expected):
    assert fixed_response_length(pairs((1, 1), (1, longest)), limit, ranks) == expected


def test_what_is_given_stays_and_a_longer_response_is_named_with_the_fix():
    tokenized = pairs((4, 5), (9, 2), (3, 12))
    assert response_length(arguments(max_response_length=12), tokenized) == 12
    with pytest.raises(ValueError) as told:
        response_length(arguments(max_response_length=8), tokenized)
    assert str(told.value) == (
        "row 11: its chosen response has 9 tokens, more than max_response_length 8: set it to 12 or more, or leave it "
        "out"
    )


def test_labels_with_a_gap_count_from_the_first_to_the_last():
    gap = {"row": 0, "chosen_labels": [-100, 5, -100, -100, 6, -100], "rejected_labels": [-100, 5]}
    assert response_length(arguments(max_response_length=4), Dataset.from_list([gap])) == 4
    with pytest.raises(ValueError, match="row 0: its chosen response has 4 tokens"):
        response_length(arguments(max_response_length=3), Dataset.from_list([gap]))


def test_shapes_depend_on_the_data_until_they_are_settled():
    for layout in ("rows", "shared"):
        args = arguments(layout=layout)
        assert depends_on_data(args)
        settle_shapes(args, pairs((4, 5), (9, 2)))
        assert not depends_on_data(args) and args.max_response_length == 64
        assert args.row_length == (64 if layout == "shared" else None)
    assert depends_on_data(arguments(layout="shared", max_response_length=64))
    assert not depends_on_data(arguments(max_response_length=64))
    assert not depends_on_data(SimpleNamespace(max_length=512)), "SFT's shape is that of its arguments"
