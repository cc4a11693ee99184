"""What of a step's shape follows from the pairs: how long a shared row is, and how many positions get logits.

Importing this module needs no accelerator software.
"""

from collections.abc import Iterator

from helpers.data.collate import shared_row_length
from helpers.data.schema import SIDES
from helpers.neuron.refusals import refuse_uneven_length
from helpers.objective.labels import IGNORE

STEP = 64  # tokens: what is found in the data is rounded up, so that other data need no other graphs so soon


def depends_on_data(args) -> bool:
    """True if the shape of a step is not settled by the arguments alone. SFT's always is."""
    shared = getattr(args, "layout", "rows") == "shared" and getattr(args, "row_length", 0) is None
    return shared or getattr(args, "max_response_length", 0) is None


def settle_shapes(args, tokenized) -> None:
    """Fill in `row_length` and `max_response_length` of a NeuronPreferenceConfig where they are not given."""
    if args.layout == "shared":
        settle_row_length(args, tokenized)
    args.max_response_length = response_length(args, tokenized)


def settle_row_length(args, tokenized) -> None:
    """Fill in the length of a shared row; a ValueError for one that sequence parallelism can't split."""
    args.row_length = args.row_length or shared_row_length(tokenized)
    refuse_uneven_length("row_length", args)


def response_length(args, tokenized) -> int:
    """`max_response_length` as given, which no response may pass (ValueError), or as these pairs need it."""
    if args.max_response_length is None:
        return fixed_response_length(tokenized, args.max_length, args.tensor_parallel_size)
    refuse_longer_responses(tokenized, args.max_response_length)
    return args.max_response_length


def fixed_response_length(tokenized, max_length: int, ranks: int = 1) -> int:
    """The tokens of the longest response, rounded up to a multiple of 64 and of the ranks; at most `max_length`."""
    longest = max(tokens for _, _, tokens in responses(tokenized))
    rounded = -(-longest // STEP) * STEP
    return min(-(-rounded // ranks) * ranks, max_length)


def refuse_longer_responses(tokenized, most: int) -> None:
    """Raise a ValueError that names the first response of more than `most` tokens."""
    found = list(responses(tokenized))
    for row, side, tokens in found:
        if tokens > most:
            longest = max(tokens for _, _, tokens in found)
            raise ValueError(
                f"row {row}: its {side} response has {tokens} tokens, more than max_response_length {most}: set it to "
                f"{longest} or more, or leave it out"
            )


def responses(tokenized) -> Iterator[tuple[int, str, int]]:
    """(row, side, tokens from the first scored one to the last) of every response of tokenised pairs."""
    for example in tokenized.select_columns(["row", *(f"{side}_labels" for side in SIDES)]):
        for side in SIDES:
            labels = example[f"{side}_labels"]
            scored = [place for place, label in enumerate(labels) if label != IGNORE]
            yield example["row"], side, scored[-1] - scored[0] + 1 if scored else 0
