"""Pictures of a data set show what validation counted."""

from datasets import Dataset

from helpers.data import validate_preferences
from helpers.show.data_plots import plot_validation
from tests.data.test_own_data import assistant, user


def pairs(*answers):
    return Dataset.from_list(
        [
            {"prompt": [user(f"q{i}")], "chosen": [assistant(good)], "rejected": [assistant(bad)]}
            for i, (good, bad) in enumerate(answers)
        ]
    )


def test_a_bar_for_each_kind_with_its_count_and_its_severity():
    data = pairs(*[("a longer answer", "short")] * 10, (" ", "x"), ("Ask ann@firm.org", "no"))
    left, right = plot_validation(data, validate_preferences(data)).axes
    shown = {label.get_text(): bar.get_width() for label, bar in zip(left.get_yticklabels(), left.patches, strict=True)}
    assert shown == {"empty": 1, "personal data": 1, "length bias": 12}
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["error", "warning", "set"]
    assert len({bar.get_hatch() for bar in left.patches}) == 3  # told apart without colour
    assert right.get_title() == "The chosen answer is longer in 96% of the pairs"  # a tie is half a win
    assert right.collections[0].get_offsets().tolist()[0] == [15, 5]


def test_clean_data_says_so():
    data = pairs(("a", "b"), ("c", "d"))
    left, _ = plot_validation(data, validate_preferences(data)).axes
    assert left.get_title() == "What validation found in 2 rows" and left.texts[0].get_text() == "nothing"
