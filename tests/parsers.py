"""What the tests of the contract with ms-swift share: how its parsers are compared with tunekit's table of flags."""

from __future__ import annotations

ODD = {"log_level", "log_level_replica", "train_sampling_strategy"}
"""transformers declares their choices in a field's metadata, which the table does not read: it takes any word."""


def disagreements(table, parser):
    """The flags that tunekit's table and a parser, as ``{name: (several, choices, kind)}``, do not take alike."""
    return {
        name: (flag, parser[name]) for name, flag in table.items() if not agree(flag, *parser[name], known=name in ODD)
    }


def agree(flag, several, choices, kind, *, known):
    """Whether a flag of the table takes what an action of the parser takes."""
    if known:
        return True
    if set(flag.choices) != set(choices) - {"None"} or (flag.kind == "list") != several:
        return False
    if choices or several:
        return True
    return flag.kind == {"string_to_bool": "bool"}.get(kind, kind if kind in ("int", "float") else "str")
