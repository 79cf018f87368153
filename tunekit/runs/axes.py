"""What a sweep goes over: options and flags that were given several values with commas between them."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError
from tunekit.plan.options import OPTIONS, WORDS
from tunekit.plan.pasted import in_todays_names
from tunekit.plan.request import stage_named
from tunekit.plan.settings import text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tunekit.plan.flags import FlagTable
    from tunekit.plan.said import Said, Words
    from tunekit.stages import Stage

OURS = ("model", "preset", "effective_batch", "tuning_strategy", "llm_frozen_layers", "trainable_layers")
"""Options of tunekit that can be swept beside those that are another name for a flag of ms-swift."""

ONE_TEXT = re.compile(r"[\s{}\[\]()\"'|]")
"""In the text of a flag: what shows that its commas are part of it, as in JSON, a regular expression, a sentence."""


@dataclass(frozen=True)
class Axis:
    """An option or flag that is swept: the name by which a plan has it, what was typed, and its values in that order.

    `meanings` has for each value what it means: ``1e-4`` and ``0.0001`` are the same.
    """

    key: str
    said: Said
    values: tuple[str, ...]
    meanings: Mapping[str, str] = field(default_factory=dict)

    def meant(self, value: str) -> str:
        """What a value means, as text; for one that is none of this call's, itself as number or word."""
        return self.meanings.get(value) or _plain(value)


def axes_of(command: str, words: Words, flags: FlagTable) -> tuple[Words, tuple[Axis, ...]]:
    """What is swept, and all words in today's names. Raises TunekitError where nothing is, or a value will not do."""
    words = in_todays_names(words, flags)
    stage = stage_named(command, words, flags)
    found = [axis for key, said in words.said.items() if (axis := _axis(key, said, stage, flags))]
    lists = [said.label for key, said in words.said.items() if _is_list(key, said, stage, flags)]
    if lists:
        one = " and ".join(lists)
        raise TunekitError(
            f"{one} takes a list, so its commas do not part the runs of a sweep",
            "words of a list stand side by side, without commas; what is swept takes one value a run",
        )
    if not found:
        hint = f"tunekit sweep {command} … --learning-rate 1e-4,2e-4 --lora-rank 8,16; one run is tunekit {command}"
        raise TunekitError("nothing is swept: no option has several values", hint)
    return words, tuple(found)


def _is_list(key: str, said: Said, stage: Stage, flags: FlagTable) -> bool:
    option, flag = OPTIONS.get(said.name), flags.by_command[stage.command].get(key)
    kind = option.kind == WORDS if option else bool(flag and flag.kind == "list")
    return kind and bool(flag) and not said.where and any(map(_with_commas, said.words))


def _with_commas(word: str) -> bool:
    parts = word.split(",")
    return len(parts) > 1 and all(parts) and not ONE_TEXT.search(word)


def _axis(key: str, said: Said, stage: Stage, flags: FlagTable) -> Axis | None:
    """The values of an option; None where it has one, or its commas are its own. Raises TunekitError."""
    if len(said.words) != 1 or said.where or not _takes_one(key, said, stage, flags):
        return None
    values = tuple(value.strip() for value in said.words[0].split(","))
    if len(values) < 2:
        return None
    if not all(values):
        raise TunekitError(f"{said.label} {said.words[0]} has an empty value", "values stand between commas: 8,16")
    known = key in flags.by_command[stage.command]
    meanings = {value: text(flags.parse(key, [value], stage.command)) if known else value for value in values}
    plain = [_plain(meaning) for meaning in meanings.values()]
    if len(set(plain)) < len(values):
        raise TunekitError(f"{said.label} {said.words[0]} has the same value twice", "each value is a run of its own")
    return Axis(key, said, values, dict(zip(meanings, plain, strict=True)))


def _takes_one(key: str, said: Said, stage: Stage, flags: FlagTable) -> bool:
    """Whether a comma in what was said can only stand between two values."""
    option, flag = OPTIONS.get(said.name), flags.by_command[stage.command].get(key)
    if option:
        return option.kind != WORDS and (bool(option.flag) or option.name in OURS)
    if flag is None or flag.kind == "list":
        return False
    return flag.kind != "str" or bool(flag.choices) or not ONE_TEXT.search(said.words[0])


def _plain(word: str) -> str:
    """A word, of numbers one spelling for all: 2e-4 is 0.0002."""
    try:
        return repr(float(word))
    except ValueError:
        return word


def combinations(axes: Sequence[Axis]) -> list[dict[str, str]]:
    """The values of every run, by the name of each axis; the last axis changes fastest."""
    keys = [axis.key for axis in axes]
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*(axis.values for axis in axes))]


def trial_words(words: Words, axes: Sequence[Axis], values: Mapping[str, str]) -> Words:
    """The words of one run: each axis with its one value."""
    own = {axis.key: replace(axis.said, words=(values[axis.key],)) for axis in axes}
    return replace(words, said={**words.said, **own})
