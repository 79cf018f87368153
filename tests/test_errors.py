"""Words for people."""

import pytest

from tunekit.errors import counted


@pytest.mark.parametrize(("number", "words"), [(0, "0 steps"), (1, "1 step"), (2, "2 steps")])
def test_a_thing_is_counted_in_english(number, words):
    assert counted(number, "step") == words
