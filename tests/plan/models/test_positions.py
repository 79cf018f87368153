"""How many positions the models that everybody trains have, where no file of theirs is here."""

import pytest

from tunekit.plan.models.find import resolve
from tunekit.plan.models.positions import positions_of


@pytest.mark.parametrize(
    ("name", "positions"),
    [
        ("Qwen2.5-7B", 131_072),
        ("Qwen2.5-7B-Instruct", 32_768),
        ("Qwen2.5-7B-Instruct-1M", 1_010_000),
        ("Qwen2.5-Coder-7B-Instruct-AWQ", 32_768),
        ("Qwen2.5-Math-7B", 4096),
        ("Qwen3-8B", 40_960),
        ("Qwen3-4B-Instruct-2507", 262_144),
        ("Qwen3-30B-A3B", 40_960),
        ("Meta-Llama-3-8B-Instruct", 8192),
        ("Llama-3.2-1B-Instruct", 131_072),
        ("Phi-3-mini-4k-instruct", 4096),
        ("gemma-2-9b-it", 8192),
        ("gpt-oss-20b", 131_072),
        ("org/My-Qwen2.5-7B-Instruct", None),
        ("org/Llama-3-8B-Instruct-Gradient-1048k", None),
        ("phi-3.5-mini-instruct", 131_072),
        ("Phi-3-mini-128k-instruct", 131_072),
        ("Yi-1.5-9B-Chat-16K", 16_384),
        ("org/unlisted-7b", None),
    ],
)
def test_positions_by_name(name, positions):
    assert positions_of(resolve(name)) == positions
