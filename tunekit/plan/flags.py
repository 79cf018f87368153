"""The flags that ms-swift takes, and the check that a flag and its value are right before anything starts.

ms-swift itself takes any unambiguous *prefix* of a flag, as argparse does: ``--lora_ran 4`` sets ``lora_rank``. tunekit
takes exact names only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunekit.errors import TunekitError, did_you_mean
from tunekit.files import number_of, shortened, whole_of
from tunekit.plan import secrets
from tunekit.plan.renamed import renamed_hint, renamed_value_hint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tunekit.plan.settings import Value

BOOLEANS = dict.fromkeys(("true", "yes", "t", "y", "1"), True) | dict.fromkeys(("false", "no", "f", "n", "0"), False)

WANTED = {
    "bool": ("true or false", None),
    "int": ("a whole number", None),
    "float": ("a number", "written like 0.0002 or 2e-4"),
}
"""What a flag of each kind takes, and a hint."""

MODULES = ("target_modules", "modules_to_save", "target_parameters")
"""Lists of names that hold no comma."""


@dataclass(frozen=True)
class Flag:
    """One flag of ms-swift.

    Attributes:
        kind: ``int``, ``float``, ``bool``, ``str`` or ``list`` (several words).
        choices: empty where any word is allowed.
        optional: whether ``None`` may stand for "not set".
        default: what it is where nothing is said; empty where that is nothing, or decided as ms-swift starts.
    """

    name: str
    kind: str
    choices: tuple[str, ...] = ()
    optional: bool = False
    default: str = ""


@dataclass(frozen=True)
class FlagTable:
    """All flags of one ms-swift version.

    Attributes:
        version: of ms-swift, as in ``4.6.0``.
        installed: whether they were read from the installed ms-swift, not from the shipped snapshot.
        by_command: ``sft``, ``pt`` and ``rlhf``, each with its flags by name.
    """

    version: str
    installed: bool
    by_command: Mapping[str, Mapping[str, Flag]]

    def find(self, name: str, command: str) -> Flag:
        """The flag of that exact name. Raises TunekitError with what it is called now, or the closest names."""
        flags = self.by_command[command]
        if name in flags:
            return flags[name]
        hint = renamed_hint(name)
        if hint is None and any(name in others for others in self.by_command.values()):
            hint = "it is a flag of tunekit rlhf"
        hint = hint or did_you_mean(name, flags, "--")
        raise TunekitError(f"--{name} is not a flag of ms-swift {self.version}", hint)

    def parse(self, name: str, words: Sequence[str], command: str) -> Value:
        """The value that `words` give to the flag `name`, as its kind says.

        A float flag gives an int where only digits are written. A list is one of words, of numbers too
        (``reward_weights``). ``None`` for an optional flag is that word. Raises TunekitError where there is no such
        flag, or the words do not fit it.
        """
        flag = self.find(name, command)
        if flag.kind == "list":
            _check_words(flag, words)
            return list(words)
        if not words and flag.kind == "bool":
            return True
        if len(words) != 1:
            got = f"{len(words)} ({quoted(name, ' '.join(words))})" if words else "none"
            raise TunekitError(f"--{name} takes one value, not {got}")
        (word,) = words
        _check_words(flag, [word])
        if flag.optional and word == "None":
            return word
        return _converted(flag, word)


def quoted(flag: str, word: str) -> str:
    """A value as a message may repeat it: not that of a secret, and of a long one the beginning."""
    return "what it was given" if secrets.is_secret_flag(flag) else shortened(word)


def check_value(flag: str, word: str) -> None:
    """Raise TunekitError for a value that ms-swift would read as a flag.

    argparse takes every word that begins with two dashes for one, and ``-h`` for the call for help; a list would end
    there and something else be set. It is asked of every value: as it is read, and once more as the command is made.
    """
    if word.startswith("--") or word == "-h":
        problem = f"--{flag} cannot be {quoted(flag, word)}: ms-swift would read that as a flag of its own"
        raise TunekitError(problem, "a flag stands by itself; a value does not begin with --")


def _check_words(flag: Flag, words: Sequence[str]) -> None:
    for word in words:
        check_value(flag.name, word)
        if flag.name in MODULES and "," in word:
            names = " ".join(word.replace(",", " ").split())
            raise TunekitError(f"--{flag.name} takes words, not a list with commas", f"write --{flag.name} {names}")
        if hint := renamed_value_hint(flag.name, word):
            raise TunekitError(f"--{flag.name} does not take {quoted(flag.name, word)}", hint)
        if flag.choices and word not in flag.choices:
            problem = f"--{flag.name} takes {', '.join(flag.choices)}, not {quoted(flag.name, word)}"
            raise TunekitError(problem, did_you_mean(word, flag.choices))


def _converted(flag: Flag, word: str) -> Value:
    try:
        if flag.kind == "bool":
            return BOOLEANS[word.lower()]
        if flag.kind == "int":
            return whole_of(word)
        if flag.kind == "float":
            number = number_of(word)
            return int(word) if re.fullmatch(r"[+-]?\d+", word) else number
    except (KeyError, ValueError):
        wanted, hint = WANTED[flag.kind]
        raise TunekitError(f"--{flag.name} takes {wanted}, not {quoted(flag.name, word)}", hint) from None
    return word
