"""What one place says: names that mean the same, and values of files as words."""

import pytest

from tunekit.errors import TunekitError
from tunekit.plan.said import Said, gather_words, words_of_value
from tunekit.plan.settings import COMMAND_LINE


@pytest.mark.parametrize(
    ("said", "says", "hint"),
    [
        (("epochs", "num_train_epochs"), "--epochs and --num_train_epochs are the same", "give one of them"),
        (("learning_rate", "learning_rate_llm"), "exclude each other", "--learning-rate is for all parts"),
        (("packing", "packing"), "--packing is given twice", "drop one of them"),
    ],
)
def test_two_names_of_one_flag(said, says, hint):
    with pytest.raises(TunekitError, match=says) as refused:
        gather_words(COMMAND_LINE, [Said(name, ("1",)) for name in said])
    assert refused.value.hint == hint


def test_a_table_of_a_recipe_is_json():
    assert words_of_value({"good": "response"}, "x") == ('{"good": "response"}',)
    assert words_of_value([1, True], "x") == ("1", "true")
